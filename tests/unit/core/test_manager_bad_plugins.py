"""Plugins that harm their host while they are imported: each is named in its row, and nobody else notices.

What raises, exits or returns the wrong thing is in ``test_manager.py``.
"""

import builtins
import copy
import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest

import modelyard
from modelyard.core import discovery, log, patches, registry, watching
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
    media_types = ("application/x-{type}",)
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
    good = GOOD.format(name=name, cls=cls, type=cls.lower())
    return before + good.replace("    return [", f"    {inside or 'pass'}\n    return [")


@pytest.fixture(autouse=True)
def _no_thread_of_earlier_tests(monkeypatch):
    """What a plugin replaces is undone where no other thread may have done it."""
    threads, earlier = threading.enumerate, {*threading.enumerate()} - {threading.current_thread()}
    monkeypatch.setattr(threading, "enumerate", lambda: [each for each in threads() if each not in earlier])


@pytest.fixture(autouse=True)
def _nothing_takes_time(monkeypatch):
    """A row says what was slow, as anything may be on a machine that does other things."""
    monkeypatch.setattr(watching, "clock", lambda: 0.0)


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
        assert (status.state, status.error) == (
            "failed",
            "ZeroDivisionError: division by zero (loud_one.py, line 1)",
        )
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

    def test_may_copy_what_it_has_for_stdout(self, site, discover, capsys):
        site.install("loud-one", codec("import copy, sys; kept = copy.copy(sys.stdout)"))
        assert row(discover(), "loud-one").state == "active"
        kept = sys.modules["loud_one"].kept
        for stream in (kept, copy.copy(kept)):
            print("as it was when it was copied", file=stream)
        assert capsys.readouterr() == ("", "as it was when it was copied\n" * 2)

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


@pytest.mark.parametrize("first_out", [0, 1], ids=["the first leaves first", "the last leaves first"])
def test_two_threads_that_load_plugins_give_stdout_back_in_any_order(first_out, capsys):
    stdout = sys.stdout
    statuses = [PluginStatus("x"), PluginStatus("y")]
    order = {("in", 0): 0, ("in", 1): 1, ("out", first_out): 2, ("out", 1 - first_out): 3}
    step = [threading.Barrier(2, timeout=60) for _ in order]

    def load(number):
        watch = watching.Watch(statuses[number], "no_package")
        does = {order["in", number]: watch.__enter__, order["out", number]: lambda: watch.__exit__(None)}
        for at, barrier in enumerate(step):
            does.get(at, lambda: None)()
            barrier.wait()
            sys.stdout.write(f"{number} after {at}\n")

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(load, (0, 1), timeout=60)) == [None, None]
    assert sys.stdout is stdout
    printed = ("prints to stdout, which went to stderr",)
    assert [status.notes for status in statuses] == [printed, printed]
    out, err = capsys.readouterr()
    expected = {(n, at): order["in", n] <= at < order["out", n] for n in (0, 1) for at in range(4)}
    assert {each for each, aside in expected.items() if aside} == pairs(err)
    assert {each for each, aside in expected.items() if not aside} == pairs(out)


def pairs(printed):
    return {(int(line.split()[0]), int(line.split()[-1])) for line in printed.splitlines()}


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


def test_what_was_odd_is_told_of_a_plugin_that_asks_for_plugins_at_its_import(site, discover):
    site.install(
        "odd-one",
        codec("from modelyard import PluginManager\nPluginManager.discover({}).codecs\nprint('hello')"),
    )
    for _ in range(2):
        assert row(discover(), "odd-one").notes == ("prints to stdout, which went to stderr",)


def test_what_was_odd_is_told_of_a_package_that_is_no_ordinary_module(site, discover):
    source = "import sys\nclass Module(dict): pass\nsys.modules[__name__] = Module()\nprint('hello')"
    site.install("odd-one", source)
    for _ in range(2):
        status = row(discover(), "odd-one")
        assert status.state == "active"
        assert "prints to stdout, which went to stderr" in status.notes


