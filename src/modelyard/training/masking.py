"""A job's secrets: what is masked in its log, and in what modelyard itself says of it."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from modelyard.core import redaction
from modelyard.core.errors import InvalidPlanError
from modelyard.core.layout import JobLayout
from modelyard.training import environment
from modelyard.training.lines import Mask


def secrets_of(layout: JobLayout, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets among a job's variables, hyperparameters and channels, as they may be spelt.

    A file that cannot be read has none.
    """
    return secrets_in(environ, *_told(layout))


def secrets_in(*values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the secrets among the values, as they may be spelt."""
    found = {secret for told in values for secret in redaction.secrets(told)}
    return tuple({text for secret in found for text in _spellings(secret) if _is_printable(text)})


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return the text without the secrets, and without the logins of URLs."""
    block = Mask(secrets)(text.encode("utf-8", "replace"))
    return redaction.without_login(block.decode("utf-8", "replace"))


def _told(layout: JobLayout) -> Iterator[Mapping[str, Any]]:
    for read in (environment.hyperparameters, environment.channels):
        with contextlib.suppress(InvalidPlanError, OSError):
            yield read(layout)


def _spellings(secret: str) -> Iterator[str]:
    """Yield the secret as it is, and as it is inside of JSON and of Python's ``repr``."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]


def _is_printable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
