"""What every plugin promises, whatever it provides, as tests."""

import functools
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import attrs
import pytest

from modelyard.core.contracts import Host, JobDescription
from modelyard.core.errors import PluginError, did_you_mean
from modelyard.core.hookspecs import PROJECT
from modelyard.core.http import Request, Response
from modelyard.core.kinds import KINDS
from modelyard.core.manager import PluginManager
from modelyard.core.plans import (
    Channel,
    JobStatus,
    ProviderRef,
    Resources,
    SourceCode,
    TrainingPlan,
)
from modelyard.core.registry import Provider
from modelyard.testing import fresh
from modelyard.testing.fresh import Report
from modelyard.testing.saying import maps_text_to_text

RESOURCES = (
    Resources(),
    Resources("local_gpu"),
    Resources("local", 2),
    Resources("local", 1, "ml.eia2.medium"),
    Resources("ml.m5.xlarge"),
    Resources("ml.p4d.24xlarge", 2),
    Resources("ml.unheard-of.xlarge"),
)
"""What a selection hook is asked about; most of it is nothing of the plugin's."""

HOSTS = (Host("algo-1", ("algo-1",)), Host("algo-2", ("algo-1", "algo-2"), "ens5"))

_ANYTHING = (Exception, SystemExit)
_SECONDS = 60
_SOLE = ("media_types", "distributions", "schemes")
"""What one provider alone may declare; patterns of instance types may overlap."""


