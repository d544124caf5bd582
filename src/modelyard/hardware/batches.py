"""Inputs of several requests as one input: tensors joined along their first dimension, and cut again.

An input is a tensor, or a dict, tuple or list of tensors that all have the same number of rows.
"""

from collections.abc import Hashable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def batch_key(value: object) -> Hashable | None:
    """Return what inputs that can be stacked have in common; None for one that cannot be."""
    parts = _parts(value)
    if not parts or len({tensor.shape[0] if tensor.dim() else -1 for tensor in parts.values()}) != 1:
        return None
    kinds = tuple(
        (name, tensor.dtype, tensor.shape[1:], tensor.device, tensor.layout, tensor.dim() > 0)
        for name, tensor in parts.items()
    )
    return (type(value), kinds) if all(kind[-1] for kind in kinds) else None


def stack(values: Sequence[object]) -> tuple[object, list[int]]:
    """Return inputs of one `batch_key` as one, and the rows of each."""
    import torch

    all_parts = [_parts(value) for value in values]
    sizes = [next(iter(parts.values())).shape[0] for parts in all_parts]
    joined = {name: torch.cat([parts[name] for parts in all_parts]) for name in all_parts[0]}
    return _rebuilt(values[0], joined), sizes


def split(prediction: object, sizes: Sequence[int]) -> list[object]:
    """Return a prediction's rows, cut by `sizes`. Raises ``ValueError`` if it has not that many."""
    rows = sum(sizes)
    if isinstance(prediction, list) and len(prediction) == rows:
        ends = list(accumulate(sizes))
        return [prediction[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    parts = _parts(prediction)
    if not parts or any(not tensor.dim() or tensor.shape[0] != rows for tensor in parts.values()):
        raise ValueError(f"for {rows} rows of input it gave {_described(prediction)}")
    pieces = {name: tensor.split(list(sizes)) for name, tensor in parts.items()}
    return [
        _rebuilt(prediction, {name: cut[place] for name, cut in pieces.items()})
        for place in range(len(sizes))
    ]


def _parts(value: object) -> "dict[Any, torch.Tensor]":
    """Return the tensors of a value by their names or places; none where not all of it are tensors."""
    import torch

    if isinstance(value, torch.Tensor):
        return {"": value}
    if isinstance(value, (dict, tuple, list)):
        items = dict(value.items()) if isinstance(value, dict) else dict(enumerate(value))
        if all(isinstance(item, torch.Tensor) for item in items.values()):
            return items
    return {}


def _rebuilt(like: Any, parts: "dict[Any, torch.Tensor]") -> object:
    """Return the tensors in a container of the same kind as `like`."""
    import torch

    if isinstance(like, torch.Tensor):
        return parts[""]
    if isinstance(like, dict):
        return type(like)(**parts) if hasattr(like, "__dataclass_fields__") else dict(parts)
    if hasattr(like, "_fields"):
        return type(like)(*parts.values())
    return type(like)(parts.values())


def _described(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + ("" if shape is None else f" of shape {tuple(shape)}")
