"""Finding plugins: what is found, and what happens when one is broken."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from modelyard.core.discovery import BUILTIN_PLUGINS
from modelyard.core.errors import BrokenPluginError, ProviderConflictError, UnknownProviderError
from modelyard.core.hookspecs import hookimpl
from modelyard.core.manager import PluginManager

HOOK = "from modelyard import hookimpl\n\n@hookimpl\n"

BROKEN = {
    "import error": ("import a_module_that_does_not_exist", "ModuleNotFoundError"),
    "syntax error": ("def (", "SyntaxError"),
    "exit at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "unknown hook": (
        HOOK + "def modelyard_register_codec():\n    return []",
        "no hook is called 'modelyard_register_codec'; did you mean 'modelyard_register_codecs'",
    ),
    "wrong arguments": (HOOK + "def modelyard_register_codecs(extra):\n    return []", "'extra'"),
    "raising hook": (
        HOOK + "def modelyard_register_codecs():\n    raise OSError('no disk')",
        "modelyard_register_codecs raised OSError: no disk",
    ),
    "raising generator": (
        HOOK + "def modelyard_register_codecs():\n    raise OSError('no disk')\n    yield",
        "OSError: no disk",
    ),
    "no answer": (HOOK + "def modelyard_register_codecs():\n    pass", "an iterable of classes, not None"),
    "a string": (HOOK + "def modelyard_register_codecs():\n    return 'npy'", "an iterable of classes"),
    "an instance": (HOOK + "def modelyard_register_codecs():\n    return [object()]", "must return classes"),
    "no name": (
        HOOK + "def modelyard_register_codecs():\n    class C: pass\n    return [C]",
        "C has no name: a codec class needs `name",
    ),
    "no members": (
        HOOK + "def modelyard_register_codecs():\n    class C:\n        name = 'c'\n    return [C]",
        "C is not a codec: it lacks decode, encode, media_types",
    ),
    "a media type in capitals": (
        HOOK
        + "def modelyard_register_codecs():\n    class C:\n        name = 'c'\n"
        + "        media_types = ('Application/X-C',)\n        encode = decode = print\n    return [C]",
        "C.media_types: 'Application/X-C' must be written 'application/x-c'",
    ),
    "a range of media types": (
        HOOK
        + "def modelyard_register_codecs():\n    class C:\n        name = 'c'\n"
        + "        media_types = ('text/*',)\n        encode = decode = print\n    return [C]",
        "C.media_types: 'text/*' is not a media type",
    ),
    "hook wrapper": (
        HOOK.replace("@hookimpl", "@hookimpl.options(wrapper=True)")
        + "def modelyard_register_codecs():\n    return (yield)",
        "hook wrapper",
    ),
}


def row(plugins, name):
    return next(status for status in plugins.statuses if status.plugin == name)


def test_an_installed_distribution_is_found_with_its_origin(site, discover):
    site.install_codec("acme-codecs", "acme", version="1.2", plugin="acme")
    plugins = discover()
    found = plugins.codecs.get("acme")
    assert (found.plugin, found.distribution, found.version) == ("acme", "acme-codecs", "1.2")
    assert row(plugins, "acme").state == "active"


def test_a_fresh_interpreter_finds_it_too(site):
    site.install_codec("acme-codecs", "acme", version="1.2")
    program = "from modelyard import PluginManager as P; print(P.discover().codecs.get('acme').source)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(site.folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "acme-codecs 1.2\n"


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN.keys())
class TestABrokenPlugin:
    def test_is_a_row_and_breaks_nothing_else(self, site, discover, source, reason):
        site.install("broken-one", source)
        site.install_codec("acme-codecs", "acme")
        plugins = discover()
        assert plugins.codecs.names() == ("acme",)
        assert row(plugins, "acme-codecs").state == "active"
        status = row(plugins, "broken-one")
        assert (status.state, status.distribution) == ("failed", "broken-one")
        assert reason in status.error

    def test_is_logged_by_name(self, site, discover, source, reason, caplog):
        site.install("broken-one", source)
        assert discover().codecs.names() == ()
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert "plugin failed plugin='broken-one'" in record.message

    def test_is_in_the_note_of_a_later_error(self, site, discover, source, reason):
        site.install("broken-one", source)
        with pytest.raises(UnknownProviderError, match="Plugins that failed to load: broken-one") as caught:
            discover().codecs.get("broken")
        assert reason in str(caught.value)

    def test_is_fatal_when_strict(self, site, discover, source, reason):
        site.install("broken-one", source)
        with pytest.raises(BrokenPluginError, match="plugin 'broken-one'") as caught:
            discover(MODELYARD_PLUGINS_STRICT="1").codecs.names()
        assert reason in str(caught.value)

    def test_can_be_disabled(self, site, discover, source, reason):
        site.install("broken-one", source)
        plugins = discover(MODELYARD_PLUGINS_DISABLED="broken-one", MODELYARD_PLUGINS_STRICT="1")
        assert row(plugins, "broken-one").state == "disabled"


def test_a_plugin_keeps_the_kinds_that_it_provides_well(plugin, provider):
    plugins = PluginManager()
    half = plugin(
        modelyard_register_codecs=lambda: [object],
        modelyard_register_storages=lambda: [provider("storage", "tape")],
    )
    plugins.register(half, "half")
    assert plugins.storages.names() == ("tape",)
    assert plugins.codecs.names() == ()
    assert row(plugins, "half").state == "failed"


def test_a_keyboard_interrupt_is_nobodys_failure(site, discover):
    site.install("impatient", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        discover()


def test_an_unknown_hook_may_be_one_of_a_newer_modelyard(plugin):
    with pytest.raises(
        BrokenPluginError, match="pip install -U modelyard, or mark it by .*optionalhook=True"
    ):
        PluginManager().register(plugin(modelyard_from_the_future=lambda: None), "newer")


def test_an_optional_hook_of_another_version_is_no_error():
    plugins = PluginManager()
    module = SimpleNamespace(modelyard_from_the_future=hookimpl.options(optionalhook=True)(lambda: None))
    plugins.register(module, "newer")
    assert row(plugins, "newer").state == "active"


class TestTwoProvidersOfOneName:
    @pytest.fixture
    def plugins(self, site, discover):
        site.install_codec("acme-codecs", "acme", version="1.2")
        site.install_codec("rival-codecs", "acme", version="3.4")
        site.install_codec("other-codecs", "other")
        return discover(MODELYARD_PLUGINS_STRICT="1")

    def test_are_no_error_before_the_name_is_used(self, plugins):
        assert plugins.codecs.names() == ("acme", "other")
        assert plugins.codecs.get("other").distribution == "other-codecs"
        assert {status.state for status in plugins.statuses} == {"active"}

    def test_are_an_error_that_names_both_and_the_ways_out(self, plugins):
        with pytest.raises(ProviderConflictError) as caught:
            plugins.codecs.get("acme")
        message = str(caught.value)
        assert "the codec 'acme'" in message
        assert "acme-codecs 1.2" in message
        assert "rival-codecs 3.4" in message
        assert "uninstall one of them" in message
        assert "MODELYARD_PLUGINS_DISABLED=rival-codecs" in message

    def test_are_told_apart_by_the_way_out(self, plugins, discover):
        plugins = discover(MODELYARD_PLUGINS_DISABLED="rival-codecs")
        assert plugins.codecs.get("acme").distribution == "acme-codecs"


class TestTwoPluginsOfOneName:
    def test_the_later_ones_fail_and_say_why(self, site, discover):
        for distribution in ("acme-codecs", "rival-codecs", "third-codecs"):
            site.install_codec(distribution, distribution, plugin="same")
        plugins = discover()
        assert len(plugins.codecs.names()) == 1
        assert [status.state for status in plugins.statuses] == ["active", "failed", "failed"]
        said = "a plugin called 'same' is loaded already, of acme-codecs 1.0: uninstall one of them"
        assert said in plugins.statuses[1].error

    def test_both_can_be_left_out(self, site, discover):
        for distribution in ("acme-codecs", "rival-codecs"):
            site.install_codec(distribution, distribution, plugin="same")
        states = [status.state for status in discover(MODELYARD_PLUGINS_DISABLED="same").statuses]
        assert states == ["disabled", "disabled"]

    def test_by_hand_it_is_raised(self, providing):
        plugins = PluginManager()
        plugins.register(providing("codec", "one"), "same")
        with pytest.raises(BrokenPluginError, match="'same' is loaded already"):
            plugins.register(providing("codec", "two"), "same")
        assert plugins.codecs.names() == ("one",)


GREEDY = """
from {module} import {base}

