"""Endpoints whose models compute by XLA, on its CPU runtime."""

import numpy as np
import pytest

from modelyard import PyTorchModel
from modelyard.core.errors import InvocationError

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]

ROWS = (1, 4, 9, 4)

OWN_STEPS = """
import torch
import torch_xla

def model_fn(model_dir):
    return torch.nn.Linear(3, 2).to(torch_xla.device())

def predict_fn(value, model):
    if len(value) == 2:
        raise ValueError("no pairs")
    return {"device": str(model.weight.device), "scores": model(value.to(torch_xla.device()))}
"""


@pytest.fixture
def network():
    import torch

    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2)
    return torch.nn.Sequential(*layers).eval()


def scripted(network, folder):
    import torch

    torch.jit.script(network).save(folder / "model.pt")


def exported(network, folder):
    import torch

    rows = torch.export.Dim("rows", min=1, max=64)
    program = torch.export.export(network, (torch.ones(4, 3),), dynamic_shapes=({0: rows},))
    torch.export.save(program, folder / "model.pt2")


def rows_of(count):
    return np.random.default_rng(count).random((count, 3), np.float32)


@pytest.mark.parametrize("save", [scripted, exported])
def test_a_model_file_is_served_and_answers_as_on_the_cpu(modelyard_home, tmp_path, network, save):
    import torch

    save(network, tmp_path)
    with PyTorchModel(tmp_path).deploy(hardware="trainium") as predictor:
        for count in ROWS:
            answer = predictor.predict(rows_of(count))
            assert answer.dtype == np.float32
            with torch.inference_mode():
                expected = network(torch.from_numpy(rows_of(count))).numpy()
            np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-6)
            text = predictor.predict(rows_of(count), content_type="text/csv", accept="application/json")
            np.testing.assert_allclose(text, expected, rtol=1e-4, atol=1e-6)
        with pytest.raises(InvocationError) as failed:
            predictor.predict(np.ones((2, 5), np.float32))
        assert failed.value.status == 500
        assert predictor.predict(rows_of(1)).shape == (1, 2)


def test_a_script_may_take_the_steps_itself(modelyard_home, tmp_path):
    (tmp_path / "inference.py").write_text(OWN_STEPS)
    (tmp_path / "model").mkdir()
    model = PyTorchModel(tmp_path / "model", entry_point=tmp_path / "inference.py")
    with model.deploy(hardware="trainium") as predictor:
        with pytest.raises(InvocationError, match="ValueError"):
            predictor.predict(rows_of(2))
        answer = predictor.predict(rows_of(1), accept="application/json")
        assert answer["device"] == "xla:0"
        assert np.shape(answer["scores"]) == (1, 2)
