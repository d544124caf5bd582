"""Fixtures for tests of plugins; opt in with ``pytest_plugins = ["modelyard.testing.fixtures"]``.

``plugins``: a manager that discovers nothing; ``recording_backend``: a backend that runs nothing;
``handler_for``: an endpoint's handler without a server; ``job_folder``: a job's ``/opt/ml``;
``modelyard_home``: where jobs and endpoints of the backend ``local`` are, and end with the test.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from modelyard.core.contracts import Backend
from modelyard.core.errors import EndpointNotFoundError, JobNotFoundError
from modelyard.core.hookspecs import hookimpl
from modelyard.core.manager import AUTOLOAD, PluginManager

if TYPE_CHECKING:
    from modelyard.testing.handlers import HandlerMaker
    from modelyard.testing.job_folder import JobFolder
    from modelyard.testing.recording import RecordingBackend

_HOME = "MODELYARD_HOME"
_SURVIVAL_SECONDS = 30.0


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> PluginManager:
    """Return a manager with the built-in plugins only.

    What is installed is not discovered either by the code under test or by the processes it starts.
    """
    monkeypatch.setenv(AUTOLOAD, "0")
    return PluginManager.builtin()


@pytest.fixture
def handler_for(plugins: PluginManager, tmp_path: Path) -> "Iterator[HandlerMaker]":
    """Give what makes an endpoint's handler of a model, a script or functions, without a server.

    ::

        def test_rows_are_doubled(plugins, handler_for):
            plugins.register(my_plugin)
            handler = handler_for(predict_fn=lambda value, model: value * 2)
            assert handler(Request(b"...", "application/x-mine")).status == 200
    """
    from modelyard.testing.handlers import handlers

    with handlers(plugins, tmp_path / "handlers") as maker:
        yield maker


@pytest.fixture
def job_folder(tmp_path: Path) -> "Callable[..., JobFolder]":
    """Return what makes a job's folder: ``job_folder(script="print(1)", hyperparameters={"epochs": 3})``.

    Its ``run()`` runs the in-job program on it.
    """
    from modelyard.testing.job_folder import JobFolder

    numbers = count()
    return lambda **content: JobFolder.make(tmp_path / f"job-{next(numbers)}" / "ml", **content)


@pytest.fixture
def recording_backend(plugins: PluginManager) -> "type[RecordingBackend]":
    """Return the class of a backend that runs nothing, which is ``backend="recording"`` in `plugins`.

    ::

        def test_my_launcher_is_selected(plugins, recording_backend):
            plugins.register(my_plugin)
            options = {"backend": "recording", "hardware": "cpu", "plugins": plugins}
            PyTorch("train.py", distribution={"mine": {}}, **options).fit()
            assert recording_backend.jobs[0].launcher.name == "mine"
    """
    from modelyard.testing.recording import RecordingBackend

    made = RecordingBackend.anew()
    plugin = SimpleNamespace(modelyard_register_backends=hookimpl(lambda: (made,)))
    plugins.register(plugin, "recording")
    return made


@pytest.fixture
def modelyard_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give ``MODELYARD_HOME`` to a test; end what still lives there, and see that nothing survives it."""
    home = tmp_path / "modelyard-home"
    monkeypatch.setenv(_HOME, str(home))
    yield home
    monkeypatch.setenv(_HOME, str(home))  # Whatever the test has done to it.
    _end_all(home)
    survivors = _survivors(home)
    said = [_described(process) for process in survivors]
    for process in survivors:
        with contextlib.suppress(psutil.Error):
            process.kill()
    assert not survivors, f"these processes outlive their jobs and endpoints: {said}"


def _end_all(home: Path) -> None:
    """Stop the jobs and delete the endpoints that have a folder in `home`, ended or not."""
    local = PluginManager.builtin().backends.create("local")
    for folder in home.glob("jobs/*"):
        _stop_job(local, folder.name)
    for folder in home.glob("endpoints/*"):
        _delete_endpoint(local, folder.name.rpartition(".")[0])


def _stop_job(backend: Backend, name: str) -> None:
    with contextlib.suppress(JobNotFoundError):
        backend.job(name).stop()


def _delete_endpoint(backend: Backend, name: str) -> None:
    with contextlib.suppress(EndpointNotFoundError):
        backend.endpoint(name).delete()


def _survivors(home: Path) -> list[psutil.Process]:
    """Return the processes that still have this home when their time to end is over."""
    deadline = time.monotonic() + _SURVIVAL_SECONDS
    while (found := processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def processes_of(home: Path) -> list[psutil.Process]:
    """Return this user's processes that have that ``MODELYARD_HOME``, without the one that asks."""
    mine, me = [], os.getuid()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.uids().real == me and _has_home(process, home):
                mine.append(process)
    return mine


def _has_home(process: psutil.Process, home: Path) -> bool:
    return process.environ().get(_HOME) == str(home)


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid} (it has ended now)"
