"""What is served: models with seeded random weights, and one request to each."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from modelyard.serializers.npy import NpyCodec

NPY = "application/x-npy"
JSON = "application/json"


def _linear() -> Any:
    from torch import nn

    return nn.Linear(4, 3)


def _mlp() -> Any:
    from torch import nn

    layers = nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    return nn.Sequential(*layers)


def _first_ten() -> Any:
    """Return a model that costs next to nothing: what is measured is the carrying of a large body."""
    from torch import nn

    return nn.Sequential(nn.MaxPool2d(1, stride=64), nn.Flatten(), nn.Linear(48, 10))


def _normal(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@attrs.frozen
class Workload:
    """One kind of request, sent over `connections` connections that each wait for their answers.

    `batch_size`: how many of them the model may be given at once, where a server can do that; `values`:
    makes the input; `tolerance`: how far an answer may be from what the model says on the CPU.
    """

    name: str
    title: str
    model: Callable[[], Any]
    shape: tuple[int, ...]
    media_type: str = NPY
    connections: int = 16
    batch_size: int = 1
    values: Callable[[tuple[int, ...]], npt.NDArray[Any]] = _normal
    tolerance: float = 1e-4

    def lay_out(self, folder: Path) -> "Case":
        """Write the model as ``model/model.pt`` and the request's body; the weights are always the same."""
        import torch

        torch.manual_seed(0)
        model = self.model().eval()
        array = self.values(self.shape)
        (folder / "model").mkdir(parents=True)
        with warnings.catch_warnings(), torch.inference_mode():
            # TorchScript is on its way out of torch, and what the default handlers of both sides load.
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.script(model), str(folder / "model" / "model.pt"))
            answer = model(torch.from_numpy(array)).numpy()
        body = json.dumps(array.tolist()).encode() if self.media_type == JSON else NpyCodec().encode(array)
        (folder / "body").write_bytes(body)
        return Case(self, folder, body, answer)


@attrs.frozen
class Case:
    """A workload in its folder: ``model/model.pt`` and ``body``. `answer`: what the model says to it."""

    workload: Workload
    folder: Path
    body: bytes
    answer: npt.NDArray[Any]

    def check(self, answer: bytes) -> None:
        """Raise `ValueError` unless `answer` is the model's, in the workload's media type."""
        found: Any
        if self.workload.media_type == JSON:
            found = np.asarray(json.loads(answer), np.float32)
        else:
            found = NpyCodec().decode(answer)
        tolerance = self.workload.tolerance
        near = found.shape == self.answer.shape and np.allclose(
            found, self.answer, rtol=tolerance / 10, atol=tolerance
        )
        if not near:
            raise ValueError(f"answered {found!r} instead of {self.answer!r}")


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1", "Linear(4, 3), 1 row, NPY", _linear, (1, 4)),
        Workload("W1J", "Linear(4, 3), 1 row, JSON", _linear, (1, 4), JSON),
        Workload("W2x1", "MLP 784-512-512-10, 1 row", _mlp, (1, 784)),
        Workload("W2x32", "MLP 784-512-512-10, 32 rows", _mlp, (32, 784)),
        Workload("W3", "3x224x224 in, 10 numbers out", _first_ten, (1, 3, 224, 224)),
        Workload("W4", "MLP, 1 row, batches of up to 32", _mlp, (1, 784), connections=64, batch_size=32),
    )
}
