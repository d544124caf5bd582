"""Plugins that harm their host while they are imported: each is named in its row, and nobody else notices.

What raises, exits or returns the wrong thing is in ``test_manager.py``.
"""

import builtins
import io
import os
import subprocess
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

import modelyard
from modelyard.core import discovery, log, watching
from modelyard.core.contracts import CONTRACT_VERSION
from modelyard.core.errors import BrokenPluginError, did_you_mean
from modelyard.core.hookspecs import hookspec
from modelyard.core.manager import PluginManager
from modelyard.core.plans import Resources
from modelyard.core.registry import Registry
from modelyard.core.statuses import PluginStatus

MAJOR, MINOR = map(int, CONTRACT_VERSION.split("."))
GOOD = """
from modelyard import hookimpl

class {cls}:
    name = "{name}"
    media_types = ("application/x-{cls}",)
    def encode(self, value): return b""
    def decode(self, body): return None

@hookimpl
def modelyard_register_codecs():
    return [{cls}]
"""


def row(plugins, name):
    return next(status for status in plugins.statuses if status.plugin == name)


def codec(before="", name="odd", cls="Odd", inside=""):
    """Return a plugin that does something at its import and something in its hook, and then is sound."""
    good = GOOD.format(name=name, cls=cls)
    return before + good.replace("    return [", f"    {inside or 'pass'}\n    return [")


WHERE = {"at import": "before", "in its hook": "inside"}
each_place = pytest.mark.parametrize("where", WHERE.values(), ids=WHERE)


class TestAPluginThatPrints:
    @each_place
    def test_prints_to_stderr_and_its_row_says_so(self, site, discover, where, capsys):
        site.install("loud-one", codec(**{where: "print('hello')"}))
        plugins = discover()
        assert plugins.codecs.names() == ("odd",)
        assert row(plugins, "loud-one").state == "active"
        assert row(plugins, "loud-one").notes == ("prints to stdout, which went to stderr",)
        sys.stdout.write("mine\n")
        assert capsys.readouterr() == ("mine\n", "hello\n")

    @pytest.mark.parametrize(
        "printing",
        ["import sys; sys.stdout.buffer.write(b'hello')", "import sys; sys.stdout.writelines(['hello'])"],
    )
    def test_by_another_way_too(self, site, discover, printing, capfd):
        site.install("loud-one", printing)
        assert "prints to stdout, which went to stderr" in row(discover(), "loud-one").notes
        assert capfd.readouterr().out == ""

    def test_and_then_raises_is_known_for_both(self, site, discover, capsys):
        site.install("loud-one", "print('hello'); 1 / 0")
        status = row(discover(), "loud-one")
        assert (status.state, status.error) == ("failed", "ZeroDivisionError: division by zero")
        assert status.notes == ("prints to stdout, which went to stderr",)
        assert capsys.readouterr().out == ""

    def test_does_not_spoil_the_output_of_a_program(self, site):
        site.install("loud-one", codec("print('hello')"))
        program = "from modelyard import PluginManager as P; print(P.discover().codecs.get('odd').source)"
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(site.folder)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == ("loud-one 1.0\n", "hello\n")

    def test_may_keep_what_it_has_for_stdout(self, site, discover, capsys):
        site.install("loud-one", "import sys; kept = sys.stdout; print('while it is imported', file=kept)")
        discover()
        sys.modules["loud_one"].kept.write("later")
        assert capsys.readouterr() == ("later", "while it is imported\n")

    @pytest.mark.parametrize("missing", [("stdout",), ("stdout", "stderr")], ids="+".join)
    def test_may_do_so_where_there_is_nothing_to_print_to(self, site, discover, monkeypatch, missing):
        site.install("loud-one", codec("import sys; kept = sys.stdout; print('hello')"))
        for stream in missing:
            monkeypatch.setattr(sys, stream, None)
        plugins = discover()
        assert row(plugins, "loud-one").state == "active"
        assert sys.stdout is None
        sys.modules["loud_one"].kept.write("later")

    def test_leaves_other_threads_their_stdout(self, site, discover, capsys):
        site.install(
            "loud-one",
            "import threading\n"
            "other = threading.Thread(target=print, args=('of another thread',))\n"
            "other.start(); other.join()",
        )
        assert row(discover(), "loud-one").notes == ("has no hook of modelyard's",)
        assert capsys.readouterr().out == "of another thread\n"

    def test_that_is_built_in_or_added_by_hand_is_not_watched(self, plugin, capsys):
        plugins = PluginManager()
        hooks = {"modelyard_register_codecs": lambda: sys.stdout.write("hello") and ()}
        plugins.register(plugin(**hooks), "mine")
        assert row(plugins, "mine").notes == ()
        assert capsys.readouterr().out == "hello"


