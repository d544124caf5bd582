"""``from modelyard.pytorch.estimator import PyTorch``: the import path of SDK v1 and v2."""

from modelyard.estimator import PyTorch

__all__ = ["PyTorch"]