from modelyard import hookimpl


class Greedy({base}):
    name = "greedy"
    {declared}


@hookimpl
def modelyard_register_{hook}():
    return [Greedy]
"""
CLAIMS = {
    "codecs": ("modelyard.serializers.json", "JsonCodec", "", "media_types", "application/json"),
    "storage": ("modelyard.plugins.storage.file", "FileStorage", "", "schemes", "file"),
    "backends": ("modelyard.plugins.backends.local.backend", "LocalBackend", "", "instance_types", "local"),
    "hardware": (
        "modelyard.hardware.cpu", "CpuHardware", 'instance_types = ("*",)', "instance_types", "local",
    ),
    "launchers": (
        "modelyard.plugins.launchers.torchrun", "TorchrunLauncher", "", "distributions", "torchrun",
    ),
}  # fmt: skip


class TestWhatABuiltInProviderIsChosenBy:
    """As a subclass has it that declares nothing else, which would break every job of the machine."""

    @pytest.mark.parametrize("kind", CLAIMS)
    def test_is_not_taken_by_what_is_merely_installed(self, site, kind):
        module, base, declared, attribute, value = CLAIMS[kind]
        hook = "storages" if kind == "storage" else kind
        site.install("greedy", GREEDY.format(module=module, base=base, declared=declared, hook=hook))
        plugins = PluginManager.discover({})
        word = kind if kind in {"hardware", "storage"} else kind.removesuffix("s")
        registry = plugins.registry(word)
        assert registry.declaring(attribute, value, pattern=attribute == "instance_types").is_builtin
        assert registry.get("greedy").distribution == "greedy"
        if not declared:
            [note] = [note for note in row(plugins, "greedy").notes if "is not used for" in note]
            assert value in note
            assert "modelyard's is; ask for it by its name" in note

    def test_is_a_conflict_for_one_that_is_registered_by_hand(self, providing):
        plugins = PluginManager.builtin()
        plugins.register(providing("codec", "mine", media_types=("application/json",)), "mine")
        with pytest.raises(ProviderConflictError, match="application/json"):
            plugins.codecs.declaring("media_types", "application/json")


class Skipped(BaseException):
    """As pytest's, for instance."""


