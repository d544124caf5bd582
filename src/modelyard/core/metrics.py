"""Metrics as they are kept: one JSON object a line, in the order in which the log showed them."""

import json
from collections.abc import Iterator
from pathlib import Path

import attrs

from modelyard.core.contracts import Metric


def line(metric: Metric) -> str:
    """Return a metric as the line that `read` reads."""
    return json.dumps(attrs.asdict(metric)) + "\n"


def read(path: Path) -> tuple[Metric, ...]:
    """Return the metrics of a file; none where there is no file. A line that is torn is left out."""
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ()
    return tuple(_metrics(text))


def _metrics(text: str) -> Iterator[Metric]:
    for entry in text.splitlines():
        try:
            yield Metric(**json.loads(entry))
        except (ValueError, TypeError):  # A disk that was full, or a program that was killed.
            continue