def test_two_threads_that_load_plugins_give_stdout_back_in_any_order():
    first, second = (watching.Watch(PluginStatus("x"), "x") for _ in "ab")
    stdout = sys.stdout
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert sys.stdout is stdout
    assert (first._status.notes, second._status.notes) == ((), ())


def test_what_was_odd_is_told_by_every_manager_of_the_process(site, discover, monkeypatch):
    """A module is imported once, so only the first of them can see it."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(watching, "clock", lambda: clock.now)
    monkeypatch.setitem(sys.modules, "the_clock", clock)
    site.install("odd-one", codec("import the_clock; the_clock.now += 7; print('hello')"))
    statuses = [row(discover(), "odd-one") for _ in range(3)]
    assert statuses[0] == statuses[1] == statuses[2]
    assert statuses[2].notes == ("prints to stdout, which went to stderr", "import takes 7.0 s")
    assert statuses[2].seconds == 7.0


PATCHES = {
    "a built-in": ("import builtins; builtins.print = None", "builtins.print"),
    "a hook of sys": ("import sys; sys.excepthook = None", "sys.excepthook"),
    "a function": (
        "import modelyard.core.errors as e; e.did_you_mean = lambda *a: ''",
        "modelyard.core.errors.did_you_mean",
    ),
    "a function that was imported": (
        "import modelyard.core.registry as r; r.did_you_mean = lambda *a: ''",
        "modelyard.core.registry.did_you_mean",
    ),
    "a class": ("import modelyard.core.plans as p; p.Resources = dict", "modelyard.core.plans.Resources"),
    "a method": (
        "from modelyard.core.registry import Registry; Registry.get = lambda *a: None",
        "modelyard.core.registry.Registry.get",
    ),
    "a constant": (
        "import modelyard.core.discovery as d; d.GROUP = 'other'",
        "modelyard.core.discovery.GROUP",
    ),
    "something away": (
        "import modelyard.core.errors as e; del e.did_you_mean",
        "modelyard.core.errors.did_you_mean",
    ),
}


def relied_on():
    return (
        builtins.print,
        sys.excepthook,
        modelyard.core.errors.did_you_mean,
        modelyard.core.registry.did_you_mean,
        modelyard.core.plans.Resources,
        vars(Registry)["get"],
        discovery.GROUP,
    )


class TestAPluginThatPatches:
    @pytest.mark.parametrize(("patch", "path"), PATCHES.values(), ids=PATCHES)
    @each_place
    def test_is_undone_and_its_row_says_what(self, site, discover, where, patch, path):
        before = relied_on()
        assert did_you_mean in before
        assert Resources in before
        site.install("patching-one", codec(**{where: patch}))
        status = row(discover(), "patching-one")
        assert status.state == "active"
        assert status.notes == (f"replaces {path}, which was undone",)
        assert relied_on() == before

    def test_and_then_raises_is_undone_too(self, site, discover):
        before = relied_on()
        site.install("patching-one", "import builtins; builtins.print = None; 1 / 0")
        status = row(discover(), "patching-one")
        assert status.state == "failed"
        assert status.notes == ("replaces builtins.print, which was undone",)
        assert relied_on() == before

    def test_stdout_gets_it_back(self, site, discover):
        stdout = sys.stdout
        site.install("patching-one", codec("import io, sys; sys.stdout = io.StringIO()"))
        assert row(discover(), "patching-one").notes == ("replaces sys.stdout, which was undone",)
        assert sys.stdout is stdout

    def test_even_all_built_ins_get_them_back(self, site, discover):
        before = dict(vars(builtins))
        kept = "{'__import__', '__build_class__', 'setattr', 'str'}"
        patch = f"import builtins as b\nfor name in set(dir(b)) - {kept}: setattr(b, name, None)"
        site.install("patching-one", patch)
        site.install("sound-one", codec(name="sound", cls="Sound"))
        plugins = discover()
        assert {name for name, value in vars(builtins).items() if value is not before[name]} == set()
        assert plugins.codecs.names() == ("sound",)
        assert "replaces builtins." in row(plugins, "patching-one").notes[0]

    def test_much_is_named_in_part(self, site, discover):
        patch = "import builtins as b\nfor name in ('abs','all','any','ascii','bin'): setattr(b, name, None)"
        site.install("patching-one", patch)
        assert row(discover(), "patching-one").notes[-1] == (
            "replaces builtins.abs, builtins.all, builtins.any, builtins.ascii and 1 more, which was undone"
        )

    def test_a_module_that_nobody_has_loaded_yet_is_found_out(self, site, discover, monkeypatch):
        for late in ("late", "imported"):
            module = ModuleType(f"modelyard.{late}")
            exec("class Thing:\n    def do(self): return 1\ndef work(): return 1", vars(module))
            monkeypatch.setitem(sys.modules, f"to_be_{late}", module)
        monkeypatch.setitem(sys.modules, "modelyard.late", None)
        load = "import sys; m = sys.modules['modelyard.late'] = sys.modules['to_be_late']\n"
        site.install("patching-one", load + "def work(): return 2\nm.work = m.Thing.do = work")
        site.install("sound-one", load.replace("late", "imported"))
        plugins = discover()
        assert row(plugins, "patching-one").notes[-1] == (
            "replaces modelyard.late.work, modelyard.late.Thing.do, which cannot be undone"
        )
        assert row(plugins, "sound-one").notes == ("has no hook of modelyard's",)

    def test_nothing_is_a_patch_that_modelyard_does_itself(self, site, discover, monkeypatch):
        """It imports lazily, and its log is set up when there is something to log."""
        log.configure(io.StringIO())
        monkeypatch.delitem(vars(modelyard), "Predictor", raising=False)
        source = (
            "from modelyard import Predictor, PyTorch, PyTorchModel\n"
            "from modelyard.core.log import get_logger; get_logger('modelyard.x').warning('set up')\n"
        )
        site.install("sound-one", codec(source))
        assert row(discover(), "sound-one").notes == ()
        assert log._program is None


class TestAPluginThatTakesLong:
    @pytest.fixture
    def clock(self, monkeypatch):
        """Return the clock that imports are timed by, which stands still until somebody sets it."""
        clock = SimpleNamespace(now=0.0)
        monkeypatch.setattr(watching, "clock", lambda: clock.now)
        monkeypatch.setitem(sys.modules, "the_clock", clock)
        return clock

    def test_is_in_its_row_with_the_seconds(self, site, discover, clock):
        site.install("slow-one", codec("import the_clock; the_clock.now += 10"))
        site.install("quick-one", codec(name="quick", cls="Quick"))
        plugins = discover()
        slow, quick = row(plugins, "slow-one"), row(plugins, "quick-one")
        assert (slow.state, slow.seconds, slow.notes) == ("active", 10.0, ("import takes 10.0 s",))
        assert (quick.seconds, quick.notes) == (0.0, ())

    def test_in_its_hook_is_so_too(self, site, discover, clock):
        site.install("slow-one", codec("import the_clock; the_clock.now += 1", inside="the_clock.now += 9"))
        status = row(discover(), "slow-one")
        assert status.seconds == 10.0
        assert status.notes == ("import takes 1.0 s", "modelyard_register_codecs takes 9.0 s")

    def test_and_fails_is_known_for_both(self, site, discover, clock):
        site.install("slow-one", "import the_clock; the_clock.now += 10; 1 / 0")
        status = row(discover(), "slow-one")
        assert (status.state, status.seconds, status.notes) == ("failed", 10.0, ("import takes 10.0 s",))


class TestAPluginThatHangs:
    class Stderr(io.StringIO):
        """Lets the import that hangs go on once something was written: no time is involved."""

        def __init__(self):
            super().__init__()
            self.written = threading.Event()

        def flush(self):
            super().flush()
            self.written.set()

    @pytest.mark.parametrize(
        ("where", "doing"), [("before", "import"), ("inside", "modelyard_register_codecs")], ids=WHERE
    )
    def test_is_named_in_a_warning_while_it_hangs(self, site, discover, where, doing, monkeypatch):
        stderr = self.Stderr()
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setitem(sys.modules, "the_warning", stderr.written)
        site.install(
            "hanging-one",
            codec(**{where: "import the_warning; assert the_warning.wait(60)"}),
            version="1.2",
        )
        monkeypatch.setattr(watching, "HANGING", 0.0 if where == "before" else 3600.0)
        plugins = discover()
        monkeypatch.setattr(watching, "HANGING", 0.0)
        assert row(plugins, "hanging-one").state == "active"
        assert (
            f"modelyard: plugin 'hanging-one' (hanging-one 1.2): its {doing} has not ended after 0 s; "
            "MODELYARD_PLUGINS_DISABLED=hanging-one leaves it out\n"
        ) in stderr.getvalue()

    def test_is_no_longer_watched_once_it_is_imported(self, site, discover, monkeypatch, capsys):
        monkeypatch.setattr(watching, "HANGING", 3600.0)
        before = threading.enumerate()
        site.install("quick-one", codec())
        assert discover().codecs.names() == ("odd",)
        assert threading.enumerate() == before
        assert capsys.readouterr().err == ""


class TestTheNameOfAProvider:
    @pytest.mark.parametrize("name", ["my codec", "Codec", "-x", "1st", "a,b", "ä", "x\n", ""])
    def test_must_be_a_plain_word(self, site, discover, name):
        site.install("odd-one", codec(name=name.replace("\n", "\\n")))
        site.install("sound-one", codec(name="sound", cls="Sound"))
        plugins = discover()
        assert plugins.codecs.names() == ("sound",)
        status = row(plugins, "odd-one")
        assert status.state == "failed"
        assert f"{name!r} is no name of a codec" in status.error or "has no name" in status.error

    def test_that_is_a_built_ins_is_left_to_it(self, site):
        site.install("bold-one", codec(name="json", cls="Json"))
        plugins = PluginManager.discover({})
        assert plugins.codecs.get("json").distribution == "modelyard"
        status = row(plugins, "bold-one")
        assert (status.state, status.notes) == (
            "active",
            ("its codec 'json' is left out: modelyard has one of that name",),
        )

    def test_that_another_one_has_is_in_the_rows_of_both(self, site, discover):
        site.install("one-codecs", codec(cls="One"), version="1.2")
        site.install("two-codecs", codec(cls="Two"), version="3.4")
        site.install("other-codecs", codec(name="other", cls="Other"))
        plugins = discover()
        assert [status.notes for status in plugins.statuses] == [
            ("its codec 'odd' cannot be used: two-codecs 3.4 has one of that name",),
            (),
            ("its codec 'odd' cannot be used: one-codecs 1.2 has one of that name",),
        ]
        assert plugins.codecs.get("other").distribution == "other-codecs"

    def test_is_noted_once_however_often_the_plugins_are_asked(self, site, discover, providing):
        for distribution in ("one-codecs", "two-codecs"):
            site.install(distribution, codec(cls=distribution[:3].title()))
        plugins = discover()
        assert len(plugins.statuses) == 2
        plugins.register(providing("codec", "late"), "late")
        assert [len(status.notes) for status in plugins.statuses] == [1, 1, 0]


@pytest.mark.parametrize("name", ["my plugin", "a,b", "1st", "-x"])
def test_the_name_of_a_plugin_must_be_one_that_can_be_disabled(site, discover, name):
    site.install("odd-one", codec(), plugin=name)
    plugins = discover()
    assert plugins.codecs.names() == ()
    assert f"{name!r} is no name of a plugin" in row(plugins, name).error


@pytest.mark.parametrize("declared", ["'text/x'", "(1, 2)", "None", "{'text/x': 1}"])
def test_a_declaration_that_is_no_tuple_of_strings_harms_no_other_codec(site, discover, declared):
    site.install("odd-one", codec().replace("media_types = (", f"media_types = {declared} or ("))
    site.install("sound-one", codec(name="sound", cls="Sound"))
    plugins = discover()
    assert plugins.codecs.declaring("media_types", "application/x-Sound").name == "sound"
    if declared != "None":
        assert "Odd.media_types must be a tuple of strings, not " in row(plugins, "odd-one").error


def test_an_entry_point_that_leads_to_nothing_is_told(site, discover):
    site.install("odd-one", "plugin = None", target="odd_one:plugin")
    site.install("lost-one", "", target="lost_one:plugin")
    plugins = discover()
    assert row(plugins, "odd-one").error.startswith("TypeError: its entry point leads to None")
    assert "AttributeError: module 'lost_one' has no attribute 'plugin'" in row(plugins, "lost-one").error


def test_one_module_under_two_names_is_told(site, discover):
    site.install("first-one", codec())
    site.install("second-one", "", target="first_one")
    plugins = discover()
    assert plugins.codecs.names() == ("odd",)
    assert row(plugins, "second-one").error == (
        "ValueError: what its entry point leads to is loaded already, as plugin 'first-one'"
    )


def test_an_error_without_a_message_is_told_by_its_type(site, discover):
    site.install("odd-one", "class Mute(Exception):\n    def __str__(self): 1 / 0\nraise Mute")
    error = row(discover(), "odd-one").error
    assert error == "Mute (its message cannot be made: ZeroDivisionError)"


@pytest.mark.parametrize("hook", ["modelyard_select_packager", "modelyard_job_environ"])
def test_an_answer_that_cannot_be_shown_fails_its_plugin_alone(plugin, hook):
    class Secretive:
        def __repr__(self):
            raise OSError

    plugins = PluginManager.builtin()
    plugins.register(plugin(**{hook: lambda: Secretive()}), "odd")
    assert plugins.select_packager(None).name == "tarball"
    assert plugins.job_environ(None, "cpu") == {}
    assert row(plugins, "odd").error.endswith("not an object of type Secretive")


def test_an_exit_in_a_generator_fails_its_plugin_alone(site, discover):
    site.install("odd-one", codec().replace("return [Odd]", "yield Odd; raise SystemExit(3)"))
    site.install("sound-one", codec(name="sound", cls="Sound"))
    plugins = discover()
    assert plugins.codecs.names() == ("sound",)
    assert "SystemExit: 3" in row(plugins, "odd-one").error


class TestTheContract:
    @pytest.mark.parametrize("built_for", [CONTRACT_VERSION, f"{MAJOR}.0", f"{MAJOR - 1}.99"])
    def test_of_today_or_before_is_kept(self, site, discover, built_for):
        site.install("old-one", codec(f"MODELYARD_CONTRACT = {built_for!r}"))
        assert row(discover(), "old-one").state == "active"

    @pytest.mark.parametrize("built_for", [f"{MAJOR}.{MINOR + 1}", f"{MAJOR}.{MINOR + 10}", f"{MAJOR + 1}.0"])
    def test_that_is_newer_turns_off_that_plugin_and_says_the_way_out(self, site, discover, built_for):
        hook = "\n@hookimpl\ndef modelyard_of_the_future(): pass\n"
        site.install("new-one", codec(f"MODELYARD_CONTRACT = {built_for!r}") + hook)
        site.install("sound-one", codec(name="sound", cls="Sound"))
        plugins = discover()
        assert plugins.codecs.names() == ("sound",)
        assert row(plugins, "new-one").error == (
            f"ContractVersionError: it is built for version {built_for} of modelyard's contract, and this "
            f"modelyard has {CONTRACT_VERSION}: pip install -U modelyard, or install an older release of "
            "new-one"
        )

    @pytest.mark.parametrize("built_for", [1.0, "1", "1.0.0", "v1.0", "", "1.x", (1, 0), "1.0\n"])
    def test_that_makes_no_sense_turns_off_that_plugin(self, site, discover, built_for):
        site.install("odd-one", codec(f"MODELYARD_CONTRACT = {built_for!r}"))
        plugins = discover()
        assert plugins.codecs.names() == ()
        assert row(plugins, "odd-one").error == (
            f'ContractVersionError: MODELYARD_CONTRACT must be a version such as "{CONTRACT_VERSION}", '
            f"not {built_for!r}"
        )

    def test_is_compared_by_numbers(self, monkeypatch):
        monkeypatch.setattr("modelyard.core.kinds.CONTRACT_VERSION", "1.10")
        plugins = PluginManager()
        plugins.register(SimpleNamespace(MODELYARD_CONTRACT="1.9"), "old")
        with pytest.raises(BrokenPluginError, match="built for version 1.11 .* this modelyard has 1.10"):
            plugins.register(SimpleNamespace(MODELYARD_CONTRACT="1.11"), "new")

    def test_is_checked_by_hand_too(self):
        with pytest.raises(BrokenPluginError, match="or install an older release of the plugin$"):
            PluginManager().register(SimpleNamespace(MODELYARD_CONTRACT="99.0"), "new")


class TestADeprecatedHook:
    class Specs:
        @hookspec(warn_on_impl=DeprecationWarning("modelyard_old goes in 2.0: use modelyard_new"))
        def modelyard_old(self):
            pass

        @hookspec(warn_on_impl_args={"speed": DeprecationWarning("speed goes in 2.0: use pace")})
        def modelyard_new(self, speed, pace):
            pass

    @pytest.fixture
    def plugins(self):
        plugins = PluginManager()
        plugins._pluggy.add_hookspecs(self.Specs)
        return plugins

    @pytest.mark.parametrize(
        ("hooks", "said"),
        [
            ({"modelyard_old": lambda: None}, "modelyard_old goes in 2.0: use modelyard_new"),
            ({"modelyard_new": lambda speed: None}, "speed goes in 2.0: use pace"),
        ],
        ids=["a hook", "an argument"],
    )
    def test_is_warned_of_with_the_name_of_the_plugin(self, plugins, plugin, hooks, said):
        with pytest.warns(DeprecationWarning, match=f"^plugin 'late' .*: {said}$") as caught:
            plugins.register(plugin(**hooks), "late")
        assert caught[0].filename == __file__, "it points at the implementation"
        status = row(plugins, "late")
        assert (status.state, status.notes) == ("active", (f"DeprecationWarning: {said}",))

    def test_is_no_matter_for_who_does_not_use_it(self, plugins, plugin):
        plugins.register(plugin(modelyard_new=lambda pace: None), "new")
        assert row(plugins, "new").notes == ()

    @pytest.mark.filterwarnings("error")
    def test_fails_its_plugin_alone_where_warnings_are_errors(self, plugins, plugin, providing):
        with pytest.raises(BrokenPluginError, match="modelyard_old goes in 2.0"):
            plugins.register(plugin(modelyard_old=lambda: None), "late")
        plugins.register(providing("codec", "sound"), "sound")
        assert plugins.codecs.names() == ("sound",)
