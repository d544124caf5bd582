"""CUDA's hardware on a GPU: the contract with each of its options, and what it does beyond that."""

import shutil
from importlib.util import find_spec

import numpy as np
import pytest

from modelyard.core.errors import UserCodeError
from modelyard.testing.hardware import HardwareContract

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

CudaHardware = pytest.importorskip("modelyard.hardware.cuda").CudaHardware
cuda = CudaHardware()

compiling = pytest.mark.skipif(
    find_spec("triton") is None or not (shutil.which("cc") or shutil.which("gcc")),
    reason="torch.compile needs triton and a C compiler",
)
# What a compiler has to say of a model depends on the GPU.
as_it_may = pytest.mark.filterwarnings("default")

SECOND = 2_000_000_000
"""Cycles that take a GPU about a second."""


class Exported(HardwareContract):
    """The contract of hardware whose models are compiled, which TorchScript is not."""

    def save_model(self, module, folder):
        import torch

        program = torch.export.export(module.eval(), (torch.ones(1, 3),))
        torch.export.save(program, folder / "model.pt2")


class TestCudaHardware(HardwareContract):
    hardware = cuda


class TestAutocast(HardwareContract):
    hardware = CudaHardware(autocast="bfloat16")


@compiling
@as_it_may
class TestCompiled(Exported):
    hardware = CudaHardware(compile="default")


@as_it_may
class TestRecorded(Exported):
    hardware = CudaHardware(cuda_graphs=True)


@compiling
@as_it_may
class TestCompiledAndRecorded(Exported):
    hardware = CudaHardware(compile="default", cuda_graphs=True, autocast="float16")


# -- placing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 4), (128, 128), (127, 129), (32, 3, 224, 224)], ids=str)
def test_an_array_arrives_whole_and_may_be_changed_at_once(torch, shape):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    # So many that locked memory is used anew while copies are under way.
    given = [array + number for number in range(20)]
    expected = [each.copy() for each in given]
    placed = []
    for each in given:
        placed.append(cuda.place(np.asarray(each)))
        if each.flags.writeable:
            each[...] = -1
    for tensor, values in zip(placed, expected, strict=True):
        assert tensor.device == torch.device("cuda", 0)
        assert np.array_equal(tensor.cpu().numpy(), values)


def test_nobody_waits_until_a_large_array_is_there(torch):
    array = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    cuda.place(array)  # From now on there is memory for it, on both sides.
    torch.cuda.synchronize()
    is_idle = torch.cuda.Event()
    torch.cuda._sleep(SECOND)
    is_idle.record()
    placed = cuda.place(array)
    assert not is_idle.query(), "the copy was waited for, and what the GPU had to do before it"
    assert np.array_equal(placed.cpu().numpy(), array)
    assert is_idle.query()


def test_each_gpu_is_the_current_one_of_what_is_placed_on_it(torch):
    for index in reversed(range(cuda.device_count())):
        placed = cuda.place(np.ones((256, 256), np.float32), index)
        module = cuda.place(torch.nn.Linear(2, 2), index)
        here = torch.empty(1, device="cuda").device.index
        assert (placed.device.index, module.weight.device.index, here) == (index,) * 3


# -- predicting --------------------------------------------------------------------------------


def test_autocast_computes_in_its_precision_and_leaves_the_model_alone(torch):
    model = cuda.place(torch.nn.Linear(8, 8))
    value = cuda.place(np.ones((2, 8), np.float32))
    found = {
        autocast: CudaHardware(autocast=autocast).predict(model, value)
        for autocast in ("", "float16", "bfloat16")
    }
    assert [str(tensor.dtype) for tensor in found.values()] == [
        "torch.float32",
        "torch.float16",
        "torch.bfloat16",
    ]
    assert model.weight.dtype == torch.float32
    exact = found[""]
    assert all(torch.allclose(tensor.float(), exact, atol=0.05) for tensor in found.values())
    assert cuda.fetch(found["bfloat16"]).dtype == np.float32


@as_it_may
@pytest.mark.parametrize(
    "options",
    [
        {"cuda_graphs": True},
        pytest.param({"compile": "reduce-overhead"}, marks=compiling),
        pytest.param({"compile": "default", "cuda_graphs": True}, marks=compiling),
    ],
    ids=str,
)
def test_what_a_recording_gives_stays_when_it_is_repeated(torch, options):
    from torch._dynamo.utils import counters

    counters.clear()
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    hardware = CudaHardware(**options)
    model = hardware.place(plain)
    # The first call of a shape warms up, the second one records, those after it repeat.
    rows = [1, 5] * 5
    arrays = [np.full((count, 16), number, np.float32) for number, count in enumerate(rows)]
    predictions = [hardware.predict(model, hardware.place(array)) for array in arrays]
    for array, prediction in zip(arrays, predictions, strict=True):
        expected = cuda.fetch(cuda.predict(plain, cuda.place(array)))
        assert np.allclose(hardware.fetch(prediction), expected, rtol=1e-2, atol=1e-2)
    assert not counters["inductor"]["cudagraph_skips"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_not_compiled_and_says_so(torch, tmp_path):
    torch.jit.script(torch.nn.Linear(3, 1)).save(str(tmp_path / "model.pt"))
    model = cuda.load(tmp_path)
    with pytest.raises(UserCodeError, match="this is TorchScript"):
        CudaHardware(cuda_graphs=True).place(model)


# -- going on ----------------------------------------------------------------------------------


def test_memory_that_was_not_enough_is_given_back(torch):
    free, total = torch.cuda.mem_get_info()

    def ask_for_too_much():
        _held = torch.empty(free // 4, dtype=torch.uint8, device="cuda")
        torch.empty(2 * total, dtype=torch.uint8, device="cuda")

    with pytest.raises(torch.OutOfMemoryError) as failed:
        ask_for_too_much()
    assert torch.cuda.mem_get_info()[0] < free - free // 8, "nothing was held, and the test shows nothing"
    assert cuda.recover(failed.value)
    assert torch.cuda.mem_get_info()[0] >= free - 64 * 1024**2


def test_an_error_that_is_none_of_the_gpus_is_survived(torch):
    cuda.place([1.0])
    assert cuda.recover(RuntimeError("CUDA error: said by somebody else"))
