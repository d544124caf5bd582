"""The fixtures do what they promise, also where a test leaves something behind."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import attrs
import pytest

from modelyard.core.errors import (
    EndpointExistsError,
    EndpointNotFoundError,
    JobExistsError,
    JobNotFoundError,
    UserCodeError,
)
from modelyard.core.hookspecs import hookimpl
from modelyard.core.http import Request
from modelyard.core.manager import PluginManager
from modelyard.core.plans import JobStatus, TrainingPlan
from modelyard.deserializers import JSONDeserializer
from modelyard.estimator import PyTorch
from modelyard.model import Model
from modelyard.plugins.launchers.process import ProcessLauncher
from modelyard.serializers import JSONSerializer
from modelyard.serializers.text import TextCodec
from modelyard.testing import fixtures
from modelyard.testing.handlers import GIVEN, handlers
from modelyard.testing.recording import RecordingBackend
from modelyard.testing.trees import write_tree


def start(home, code="import time; print(1, flush=True); time.sleep(300)"):
    environ = {**os.environ, "MODELYARD_HOME": str(home)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_plugins_are_the_built_in_ones_also_where_others_are_installed(plugins, tmp_path, monkeypatch):
    (tmp_path / "third_party.py").write_text("raise SystemExit('it was imported')")
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelyard]\nthird = third_party\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {status.distribution for status in plugins.statuses} == {"modelyard"}
    assert "third" not in {status.plugin for status in PluginManager.discover().statuses}
    program = (
        "from modelyard import PluginManager as P; print({s.distribution for s in P.discover().statuses})"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "{'modelyard'}\n"


def test_the_home_is_given_to_processes_and_to_backends(modelyard_home, plugins):
    assert os.environ["MODELYARD_HOME"] == str(modelyard_home)
    assert plugins.backends.create("local").home == str(modelyard_home)
    assert not modelyard_home.exists()


def test_processes_of_a_home_are_found_and_those_of_another_are_not(tmp_path, modelyard_home):
    mine, other = start(tmp_path / "mine"), start(tmp_path / "other")
    try:
        assert [process.pid for process in fixtures.processes_of(tmp_path / "mine")] == [mine.pid]
    finally:
        for process in (mine, other):
            process.kill()
            process.communicate()
    assert fixtures.processes_of(tmp_path / "mine") == []


def test_the_process_that_runs_the_tests_is_never_one_of_them(modelyard_home):
    assert os.getpid() not in [process.pid for process in fixtures.processes_of(modelyard_home)]


def test_a_process_that_ends_in_time_is_no_survivor(tmp_path):
    process = start(tmp_path / "mine", "import time; print(1, flush=True); time.sleep(0.3)")
    assert fixtures._survivors(tmp_path / "mine") == []
    process.communicate()


def test_a_process_that_does_not_end_is_a_survivor(tmp_path, monkeypatch):
    monkeypatch.setattr(fixtures, "_SURVIVAL_SECONDS", 0.1)
    process = start(tmp_path / "mine")
    try:
        (survivor,) = fixtures._survivors(tmp_path / "mine")
        assert fixtures._described(survivor).startswith(f"{process.pid} {sys.executable} -c import time")
    finally:
        process.kill()
        process.communicate()


def test_what_still_lives_in_a_home_is_ended(modelyard_home, plugins, tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    (source / "train.py").write_text("import time; time.sleep(300)")
    (source / "inference.py").write_text("def model_fn(d): pass\ndef transform_fn(m, b, c, a): return b")
    estimator = PyTorch("train.py", source_dir=source, plugins=plugins)
    estimator.fit(wait=False, job_name="a-job")
    (tmp_path / "model").mkdir()
    model = Model(tmp_path / "model", entry_point="inference.py", source_dir=source, plugins=plugins)
    model.deploy(endpoint_name="an-endpoint", wait=False)
    assert fixtures.processes_of(modelyard_home)
    fixtures._end_all(modelyard_home)
    assert estimator.latest_training_job.describe().status == "Stopped"
    with pytest.raises(EndpointNotFoundError):
        plugins.backends.create("local").endpoint("an-endpoint")
    deadline = time.monotonic() + 30
    while fixtures.processes_of(modelyard_home):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- a recording backend -----------------------------------------------------------------------


def plugin(**hooks):
    return SimpleNamespace(**{name: hookimpl(hook) for name, hook in hooks.items()})


def test_a_recording_backend_keeps_the_plans_and_runs_nothing(plugins, recording_backend, tmp_path):
    (tmp_path / "train.py").write_text("")
    where = {"backend": "recording", "hardware": "cpu", "plugins": plugins}
    estimator = PyTorch(tmp_path / "train.py", hyperparameters={"epochs": 3}, **where)
    estimator.fit(job_name="a-job")
    (plan,) = recording_backend.jobs
    assert (plan.job_name, plan.hyperparameters, plan.launcher.name) == ("a-job", {"epochs": 3}, "process")
    assert estimator.latest_training_job.describe().status is JobStatus.COMPLETED
    predictor = estimator.deploy(1, "local", backend="recording", hardware="cpu", endpoint_name="an-endpoint")
    assert recording_backend.endpoints[0].model.uri == estimator.model_data
    predictor.serializer, predictor.deserializer = JSONSerializer(), JSONDeserializer()
    assert predictor.predict({"a": [1, 2]}) == {"a": [1, 2]}
    assert recording_backend.requests == [
        ("an-endpoint", b'{"a":[1,2]}', "application/json", "application/json")
    ]


def test_what_a_recording_backend_keeps_has_its_name(plugins, recording_backend, tmp_path):
    backend = plugins.backends.create("recording")
    plan = PyTorch("train.py", backend="recording", hardware="cpu", plugins=plugins, job_name="a-job").plan()
    job = backend.submit(plan, None)
    job.stop()
    assert backend.job("a-job").describe() == job.describe()
    assert list(job.logs(follow=True)) == []
    with pytest.raises(JobExistsError, match="a-job"):
        backend.submit(plan, None)
    with pytest.raises(JobNotFoundError, match="another"):
        backend.job("another")
    where = {"hardware": "cpu", "backend": "recording", "endpoint_name": "an-endpoint"}
    predictor = Model(tmp_path, plugins=plugins).deploy(**where)
    with pytest.raises(EndpointExistsError, match="an-endpoint"):
        Model(tmp_path, plugins=plugins).deploy(**where)
    assert list(backend.endpoint("an-endpoint").logs()) == []
    predictor.delete_endpoint()
    with pytest.raises(EndpointNotFoundError, match="an-endpoint"):
        backend.endpoint("an-endpoint")
    with pytest.raises(EndpointNotFoundError, match="an-endpoint"):
        predictor.handle.describe()


def test_each_test_has_a_recording_backend_of_its_own(recording_backend):
    assert recording_backend.jobs == []
    assert recording_backend is not RecordingBackend
    assert RecordingBackend.anew().jobs is not recording_backend.jobs


def test_a_third_partys_launcher_is_selected_without_a_run(plugins, recording_backend):
    class MineLauncher(ProcessLauncher):
        name = "mine"
        distributions = ("mine",)

    plugins.register(plugin(modelyard_register_launchers=lambda: (MineLauncher,)), "mine")
    where = {"backend": "recording", "hardware": "cpu", "plugins": plugins}
    PyTorch("train.py", distribution={"mine": {"enabled": True}}, **where).fit()
    assert recording_backend.jobs[0].launcher.name == "mine"


# -- a handler without sockets -----------------------------------------------------------------


def test_a_handler_of_functions_answers(handler_for):
    handler = handler_for(predict_fn=lambda value, model: value * 2)
    answer = handler(Request(b"[1, 2]", "application/json", "text/csv"))
    assert (answer.status, answer.content_type, answer.body) == (200, "text/csv", b"2.0\n4.0\n")
    assert handler(Request(b"[1", "application/json")).status == 400


def test_a_handler_of_functions_has_their_model(handler_for):
    handler = handler_for(model_fn=lambda model_dir: 10, predict_fn=lambda value, model: value * model)
    other = handler_for(model_fn=lambda model_dir: 20, predict_fn=lambda value, model: value * model)
    assert handler(Request(b"[1]", "application/json")).body == b"[10.0]"
    assert other(Request(b"[1]", "application/json")).body == b"[20.0]"


def test_a_handler_of_a_script_or_a_folder_answers(handler_for, tmp_path):
    script = """
        from pathlib import Path

        def model_fn(model_dir):
            return Path(model_dir, "code/word.txt").read_text()

        def transform_fn(model, body, content_type, accept):
            return model + body.decode(), "text/plain"
    """
    write_tree(tmp_path / "m", {"code/inference.py": dedent(script).encode(), "code/word.txt": b"hello "})
    assert handler_for(tmp_path / "m")(Request(b"you")).body == b"hello you"
    with pytest.raises(UserCodeError, match="word.txt"):
        handler_for(script)
    with pytest.raises(TypeError, match="give a script or functions, not both: model_fn"):
        handler_for(script, model_fn=dict)


def test_a_handler_has_the_codecs_and_the_middleware_of_the_plugins(plugins, handler_for):
    class Reversed(TextCodec):
        name = "reversed"
        media_types = ("text/x-reversed",)

        def decode(self, body):
            return super().decode(body)[::-1]

    def wrap(handler):
        def outer(request):
            return attrs.evolve(handler(request), headers={"x-outer": "1"})

        return outer

    plugins.register(plugin(modelyard_register_codecs=lambda: (Reversed,), modelyard_wrap_handler=wrap), "p")
    handler = handler_for(predict_fn=lambda value, model: value.upper())
    answer = handler(Request(b"abc", "text/x-reversed", "text/plain"))
    assert (answer.body, answer.headers) == (b"CBA", {"x-outer": "1"})


def test_a_handler_waits_for_async_functions_and_for_batches(handler_for):
    async def predict_fn(value, model):
        await asyncio.sleep(0)
        return value

    batched = {"batch_predict_fn": lambda values, model: values, "options": {"batch_size": 2}}
    for handler in (handler_for(predict_fn=predict_fn), handler_for(**batched)):
        assert handler(Request(b"[1]", "application/json")).body == b"[1.0]"


def test_a_handler_streams(handler_for):
    def transform_fn(model, body, content_type, accept):
        return (piece for piece in (b"a", body)), "text/x"

    answer = handler_for(transform_fn=transform_fn)(Request(b"b"))
    assert (answer.content_type, list(answer.chunks)) == ("text/x", [b"a", b"b"])


@pytest.mark.torch
def test_a_handler_on_the_cpu_predicts_on_tensors(handler_for):
    handler = handler_for(
        predict_fn=lambda value, model: [type(value).__name__],
        hardware="cpu",
        options={"default_accept": "text/csv"},
    )
    assert handler(Request(b"[1]", "application/json")).body == b"Tensor\n"


def test_a_handler_leaves_nothing_in_its_process(plugins, tmp_path):
    folder, path, modules = Path.cwd(), sys.path[:], set(sys.modules)
    with handlers(plugins, tmp_path) as handler_for:
        handler_for(predict_fn=lambda value, model: value)
        assert Path.cwd() != folder
        assert "inference" in sys.modules
        assert GIVEN
    assert (Path.cwd(), sys.path) == (folder, path)
    assert not [name for name in set(sys.modules) - modules if "inference" in name]
    assert not GIVEN


# -- a job's folder ----------------------------------------------------------------------------

SCRIPT = """
    import argparse, os, pathlib

    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int)
    print("epochs", parser.parse_args().epochs)
    print("data", pathlib.Path(os.environ["SM_CHANNEL_TRAIN"], "a.csv").read_text())
    pathlib.Path(os.environ["SM_MODEL_DIR"], "weights.txt").write_text(os.environ["GREETING"])
"""


def test_the_in_job_program_runs_on_a_job_folder(job_folder, plugins):
    job = job_folder(script=SCRIPT, hyperparameters={"epochs": 3}, channels={"train": {"a.csv": b"1,2"}})
    done = job.run(GREETING="hello")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["epochs 3", "data 1,2"]
    assert job.model == {"weights.txt": b"hello"}
    assert (job.failure, job.layout.success.exists()) == ("", True)


def test_a_job_folder_tells_why_its_script_failed(job_folder, plugins):
    job = job_folder(script="raise ValueError('the loss is NaN')")
    assert job.run().returncode == 1
    assert "ValueError: the loss is NaN" in job.failure


def test_a_job_folder_can_have_modelyards_plan_and_several_hosts(job_folder, plugins):
    plan = PyTorch("train.py", plugins=plugins, hardware="cpu").plan()
    job = job_folder(script="import os; print(os.environ['SM_HOSTS'])", hosts=["algo-2", "algo-1"], plan=plan)
    other = job_folder()
    assert TrainingPlan.from_json(job.layout.plan.read_bytes()) == plan
    assert job.run().stdout == '[algo-2] ["algo-2","algo-1"]\n'
    assert other.layout.base != job.layout.base
    assert not other.layout.plan.exists()
