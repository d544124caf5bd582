"""Inputs of several requests as one, and predictions cut up again."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from modelyard.core.contracts import BatchingHardware
from modelyard.hardware.cpu import CpuHardware

pytestmark = pytest.mark.torch

CPU = CpuHardware()


class Pair(NamedTuple):
    left: Any
    right: Any


@pytest.fixture
def torch():
    import torch

    return torch


def tensors(torch, rows):
    return torch.arange(rows * 2.0).reshape(rows, 2)


MAKERS = {
    "tensor": lambda t: t,
    "dict": lambda t: {"ids": t, "mask": t[:, :1]},
    "tuple": lambda t: (t, t[:, :1]),
    "list": lambda t: [t, t[:, :1]],
    "namedtuple": lambda t: Pair(t, t[:, :1]),
}


def same(torch, a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    assert type(a) is type(b)
    pairs = zip(a.values(), b.values(), strict=True) if isinstance(a, dict) else zip(a, b, strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def test_the_cpu_batches():
    assert isinstance(CPU, BatchingHardware)


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_stacked_is_cut_as_it_was(torch, kind):
    values = [MAKERS[kind](tensors(torch, rows)) for rows in (1, 3, 0, 2)]
    assert len({CPU.batch_key(value) for value in values}) == 1
    stacked, sizes = CPU.stack(values)
    assert list(sizes) == [1, 3, 0, 2]
    assert type(stacked) is type(values[0])
    for cut, value in zip(CPU.split(stacked, sizes), values, strict=True):
        assert same(torch, cut, value)


def test_what_differs_does_not_go_together(torch):
    keys = [
        CPU.batch_key(value)
        for value in (
            torch.zeros(1, 2),
            torch.zeros(1, 3),
            torch.zeros(1, 2, dtype=torch.float64),
            np.zeros((1, 2)),
            (torch.zeros(1, 2),),
            [torch.zeros(1, 2)],
            {"a": torch.zeros(1, 2)},
            {"b": torch.zeros(1, 2)},
        )
    ]
    assert len(set(keys)) == len(keys)
    assert None not in keys


@pytest.mark.parametrize("value", ["text", 5, None, {}, [], [1.0], {"a": 1}])
def test_what_is_no_tensor_goes_with_nothing(value):
    assert CPU.batch_key(value) is None


def test_a_tensor_without_rows_goes_with_nothing(torch):
    assert CPU.batch_key(torch.tensor(1.0)) is None
    # One row that was sent without its brackets: joined, it would be one row of two clients' numbers.
    assert CPU.batch_key(torch.zeros(3)) is None
    assert CPU.batch_key((torch.zeros(1, 2), torch.zeros(2, 2))) is None


def test_arrays_are_stacked_and_cut_too(torch):
    arrays = [np.ones((1, 2)), np.zeros((2, 2))]
    stacked, sizes = CPU.stack(arrays)
    np.testing.assert_array_equal(stacked, [[1, 1], [0, 0], [0, 0]])
    for cut, array in zip(CPU.split(stacked, sizes), arrays, strict=True):
        np.testing.assert_array_equal(cut, array)


def test_a_list_of_one_item_per_row_is_cut(torch):
    assert CPU.split(["a", "b", "c"], [1, 2]) == [["a"], ["b", "c"]]


def test_a_prediction_that_has_other_rows_is_not_cut(torch):
    for prediction in (torch.zeros(2, 2), torch.tensor(1.0), ["a"], "abc", (torch.zeros(3), torch.zeros(1))):
        with pytest.raises(ValueError, match="for 3 rows of input it gave a"):
            CPU.split(prediction, [1, 2])
