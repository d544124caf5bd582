"""A job's or an endpoint's description, for people and for programs."""

import json
import math
import time
from collections.abc import Sequence
from datetime import datetime

from modelyard.cli.chart import draw
from modelyard.cli.terminal import Terminal
from modelyard.cli.times import duration, moment
from modelyard.core.contracts import EndpointDescription, JobDescription, Metric
from modelyard.core.plans import EndpointStatus, JobStatus
from modelyard.core.values import thaw

Description = JobDescription | EndpointDescription

_COLOURS: dict[str, str | None] = {
    JobStatus.COMPLETED: "green",
    JobStatus.FAILED: "red",
    EndpointStatus.IN_SERVICE: "green",
    EndpointStatus.DELETED: None,
}


def as_json(description: Description, metrics: Sequence[Metric] | None = None) -> str:
    """Return a description as JSON, with ``metrics`` where they are given."""
    return json.dumps(as_dict(description, metrics), indent=2)


def as_dict(description: Description, metrics: Sequence[Metric] | None = None) -> dict[str, object]:
    """Return a description as what JSON knows, without secrets. Times: seconds since 1970 (UTC).

    The value of a metric that is no number (``nan``) is None: JSON has no word for it.
    """
    shown: dict[str, object] = thaw(description) | {"plan": thaw(description.plan.redacted())}
    if metrics is not None:
        shown["metrics"] = [
            thaw(metric) | {"value": metric.value if math.isfinite(metric.value) else None}
            for metric in metrics
        ]
    return shown


def colour_of(status: str) -> str | None:
    """Return the colour that a state is shown in, None for that of all text."""
    return _COLOURS.get(status, "yellow")


def seconds_of(description: Description) -> float | None:
    """Return how long a job or an endpoint was there, until now or its end; None where nobody tells."""
    if description.created is None or (description.status.is_terminal and description.ended is None):
        return None
    return max(0.0, (description.ended or time.time()) - description.created)


def for_people(
    description: JobDescription, metrics: Sequence[Metric], terminal: Terminal, now: datetime
) -> str:
    """Return all that there is to say about a job: how it stands, its plan and its metrics."""
    status = terminal.paint(description.status, colour_of(description.status))
    facts = {
        "started": moment(description.created, now),
        "ended": moment(description.ended, now),
        "duration": duration(seconds_of(description)),
        "reason": description.reason.rstrip(),
        "log": description.log,
        "model": description.model_data or "",
        "source archive": description.source_data or "",
    }
    lines = [f"training job {description.name}: {status}"]
    lines += [_fact(label, text) for label, text in facts.items() if text]
    by_name: dict[str, list[Metric]] = {}
    for metric in metrics:
        by_name.setdefault(metric.name, []).append(metric)
    charts = ["\n".join(draw(values, terminal, description.created)) for values in by_name.values()]
    return "\n\n".join(("\n".join(lines), str(description.plan), *charts))


def endpoint_for_people(description: EndpointDescription, terminal: Terminal, now: datetime) -> str:
    """Return all that there is to say about an endpoint: how it stands, where it is, and its plan."""
    status = terminal.paint(description.status, colour_of(description.status))
    live = not description.status.is_terminal
    facts = {
        "url": description.url if live else "",
        "try it at": f"{description.url}/docs" if live and description.url else "",
        "started": moment(description.created, now),
        "ended": moment(description.ended, now),
        "duration": duration(seconds_of(description)),
        "reason": description.reason.rstrip(),
        "log": description.log,
    }
    lines = [f"endpoint {description.name}: {status}"]
    lines += [_fact(label, text) for label, text in facts.items() if text]
    return "\n\n".join(("\n".join(lines), str(description.plan)))


def _fact(label: str, text: str) -> str:
    """Return a line as those of a plan; the lines of a longer text below each other."""
    return "\n".join(f"  {'' if i else label:<18}{line}".rstrip() for i, line in enumerate(text.splitlines()))
