"""The stand-ins run where scripts do: in a process of its own, found by ``PYTHONPATH``."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from modelyard import compat
from modelyard.testing.trees import write_tree

PROPERTIES = {
    "hosts": ["algo-1", "algo-2"],
    "current_host": "algo-1",
    "channel_input_dirs": {"train": "/ml/input/data/train"},
    "hyperparameters": {"epochs": 5},
    "additional_framework_parameters": {"sagemaker_mpi_enabled": True},
    "resource_config": {"current_host": "algo-1"},
    "input_data_config": {"train": {}},
    "model_dir": "/ml/model",
    "num_gpus": 2,
    "num_cpus": 8,
    "log_level": 20,
}
JOB = {
    "SM_TRAINING_ENV": json.dumps(PROPERTIES),
    "SM_USER_ARGS": '["--epochs", "5"]',
    "SM_MODEL_DIR": "/ml/model",
    "SM_INPUT_DIR": "/ml/input",
}


@pytest.fixture
def run(tmp_path):
    """Run Python source as a job's script; return its process."""

    def call(source, path=None, **environ):
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SM_", "PYTHON"))}
        path = os.pathsep.join(compat.shim_path() if path is None else path)
        return subprocess.run(
            [sys.executable, "-c", source],
            cwd=tmp_path,
            env={**kept, **JOB, "PYTHONPATH": path, **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def printed(process):
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def error(process):
    assert process.returncode == 1
    return process.stderr.splitlines()[-1]


WAYS = {
    "toolkit": "from sagemaker_training import environment; env = environment.Environment()",
    "toolkit by its full name": "import sagemaker_training.environment\n"
    "env = sagemaker_training.environment.Environment()",
    "older images": "import sagemaker_containers; env = sagemaker_containers.training_env()",
    "framework": "from sagemaker_containers.beta import framework; env = framework.training_env()",
    "framework's class": "from sagemaker_containers.beta.framework import env as e; env = e.TrainingEnv()",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_training_environment_is_the_jobs(run, way):
    asked = "[env.hosts, env.channel_input_dirs['train'], env.model_dir, env.num_gpus, env['log_level']]"
    said = printed(run(f"{way}\nimport json; print(json.dumps({asked}))"))
    assert json.loads(said) == [["algo-1", "algo-2"], "/ml/input/data/train", "/ml/model", 2, 20]


def test_the_environment_is_a_mapping_as_the_toolkits_is(run):
    said = printed(run(f"{WAYS['toolkit']}\nimport json; print(json.dumps([dict(env), len(env)]))"))
    assert json.loads(said) == [PROPERTIES, len(PROPERTIES)]


def test_the_environment_says_how_the_script_was_started(run):
    said = printed(run(f"{WAYS['toolkit']}\nprint(env.to_cmd_args(), env.to_env_vars()['SM_MODEL_DIR'])"))
    assert said == "['--epochs', '5'] /ml/model"


def test_the_environment_can_be_copied_and_shown(run):
    said = printed(run(f"{WAYS['toolkit']}\nimport copy; print(copy.deepcopy(env).num_cpus, env)"))
    assert said == f"8 {PROPERTIES}"


def test_the_functions_and_folders_of_the_toolkits_environment(run):
    source = """
    from sagemaker_training import environment as e
    print(e.num_gpus(), e.num_cpus(), e.read_hyperparameters(), e.read_resource_config())
    print(e.code_dir, e.output_data_dir, e.channel_path("train"), e.read_input_data_config())
    """
    assert printed(run("if True:" + source)).splitlines() == [
        "2 8 {'sagemaker_mpi_enabled': True, 'epochs': 5} {'current_host': 'algo-1'}",
        "/ml/code /ml/output/data /ml/input/data/train {'train': {}}",
    ]


def test_the_names_of_parameters(run):
    said = printed(
        run("from sagemaker_training import params as p; print(p.USER_PROGRAM_ENV, p.MPI_ENABLED)")
    )
    assert said == "SAGEMAKER_PROGRAM sagemaker_mpi_enabled"


def test_logging_as_the_toolkit_sets_it_up(run):
    source = """
    from sagemaker_training.logging_config import configure_logger, get_logger
    configure_logger(20)
    get_logger().info("seen")
    get_logger().debug("not seen")
    """
    process = run("if True:" + source)
    assert process.stderr.endswith(" sagemaker-training-toolkit INFO     seen\n")


def test_a_script_that_serves_too_can_be_imported_for_training(run):
    source = """
    from sagemaker_containers.beta.framework import (
        content_types, encoders, env, modules, server, transformer, worker)
    def output_fn(prediction, accept=content_types.JSON):
        return worker.Response(encoders.encode(prediction, accept), mimetype=accept)
    print(*output_fn([1]))
    transformer.Transformer()
    """
    process = run("if True:" + source)
    assert process.stdout == "[1] application/json\n"
    assert error(process) == (
        "AttributeError: modelyard's stand-in for sagemaker_containers has no "
        "sagemaker_containers.beta.framework.transformer.Transformer; it has training_env, beta.framework: "
        "add sagemaker-containers to requirements.txt for the real package"
    )


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        ("from sagemaker_training import mpi", "ModuleNotFoundError", "sagemaker_training.mpi"),
        ("import sagemaker_training.mpi", "ModuleNotFoundError", "sagemaker_training.mpi"),
        ("import sagemaker_training as s; s.mpi", "AttributeError", "sagemaker_training.mpi"),
        (
            "import sagemaker_training.environment as e; e.x",
            "AttributeError",
            "sagemaker_training.environment.x",
        ),
        ("from sagemaker_containers import _mpi", "ModuleNotFoundError", "sagemaker_containers._mpi"),
        (
            "from sagemaker_containers.beta import frame",
            "ModuleNotFoundError",
            "sagemaker_containers.beta.frame",
        ),
    ],
)
def test_what_is_lacking_is_named_with_what_there_is(run, source, kind, name):
    package = name.partition(".")[0]
    said = error(run(source))
    assert said.startswith(f"{kind}: modelyard's stand-in for {package} has no {name}; it has ")
    assert said.endswith(f"add {package.replace('_', '-')} to requirements.txt for the real package")


def test_a_property_that_is_lacking_is_named_with_those_there_are(run):
    said = error(run(f"{WAYS['toolkit']}\nenv.topology"))
    assert "has no 'topology'; it has additional_framework_parameters, channel_input_dirs," in said


def test_outside_of_a_job_that_is_said(run):
    assert "there is no training job here" in error(run(WAYS["toolkit"], SM_TRAINING_ENV=""))


def test_other_imports_fail_as_ever(run):
    process = run("import sagemaker_training, sagemaker_containers\nimport nothing_of_that_name")
    assert error(process) == "ModuleNotFoundError: No module named 'nothing_of_that_name'"


def test_the_shims_load_nothing_of_modelyard(run):
    source = (
        "import sagemaker_training.environment, sagemaker_containers.beta.framework, sys\n"
        "print(sorted({'modelyard', 'attr', 'attrs'} & set(sys.modules)))"
    )
    assert printed(run(source)) == "[]"


# -- where they are found ------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put a package on the path of this process."""

    def make(name):
        write_tree(tmp_path / "real", {f"{name}/__init__.py": b"raise SystemExit('imported')"})
        monkeypatch.syspath_prepend(tmp_path / "real")

    return make


def folders(path):
    return [Path(folder).name for folder in path]


def test_a_package_that_is_installed_has_no_stand_in(installed):
    assert folders(compat.shim_path()) == ["training", "containers", "shared"]
    installed("sagemaker_training")
    assert folders(compat.shim_path()) == ["containers", "shared"]
    installed("sagemaker_containers")
    assert compat.shim_path() == ()


def test_one_stand_in_works_without_the_other(run, installed):
    installed("sagemaker_training")
    process = run(f"{WAYS['older images']}\nprint(env.current_host)\nimport sagemaker_training")
    assert process.stdout == "algo-1\n"
    assert error(process) == "ModuleNotFoundError: No module named 'sagemaker_training'"


def test_a_package_of_the_jobs_own_environment_counts(tmp_path):
    venv.create(tmp_path / "environment")
    interpreter = str(tmp_path / "environment" / "bin" / "python")
    assert folders(compat.shim_path(interpreter)) == ["training", "containers", "shared"]
    (site,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    write_tree(site, {"sagemaker_training/__init__.py": b""})
    assert folders(compat.shim_path(interpreter)) == ["containers", "shared"]


def test_a_folder_that_happens_to_have_the_name_is_no_package(tmp_path, monkeypatch):
    write_tree(tmp_path, {"sagemaker_training/notes.txt": b""})
    monkeypatch.syspath_prepend(tmp_path)
    assert folders(compat.shim_path()) == ["training", "containers", "shared"]


# -- for serving ---------------------------------------------------------------------------------


@pytest.fixture
def serve(run):
    """Run Python source as a program that serves, which has put the stand-ins on its path."""
    source = "from modelyard import compat\ncompat.add_serving_shims()\n"
    here = str(Path(compat.__file__).parents[2])
    return lambda script: run(source + script, path=[here], SM_TRAINING_ENV="")


def test_an_inference_script_reads_and_writes_with_the_toolkit(serve):
    script = """
from sagemaker_inference import content_types, decoder, default_inference_handler, encoder, errors
for type_, body in ((content_types.JSON, "[[1, 2.5]]"), (content_types.CSV, b"1,2.5\\n3,4\\n")):
    array = decoder.decode(body, type_)
    print(array.tolist(), encoder.encode(array, "text/csv").split())
array = decoder.decode(encoder.encode(array, content_types.NPY), content_types.NPY)
print(array.tolist(), encoder.encode(array, content_types.JSON))
print(decoder.decode("a,1\\nb,2", content_types.CSV).tolist())
print(decoder.decode(b"[1]", "Application/JSON; charset=utf-8"))
handler = default_inference_handler.DefaultInferenceHandler()
print(handler.default_output_fn(handler.default_input_fn("[1]", content_types.JSON), content_types.JSON))
error = errors.GenericInferenceToolkitError(418, "no tea")
print(error.status_code, error.message, issubclass(type(error), errors.BaseInferenceToolkitError))
"""
    assert printed(serve(script)).splitlines() == [
        "[[1.0, 2.5]] ['1.0,2.5']",
        "[[1.0, 2.5], [3.0, 4.0]] ['1.0,2.5', '3.0,4.0']",
        "[[1.0, 2.5], [3.0, 4.0]] [[1.0, 2.5], [3.0, 4.0]]",
        "[('a', 1), ('b', 2)]",
        "[1]",
        "('[1]', 'application/json')",
        "418 no tea True",
    ]


def test_an_inference_script_answers_with_the_frameworks_response(serve):
    script = """
from sagemaker_containers.beta.framework import content_types, encoders, worker
def output_fn(prediction, accept):
    return worker.Response(encoders.encode(prediction, accept), accept, mimetype=accept)
body, content_type = output_fn([[1, 2]], "text/csv")
print(repr(body), content_type, isinstance(output_fn([1], "text/csv"), tuple))
print(*worker.Response("{}"), *worker.Response("1\\n", "text/csv"), worker.Response("{}").status_code)
print(encoders.decode("a,b\\nc,d", content_types.CSV).tolist(), encoders.csv_to_numpy("1,2", float))
print(encoders.decode(encoders.encode([1, 2], "application/x-npy"), "application/x-npy"))
"""
    assert printed(serve(script)).splitlines() == [
        "'1,2\\n' text/csv True",
        "{} application/json 1",
        " text/csv 200",
        "[['a', 'b'], ['c', 'd']] [1. 2.]",
        "[1 2]",
    ]


MALFORMED = {
    "JSON": ("b'{'", "application/json"),
    "deep JSON": ("'[' * 100_000", "application/json"),
    "ragged JSON": ("'[[1], [1, 2]]'", "application/json"),
    "bytes that are no text": ("b'\\xff'", "text/csv"),
    "ragged CSV": ("'1,2\\n3'", "text/csv"),
    "no NPY": ("b'1,2'", "application/x-npy"),
    "NPY without an array": ("npy[:-1]", "application/x-npy"),
    "NPY that claims terabytes": (
        "npy.replace(b'(3,), }        ', b'(3000000000000,), }')",
        "application/x-npy",
    ),
    "objects": ("objects", "application/x-npy"),
}
ARRAYS = """
import io, numpy as np
def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
class Code:
    def __reduce__(self):
        return print, ("a pickle was run",)
npy, objects = saved(np.arange(3)), saved(np.array([Code()]))
"""


@pytest.mark.parametrize(
    "way", ["from sagemaker_inference.decoder import decode", "decode = encoders.decode"]
)
@pytest.mark.parametrize("body", MALFORMED)
def test_what_a_client_got_wrong_is_its_error(serve, way, body):
    expression, content_type = MALFORMED[body]
    script = f"""
from sagemaker_containers.beta.framework import encoders
{way}
{ARRAYS}
try:
    print(decode({expression}, {content_type!r}))
except Exception as error:
    print(type(error).__name__, error.status_code)
"""
    assert printed(serve(script)) == "ClientError 400"


@pytest.mark.parametrize(
    ("call", "status"), [("decoder.decode(b'', 'image/png')", 415), ("encoder.encode([1], 'text/html')", 406)]
)
def test_formats_that_there_are_not_have_the_status_of_it(serve, call, status):
    script = f"""
from sagemaker_inference import decoder, encoder, errors
try:
    {call}
except errors.UnsupportedFormatError as error:
    print(error.status_code, error)
"""
    said = printed(serve(script))
    assert said.startswith(f"{status} content type ")


def test_what_the_inference_toolkits_stand_in_lacks_is_named(serve):
    said = error(serve("from sagemaker_inference import model_server"))
    assert said == (
        "ModuleNotFoundError: modelyard's stand-in for sagemaker_inference has no "
        "sagemaker_inference.model_server; it has content_types, decoder, default_inference_handler, "
        "encoder, errors: add sagemaker-inference to requirements.txt for the real package"
    )


def test_a_server_with_the_real_packages_gets_no_stand_ins(installed, monkeypatch):
    installed("sagemaker_inference")
    installed("sagemaker_containers")
    monkeypatch.setattr("sys.path", before := sys.path[:])
    compat.add_serving_shims()
    assert sys.path == before


def test_stand_ins_for_serving_come_last_and_once(monkeypatch):
    monkeypatch.setattr("sys.path", before := sys.path[:])
    before = before[:]
    compat.add_serving_shims()
    compat.add_serving_shims()
    assert folders(sys.path[len(before) :]) == ["serving", "containers", "shared"]
