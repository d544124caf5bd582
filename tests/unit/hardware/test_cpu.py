import collections
import io
import logging
import os
import pickle
import zipfile
from typing import NamedTuple

import numpy as np
import pytest

from modelyard.core.errors import UserCodeError
from modelyard.hardware import detection
from modelyard.hardware.cpu import CpuHardware

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    # Kinds of tensors that torch itself calls unfinished.
    pytest.mark.filterwarnings("ignore:.*(prototype|beta|experimental|deprecated):UserWarning"),
]

cpu = CpuHardware()


@pytest.fixture
def torch():
    import torch

    return torch


@pytest.fixture
def net(torch):
    """A network that doubles its input, and behaves otherwise while it is trained."""

    class Doubling(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([2.0]))
            self.dropout = torch.nn.Dropout(0.9)

        def forward(self, x):
            return self.dropout(x) * self.weight

    return Doubling()


ONES = np.ones((1, 3), np.float32)


def answer(model):
    return cpu.fetch(cpu.predict(cpu.place(model), cpu.place(ONES))).tolist()


# -- loading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "net.pth"])
def test_torchscript_is_loaded_and_evaluates(torch, net, tmp_path, name):
    torch.jit.script(net).save(str(tmp_path / name))
    assert answer(cpu.load(tmp_path)) == [[2.0] * 3]


@pytest.mark.parametrize("make", ["freeze", "optimize_for_inference"])
def test_frozen_torchscript_is_loaded(torch, net, tmp_path, make):
    getattr(torch.jit, make)(torch.jit.script(net.eval())).save(str(tmp_path / "model.pt"))
    assert answer(cpu.load(tmp_path)) == [[2.0] * 3]


@pytest.mark.parametrize("name", ["model.pt2", "net.pt2"])
def test_an_exported_program_is_loaded(torch, net, tmp_path, name):
    torch.export.save(torch.export.export(net.eval(), (torch.ones(1, 3),)), tmp_path / name)
    before = dict(os.environ)
    model = cpu.load(tmp_path)
    assert answer(model) == [[2.0] * 3]
    assert dict(os.environ) == before


def test_float32_stays_float32(torch, net, tmp_path):
    torch.export.save(torch.export.export(net.eval(), (torch.ones(1, 3),)), tmp_path / "model.pt2")
    assert cpu.fetch(cpu.predict(cpu.place(cpu.load(tmp_path)), cpu.place(ONES))).dtype == np.float32


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_weights_alone_are_an_error_that_says_what_to_write(torch, net, tmp_path, name):
    torch.save(net.state_dict(), tmp_path / name)
    with pytest.raises(
        UserCodeError,
        match=rf"^{name} is not a TorchScript model, it holds weights alone: .* define model_fn",
    ):
        cpu.load(tmp_path)


@pytest.mark.parametrize("name", ["model.pt", "model.pt2"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04"])
def test_a_file_that_is_no_model_is_an_error_with_advice(torch, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserCodeError, match=rf"^{name} is not a .*define model_fn\(model_dir\)"):
        cpu.load(tmp_path)


def rewritten(path, change):
    """Change the entries of a zip file, a mapping from names to contents."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


class Canary:
    """What makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_an_exported_program_is_unpickled(torch, net, tmp_path, monkeypatch):
    path, canary = tmp_path / "model.pt2", tmp_path / "canary"
    torch.export.save(torch.export.export(net.eval(), (torch.ones(1, 3),)), path)

    def poison(entries):
        (inputs,) = (name for name in entries if name.endswith("sample_inputs/model.pt"))
        file = io.BytesIO()
        torch.save(({"x": Canary(canary)}, {}), file)
        entries[inputs] = file.getvalue()

    rewritten(path, poison)
    with pytest.raises(UserCodeError, match=r"^model.pt2 is not a program that torch"):
        cpu.load(tmp_path)
    assert not canary.exists()
    # It would log that with the wrong number of arguments.
    monkeypatch.setattr(logging.getLogger("torch._export.serde.serialize"), "disabled", True)
    torch.export.load(path)
    assert canary.exists(), "the file is no threat, and the test shows nothing"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("data/aotinductor/model/x.so", "is compiled"),
        ("data/constants/opaque_obj_0", "holds pickled objects"),
    ],
)
def test_code_of_another_kind_in_an_exported_program_is_not_loaded(torch, net, tmp_path, entry, said):
    path, canary = tmp_path / "model.pt2", tmp_path / "canary"
    torch.export.save(torch.export.export(net.eval(), (torch.ones(1, 3),)), path)
    rewritten(path, lambda entries: entries.update({f"model/{entry}": pickle.dumps(Canary(canary))}))
    with pytest.raises(UserCodeError, match=rf"^model.pt2 {said}.*torch.export.save"):
        cpu.load(tmp_path)


