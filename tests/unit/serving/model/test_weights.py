"""Weights alone, whose class the inference script has."""

import importlib.util
import os
import sys

import pytest

from modelyard.core.errors import UserCodeError
from modelyard.hardware.cpu import CpuHardware
from modelyard.serving.model import weights
from modelyard.serving.model.folder import ModelFolder

pytestmark = pytest.mark.torch

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.layer(x)
"""


@pytest.fixture
def torch():
    import torch

    return torch


@pytest.fixture
def state(torch):
    return {"layer.weight": torch.tensor([[1.0, 10.0]]), "layer.bias": torch.zeros(1)}


def save(state, path, **options):
    """Write weights in the format that the name says."""
    if path.suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    else:
        sys.modules["torch"].save(state, path, **options)


@pytest.fixture
def saved(model, state):
    """Write the weights of `NET`."""
    save(state, model.path / "model.pth")


@pytest.fixture
def load(model):
    """Load the weights of the model folder for an inference script."""

    def make(source, path=model.path):
        file = model.script(source)
        sys.path.insert(0, str(file.parent))
        spec = importlib.util.spec_from_file_location("inference", file)
        script = importlib.util.module_from_spec(spec)
        sys.modules["inference"] = script
        spec.loader.exec_module(script)
        return weights.load(ModelFolder(path, file.parent, file), script)

    return make


def answer(torch, model):
    hardware = CpuHardware()
    return hardware.predict(hardware.place(model), torch.tensor([[1.0, 2.0]])).tolist()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("model.pth", {}),
        ("net.pt", {}),
        ("model.pth", {"_use_new_zipfile_serialization": False}),
        ("model.safetensors", {}),
    ],
)
def test_the_only_class_of_the_script_is_given_the_weights(torch, model, load, state, name, options):
    save(state, model.path / name, **options)
    loaded = load(NET)
    assert answer(torch, loaded) == [[21.0]]
    assert loaded.layer.weight.dtype == torch.float32


@pytest.mark.parametrize(
    "source",
    [
        "import torch\nfrom torch.nn import Linear\nfrom net import Net",
        "from net import Net\nfrom net import Net as Again",
        "import net\nmodel_class = net.Net",
        NET + "class Other(Net): pass\nmodel_class = Net",
        "from net import Net\nmodel_class = lambda: Net()",
    ],
)
def test_where_the_class_may_come_from(torch, model, load, state, source):
    save(state, model.path / "model.pth")
    model.script(NET, "code/net.py")
    assert answer(torch, load(source)) == [[21.0]]


def test_a_class_of_a_library_is_not_the_users(torch, model, load, state):
    save(state, model.path / "model.pth")
    with pytest.raises(
        UserCodeError, match=r"^model.pth is not a TorchScript model, it holds weights alone: define"
    ):
        load("import torch\nfrom torch.nn import Linear, Module")


def test_weights_that_share_their_memory_are_known_to_safetensors(torch, model, load):
    source = NET + "        \nclass Tied(Net):\n    def __init__(self):\n        super().__init__()\n"
    source += "        self.head = torch.nn.Linear(2, 1)\n        self.head.weight = self.layer.weight\n"
    state = {"layer.weight": torch.ones(1, 2), "layer.bias": torch.ones(1), "head.bias": torch.ones(1)}
    save(state, model.path / "model.safetensors")
    loaded = load(source + "model_class = Tied")
    assert loaded.head.weight is loaded.layer.weight
    assert loaded.head.weight.tolist() == [[1.0, 1.0]]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_file_of_another_kind_is_left_to_the_hardware(torch, model, load):
    assert load(NET) is None
    torch.jit.script(torch.nn.Linear(2, 1)).save(str(model.path / "a.pt"))
    assert load(NET) is None
    (model.path / "b.pt").write_bytes(b"")
    assert load(NET) is None


# -- what does not fit -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("layer.bias"), r"are not those of Net: missing: layer.bias$"),
        (lambda s: s.update(extra=s["layer.bias"].clone()), r"are not those of Net: unexpected: extra$"),
        (
            lambda s: s.update({f"x{n}": s["layer.bias"].clone() for n in range(9)}) or s.pop("layer.bias"),
            r"are not those of Net: missing: layer.bias; unexpected: x0, x1, .*, x7 and 1 more$",
        ),
    ],
)
def test_names_that_differ_are_named(model, load, state, name, change, said):
    change(state)
    save(state, model.path / name)
    with pytest.raises(UserCodeError, match=rf"^the weights in {name} {said}"):
        load(NET)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_sizes_that_differ_are_named(torch, model, load, state, name):
    state["layer.weight"] = torch.ones(1, 3)
    save(state, model.path / name)
    with pytest.raises(
        UserCodeError, match=rf"^{name} does not fit Net: size mismatch for layer.weight: .*\[1, 3\]"
    ):
        load(NET)


@pytest.mark.parametrize(
    ("prefix", "hint"),
    [
        ("module.", r"DistributedDataParallel .*: save model.module.state_dict\(\)"),
        ("_orig_mod.", "torch.compile"),
    ],
)
def test_weights_of_a_wrapped_model_are_recognized(torch, model, load, state, prefix, hint):
    save({prefix + name: value for name, value in state.items()}, model.path / "model.pth")
    with pytest.raises(UserCodeError, match=rf"missing: layer.weight, .* unexpected: {prefix}.* {hint}"):
        load(NET)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3, "model_state_dict": {}}, "a dict of epoch, model_state_dict"),
        ([1, 2], "list"),
        ({}, "a dict of nothing"),
    ],
)
def test_a_checkpoint_is_no_state_dict(torch, model, load, content, said):
    torch.save(content, model.path / "model.pth")
    with pytest.raises(
        UserCodeError, match=rf"^model.pth holds {said} and is no state_dict: save model.state_dict"
    ):
        load(NET)


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_but_tensors_is_unpickled(torch, model, load, state, tmp_path, zipped):
    path, canary = model.path / "model.pth", tmp_path / "canary"
    save({**state, "x": Canary(canary)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserCodeError, match=r"^model.pth holds more than tensors, and is not unpickled"):
        load(NET)
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists(), "the file is no threat, and the test shows nothing"


def test_a_whole_model_is_not_unpickled(torch, model, load):
    torch.save(torch.nn.Linear(2, 1), model.path / "model.pth")
    with pytest.raises(UserCodeError, match=r"holds more than tensors, .* save model.state_dict\(\)"):
        load(NET)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_a_damaged_file_is_an_error(torch, model, load, state, name):
    path = model.path / name
    save(state, path, **({"_use_new_zipfile_serialization": False} if name == "model.pth" else {}))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserCodeError, match=rf"^{name} (cannot be read|is damaged|holds more)"):
        load(NET)


def test_safetensors_that_is_missing_is_named_with_the_way_out(torch, model, load, state, monkeypatch):
    save(state, model.path / "model.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(
        UserCodeError, match=r"needs the package safetensors: .*requirements.txt.*pip install"
    ):
        load(NET)


# -- the class ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            NET + "class Block(torch.nn.Module): pass",
            r"^which class .*: Block, Net\? .* model_class = Block$",
        ),
        (NET.replace("(self):", "(self, width):"), r"^Net\(width\) takes arguments, .* model_class = lambda"),
        (NET + "model_class = 'Net'", r"^model_class must be a class, or a function"),
        (NET + "model_class = dict", r"^model_class must make a torch.nn.Module, not dict"),
        (
            NET.replace("super().__init__()", "raise OSError('no')"),
            r"^the model's class raised OSError: no \(inference.py, line 6, in __init__\)$",
        ),
    ],
)
def test_a_class_that_cannot_be_told_or_made_is_an_error(torch, model, load, state, source, said):
    save(state, model.path / "model.pth")
    with pytest.raises(UserCodeError, match=said):
        load(source)


@pytest.mark.parametrize(
    ("version", "warned"), [("2.6.0", True), ("2.9.1+cpu", True), ("2.10.0", False), ("3.0", False)]
)
def test_torch_whose_promise_does_not_hold_is_warned_of(saved, load, version, warned, caplog, monkeypatch):
    monkeypatch.setattr("torch.__version__", version)
    load(NET)
    assert ("CVE-2026-24747" in caplog.text) == warned


def test_safetensors_need_no_warning(torch, model, load, state, caplog, monkeypatch):
    save(state, model.path / "model.safetensors")
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    load(NET)
    assert caplog.text == ""
