"""``modelyard plugins list``."""

import json

import pytest

from modelyard import __version__
from modelyard.cli import main
from modelyard.cli.plugins import plugin_rows
from modelyard.core.manager import PluginManager


@pytest.fixture
def broken(installed):
    """An installed plugin that cannot be imported."""
    installed("broken-one", "import a_module_that_is_absent")


def test_plugins_list_is_a_table(plugins, capsys):
    assert main(["plugins", "list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["KIND", "NAME", "PLUGIN", "SOURCE", "STATE"]
    cells = [row.split() for row in rows]
    assert ["backend", "local", "backends", "modelyard", __version__, "active"] in cells
    assert ["hardware", "cpu", "hardware", "modelyard", __version__, "active"] in cells
    column = header.index("SOURCE")
    assert {row[column:].split()[0] for row in rows} == {"modelyard"}
    assert not [row for row in rows if row != row.rstrip()]


def test_plugins_list_for_programs(plugins, capsys):
    assert main(["plugins", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"kind", "name", "plugin", "source", "state", "error"} == set(rows[0])
    kinds = [row["kind"] for row in rows]
    assert list(dict.fromkeys(kinds)) == ["codec", "hardware", "launcher", "packager", "storage", "backend"]
    codecs = [row["name"] for row in rows if row["kind"] == "codec"]
    assert codecs == sorted(codecs)


def test_a_plugin_that_is_turned_off_has_a_row(monkeypatch, plugins, capsys):
    monkeypatch.setenv("MODELYARD_PLUGINS_DISABLED", "storage")
    assert main(["plugins", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    (row,) = [row for row in rows if row["plugin"] == "storage"]
    assert (row["kind"], row["name"], row["state"]) == ("-", "-", "disabled")


def test_a_plugin_that_failed_has_a_row_with_the_reason(broken, capsys):
    assert main(["plugins", "list"]) == 0
    out, err = capsys.readouterr()
    (row,) = [line for line in out.splitlines() if "broken-one" in line]
    assert row.split()[:5] == ["-", "-", "broken-one", "broken-one", "2.0"]
    assert "failed" in row
    assert "ModuleNotFoundError: No module named 'a_module_that_is_absent'" in row
    assert "ERROR" in out.splitlines()[0]
    assert not err


def test_an_error_of_modelyards_is_one_line(broken, monkeypatch, capsys):
    monkeypatch.setenv("MODELYARD_PLUGINS_STRICT", "1")
    assert main(["plugins", "list"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("modelyard: plugin 'broken-one': ModuleNotFoundError")
    assert err.count("\n") == 1


def test_a_plugin_by_hand_has_rows_too(plugins):
    class Quiet:
        name = "quiet"
        media_types = ("application/x-quiet",)

        def encode(self, value):
            return b""

        def decode(self, body):
            return None

    from modelyard import hookimpl

    class Plugin:
        @staticmethod
        @hookimpl
        def modelyard_register_codecs():
            return [Quiet]

    plugins.register(Plugin, "by-hand")
    (row,) = [row for row in plugin_rows(plugins) if row["plugin"] == "by-hand"]
    assert row == {
        "kind": "codec",
        "name": "quiet",
        "plugin": "by-hand",
        "source": "by-hand",
        "state": "active",
        "error": "",
    }


def test_no_plugins_at_all():
    assert plugin_rows(PluginManager()) == []


def test_two_plugins_of_one_name_have_rows_of_their_own(tmp_path, monkeypatch):
    metadata = tmp_path / "stranger-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[modelyard]\nserializers = stranger_plugin\n")
    (tmp_path / "stranger_plugin.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    rows = plugin_rows(PluginManager.discover({}))
    assert {row["state"] for row in rows if row["plugin"] == "serializers"} == {"active"}
    (stranger,) = [row for row in rows if row["source"] == "stranger 1.0"]
    assert (stranger["state"], stranger["kind"]) == ("failed", "-")
    assert "is loaded already" in stranger["error"]
