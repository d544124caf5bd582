"""Keyword arguments that are checked by name: a typo is a TypeError with a suggestion.

SDK v2 swallows unknown keywords (``PyTorch(..., instance_cnt=3)`` is accepted and the value lost,
sagemaker-python-sdk#2275).
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_SHOWN = 12
"""Of the known names in an error message; of more the nearest ones."""


def checked_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with a TypeError that names every unknown keyword and the right ones.

    A function that ends with ``**options`` gets these unchecked, and hands them to `check_names`.
    """
    known = keywords_of(function)
    if _takes_more(function):
        return function

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not kwargs.keys() <= known:
            check_names(_called(function, args), kwargs, known)
        return function(*args, **kwargs)

    return checked


def keywords_of(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names of a function's parameters, without ``self``, ``cls`` and ``**options``."""
    parameters = inspect.signature(function).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    return frozenset(named - {"self", "cls"})


def check_names(called: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raise ``TypeError``, with the names that were meant, where some of `names` are not `known`."""
    if unknown := [name for name in names if name not in known]:
        shown = sorted(known)
        if len(shown) > _SHOWN:
            shown = sorted(difflib.get_close_matches(unknown[0], shown, n=_SHOWN, cutoff=0.0))
        more = f" and {len(known) - len(shown)} more" if len(known) > len(shown) else ""
        raise TypeError(f"{called}() has {_said(unknown, sorted(known))} Known: {', '.join(shown)}{more}")


def _takes_more(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _called(function: Callable[..., Any], args: Sequence[Any]) -> str:
    return type(args[0]).__name__ if function.__name__ == "__init__" else function.__qualname__


def _said(unknown: Sequence[str], known: Sequence[str]) -> str:
    if len(unknown) == 1:
        meant = _meant(unknown[0], known)
        return f"no keyword {unknown[0]!r}" + (f"; did you mean {meant!r}?" if meant else ".")
    guesses = ((name, _meant(name, known)) for name in unknown)
    named = (f"{name!r} (did you mean {meant!r}?)" if meant else f"{name!r}" for name, meant in guesses)
    return f"no keywords {', '.join(named)}."


def _meant(name: str, known: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), "")
