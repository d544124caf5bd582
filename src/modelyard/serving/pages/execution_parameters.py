"""What batch transform asks an endpoint: ``GET /execution-parameters``."""

import os
from collections.abc import Mapping

from modelyard.core.errors import InvalidPlanError
from modelyard.serving.settings import ServerSettings

_MIB = 1024 * 1024
_STRATEGIES = ("MULTI_RECORD", "SINGLE_RECORD")
# SageMaker's default for a payload, and its bound on all payloads that are under way at once.
_USUAL_MB = 6
_ALL_MB = 100


def execution_parameters(
    settings: ServerSettings, workers: int, environ: Mapping[str, str] = os.environ
) -> dict[str, int | str]:
    """Return ``MaxConcurrentTransforms``, ``BatchStrategy`` and ``MaxPayloadInMB``.

    Where ``SAGEMAKER_MAX_CONCURRENT_TRANSFORMS`` does not say, as many requests at once as fill a batch
    of each worker; a payload of 6 MB where ``SAGEMAKER_MAX_PAYLOAD_IN_MB`` does not say, never more than
    the server takes nor than SageMaker allows. Raises `InvalidPlanError` by the variable's name.
    """
    transforms = _count("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", environ) or workers * settings.batch_size
    transforms = min(transforms, _ALL_MB)
    asked = _count("SAGEMAKER_MAX_PAYLOAD_IN_MB", environ) or _USUAL_MB
    payload = min(asked, settings.limits.max_body // _MIB, _ALL_MB // transforms)
    return {
        "MaxConcurrentTransforms": transforms,
        "BatchStrategy": _strategy(environ),
        "MaxPayloadInMB": max(1, payload),  # 0 would say that there is no limit
    }


def _count(variable: str, environ: Mapping[str, str]) -> int:
    """Return the number that a variable holds, 0 for none."""
    text = environ.get(variable, "").strip()
    if not text.isascii() or not (text or "0").isdecimal():
        raise InvalidPlanError(f"{variable} must be a whole number, not {text!r}")
    return int(text or "0")


def _strategy(environ: Mapping[str, str]) -> str:
    text = environ.get("SAGEMAKER_BATCH_STRATEGY", "").strip()
    if text and text.upper() not in _STRATEGIES:
        raise InvalidPlanError(f"SAGEMAKER_BATCH_STRATEGY must be {' or '.join(_STRATEGIES)}, not {text!r}")
    return text.upper() or _STRATEGIES[0]
