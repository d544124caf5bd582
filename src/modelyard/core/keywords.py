"""Keyword arguments that are checked by name: a typo is a TypeError with a suggestion.

SDK v2 swallows unknown keywords (``PyTorch(..., instance_cnt=3)`` is accepted and the value lost,
sagemaker-python-sdk#2275).
"""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from modelyard.core.errors import did_you_mean

P = ParamSpec("P")
R = TypeVar("R")


def checked_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with a TypeError that suggests the right name for an unknown keyword."""
    known = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                called = type(args[0]).__name__ if function.__name__ == "__init__" else function.__qualname__
                raise TypeError(f"{called}() has no keyword {name!r}{did_you_mean(name, known)}")
        return function(*args, **kwargs)

    return checked
