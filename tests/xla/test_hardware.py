"""Trainium's class on XLA's CPU runtime: its contract, and the same answers as the CPU's class."""

import copy

import numpy as np
import pytest

from modelyard.hardware.cpu import CpuHardware
from modelyard.hardware.trainium import TrainiumHardware
from modelyard.testing.hardware import HardwareContract

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    # What torch says of its own ways to make and to load such files.
    pytest.mark.filterwarnings("ignore:.* the trace:Warning"),
    pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning"),
]

cpu, xla = CpuHardware(), TrainiumHardware()
ROWS = (1, 3, 8, 3, 1)


class TestTrainiumHardware(HardwareContract):
    hardware = xla


@pytest.fixture
def torch():
    import torch

    torch.manual_seed(0)
    return torch


@pytest.fixture
def sorts(torch):
    """A network of convolutions, for images."""
    nn = torch.nn
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout()).eval()


@pytest.fixture
def reads(torch):
    """A network for text, which makes tensors of its own while it predicts."""

    class Reader(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(50, 8)
            self.places = torch.nn.Embedding(20, 8)
            self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, words):
            places = torch.arange(words.shape[1], device=words.device)
            return self.layer(self.words(words) + self.places(places), src_key_padding_mask=words == 0)

    return Reader().eval()


def images(rows):
    return np.random.default_rng(rows).random((rows, 1, 8, 8), np.float32)


def texts(rows):
    return np.random.default_rng(rows).integers(1, 50, (rows, 7))


def answer(hardware, model, value):
    return hardware.fetch(hardware.predict(model, hardware.place(value)))


def check(model, values, on_xla=None):
    """Compare the answers with those of the CPU, where they are floats of a network."""
    expected = [answer(cpu, copy.deepcopy(model), value) for value in values]
    placed = xla.place(on_xla or model)
    for value, there in zip(values, expected, strict=True):
        here = answer(xla, placed, value)
        assert here.dtype == there.dtype
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)


# -- the same answers --------------------------------------------------------------------------


def test_inputs_of_several_shapes_are_answered_as_on_the_cpu(sorts):
    check(sorts, [images(rows) for rows in ROWS])


def test_whole_numbers_are_inputs_too(reads):
    check(reads, [texts(rows) for rows in ROWS])


def test_a_model_in_half_precision(torch, sorts):
    placed = xla.place(copy.deepcopy(sorts).bfloat16())
    half = torch.from_numpy(images(3)).bfloat16()
    np.testing.assert_allclose(answer(xla, placed, half), answer(cpu, sorts, images(3)), atol=0.1)


def test_a_dict_goes_in_and_a_dict_of_several_tensors_comes_out(torch):
    class Pair(torch.nn.Module):
        def forward(self, inputs):
            return {"sum": inputs["a"] + inputs["b"], "both": (inputs["a"], [inputs["b"]])}

    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 2.0)
    found = answer(xla, xla.place(Pair()), {"a": a, "b": b, "note": "text"})
    assert found["sum"].tolist() == [[3.0] * 3] * 2
    assert found["both"][1][0].dtype == np.float64


def test_a_model_may_change_a_buffer_of_its_own(torch):
    class Counter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return x * 0 + self.calls

    counter = xla.place(Counter())
    assert [answer(xla, counter, [[0.0]]).item() for _ in range(3)] == [1.0, 2.0, 3.0]


def test_a_prediction_that_fails_leaves_the_next_alone(sorts):
    placed = xla.place(copy.deepcopy(sorts))
    with pytest.raises(RuntimeError):
        answer(xla, placed, np.ones((1, 2, 8, 8), np.float32))
    np.testing.assert_allclose(answer(xla, placed, images(1)), answer(cpu, sorts, images(1)), rtol=1e-4)


# -- TorchScript and programs, which were made on the CPU --------------------------------------


def scripted(torch, model, example, path):
    torch.jit.script(model).save(path / "model.pt")


def frozen(torch, model, example, path):
    torch.jit.freeze(torch.jit.script(model)).save(path / "model.pt")


def traced(torch, model, example, path):
    torch.jit.trace(model, example, check_trace=False).save(path / "model.pt")


def exported(torch, model, example, path):
    rows = torch.export.Dim("rows", min=1, max=64)
    program = torch.export.export(model, (torch.cat([example, example]),), dynamic_shapes=({0: rows},))
    torch.export.save(program, path / "model.pt2")


@pytest.mark.parametrize("save", [scripted, frozen, traced, exported])
@pytest.mark.parametrize(("network", "inputs"), [("sorts", images), ("reads", texts)])
def test_a_model_file_is_loaded_and_answers_as_on_the_cpu(torch, request, tmp_path, save, network, inputs):
    model = request.getfixturevalue(network)
    save(torch, model, torch.from_numpy(inputs(3)), tmp_path)
    check(model, [inputs(rows) for rows in ROWS], xla.load(tmp_path))


def test_what_a_program_holds_for_good_is_moved(torch, tmp_path):
    class Constants(torch.nn.Module):
        def forward(self, x):
            return x @ torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    for save in (traced, exported):
        (tmp_path / save.__name__).mkdir()
        save(torch, Constants(), torch.ones(2, 2), tmp_path / save.__name__)
        check(
            Constants(), [np.ones((rows, 2), np.float32) for rows in ROWS], xla.load(tmp_path / save.__name__)
        )


def test_torchscript_within_another_module_is_moved(torch):
    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU()))
            self.outer = torch.nn.Linear(3, 1)

        def forward(self, x):
            return self.outer(self.inner(x))

    wrapper = Wrapper()
    expected = answer(cpu, wrapper, np.ones((2, 3), np.float32))
    assert np.allclose(answer(xla, xla.place(wrapper), np.ones((2, 3), np.float32)), expected, rtol=1e-4)