def test_what_was_odd_is_forgotten_with_the_module(site, discover):
    site.install("odd-one", codec("print('hello')"))
    assert row(discover(), "odd-one").notes == ("prints to stdout, which went to stderr",)
    del sys.modules["odd_one"]
    (site.folder / "odd_one.py").write_text(codec("# silent, and of another size"))
    assert row(discover(), "odd-one").notes == ()


def test_two_watches_at_a_time_tell_the_same(monkeypatch):
    """Of two threads that import a plugin, one does it and the other one waits for it."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(watching, "clock", lambda: clock.now)
    monkeypatch.setitem(sys.modules, "a_package", ModuleType("a_package"))
    outer, inner, later = (PluginStatus("x") for _ in range(3))
    with watching.Watch(outer, "a_package"):
        clock.now += 2
        with watching.Watch(inner, "a_package"):
            clock.now += 5
        sys.stdout.write("hello")
    with watching.Watch(later, "a_package"):
        pass
    assert (inner.notes, inner.seconds) == (("import takes 5.0 s",), 5.0)
    assert outer.notes == ("prints to stdout, which went to stderr", "import takes 7.0 s")
    assert (later.notes, later.seconds) == (outer.notes, outer.seconds)


def test_a_watch_within_another_one_undoes_as_much(monkeypatch):
    """The thread that would warn of the outer one's is no other thread."""
    monkeypatch.setattr(watching, "HANGING", 3600.0)
    before, status = print, PluginStatus("x")
    with watching.Watch(PluginStatus("y"), "no_package"), watching.Watch(status, "no_package"):
        builtins.print = None
    assert status.notes == ("replaces builtins.print, which was undone",)
    assert print is before


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


SORTS = """
from functools import cache, cached_property, partial
from time import monotonic as clock

@cache
def kept(): pass

made = partial(kept)
variable = lambda: None

class Thing:
    kept = cache(lambda self: None)
    lazy = cached_property(lambda self: None)
    made = partial(kept)
"""


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

    @pytest.mark.parametrize("patch", ["sys.stdout = io.StringIO()", "sys.stdout = None", "del sys.stdout"])
    def test_stdout_gets_it_back(self, site, discover, patch):
        stdout = sys.stdout
        site.install("patching-one", codec(f"import io, sys; {patch}"))
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

    @pytest.fixture
    def sorts(self, monkeypatch):
        """Return a module of modelyard's with definitions of all sorts, and a variable."""
        module = ModuleType("modelyard.sorts")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(SORTS, vars(module))
        return module

    @pytest.mark.parametrize("path", ["kept", "clock", "made", "Thing.kept", "Thing.lazy", "Thing.made"])
    def test_is_undone_for_all_sorts_of_definitions(self, site, discover, sorts, path):
        holder, name = (sorts.Thing, path[6:]) if path.startswith("Thing.") else (sorts, path)
        before = vars(holder)[name]
        site.install("patching-one", codec(f"import sys; sys.modules['modelyard.sorts'].{path} = None"))
        note = f"replaces modelyard.sorts.{path}, which was undone"
        assert row(discover(), "patching-one").notes == (note,)
        assert vars(holder)[name] is before

    def test_that_is_a_variable_is_left(self, site, discover, sorts):
        site.install("sound-one", codec("import sys; sys.modules['modelyard.sorts'].variable = None"))
        assert row(discover(), "sound-one").notes == ()
        assert sorts.variable is None

    def test_with_what_is_of_no_module_is_undone(self, site, discover):
        before = relied_on()
        source = "import modelyard.core.errors as e\nexec('def f(): pass', of := {'__name__': None})\n"
        site.install("patching-one", codec(source + "e.did_you_mean = of['f']"))
        path = "modelyard.core.errors.did_you_mean"
        assert row(discover(), "patching-one").notes == (f"replaces {path}, which was undone",)
        assert relied_on() == before

    @pytest.mark.parametrize(
        "thing",
        [
            "exec('def f(): pass', of := {'__name__': None}); m.f = of['f']",
            "m.Thing = type('Meta', (type,), {'__module__': property(lambda self: 1 / 0)})('Thing', (), {})",
        ],
        ids=["a function without a module", "a class that does not tell it"],
    )
    def test_with_what_is_of_no_module_may_do_so_where_nobody_looked_before(
        self, site, discover, monkeypatch, thing
    ):
        monkeypatch.setitem(sys.modules, "modelyard.late", None)
        stdout = sys.stdout
        late = "import sys, types; m = sys.modules['modelyard.late'] = types.ModuleType('modelyard.late')\n"
        site.install("odd-one", codec(late + thing))
        status = row(discover(), "odd-one")
        assert (status.state, status.error) == ("active", "")
        assert sys.stdout is stdout

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


