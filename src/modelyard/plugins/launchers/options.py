"""Checks that the launchers' options share: a wrong value is named with what is allowed."""

from collections.abc import Callable
from typing import Any

import attrs

from modelyard.core.errors import InvalidPlanError

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]

PROFILES = ("toolkit", "drivers")
"""SageMaker's training toolkit, and the drivers of its SDK v3: each has variables of its own."""


def one_of(*allowed: str) -> Validator:
    """Return a validator that raises `InvalidPlanError` for anything but the `allowed` words."""

    def check(_launcher: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if value not in allowed:
            words = " or ".join(map(repr, allowed))
            raise InvalidPlanError(f"{attribute.name} must be {words}, not {value!r}")

    return check


def whole_number(at_least: int) -> Validator:
    """Return a validator that raises `InvalidPlanError` for anything but whole numbers that large."""

    def check(_launcher: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if type(value) is not int or value < at_least:
            raise InvalidPlanError(
                f"{attribute.name} must be a whole number of at least {at_least}, not {value!r}"
            )

    return check


def profile() -> Any:
    """Return the field of the option ``profile``, as `ProfiledLauncher` has it."""
    return attrs.field(default=PROFILES[0], validator=one_of(*PROFILES))
