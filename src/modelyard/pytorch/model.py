"""``from modelyard.pytorch.model import PyTorchModel``: the import path of SDK v1 and v2."""

from modelyard.model import PyTorchModel
from modelyard.predictor import Predictor as PyTorchPredictor

__all__ = ["PyTorchModel", "PyTorchPredictor"]
