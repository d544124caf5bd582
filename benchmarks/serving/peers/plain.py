"""What the peers' handlers share: the model and NPY as numpy itself reads and writes it."""

import io
import os
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)


def load() -> Any:
    """Return the model of the folder in ``BENCH_FOLDER``."""
    path = os.path.join(os.environ["BENCH_FOLDER"], "model", "model.pt")  # noqa: PTH118 - as in a handler
    return torch.jit.load(path).eval()


def decode(body: bytes) -> Any:
    """Return the tensor in an NPY document."""
    return torch.from_numpy(np.load(io.BytesIO(body)))


def encode(tensor: Any) -> bytes:
    """Return a tensor as an NPY document."""
    buffer = io.BytesIO()
    np.save(buffer, tensor.numpy())
    return buffer.getvalue()
