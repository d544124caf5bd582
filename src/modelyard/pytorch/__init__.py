"""``from modelyard.pytorch import PyTorch, PyTorchModel``: the import path of SDK v1 and v2."""

from modelyard.estimator import PyTorch
from modelyard.model import PyTorchModel
from modelyard.predictor import Predictor as PyTorchPredictor

__all__ = ["PyTorch", "PyTorchModel", "PyTorchPredictor"]
