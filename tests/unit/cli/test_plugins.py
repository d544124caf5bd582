"""``modelyard plugins list``."""

import json
import os
import subprocess
import sys

import pytest

from modelyard import __version__
from modelyard.cli import main
from modelyard.cli.plugins import _KINDS
from modelyard.cli.plugins.entries import entries
from modelyard.cli.plugins.listing import lines_of
from modelyard.cli.terminal import Terminal
from modelyard.core.kinds import KINDS
from modelyard.core.manager import PluginManager

QUIET = """
from modelyard import hookimpl

print("at import")

class Quiet:
    name = "quiet"
    media_types = ("application/x-quiet",)

    def encode(self, value):
        return b""

    def decode(self, body):
        return None

@hookimpl
def modelyard_register_codecs():
    print("in a hook")
    return [Quiet]

@hookimpl
def modelyard_wrap_handler(handler):
    return handler
"""


@pytest.fixture
def broken(installed):
    """An installed plugin that cannot be imported."""
    installed("broken-one", "import a_module_that_is_absent")


@pytest.fixture
def rows(capsys):
    """Return the rows that are shown to programs."""

    def read():
        assert main(["plugins", "list", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return read


def test_the_kinds_are_those_of_the_core():
    assert tuple(kind.word for kind in KINDS) == _KINDS


def test_plugins_list_is_a_table(plugins, capsys):
    assert main(["plugins", "list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["KIND", "NAME", "SOURCE", "STATE", "PROVIDES"]
    cells = [row.split() for row in rows]
    assert ["backend", "local", "modelyard", __version__, "active", "local,", "local_*"] in cells
    assert ["codec", "csv", "modelyard", __version__, "active", "text/csv"] in cells
    column = header.index("SOURCE")
    assert {row[column:].split()[0] for row in rows} == {"modelyard"}
    assert not [row for row in rows if row != row.rstrip()]


def test_the_table_fits_a_terminal():
    lines = list(lines_of(entries(PluginManager.builtin()), Terminal(80)))
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.endswith("…")]


def test_plugins_list_for_programs(plugins, rows):
    found = rows()
    assert [*found[0]] == [
        *(
            "kind",
            "name",
            "plugin",
            "distribution",
            "version",
            "state",
            "provides",
            "error",
            "notes",
            "seconds",
        )
    ]
    assert list(dict.fromkeys(row["kind"] for row in found)) == [*_KINDS, "hooks"]
    codecs = [row["name"] for row in found if row["kind"] == "codec"]
    assert codecs == sorted(codecs)
    (local,) = [row for row in found if row["kind"] == "backend" and row["name"] == "local"]
    assert local["provides"] == {"instance_types": ["local", "local_*"]}
    assert (local["distribution"], local["version"]) == ("modelyard", __version__)


def test_a_plugin_that_is_turned_off_has_a_row(monkeypatch, plugins, rows):
    monkeypatch.setenv("MODELYARD_PLUGINS_DISABLED", "storage")
    (row,) = [row for row in rows() if row["plugin"] == "storage"]
    assert (row["kind"], row["name"], row["state"]) == ("plugin", "storage", "disabled")


def test_a_plugin_that_failed_has_a_row_and_the_reason_below_it(broken, capsys):
    assert main(["plugins", "list"]) == 0
    out, err = capsys.readouterr()
    row, reason = [line for line in out.splitlines() if "broken-one" in line or "a_module" in line]
    assert row.split() == ["plugin", "broken-one", "broken-one", "2.0", "failed"]
    assert (
        reason == "  ModuleNotFoundError: No module named 'a_module_that_is_absent' (broken_one.py, line 1)"
    )
    assert not err


def test_an_error_of_modelyards_is_one_line(broken, monkeypatch, capsys):
    monkeypatch.setenv("MODELYARD_PLUGINS_STRICT", "1")
    assert main(["plugins", "list"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("modelyard: plugin 'broken-one': ModuleNotFoundError")
    assert err.count("\n") == 1


def test_what_a_plugin_prints_does_not_get_among_the_rows(installed, capfd):
    installed("quiet-one", QUIET + '\nimport os\nos.system("echo by a program")\n')
    assert main(["plugins", "list", "--json"]) == 0
    out, err = capfd.readouterr()
    assert [row["name"] for row in json.loads(out) if row["plugin"] == "quiet-one"] == ["quiet", "quiet-one"]
    assert "by a program" in err


def test_what_a_plugin_keeps_in_a_buffer_does_not_either(installed):
    """In a process of its own, whose standard output is a pipe, as that of a program that reads it."""
    writing = 'import sys\nsys.__stdout__.write("in a buffer\\n")\n'
    installed("quiet-one", QUIET + writing)
    command = (sys.executable, "-m", "modelyard", "plugins", "list", "--json")
    environ = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert "quiet" in {row["name"] for row in json.loads(done.stdout)}
    assert "in a buffer" in done.stderr.splitlines()


def test_hooks_have_a_row_of_their_own(installed, rows):
    installed("quiet-one", QUIET)
    codec, hooks = [row for row in rows() if row["plugin"] == "quiet-one"]
    assert (codec["kind"], codec["provides"]) == ("codec", {"media_types": ["application/x-quiet"]})
    assert (hooks["kind"], hooks["provides"]) == ("hooks", {"hooks": ["wrap_handler"]})


def test_control_characters_of_a_plugin_do_not_reach_the_terminal(installed, capsys):
    installed("broken-one", 'raise ValueError("\\x1b[31mred\\n\\nand more")')
    assert main(["plugins", "list"]) == 0
    assert "  ValueError: ?[31mred and more (broken_one.py, line 1)" in capsys.readouterr().out.splitlines()


def test_no_plugins_at_all():
    assert entries(PluginManager()) == []
    assert list(lines_of([], Terminal())) == [""]


def test_two_plugins_of_one_name_have_rows_of_their_own(tmp_path, monkeypatch):
    metadata = tmp_path / "stranger-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[modelyard]\nserializers = stranger_plugin\n")
    (tmp_path / "stranger_plugin.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = entries(PluginManager.discover({}))
    assert {entry.status.state for entry in found if entry.status.plugin == "serializers"} == {"active"}
    (stranger,) = [entry for entry in found if entry.status.source == "stranger 1.0"]
    assert (stranger.status.state, stranger.kind) == ("failed", "plugin")
    assert "is loaded already" in stranger.status.error