def test_whatever_a_plugin_raises_is_its_own_failure(site, discover, plugin):
    site.install("skips", "class Skipped(BaseException): pass\nraise Skipped('at import')")
    plugins = discover()

    def skip():
        raise Skipped("in a hook")

    plugins.register(plugin(modelyard_register_codecs=skip), "late")
    assert row(plugins, "skips").error == "Skipped: at import (skips.py, line 2)"
    assert "Skipped: in a hook" in row(plugins, "late").error


@pytest.mark.parametrize("nothing", ["json", dict, SimpleNamespace(modelyard_job_started=print)])
def test_what_has_no_hook_cannot_be_registered(nothing):
    with pytest.raises(BrokenPluginError, match="has no hook of modelyard's") as caught:
        PluginManager().register(nothing)
    assert ("modelyard_job_started lacks @hookimpl" in str(caught.value)) == hasattr(
        nothing, "modelyard_job_started"
    )


@pytest.mark.parametrize(
    "mark", [hookimpl, hookimpl(), hookimpl(tryfirst=True), hookimpl.options(tryfirst=True)]
)
def test_a_hook_is_marked_in_pluggys_ways(mark, provider):
    plugins = PluginManager()
    plugins.register(
        SimpleNamespace(modelyard_register_codecs=mark(lambda: [provider("codec", "any")])), "any"
    )
    assert plugins.codecs.names() == ("any",)


def test_a_plugin_that_is_turned_off_is_named_to_whoever_misses_it(site, discover):
    site.install_codec("acme-codecs", "acme")
    with pytest.raises(UnknownProviderError, match="'acme'.* Plugins that are turned off: acme-codecs"):
        discover(MODELYARD_PLUGINS_DISABLED="acme-codecs").codecs.get("acme")


class TestUnknownNames:
    def test_get_a_suggestion(self, providing):
        plugins = PluginManager()
        plugins.register(providing("codec", "json", "csv"))
        expected = r"no codec is called 'jsno'; did you mean 'json'\? Known: csv, json"
        with pytest.raises(UnknownProviderError, match=expected):
            plugins.codecs.get("jsno")

    def test_say_what_there_is(self, providing):
        plugins = PluginManager()
        plugins.register(providing("codec", "json"))
        with pytest.raises(UnknownProviderError, match=r"Known: json$"):
            plugins.codecs.get("parquet")

    def test_say_so_where_there_is_nothing(self):
        with pytest.raises(UnknownProviderError, match="Known: none"):
            PluginManager().storages.get("s3")


