"""Metrics as they are kept: one JSON object a line, in the order in which the log showed them."""

import json
from collections.abc import Iterator
from pathlib import Path

from modelyard.core.contracts import Metric


def read(path: Path) -> tuple[Metric, ...]:
    """Return the metrics of a file, the oldest first; none where there is no file.

    What is not a metric is left out: the last line of a host that was killed may be torn.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    return tuple(_metrics(content))


def _metrics(content: bytes) -> Iterator[Metric]:
    for entry in content.splitlines():
        try:
            value = json.loads(entry)
            yield Metric(str(value["name"]), float(value["value"]), float(value["time"]), str(value["host"]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            continue
