import textwrap

import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.plugins.backends.local.opt_ml import Mention, mentions, refuse


@pytest.fixture
def source(tmp_path):
    """Write the files of a source, by name, and return its folder."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return tmp_path

    return write


def lines(source):
    return [(mention.file, mention.line) for mention in mentions(source)]


def test_the_line_is_named_with_its_file_and_text(source):
    folder = source(lib__paths_dot_py="import os\n\n\nMODEL = '/opt/ml/model'  # where it goes\n")
    assert mentions(folder) == (Mention("lib/paths.py", 4, "MODEL = '/opt/ml/model'  # where it goes"),)


def test_a_source_may_be_one_file(source):
    folder = source(train_dot_py="open('/opt/ml/model/x', 'w')", other_dot_py="open('/opt/ml/model/y', 'w')")
    assert lines(folder / "train.py") == [("train.py", 1)]


@pytest.mark.parametrize(
    "code",
    [
        "# the model goes to /opt/ml/model",
        '"""Saves to /opt/ml/model."""',
        'def save():\n    """Saves to /opt/ml/model."""\n',
        'os.environ.get("SM_MODEL_DIR", "/opt/ml/model")',
        'os.getenv("SM_CHANNEL_TRAIN", default="/opt/ml/input/data/train")',
        'from os import getenv\ngetenv("SM_OUTPUT_DATA_DIR", "/opt/ml/output/data")',
        'open("/opt/mlflow/model")',
        'open("/home/me/opt/ml/model")',
        'open("/opt/ml-models/model")',
    ],
)
def test_what_no_job_needs_does_not_count(source, code):
    assert lines(source(train_dot_py=code)) == []


@pytest.mark.parametrize(
    "code",
    [
        'open("/opt/ml")',
        'f"/opt/ml/input/data/{channel}"',
        'Path("/opt/ml") / "model"',
        'parser.add_argument("--model-dir", default="/opt/ml/model")',
        'os.environ.get("SM_CHECKPOINT_DIR", "/opt/ml/checkpoints")',
        'os.environ["CHECKPOINTS"] = "/opt/ml/checkpoints"',
        'subprocess.run("cp x file:///opt/ml/model", shell=True)',
        'print "/opt/ml/model"',
    ],
)
def test_what_a_job_needs_counts(source, code):
    assert lines(source(train_dot_py=code)) == [("train.py", 1)]


def test_a_text_of_several_lines_is_named_by_the_line_that_says_it(source):
    code = '''
        COMMAND = """
        set -e
        cp -r out /opt/ml/model
        """
        '''
    assert lines(source(train_dot_py=code)) == [("train.py", 4)]


def test_a_module_too_deep_to_be_parsed_is_looked_at_line_by_line(source):
    deep = "+\n".join(["'x'"] * 20_000)
    assert lines(source(train_dot_py=f"x = ({deep})\nopen('/opt/ml/model')\n")) == [("train.py", 20_001)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_those_that_python_counts(source, end):
    folder = source()
    code = end.join(("a = 1", "\x0c", "b = 'x\x1cy'", "open('/opt/ml/model')", ""))
    folder.joinpath("train.py").write_bytes(code.encode())
    assert mentions(folder) == (Mention("train.py", 4, "open('/opt/ml/model')"),)


def test_shell_scripts_settings_and_what_names_its_interpreter_are_looked_at(source):
    folder = source(
        run_dot_sh="# /opt/ml/model\ncp model ${SM_MODEL_DIR:-/opt/ml/model}\ncp log /opt/ml/output/data\n",
        conf__train_dot_yaml="model: /opt/ml/model\n",
        tool="#!/usr/bin/env bash\nls /opt/ml\n",
        notes="ls /opt/ml\n",
        README_dot_md="Reads /opt/ml/input.\n",
        _dot_git__config_dot_py="'/opt/ml'\n",
        __pycache____x_dot_py="'/opt/ml'\n",
    )
    assert lines(folder) == [("run.sh", 3), ("tool", 2), ("conf/train.yaml", 1)]


def test_files_that_are_no_code_are_left_alone(source):
    folder = source(small_dot_json='{"model": "/opt/ml/model"}')
    (folder / "large.json").write_text('"/opt/ml/model"' + " " * (1 << 20))
    (folder / "bytes.py").write_bytes(b"\xff\x00 = '/opt/ml'\n")
    (folder / "dangling.py").symlink_to("absent")
    assert lines(folder) == [("bytes.py", 1), ("small.json", 1)]


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("/opt/ml/model/net.pt", 'os.environ["SM_MODEL_DIR"]'),
        ("/opt/ml/input/data/train/x", 'os.environ["SM_CHANNEL_TRAIN"]'),
        ("/opt/ml/input/config/resourceconfig.json", 'os.environ["SM_INPUT_CONFIG_DIR"]'),
        ("/opt/ml/output/data", 'os.environ["SM_OUTPUT_DATA_DIR"]'),
        ("/opt/ml/output/failure", 'os.environ["SM_OUTPUT_DIR"]'),
        ("/opt/ml/code/lib", 'os.environ["SM_MODULE_DIR"]'),
        ("/opt/ml", 'os.environ["SM_MODEL_DIR"]'),
    ],
)
def test_the_error_names_line_reason_and_what_to_write_instead(path, instead):
    error = refuse([Mention("train.py", 12, f'open("{path}")')], "no such luck")
    assert isinstance(error, InvalidPlanError)
    first, place, way_out = str(error).splitlines()
    assert first.endswith("which a local job cannot be shown on this machine (no such luck):")
    assert place == f'  train.py:12: open("{path}")'
    assert f"as in {instead}:" in way_out
    assert way_out.endswith("or run the job in a container.")


def test_the_error_shows_the_first_lines_of_many():
    error = refuse([Mention("train.py", number, "'/opt/ml'") for number in range(1, 6)], "why")
    assert [line for line in str(error).splitlines() if line.startswith("  ")] == [
        "  train.py:1: '/opt/ml'",
        "  train.py:2: '/opt/ml'",
        "  train.py:3: '/opt/ml'",
        "  and 2 more",
    ]