class TestSettings:
    def test_several_plugins_can_be_disabled(self, site, discover):
        for distribution in ("one", "two", "three"):
            site.install_codec(distribution, distribution)
        plugins = discover(MODELYARD_PLUGINS_DISABLED=" one, three ,")
        assert plugins.codecs.names() == ("two",)
        assert [(s.plugin, s.state) for s in plugins.statuses] == [
            ("one", "disabled"),
            ("three", "disabled"),
            ("two", "active"),
        ]

    def test_a_disabled_plugin_is_not_even_imported(self, site, discover):
        site.install_codec("acme-codecs", "acme")
        discover(MODELYARD_PLUGINS_DISABLED="acme-codecs")
        assert "acme_codecs" not in sys.modules

    def test_without_autoload_nothing_installed_is_seen(self, site, discover):
        site.install_codec("acme-codecs", "acme")
        assert discover(MODELYARD_PLUGINS_AUTOLOAD="0").statuses == ()
        assert "acme_codecs" not in sys.modules

    def test_zero_is_not_strict(self, site, discover):
        site.install("broken-one", "1 / 0")
        assert row(discover(MODELYARD_PLUGINS_STRICT="0"), "broken-one").state == "failed"

    def test_are_read_from_the_environment_of_the_process(self, site, discover, monkeypatch):
        site.install_codec("acme-codecs", "acme")
        monkeypatch.setattr("modelyard.core.discovery.BUILTIN_PLUGINS", ())
        monkeypatch.setenv("MODELYARD_PLUGINS_AUTOLOAD", "0")
        assert PluginManager.discover().statuses == ()


class TestBuiltIns:
    def test_are_all_active_and_come_from_modelyard(self):
        statuses = PluginManager.builtin().statuses
        assert len(statuses) == len(BUILTIN_PLUGINS)
        assert [(status.plugin, status.error) for status in statuses if status.state != "active"] == []
        assert {status.distribution for status in statuses} == {"modelyard"}

    def test_ignore_what_is_installed(self, site):
        site.install_codec("acme-codecs", "acme")
        assert "acme" not in PluginManager.builtin().codecs.names()

    def test_can_be_disabled_like_any_other(self):
        plugins = PluginManager.discover(
            {"MODELYARD_PLUGINS_AUTOLOAD": "0", "MODELYARD_PLUGINS_DISABLED": "hardware"}
        )
        assert plugins.hardware.names() == ()


class TestByHand:
    def test_a_plugin_is_seen_at_once(self, providing):
        plugins = PluginManager()
        assert plugins.codecs.names() == ()
        plugins.register(providing("codec", "late"), "late")
        assert plugins.codecs.names() == ("late",)

    def test_a_broken_plugin_is_raised_and_leaves_nothing_behind(self, plugin):
        plugins = PluginManager()
        wrong = plugin(
            modelyard_register_codecs=lambda: 1 / 0,
            modelyard_register_storages=lambda unknown: [],
        )
        with pytest.raises(BrokenPluginError, match="unknown"):
            plugins.register(wrong, "wrong")
        assert plugins.codecs.names() == ()
        assert "ZeroDivisionError" not in row(plugins, "wrong").error

    def test_a_plugin_needs_no_name(self, providing):
        plugins = PluginManager()
        plugins.register(providing("codec", "json"))
        assert [status.plugin for status in plugins.statuses] == ["SimpleNamespace"]


def test_two_managers_share_nothing(providing):
    one, other = PluginManager(), PluginManager()
    shared = providing("codec", "json")
    one.register(shared)
    assert one.codecs.names() == ("json",)
    assert other.codecs.names() == ()
    assert other.statuses == ()
    other.register(shared)
    assert one.codecs.get("json") is not other.codecs.get("json")


def test_an_exit_in_a_hook_fails_its_plugin_alone(plugin, provider):
    def leave():
        raise SystemExit("bye")

    plugins = PluginManager()
    plugins.register(plugin(modelyard_register_codecs=leave), "leaver")
    plugins.register(plugin(modelyard_register_codecs=lambda: [provider("codec", "sound")]), "sound")
    assert plugins.codecs.names() == ("sound",)
    assert "SystemExit: bye" in next(s.error for s in plugins.statuses if s.plugin == "leaver")


def test_a_strict_manager_does_not_raise_for_an_observer(plugin, caplog):
    plugins = PluginManager(strict=True)
    plugins.register(plugin(modelyard_model_loaded=lambda: 1 / 0), "observer")
    plugins.model_loaded(None, None)
    assert "ZeroDivisionError" in caplog.text


def test_a_typo_in_what_is_disabled_is_logged(caplog):
    PluginManager.discover({"MODELYARD_PLUGINS_DISABLED": "hardwear", "MODELYARD_PLUGINS_AUTOLOAD": "0"})
    assert "hardwear" in caplog.text
    assert "did you mean 'hardware'" in caplog.text


def test_an_unknown_kind_gets_a_suggestion():
    with pytest.raises(UnknownProviderError, match="kind of provider called 'codecs'; did you mean 'codec'"):
        PluginManager().registry("codecs")
