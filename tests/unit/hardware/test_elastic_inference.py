"""Elastic Inference's contract, which the CPU keeps since AWS has ended the service."""

import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from modelyard.core.errors import UserCodeError
from modelyard.hardware import elastic_inference
from modelyard.hardware.elastic_inference import ElasticInferenceHardware

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

eia = ElasticInferenceHardware()
ONES = np.ones((1, 3), np.float32)


@pytest.fixture
def model_dir(tmp_path):
    """A folder with TorchScript, in training mode, that sums three numbers where it evaluates."""
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(3, 1, bias=False), torch.nn.Dropout(1.0))
    torch.nn.init.ones_(net[0].weight)
    folder = tmp_path / "model"
    folder.mkdir()
    torch.jit.script(net.train()).save(str(folder / "model.pt"))
    return folder


@pytest.mark.torch
def test_on_todays_torch_it_serves_torchscript_on_the_cpu(model_dir):
    model = eia.place(eia.load(model_dir))
    answer = eia.predict(model, eia.place(ONES))
    assert eia.fetch(answer).tolist() == [[3.0]]
    assert not answer.requires_grad


@pytest.mark.torch
def test_it_says_that_the_service_has_ended():
    assert eia.describe().endswith("; AWS has ended Elastic Inference: the model is served by the CPU")


@pytest.mark.torch
def test_the_model_must_have_its_name(model_dir):
    (model_dir / "model.pt").rename(model_dir / "model.pth")
    with pytest.raises(
        UserCodeError, match=r"serves model\.pt.*save it with torch\.jit\.save as model\.pt, or"
    ):
        eia.load(model_dir)


@pytest.mark.torch
@pytest.mark.parametrize("save", ["state_dict", "module", "garbage"])
def test_what_is_not_torchscript_is_an_error_that_says_what_to_write(tmp_path, save):
    import torch

    net = torch.nn.Linear(3, 1)
    if save == "garbage":
        (tmp_path / "model.pt").write_bytes(b"garbage")
    else:
        torch.save(net if save == "module" else net.state_dict(), tmp_path / "model.pt")
    with pytest.raises(UserCodeError, match=r"^model\.pt is not a TorchScript model.*torch\.jit\.save"):
        eia.load(tmp_path)


# -- the two generations -------------------------------------------------------------------------

# The package `torcheia` is gone from the world: no index has it. So this module stands in for it, and
# the test shows that it is called as AWS's documentation says, not that an accelerator answers.
TORCHEIA = """
import types

calls = []

def attach_eia(model, index):
    calls.append(("attached", index, model.training))
    return model

jit = types.SimpleNamespace(attach_eia=attach_eia)
"""

SERVE = """
import contextlib, sys, warnings
from pathlib import Path

warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
import numpy as np, torch, torcheia
from modelyard.hardware.elastic_inference import ElasticInferenceHardware

switch, execution = torch._C._jit_set_profiling_executor, torch.jit.optimized_execution

def switched(on):
    torcheia.calls.append(("profiling executor", on))
    return switch(on)

@contextlib.contextmanager
def optimized(*args):
    with execution(*args):
        torcheia.calls.append(("entered", *args))
        yield
        torcheia.calls.append(("left",))

torch._C._jit_set_profiling_executor, torch.jit.optimized_execution = switched, optimized
eia = ElasticInferenceHardware()
model = eia.place(eia.load(Path(sys.argv[1])))
answer = eia.fetch(eia.predict(model, eia.place(np.ones((1, 3), np.float32))))
print(answer.tolist(), torcheia.calls, eia.describe(), sep="\\n")
"""


@pytest.mark.torch
def test_the_calls_of_the_second_generation(model_dir, tmp_path):
    (tmp_path / "torcheia.py").write_text(TORCHEIA)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{SERVE}", model_dir],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer, calls, said = done.stdout.splitlines()
    assert answer == "[[3.0]]"
    assert calls == ("[('attached', 0, False), ('profiling executor', False), ('entered', True), ('left',)]")
    assert said == "an Elastic Inference accelerator, by torcheia"


def torch_of(optimized_execution):
    """Return as much of a torch as decides on the generation."""
    return SimpleNamespace(jit=SimpleNamespace(optimized_execution=optimized_execution))


def test_the_first_generation_names_the_accelerator():
    entered = []

    @contextmanager
    def optimized_execution(should_optimize, device_map=None):
        entered.append((should_optimize, device_map))
        yield

    with elastic_inference._execution(torch_of(optimized_execution)):
        assert entered == [(True, {"target_device": "eia:0"})]


def test_any_other_torch_is_left_as_it_is():
    @contextmanager
    def optimized_execution(should_optimize):
        raise AssertionError("nothing is to be set")
        yield

    with elastic_inference._execution(torch_of(optimized_execution)):
        pass


def test_it_is_made_for_accelerators_alone():
    assert ElasticInferenceHardware.instance_types == ()
    assert ElasticInferenceHardware.accelerator_types == ("ml.eia*",)
    assert eia.device_count() == 1
