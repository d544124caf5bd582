"""The process that runs a contract: pytest, with what `modelyard.testing.checking` asks for.

Run as ``python -m modelyard.testing.promises DESCRIPTOR FOLDER TASK``.
"""

import inspect
import json
import os
import re
import shutil
import signal
import sys
import types
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest

from modelyard.core.contracts import Backend, Codec, EntryPoint, GuardedCodec, Host, Launcher
from modelyard.core.errors import DecodeError, ModelyardError, said
from modelyard.core.manager import PluginManager
from modelyard.core.processes import die_with_parent
from modelyard.core.registry import Provider
from modelyard.core.values import from_json
from modelyard.testing import (
    BackendContract,
    CodecContract,
    HardwareContract,
    LauncherContract,
    PackagerContract,
    PluginContract,
    StorageContract,
)
from modelyard.testing.checking import BROKEN, OK, SKIPPED, Task, named
from modelyard.testing.stand_in import StandInHardware

_NUMBERS = (*CodecContract.values, [[1.5, 2.0], [3.0, 4.0]])
_PLAIN = (
    "text, größer\n",
    b"bytes \x00\xff",
    {"label": "cat", "scores": [0.5, 0.25], "box": None},
    [1, "two", None, True],
    {"a": np.array([[1.5, 2.5]], np.float32), "b": np.array([1, 2])},
)
_LONGEST = 600


class UnusableError(Exception):
    """The provider cannot be made, which is its own fault."""


# -- the contracts of what is installed --------------------------------------------------------------


def contract_of(task: Task) -> type:
    """Return the class of tests. Raises `ModelyardError` for a wrong task, `UnusableError`."""
    plugins = PluginManager.discover()
    if task.contract:
        return _authors(task.contract)
    if task.kind == "plugin":
        return _of_plugin(plugins, task)
    provider = plugins.registry(task.kind).get(task.name)
    make = {
        "codec": _of_codec,
        "hardware": _of_hardware,
        "launcher": _of_launcher,
        "packager": _of_packager,
        "storage": _of_storage,
        "backend": _of_backend,
    }[task.kind]
    return make(provider, task)


def _authors(name: str) -> type:
    sys.path.append(str(Path.cwd()))
    try:
        found = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelyardError(f"--contract {name}: {said(error)}") from error
    if not isinstance(found, type):
        raise ModelyardError(f"--contract {name} is no class: the form is package.module:TestClass")
    return found


def _made(provider: Provider[Any], task: Task) -> Any:
    try:
        return provider.create(task.options)
    except Exception as error:
        if task.options and isinstance(error, ModelyardError):
            raise  # What is wrong is what was given.
        hint = "" if task.options else "; --options gives it some"
        raise UnusableError(f"it cannot be made: {said(error)}{hint}") from error


def _of_plugin(plugins: PluginManager, task: Task) -> type:
    loaded = plugins.plugin(task.name)

    class InstalledPlugin(PluginContract):
        plugin = loaded if isinstance(loaded, types.ModuleType) else task.name
        # They would be told of jobs that never were.
        can_observe = task.run

    return InstalledPlugin


def _of_codec(provider: Provider[Codec], task: Task) -> type:
    instance = _made(provider, task)
    is_guarded = isinstance(instance, GuardedCodec) and not instance.trusted

    @cache  # Found out in a promise, which is broken where the codec does not come back.
    def known() -> tuple[object, ...]:
        return () if is_guarded else _values_of(instance)

    class InstalledCodec(CodecContract):
        codec = instance

        @property
        def can_decode(self) -> bool:  # type: ignore[override]
            """Whether it reads: one that refuses all that it wrote itself does not."""
            return not known() or not all(_is_refused(instance, value) for value in known())

        @property
        def values(self) -> tuple[object, ...]:  # type: ignore[override]
            """The values that it encodes; without one, what needs them is skipped."""
            if is_guarded:
                pytest.skip("its documents may run code: --options '{\"trusted\": true}' has them tried")
            return known() or pytest.skip("it encodes neither numbers, text, bytes nor dicts: --contract")

        def test_malformed_bodies_raise_decode_error(self) -> None:
            """`decode` refuses malformed bodies, by `DecodeError`; everything, if it cannot decode."""
            if self.can_decode:
                pytest.skip("which bodies are malformed, only its author knows: --contract")
            super().test_malformed_bodies_raise_decode_error()

    return InstalledCodec


