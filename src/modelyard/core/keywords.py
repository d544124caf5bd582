"""Keyword arguments that are checked by name: a typo is a TypeError with a suggestion.

SDK v2 swallows unknown keywords (``PyTorch(..., instance_cnt=3)`` is accepted and the value lost,
sagemaker-python-sdk#2275).
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def checked_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with a TypeError that names every unknown keyword and the right ones."""
    known = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if unknown := [name for name in kwargs if name not in known]:
            called = type(args[0]).__name__ if function.__name__ == "__init__" else function.__qualname__
            raise TypeError(f"{called}() has {_said(unknown, known)} Known: {', '.join(sorted(known))}")
        return function(*args, **kwargs)

    return checked


def _said(unknown: Sequence[str], known: Sequence[str]) -> str:
    if len(unknown) == 1:
        meant = _meant(unknown[0], known)
        return f"no keyword {unknown[0]!r}" + (f"; did you mean {meant!r}?" if meant else ".")
    guesses = ((name, _meant(name, known)) for name in unknown)
    named = (f"{name!r} (did you mean {meant!r}?)" if meant else f"{name!r}" for name, meant in guesses)
    return f"no keywords {', '.join(named)}."


def _meant(name: str, known: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), "")