class PluginContract:
    """The tests of a plugin as a whole: subclass this, and say which.

    ::

        from modelyard.testing import PluginContract


        class TestMyPlugin(PluginContract):
            plugin = "modelyard.serializers.plugin"  # The name of yours.

    ``plugin``: the name of its entry point, its dotted name (``package.module`` or
    ``package.module:name``), the module itself, or any other object with hooks. ``can_observe``: whether
    its observers may be called with made-up jobs and models: not where they would tell the world.

    The classes that it provides have contracts of their own.
    """

    plugin: ClassVar[object]
    can_observe: ClassVar[bool] = True

    # -- what it is ----------------------------------------------------------------------------

    def test_registers_alone(self) -> None:
        """A manager that bears no mistake takes it: its hooks, its classes, its ``MODELYARD_CONTRACT``."""
        assert self._registered().statuses

    def test_hooks_are_marked(self) -> None:
        """Every function that is called like a hook has its ``@hookimpl``."""
        unmarked = [name for name, each in _hook_like(self._loaded()).items() if not _is_marked(each)]
        assert not unmarked, f"these lack @hookimpl, so nobody would call them: {unmarked}"

    # -- what it provides ----------------------------------------------------------------------

    def test_registration_can_be_repeated(self) -> None:
        """Every manager that asks is told the same classes."""
        first, second = (_classes(self._alone()) for _ in range(2))
        assert first == second, f"first it provides {first}, then {second}"

    def test_providers_are_documented(self) -> None:
        """A provider's class says what it is: ``modelyard plugins show`` prints it."""
        for provider in _providers(self._alone()):
            said = provider.cls.__dict__.get("__doc__") or ""
            # A dataclass without one is given its signature.
            is_written = said.strip() and not said.startswith(f"{provider.cls.__name__}(")
            what = f"the {provider.kind} {provider.name!r} ({_spelled(provider.cls)})"
            assert is_written, f"{what} has no docstring"

    def test_nothing_is_provided_twice(self) -> None:
        """It takes no name, media type, distribution or scheme from a built-in, and gives none twice."""
        mine = list(_providers(self._alone()))
        theirs = [
            other for other in _providers(PluginManager.builtin()) if other.cls not in _classes_of(mine)
        ]
        for number, provider in enumerate(mine):
            for other in (*theirs, *mine[:number]):
                both = sorted(_claims(provider) & _claims(other))
                assert not both, f"{_spelled(provider.cls)} has {both[0]}, and so has {_spelled(other.cls)}"

    # -- what comes with it --------------------------------------------------------------------

    def test_loads_in_a_fresh_interpreter(self) -> None:
        """It needs nothing but its name to be imported and registered, and is done within a minute."""
        done, report = self._imported_anew()
        last = "".join(done.stderr.strip().splitlines()[-1:]) or f"it ended with {done.returncode}"
        assert report is not None, f"it cannot be imported and registered in a fresh interpreter: {last}"

    def test_loads_neither_torch_nor_boto3(self) -> None:
        """Listing what there is must stay quick: heavy libraries are imported when they are used."""
        loaded = self._report().loaded
        assert not loaded, f"importing and registering it loads {', '.join(loaded)}: import inside methods"

    def test_prints_nothing(self) -> None:
        """Standard output belongs to the program that has the plugin: it may be read by another one."""
        done, _ = self._imported_anew()
        assert not done.stdout, f"importing and registering it prints {done.stdout[:200]!r}"

    def test_changes_nothing(self) -> None:
        """What is modelyard's stays as it is, and so do the environment and the working directory."""
        changed = self._report().changed
        assert not changed, f"importing and registering it {'; '.join(changed)}"

    # -- selection -----------------------------------------------------------------------------

    def test_selection_names_what_there_is(self) -> None:
        """A selection hook answers whatever it is asked: None, or what is registered."""
        for hook, arguments in _questions(_offered(self._alone())):
            if function := self._hooks().get(hook):
                answer = _called(hook, function, arguments)
                name = answer.name if isinstance(answer, ProviderRef) else answer
                where = f"{hook} for {_shown(arguments)}"
                assert name is None or isinstance(name, str), f"{where} must return a name, not {answer!r}"
                if name is not None:
                    self._is_registered(name, hook.rpartition("_")[2], where)

    # -- lifecycle -----------------------------------------------------------------------------

    def test_job_environ_is_text(self) -> None:
        """`modelyard_job_environ` returns text by name, for any host and any hardware."""
        hook = "modelyard_job_environ"
        function = self._hooks().get(hook) or pytest.skip(f"it does not implement {hook}")
        for host in HOSTS:
            for hardware in ("cpu", "unheard-of"):
                added = _called(hook, function, {"host": host, "hardware": hardware})
                assert isinstance(added, Mapping), f"{hook} must return a mapping, not {added!r}"
                maps_text_to_text(hook, added)

    def test_observers_take_everything(self, tmp_path: Path) -> None:
        """An observer raises for no job, however it ended, and for no model."""
        if not self.can_observe:
            pytest.skip("its observers may not be called here")
        for hook, arguments in _events(tmp_path):
            if function := self._hooks().get(hook):
                _called(hook, function, arguments)

    def test_middleware_answers(self) -> None:
        """`modelyard_wrap_handler` returns None or a handler, which answers for any answer inside."""
        hook = "modelyard_wrap_handler"
        function = self._hooks().get(hook) or pytest.skip(f"it does not implement {hook}")
        for what, made in _ANSWERS.items():
            outer = _called(hook, function, {"handler": lambda _, made=made: made()})
            assert outer is None or callable(outer), f"{hook} must return a handler, not {outer!r}"
            answer = outer(Request(b"[1]", "application/json", "", {}, "id-1")) if outer else made()
            assert isinstance(answer, Response), f"around {what} its handler returned {answer!r}"

    # -- the plugin ----------------------------------------------------------------------------

    def _loaded(self) -> object:
        try:
            return self._found()
        except AssertionError as error:
            pytest.skip(str(error))

    def _found(self) -> object:
        if not isinstance(self.plugin, str):
            return self.plugin
        try:
            return fresh.load(self.plugin)
        except _ANYTHING as error:
            said = f"{self.plugin!r} is no entry point or module that can be imported: {error!r}"
            raise AssertionError(said) from error

    def _alone(self) -> PluginManager:
        """Return a strict manager that has this plugin alone; what follows from that is said once."""
        try:
            return self._registered()
        except AssertionError as error:
            pytest.skip(f"it cannot be registered: {error}")

    def _registered(self) -> PluginManager:
        manager = PluginManager(strict=True)
        try:
            manager.register(self._found(), "plugin")
            _ = manager.statuses
        except PluginError as error:
            raise AssertionError(f"a strict manager refuses it: {error}") from error
        return manager

    def _hooks(self) -> dict[str, Callable[..., Any]]:
        """Return the functions that are marked as implementations of hooks, by name."""
        self._alone()
        named = _hook_like(self._loaded())
        return {name: found for name, found in named.items() if _is_marked(found)}

    def _is_registered(self, name: str, word: str, where: str) -> None:
        managers = (self._alone(), PluginManager.builtin())
        known = [known for manager in managers for known in manager.registry(word).names()]
        hint = did_you_mean(name, known)
        assert name in known, f"{where} answered {name!r}, and no {word} is called that{hint}"

    def _imported_anew(self) -> tuple["subprocess.CompletedProcess[str]", Report | None]:
        if isinstance(self.plugin, str):
            return _imported_anew(self.plugin, "", tuple(sys.path))
        if isinstance(self.plugin, ModuleType):
            return _imported_anew(self.plugin.__name__, self.plugin.__file__ or "", tuple(sys.path))
        pytest.skip("plugin is an object: say its name, as 'package.module:name', to have it imported anew")

    def _report(self) -> Report:
        return self._imported_anew()[1] or pytest.skip("it cannot be imported in a fresh interpreter")