def _values_of(codec: Codec) -> tuple[object, ...]:
    """Return what to try a codec with: numbers that it encodes, and plain Python that comes back.

    A format that writes words may have its reasons not to read them, as CSV has; one that changes
    numbers breaks its promise. Where nothing comes back, what it encodes is tried.
    """
    numbers = [value for value in _NUMBERS if _encoded(codec, value) is not None]
    plain = [value for value in _PLAIN if _encoded(codec, value) is not None]
    compare = CodecContract().same
    return (*numbers, *(value for value in plain if not numbers or _comes_back(codec, value, compare)))


def _encoded(codec: Codec, value: object) -> bytes | None:
    try:
        return codec.encode(value)
    except Exception:  # noqa: BLE001 - which one it raises is a promise of its own
        return None


def _is_refused(codec: Codec, value: object) -> bool:
    try:
        codec.decode(codec.encode(value))
    except DecodeError:
        return True
    except Exception:  # noqa: BLE001 - which one it raises is a promise of its own
        return False
    return False


def _comes_back(codec: Codec, value: object, compare: Any) -> bool:
    try:
        return bool(compare(value, codec.decode(codec.encode(value))))
    except Exception:  # noqa: BLE001 - the same
        return False


def _of_hardware(provider: Provider[Any], task: Task) -> type:
    class InstalledHardware(HardwareContract):
        hardware = _made(provider, task)

    return InstalledHardware


def _of_launcher(provider: Provider[Launcher], task: Task) -> type:
    instance = _made(provider, task)

    class InstalledLauncher(LauncherContract):
        launcher = instance
        can_run = _is_runnable(instance)

    return InstalledLauncher


def _is_runnable(launcher: Launcher) -> bool:
    """Tell whether the program, or the module of Python, that a launcher's command begins with is here."""
    host = Host("algo-1", ("algo-1",))
    try:
        argv = launcher.command(EntryPoint("train.py", (), Path.cwd()), host, StandInHardware()).argv
        program = shutil.which(argv[0])
    except Exception:  # noqa: BLE001 - the promises say what is wrong
        return True
    module = argv[argv.index("-m") + 1] if argv[0] == sys.executable and "-m" in argv[:4] else "sys"
    return program is not None and find_spec(module.partition(".")[0]) is not None


def _of_packager(provider: Provider[Any], task: Task) -> type:
    class InstalledPackager(PackagerContract):
        packager = _made(provider, task)

    return InstalledPackager


def _of_storage(provider: Provider[Any], task: Task) -> type:
    class InstalledStorage(StorageContract):
        storage = _made(provider, task)

        def root_uri(self, tmp_path: Path) -> str:
            """Return a place of its own for each test: below what was given, or a folder of this machine."""
            if task.uri:
                return f"{task.uri.rstrip('/')}/{tmp_path.parent.parent.name}/{tmp_path.name}"
            if "file" in provider.declares("schemes"):
                return (tmp_path / "root").as_uri()
            pytest.skip("it needs a place to write to: --uri")

    return InstalledStorage


def _of_backend(provider: Provider[Any], task: Task) -> type:
    made: Any = _made(provider, task)
    options = dict(task.options)

    class Optioned(provider.cls):  # type: ignore[name-defined, misc]
        def __init__(self, **given: Any) -> None:
            provider.cls.__init__(self, **{**options, **given})

    @pytest.mark.usefixtures("modelyard_home")
    class InstalledBackend(BackendContract):
        backend_class = Optioned if options else type(made)
        instance_type = task.instance_type or _offered(provider.declares("instance_types"))
        patience = task.timeout / 2

        @pytest.fixture
        def backend(self) -> Backend:
            """Return the backend, or skip the test: with it come jobs or endpoints."""
            if not task.run:
                pytest.skip("it would run jobs and endpoints, which may cost money: --run")
            return self.backend_class()

    return InstalledBackend


def _offered(patterns: tuple[str, ...]) -> str:
    """Return an instance type that is named, else one that a pattern fits, with which nothing is run."""
    return named(patterns) or re.sub(r"[*?]|\[.*?\]", "x", next(iter(patterns), ""))


# -- running ---------------------------------------------------------------------------------------


