"""What the options of hardware have in common."""

from typing import Any

import attrs

from modelyard.core.errors import InvalidPlanError


def switch() -> Any:
    """Return the field of an option that is on or off, and off where nothing is said."""
    return attrs.field(default=False, validator=_is_bool)


def _is_bool(_hardware: object, attribute: "attrs.Attribute[bool]", value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidPlanError(f"{attribute.name} is True or False, not {value!r}")
