"""The old name of gloo: known in a training job, and nowhere else."""

import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch

KNOWN = "import torch.distributed as dist; print('tcp' in dist.Backend.backend_list)"


def backends(**environ):
    """Return whether a program that imports torch has that backend; it is a job's where it has hosts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
    done = subprocess.run(
        [sys.executable, "-c", KNOWN],
        env=kept | environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torch_is_told_of_it():
    declared = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8"))
    assert declared["project"]["entry-points"]["torch.backends"] == {
        "modelyard_tcp": "modelyard.hardware.tcp:register"
    }
    (found,) = (point for point in metadata.entry_points(group="torch.backends") if "modelyard" in point.name)
    assert found.value == "modelyard.hardware.tcp:register"


def test_it_is_known_in_a_training_job():
    assert backends(SM_HOSTS='["algo-1"]') == "True"


def test_it_is_not_known_outside_of_one():
    assert backends() == "False"


def test_who_wants_no_plugin_of_torchs_has_none():
    assert backends(SM_HOSTS='["algo-1"]', TORCH_DEVICE_BACKEND_AUTOLOAD="0") == "False"


def test_what_another_has_registered_stays(monkeypatch):
    import torch.distributed as dist

    from modelyard.hardware import tcp

    monkeypatch.setenv("SM_HOSTS", '["algo-1"]')
    monkeypatch.setattr(dist.Backend, "backend_list", [*dist.Backend.backend_list, "tcp"])
    registered = []
    monkeypatch.setattr(dist.Backend, "register_backend", lambda *args, **options: registered.append(args))
    tcp.register()
    assert registered == []


@pytest.mark.parametrize("missing", ["is_available", "is_gloo_available"])
def test_a_torch_without_gloo_is_left_alone(monkeypatch, missing):
    import torch.distributed as dist

    from modelyard.hardware import tcp

    monkeypatch.setenv("SM_HOSTS", '["algo-1"]')
    monkeypatch.setattr(dist, missing, lambda: False)
    registered = []
    monkeypatch.setattr(dist.Backend, "register_backend", lambda *args, **options: registered.append(args))
    tcp.register()
    assert registered == []
