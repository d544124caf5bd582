"""The option ``strict``: the quirks of SageMaker's own inference toolkit, for clients that rely on them."""

from typing import Any

import attrs

from modelyard.core.errors import InvalidPlanError

TOOLKIT = "2.0.25"
"""The version of ``sagemaker-pytorch-inference`` whose quirks are known."""


def strict_option() -> Any:
    """Return the field of a codec that can do what the toolkit does."""
    return attrs.field(default="", kw_only=True, validator=_known)


def _known(_codec: object, _field: object, version: object) -> None:
    if version not in ("", TOOLKIT):
        raise InvalidPlanError(f"strict is {TOOLKIT!r}, or empty for modelyard's own way; not {version!r}")
