"""``modelyard plugins show``."""

import argparse
import json
from types import SimpleNamespace
from typing import ClassVar

import attrs
import pytest

from modelyard.cli import main
from modelyard.cli.plugins import options as plugin_options
from modelyard.cli.plugins.options import COMPUTED, REQUIRED, Option, options_of
from modelyard.cli.plugins.showing import descriptions
from modelyard.cli.terminal import Terminal
from modelyard.core import contracts
from modelyard.core.hookspecs import hookimpl
from modelyard.core.kinds import KINDS


@pytest.fixture
def shown(plugins, capsys):
    """Return what is shown of a name to people, and to programs."""

    def show(*name):
        assert main(["plugins", "show", *name]) == 0
        people = capsys.readouterr().out
        assert main(["plugins", "show", *name, "--json"]) == 0
        return people, json.loads(capsys.readouterr().out)

    return show


class Csv:
    """A storage that is called as a codec is."""

    name = "csv"
    schemes = ("csv",)
    download = upload = prepare = lambda *_: None


class Twice:
    """A codec of two plugins."""

    name = "twice"
    media_types = ("application/x-twice",)
    encode = decode = lambda *_: None


def providing(**classes):
    """Return a plugin that provides these."""
    return SimpleNamespace(
        **{f"modelyard_register_{kind}": hookimpl(lambda cls=cls: [cls]) for kind, cls in classes.items()}
    )


def asked(name, kind=None):
    return argparse.Namespace(name=name, kind=kind)


def test_a_provider_with_all_that_there_is_to_know(shown):
    people, programs = shown("csv")
    lines = people.splitlines()
    assert lines[0] == "codec csv: active"
    assert "  class             modelyard.serializers.csv.CsvCodec" in lines
    assert "  media types       text/csv" in lines
    assert "  is also a         ArrayCodec: decode_array" in lines
    assert "  text/csv: tables of numbers." in lines
    assert "    strict: str = ''" in lines
    assert programs["class"] == "modelyard.serializers.csv.CsvCodec"
    assert programs["abilities"] == {"ArrayCodec": ["decode_array"]}
    assert programs["provides"] == {"media_types": ["text/csv"], "suffixes": [".csv"]}
    assert "  suffixes          .csv" in lines
    assert programs["options"] == [{"name": "strict", "type": "str", "default": "''", "doc": ""}]
    assert programs["doc"].startswith("text/csv: tables of numbers.")


def test_options_that_are_kept_as_fields_are_abilities_too(shown):
    assert shown("pickle")[1]["abilities"] == {"GuardedCodec": ["trusted"]}
    assert "ProfiledLauncher" in shown("process")[1]["abilities"]


def test_every_provider_can_be_shown(plugins):
    for kind in KINDS:
        for name in plugins.registry(kind.word).names():
            (description,) = descriptions(plugins, asked(name, kind.word))
            assert description.doc
            assert description.entry.name == name


def test_every_ability_is_found_by_its_name(plugins):
    found = {
        name
        for kind in KINDS
        for provider in plugins.registry(kind.word)
        for description in descriptions(plugins, asked(provider.name, kind.word))
        for name in description.abilities
    }
    nouns = tuple(kind.protocol.__name__ for kind in KINDS)
    known = {
        name
        for name, value in vars(contracts).items()
        if getattr(value, "_is_protocol", False) and name.endswith(nouns) and name not in nouns
    }
    assert found <= known
    assert {"ArrayCodec", "BatchingHardware", "DiagnosingLauncher", "SplicingPackager"} <= found


def test_a_plugin_without_a_provider_of_its_name(shown):
    people, programs = shown("hardware")
    assert people.startswith("plugin hardware: active\n")
    assert "  hooks             select_hardware\n" in people
    assert "hardware cpu, " in people
    assert programs["module"] == "modelyard.hardware.plugin"


def test_a_plugin_that_failed_says_why(installed, capsys):
    installed("broken-one", "import a_module_that_is_absent")
    assert main(["plugins", "show", "broken-one"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "plugin broken-one: failed",
        "  ModuleNotFoundError: No module named 'a_module_that_is_absent' (broken_one.py, line 1)",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cvs"], "no provider and no plugin is called 'cvs'; did you mean 'csv'?"),
        (["codec", "cvs"], "no codec is called 'cvs'; did you mean 'csv'?"),
        (["backend", "csv"], "no backend is called 'csv'"),
        (["codec", "serializers"], "no codec is called 'serializers'"),
    ],
)
def test_a_name_that_nothing_has(plugins, capsys, arguments, said):
    assert main(["plugins", "show", *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"modelyard: {said}")


def test_a_name_of_two_kinds(plugins):
    plugins.register(providing(storages=Csv), "another")
    with pytest.raises(LookupError, match="'csv' is a codec and a storage: say which, as .* show codec csv"):
        descriptions(plugins, asked("csv"))
    (description,) = descriptions(plugins, asked("csv", "storage"))
    assert description.entry.status.plugin == "another"


def test_a_name_that_two_plugins_provide(plugins):
    for plugin in ("one", "other"):
        plugins.register(providing(codecs=Twice), plugin)
    found = descriptions(plugins, asked("twice"))
    assert [description.entry.status.plugin for description in found] == ["one", "other"]


# -- options -----------------------------------------------------------------------------------


@attrs.frozen
class Fields:
    """A class with options.

    ``level``: how hard it tries, from 0 to 9 (see gzip.compress); ``first`` and ``second``: two of a
    kind. ``made`` (a list): what is made anew
    """

    level: int
    first: str | None = None
    second: str | None = None
    made: list[str] = attrs.field(factory=list)
    _private: bool = attrs.field(default=False, alias="private")
    inner: object = attrs.field(default=None, init=False)
    below: float = 0.5
    """Described below it."""


@attrs.frozen
class Documented:
    """A codec. ``level``: told above."""

    name: ClassVar[str] = "documented"
    media_types: ClassVar[tuple[str, ...]] = ("application/x-documented",)
    encode = decode = lambda *_: None

    level: int = 1
    another: int = 1
    """Told here."""


class Plain:
    def __init__(self, level, *others, size: "int" = 3, **rest):
        pass


def test_options_are_the_fields_that_can_be_given():
    assert options_of(Fields) == [
        Option("level", "int", REQUIRED, "how hard it tries, from 0 to 9 (see gzip.compress)"),
        Option("first", "str | None", "None", "two of a kind"),
        Option("second", "str | None", "None", "two of a kind"),
        Option("made", "list[str]", COMPUTED, "what is made anew"),
        Option("private", "bool", "False", ""),
        Option("below", "float", "0.5", "Described below it."),
    ]


def test_options_are_the_parameters_of_another_class():
    assert options_of(Plain) == [Option("level", "", REQUIRED, ""), Option("size", "int", "3", "")]


def test_a_class_without_a_signature_or_a_source():
    assert options_of(type("Made", (), {"__signature__": 3})) == []
    assert plugin_options._below_fields(int) == {}


def test_what_is_below_a_field_is_shown_where_the_docstring_is_silent(plugins):
    plugins.register(providing(codecs=Documented), "by-hand")
    (description,) = descriptions(plugins, asked("documented"))
    lines = list(description.lines(Terminal()))
    assert lines[lines.index("    another: int = 1") + 1] == "        Told here."
    assert lines[lines.index("    level: int = 1") + 1] == "    another: int = 1"