# -- what is said of it ------------------------------------------------------------------------


def test_it_says_what_there_is_and_why_it_is_used(drivers, monkeypatch):
    asked = detection.gpus
    monkeypatch.setattr(detection, "cores", lambda: 2)
    monkeypatch.setattr(detection, "gpus", lambda: asked(drivers.environ))
    assert cpu.describe() == "2 CPUs; no GPU found: nvidia-smi is not on the PATH"
    assert cpu.device_count() == 1


# -- placing -----------------------------------------------------------------------------------


def test_a_module_is_placed_in_evaluation_mode_whatever_its_kind(torch, net):
    exported = torch.export.export(net.eval(), (torch.ones(1, 3),)).module()
    traced = torch.fx.symbolic_trace(net.train())
    frozen = torch.jit.freeze(torch.jit.script(net.eval()))
    for model in (net.train(), torch.jit.script(net.train()), traced, frozen, exported):
        assert answer(model) == [[2.0] * 3]


def test_arrays_in_a_dict_are_placed(torch):
    given = {"x": np.ones(2, np.int64), "y": torch.ones(2), "z": [1.0], "name": "text"}
    placed = cpu.place(given)
    assert [type(value) for value in placed.values()] == [torch.Tensor, torch.Tensor, list, str]
    assert placed["x"].dtype == torch.int64
    assert given["x"] is not placed["x"]


def test_a_number_without_dimensions_is_placed(torch):
    assert cpu.place(np.array(5, np.float32)).shape == ()


def test_a_parameter_stays_one(torch):
    given = torch.nn.Parameter(torch.ones(2))
    assert cpu.place(given) is given


# -- fetching ----------------------------------------------------------------------------------

KINDS = {
    "requires gradients": lambda t: t.tensor([1.0, 2.0], requires_grad=True),
    "a parameter": lambda t: t.nn.Parameter(t.tensor([1.0, 2.0])),
    "made in inference mode": lambda t: t.inference_mode()(lambda: t.tensor([1.0, 2.0]))(),
    "bfloat16": lambda t: t.tensor([1.0, 2.0], dtype=t.bfloat16),
    "float8": lambda t: t.tensor([1.0, 2.0]).to(t.float8_e4m3fn),
    "sparse": lambda t: t.tensor([1.0, 2.0]).to_sparse(),
    "sparse bfloat16": lambda t: t.tensor([1.0, 2.0], dtype=t.bfloat16).to_sparse(),
    "quantized": lambda t: t.quantize_per_tensor(t.tensor([1.0, 2.0]), 0.5, 0, t.quint8),
    "conjugated": lambda t: t.tensor([1.0 + 0j, 2.0]).conj(),
    "negated lazily": lambda t: t.tensor([1j, 2j]).conj().imag.neg(),
    "half of complex": lambda t: t.tensor([1.0, 2.0]).to(t.complex32),
    "strided": lambda t: t.tensor([1.0, 0.0, 2.0, 0.0])[::2],
    "of rows of different lengths": lambda t: t.nested.nested_tensor([t.tensor(1.0), t.tensor(2.0)]),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_every_kind_of_tensor_is_fetched(torch, make):
    assert [complex(value) for value in cpu.fetch(make(torch))] == [1.0, 2.0]


def test_a_matrix_in_compressed_rows_is_fetched(torch):
    assert cpu.fetch(torch.eye(2).to_sparse_csr()).tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "uint16", "bool", "complex64"])
def test_a_dtype_of_numpys_is_kept(torch, dtype):
    fetched = cpu.fetch(torch.ones(2, dtype=getattr(torch, dtype)))
    assert fetched.dtype == np.dtype(dtype)


def test_a_tensor_without_dimensions_is_fetched_as_an_array(torch):
    fetched = cpu.fetch(torch.tensor(1.5))
    assert isinstance(fetched, np.ndarray)
    assert (fetched.shape, fetched.tolist()) == ((), 1.5)


class Output(NamedTuple):
    logits: object
    hidden: object


def test_tensors_inside_of_what_models_return_are_fetched(torch):
    logits = torch.ones(1, requires_grad=True)
    assert cpu.fetch(Output(logits, None)) == [np.ones(1, np.float32), None]
    assert cpu.fetch(torch.tensor([3.0, 1.0]).max(dim=0)) == [3.0, 0]
    assert cpu.fetch(collections.OrderedDict(a=(logits, {"b": "text"}))) == {"a": [1.0, {"b": "text"}]}