class Promises:
    """A plugin of pytest's that collects one class, and tells what becomes of each test."""

    def __init__(self, contract: type, task: Task, descriptor: int) -> None:
        self._module = types.ModuleType("test_promises")
        self._module.TestPromises = contract  # type: ignore[attr-defined]
        self._done = set(task.done)
        self._descriptor = descriptor
        self._verdicts: dict[str, tuple[str, str]] = {}
        self._texts: dict[str, str] = {}

    def tell(self, message: Mapping[str, object]) -> None:
        """Send one message to the process that asked."""
        os.write(self._descriptor, json.dumps(message).encode() + b"\n")

    def pytest_pycollect_makemodule(self, module_path: Path, parent: Any) -> pytest.Module:
        """Return a module with the class in it, whatever is in the file."""
        made: pytest.Module = pytest.Module.from_parent(parent, path=module_path)
        made.obj = self._module
        return made

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what has a verdict already."""
        items[:] = [item for item in items if _promise(item) not in self._done]
        self._texts = {_promise(item): text_of(item) for item in items}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say what is being tried."""
        promise = nodeid.rpartition("::")[2]
        self.tell({"start": promise, "text": self._texts[promise]})

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: "pytest.CallInfo[None]") -> Iterator[None]:
        """Note what went wrong in any phase; what has gone wrong first is told."""
        yield
        if call.excinfo is not None:
            error = call.excinfo.value
            skipped = isinstance(error, pytest.skip.Exception)
            reason = _reason(error)
            if skipped or self._verdicts.get(_promise(item), (SKIPPED,))[0] != BROKEN:
                self._verdicts.setdefault(_promise(item), (SKIPPED if skipped else BROKEN, reason))

    def pytest_report_teststatus(self) -> tuple[str, str, str]:
        """Print no dots: the last line of the output is what the provider has said."""
        return "", "", ""

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Tell the verdict."""
        promise = nodeid.rpartition("::")[2]
        outcome, reason = self._verdicts.get(promise, (OK, ""))
        verdict = {"promise": promise, "text": self._texts[promise], "outcome": outcome, "reason": reason}
        self.tell({"verdict": verdict})


def _promise(item: pytest.Item) -> str:
    return item.nodeid.rpartition("::")[2]


def text_of(item: pytest.Item) -> str:
    """Return a promise in words: the first sentence of the test's docstring, and its parameters."""
    function = getattr(item, "obj", None)
    first = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
    sentence = re.split(r"(?<=[^.])\.(?:\s|$)", first, maxsplit=1)[0].replace("``", "`")
    name, bracket, parameters = item.name.partition("[")
    return (sentence or name.removeprefix("test_").replace("_", " ")) + (
        f" ({parameters.removesuffix(']')})" if bracket else ""
    )


def _reason(error: BaseException) -> str:
    text = str(getattr(error, "msg", None) or error)
    if not isinstance(error, AssertionError | pytest.skip.Exception):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    text = " ".join(text.split()) or "a check of its test failed"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def main(descriptor: int, folder: Path, task: Task) -> int:
    """Run the contract, and say so when all of it has been run."""
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - it takes no keywords
    die_with_parent(signal.SIGKILL, os.getppid())
    silent = Promises(type("Nothing", (), {}), task, descriptor)
    try:
        contract = contract_of(task)
    except ModelyardError as error:
        silent.tell({"error": str(error)})
        return 2
    except UnusableError as error:
        verdict = {"promise": "", "text": "it can be made", "outcome": BROKEN, "reason": str(error)}
        silent.tell({"verdict": verdict})
        silent.tell({"end": 1})
        return 1
    promises = Promises(contract, task, descriptor)
    status = pytest.main(_arguments(folder), plugins=[promises])
    promises.tell({"end": int(status)})
    return 0


def _arguments(folder: Path) -> list[str]:
    """Return pytest's arguments: nothing of the user's, or of what else is installed, has a say."""
    os.environ.pop("PYTEST_ADDOPTS", None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    tests, settings = folder / "test_promises.py", folder / "pytest.ini"
    tests.write_text("")
    settings.write_text("[pytest]\n")
    plugins = ("-p", "no:cacheprovider", "-p", "modelyard.testing.fixtures")
    return [str(tests), "-q", "--tb=no", "-c", str(settings), f"--basetemp={folder / 'tests'}", *plugins]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), from_json(Task, sys.argv[3])))