def _hook_like(plugin: object) -> dict[str, Callable[..., Any]]:
    """Return the functions of a plugin whose names begin as a hook's; modules and classes may, too."""
    found = {name: getattr(plugin, name) for name in dir(plugin) if name.startswith(f"{PROJECT}_")}
    return {name: each for name, each in found.items() if inspect.isroutine(each)}


def _is_marked(function: Callable[..., Any]) -> bool:
    return hasattr(function, f"{PROJECT}_impl")


def _providers(manager: PluginManager) -> Iterator[Provider[Any]]:
    return (provider for kind in KINDS for provider in manager.registry(kind.word))


def _classes(manager: PluginManager) -> list[str]:
    return [f"{provider.kind} {_spelled(provider.cls)}" for provider in _providers(manager)]


def _classes_of(providers: list[Provider[Any]]) -> list[type]:
    return [provider.cls for provider in providers]


def _spelled(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _claims(provider: Provider[Any]) -> set[str]:
    """Return what no second provider of its kind may have, in words."""
    kind = provider.kind
    declared = {f"the {kind}'s {key} {value!r}" for key in _SOLE for value in provider.declares(key)}
    return {f"the {kind}'s name {provider.name!r}", *declared}


@functools.cache
def _imported_anew(
    target: str, file: str, path: tuple[str, ...]
) -> tuple["subprocess.CompletedProcess[str]", Report | None]:
    """Return how an interpreter ended that imported and registered the plugin, and what it reports."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        argv = [sys.executable, "-m", "modelyard.testing.fresh", target, file, str(report)]
        try:
            done = subprocess.run(
                argv, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 1, "", f"not done after {_SECONDS} s"), None
        return done, Report(**json.loads(report.read_text("utf-8"))) if report.exists() else None


# -- what its hooks are called with ----------------------------------------------------------------


def _offered(manager: PluginManager) -> Iterator[Resources]:
    """Yield resources of the instance types that the plugin's own classes declare."""
    for provider in _providers(manager):
        for pattern in provider.declares("instance_types"):
            yield Resources(pattern.replace("*", "x").replace("?", "x"))


def _questions(own: Iterator[Resources]) -> Iterator[tuple[str, dict[str, object]]]:
    for resources in (*RESOURCES, *own):
        yield "modelyard_select_hardware", {"resources": resources}
        yield "modelyard_select_backend", {"resources": resources}
        for distribution in _DISTRIBUTIONS:
            asked = {"resources": resources, "hardware": "cpu", "distribution": distribution}
            yield "modelyard_select_launcher", asked
    for source in (None, SourceCode("train.py"), SourceCode("-m package.train", "src", ("lib",))):
        yield "modelyard_select_packager", {"source": source}


def _events(tmp_path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    plain = TrainingPlan(
        job_name="a-job",
        source=None,
        backend=ProviderRef("local"),
        hardware=ProviderRef("cpu"),
        launcher=ProviderRef("process"),
        packager=ProviderRef("tarball"),
    )
    full = attrs.evolve(
        plain,
        job_name="another-job",
        source=SourceCode("train.py", "src"),
        hyperparameters={"epochs": 3},
        channels=(Channel("train", "file:///data"),),
    )
    for plan in (plain, full):
        yield "modelyard_job_started", {"plan": plan}
        for status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.STOPPED):
            reason = "" if status is JobStatus.COMPLETED else "ValueError: größer"
            described = JobDescription(plan.job_name, status, plan, reason)
            yield "modelyard_job_finished", {"description": described}
    for model in (None, object(), {"weights": [1.0]}):
        yield "modelyard_model_loaded", {"model": model, "model_dir": tmp_path}


_DISTRIBUTIONS: tuple[Mapping[str, object], ...] = (
    {},
    {"torch_distributed": {}},
    {"unheard_of": {"option": 1}},
)

_ANSWERS: Mapping[str, Callable[[], Response]] = {
    "a usual answer": lambda: Response(b"[1]"),
    "an error": lambda: Response(b"{}", status=500),
    "a streamed answer": lambda: Response(b"", "text/plain", chunks=iter((b"a", b"b"))),
}


def _called(hook: str, function: Callable[..., Any], arguments: Mapping[str, object]) -> Any:
    """Return what the hook returns for those of the arguments that it names."""
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    taken = {name: arguments[name] for name in names}
    try:
        return function(**taken)
    except _ANYTHING as error:
        raise AssertionError(f"{hook} raised {error!r} for {_shown(taken)}") from error


def _shown(arguments: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
