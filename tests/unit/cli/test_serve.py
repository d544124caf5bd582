"""``modelyard serve``: what its options mean, and what cannot be served."""

import argparse
import re
import socket
import tempfile
from pathlib import Path

import attrs
import pytest

from modelyard.cli import main
from modelyard.cli.parser import Parser
from modelyard.cli.serve import _given
from modelyard.cli.serve_options import GROUPS, flag_of, serve_parser, size, size_text
from modelyard.serving.settings import Limits, ServerSettings

OPTIONS = {name for group in GROUPS.values() for name, *_ in group}
SETTINGS = {field.name: field for cls in (ServerSettings, Limits) for field in attrs.fields(cls)}
SETTINGS.pop("limits")


def settings_of(*arguments, **environ):
    commands = Parser().add_subparsers()
    options = serve_parser(commands).parse_args(["model", *arguments])
    return ServerSettings.from_environ(environ | _given(options))


def test_every_setting_is_an_option():
    assert set(SETTINGS) == OPTIONS


@pytest.mark.parametrize("name", sorted(SETTINGS.keys()))
def test_help_names_the_default(name):
    commands = Parser().add_subparsers()
    actions = {action.dest: action for action in serve_parser(commands)._actions}
    default = actions[name].help.partition("; default: ")[2]
    if name in ("max_body", "max_header", "max_buffered"):
        default = str(size(default))
    special = {
        "program": "inference.py",
        "workers": "one per GPU, else one per core",
        "worker_memory": "no limit",
        "strict": "",
        "trust_pickle": "",
        "hardware": "what the machine has",
        "hardware_options": "",
    }
    expected = special.get(name, SETTINGS[name].default)
    assert default == (f"{expected:g}" if isinstance(expected, float) else str(expected))


def test_the_reference_names_the_defaults():
    page = (Path(__file__).parents[3] / "docs/reference/command-line.md").read_text("utf-8")
    (section,) = (part for part in page.split("\n## ") if part.startswith("`modelyard serve MODEL`"))
    rows = [re.split(r" *\| *", line)[1:4] for line in section.splitlines() if line.startswith("| `--")]
    written = {option.split("`")[1].split()[0]: default.strip("`") for option, _, default in rows}
    commands = Parser().add_subparsers()
    actions = {action.dest: action for action in serve_parser(commands)._actions}
    assert written == {flag_of(name): actions[name].help.partition("; default: ")[2] for name in SETTINGS}


def test_what_is_not_said_is_as_the_server_has_it():
    assert settings_of() == ServerSettings()


def test_what_is_said_wins_over_the_environment():
    environ = {"SAGEMAKER_BIND_TO_PORT": "1", "MODELYARD_SERVE_WORKERS": "9", "SAGEMAKER_PROGRAM": "a.py"}
    told = settings_of(
        *("--host", "::1", "--port", "0", "--batch-size", "16", "--max-batch-delay", "0.005"),
        *("--program", "b.py", "--max-body", "1G", "--idle-timeout", "2", "--trust-pickle"),
        **environ,
    )
    assert told == ServerSettings(
        host="::1",
        port=0,
        workers=9,
        batch_size=16,
        max_batch_delay=0.005,
        program="b.py",
        trust_pickle=True,
        limits=Limits(max_body=1 << 30, idle_timeout=2.0),
    )


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("7", 7),
        ("1K", 1024),
        ("2k", 2048),
        ("3M", 3 << 20),
        ("3MiB", 3 << 20),
        ("3 mb", 3 << 20),
        ("1g", 1 << 30),
    ],
)
def test_sizes(text, bytes_):
    assert size(text) == bytes_


@pytest.mark.parametrize(("number", "text"), [(1, "1"), (1536, "1536"), (64 << 10, "64K"), (3 << 30, "3G")])
def test_sizes_are_shown_as_they_are_written(number, text):
    assert size_text(number) == text
    assert size(text) == number


@pytest.mark.parametrize("text", ["", "K", "-1", "1.5M", "1T", "1MM"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no size: write it as 100M"):
        size(text)


# -- what cannot be served ---------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Have something served that cannot be; return what is said about it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Of the program's own, and not of the tests'.
    (tmp_path / "scratch").mkdir()
    (tmp_path / "model").mkdir()

    def serve(*arguments):
        assert main(["serve", *arguments]) == 1
        out, err = capsys.readouterr()
        assert not out
        assert list((tmp_path / "scratch").iterdir()) == []
        assert err.startswith("modelyard: ")
        return err.removeprefix("modelyard: ").strip()

    return serve


def test_a_model_that_is_not_there(refused):
    assert refused("modl", "--port", "0") == (
        "there is no model at 'modl': give a folder with the model's files, or a model.tar.gz"
    )


def test_a_file_that_is_no_archive(refused):
    Path("model.pt").write_bytes(b"PK")
    assert refused("model.pt", "--port", "0").startswith("archive 'model.pt' is damaged, or neither ")


def test_a_port_that_is_taken(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("model", "--port", str(port))
    assert said == f"port {port} of 127.0.0.1 is taken: use port 0 for any free port"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "70000"), "--port must be from 0, for any free port, to 65535, not '70000'"),
        (("--port", "-1"), "--port must be from 0, for any free port, to 65535, not '-1'"),
        (
            ("--host", "192.0.2.1"),
            "'192.0.2.1' is no address of this machine: use 127.0.0.1, or 0.0.0.0 for all ",
        ),
        (("--host", "no.such.host.invalid"), "'no.such.host.invalid' is no address of this machine: use "),
        (("--batch-size", "0"), "--batch-size must be above 0, not '0'"),
        (("--request-timeout", "nan"), "--request-timeout must be above 0, not 'nan'"),
        (("--drain-timeout", "inf"), "--drain-timeout must be at most 1000000000, not 'inf'"),
        (("--strict", "9"), "--strict must be 2.0.25, or nothing, not '9'"),
        (("--default-accept", "json"), "--default-accept must be a media type, as application/json"),
    ],
)
def test_an_address_or_a_value_that_makes_no_sense(refused, arguments, said):
    assert refused("model", *arguments).startswith(said)


def test_a_variable_that_makes_no_sense_is_told_as_the_variable(refused, monkeypatch):
    monkeypatch.setenv("SAGEMAKER_MODEL_SERVER_TIMEOUT", "0")
    assert refused("model") == "SAGEMAKER_MODEL_SERVER_TIMEOUT must be above 0, not '0'"