def test_a_watch_that_cannot_end_well_gives_stdout_back(site, discover, monkeypatch):
    monkeypatch.setattr(patches, "_is_definition", patches._is_definition)  # So that it is whole afterwards.
    monkeypatch.setattr(watching, "HANGING", 3600.0)
    stdout, threads = sys.stdout, threading.enumerate()
    source = "import modelyard.core.errors as e, modelyard.core.patches as p; e.x = p._is_definition = 1; "
    site.install("odd-one", codec(source + "e.did_you_mean = None"))
    monkeypatch.setattr("modelyard.core.errors.did_you_mean", did_you_mean)
    assert row(discover(), "odd-one").state == "failed"
    assert sys.stdout is stdout
    assert threading.enumerate() == threads


def test_where_no_thread_can_start_plugins_are_loaded_without_a_warning_to_come(site, discover, monkeypatch):
    """As while an interpreter exits."""

    def refuse(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    site.install("quick-one", codec())
    plugins = discover()
    assert plugins.codecs.names() == ("odd",)
    assert row(plugins, "quick-one").notes == ()


class TestInAProgramWithThreads:
    """What another one does meanwhile is not the plugin's; it undoes it itself."""

    @pytest.fixture
    def other(self):
        """Return what calls a function in another thread, which is there all the time."""
        with ThreadPoolExecutor(1) as pool:
            pool.submit(int).result()
            yield lambda function, *arguments: pool.submit(function, *arguments).result(60)

    @pytest.fixture
    def meanwhile(self, site, discover, other, monkeypatch):
        """Load a plugin while the other thread calls a function; return its notes."""

        def load(function, *arguments):
            happening = SimpleNamespace(happens=lambda: other(function, *arguments))
            monkeypatch.setitem(sys.modules, "something_else", happening)
            site.install("sound-one", codec("import something_else; something_else.happens()"))
            return row(discover(), "sound-one").notes

        return load

    def test_a_patch_of_modelyard_ends_as_it_would(self, other, meanwhile):
        patch = mock.patch.object(registry, "did_you_mean")
        other(patch.__enter__)
        notes = meanwhile(patch.__exit__, None, None, None)
        assert registry.did_you_mean is did_you_mean
        assert notes == ("replaces modelyard.core.registry.did_you_mean, which may be another thread's",)

    def test_a_patch_of_a_built_in_lasts_as_long_as_it_would(self, other, meanwhile):
        before = input
        patch = mock.patch("builtins.input")
        notes = meanwhile(patch.__enter__)
        assert builtins.input is not before
        other(patch.__exit__, None, None, None)
        assert builtins.input is before
        assert notes == ("replaces builtins.input, which may be another thread's",)

    def test_stderr_is_what_it_would_be(self, other, meanwhile):
        stderr, to = sys.stderr, redirect_stderr(io.StringIO())
        other(to.__enter__)
        assert meanwhile(to.__exit__, None, None, None) == ()
        assert sys.stderr is stderr

    def test_stdout_that_is_turned_elsewhere_goes_there(self, site, discover, other, meanwhile, capsys):
        stdout, file = sys.stdout, io.StringIO()
        to = redirect_stdout(file)
        notes = meanwhile(to.__enter__)
        other(print, "to the file")
        other(to.__exit__, None, None, None)
        sys.stdout.write("to stdout\n")
        assert (file.getvalue(), capsys.readouterr().out) == ("to the file\n", "to stdout\n")
        assert notes == ("replaces sys.stdout, which may be another thread's",)
        site.install("quick-one", codec(cls="Quick"))
        discover()
        assert sys.stdout is stdout

    def test_stdout_that_is_given_back_meanwhile_stays_so(self, other, meanwhile):
        stdout, to = sys.stdout, redirect_stdout(io.StringIO())
        other(to.__enter__)
        meanwhile(to.__exit__, None, None, None)
        assert sys.stdout is stdout

    @pytest.mark.usefixtures("other")
    @pytest.mark.parametrize(
        "patch",
        [
            "import modelyard.core.errors as e; e.did_you_mean = lambda *a: ''",
            "import builtins; builtins.print = lambda *a: None",
            "import io, sys; sys.stdout = type('Mine', (io.StringIO,), {})()",
            "import io, sys; sys.stderr = type('Mine', (io.StringIO,), {})()",
        ],
        ids=["modelyard", "a built-in", "stdout", "stderr"],
    )
    @each_place
    def test_what_a_plugin_replaces_by_something_of_its_own_is_undone(self, site, discover, where, patch):
        before, streams = relied_on(), (sys.stdout, sys.stderr)
        site.install("patching-one", codec(**{where: patch}))
        (note,) = row(discover(), "patching-one").notes
        assert note.endswith(", which was undone")
        assert relied_on() == before
        assert (sys.stdout, sys.stderr) == streams

    @pytest.mark.usefixtures("other")
    def test_what_it_replaces_by_something_else_is_left_and_told(self, site, discover, monkeypatch):
        monkeypatch.setattr(discovery, "GROUP", discovery.GROUP)
        site.install("patching-one", codec("import modelyard.core.discovery as d; d.GROUP = 'other'"))
        note = "replaces modelyard.core.discovery.GROUP, which may be another thread's"
        assert row(discover(), "patching-one").notes == (note,)
        assert discovery.GROUP == "other"

    def test_a_thread_that_a_plugin_starts_does_not_excuse_it(self, site, discover, monkeypatch):
        end = threading.Event()
        monkeypatch.setitem(sys.modules, "the_end", end)
        source = (
            "import builtins, the_end, threading; thread = threading.Thread(target=the_end.wait)\n"
            "thread.start(); builtins.print = None"
        )
        before = print
        site.install("patching-one", codec(source))
        try:
            assert row(discover(), "patching-one").notes == ("replaces builtins.print, which was undone",)
        finally:
            end.set()
            sys.modules["patching_one"].thread.join(60)
        assert print is before


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
        for thread in threading.enumerate():
            if isinstance(thread, watching._Alarm):
                thread.join(60)  # Or its warning would be among the next test's output.
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
    assert plugins.codecs.declaring("media_types", "application/x-sound").name == "sound"
    if declared != "None":
        assert "Odd.media_types must be a tuple of strings, not " in row(plugins, "odd-one").error


@pytest.mark.parametrize("suffixes", ["'.x'", "(1, 2)", "None", "property(len)"])
def test_what_a_class_meant_before_suffixes_were_declared_is_let_alone(site, discover, suffixes):
    site.install("odd-one", codec().replace("media_types = (", f"suffixes = {suffixes}\n    media_types = ("))
    plugins = discover()
    assert plugins.codecs.get("odd").declares("suffixes") == ()
    assert plugins.codecs.declaring("suffixes", ".x") is None
    assert row(plugins, "odd-one").state == "active"


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

    def test_is_compared_by_numbers(self, plugin, monkeypatch):
        monkeypatch.setattr("modelyard.core.kinds.CONTRACT_VERSION", "1.10")
        plugins = PluginManager()
        old = plugin(modelyard_register_codecs=lambda: ())
        old.MODELYARD_CONTRACT = "1.9"
        plugins.register(old, "old")
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
