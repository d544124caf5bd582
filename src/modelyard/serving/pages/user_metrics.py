"""The inference script's own metrics: ``context.metrics``, with the methods of TorchServe's.

They are found under ``GET /metrics`` as ``modelyard_user_<name>``, times in seconds and sizes in bytes.
A metric is no reason for a request to fail: what makes no sense is logged, once, and left out.
"""

import functools
import math
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import attrs

from modelyard.core.log import get_logger

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PREFIX = "modelyard_user_"
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

_UNITS = {
    # unit as TorchServe has it, in lower case: name and size of the unit as Prometheus has it
    "s": ("seconds", 1.0),
    "ms": ("seconds", 1e-3),
    "us": ("seconds", 1e-6),
    "b": ("bytes", 1.0),
    "kb": ("bytes", 1024.0),
    "mb": ("bytes", 1024.0**2),
    "gb": ("bytes", 1024.0**3),
    "percent": ("percent", 1.0),
}
_NO_UNIT = ("", "count", "unit")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]+")
_TAKEN = ("le", "pid", "quantile")
_MAX_SERIES = 1000
_MAX_COMPLAINTS = 100
_MAX_TEXT = 120

_log = get_logger(__name__)
_P = ParamSpec("_P")


class _RefusedError(Exception):
    """Nothing is recorded, for the reason given."""


def _never_raising(
    method: Callable[Concatenate["UserMetrics", _P], None],
) -> Callable[Concatenate["UserMetrics", _P], None]:
    @functools.wraps(method)
    def record(self: "UserMetrics", /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever a script passes, its request goes on
            self._complain(method.__name__, args, kwargs, error)

    return record


@attrs.frozen
class UserMetric:
    """One metric with the names of its dimensions, as `UserMetrics.add_metric_to_cache` gives it."""

    metrics: "UserMetrics"
    metric_name: str
    unit: str
    dimension_names: tuple[str, ...]
    metric_type: object

    def add_or_update(self, value: Any, dimension_values: Iterable[Any] = (), request_id: str = "") -> None:
        """Record a value, with the value of each dimension."""
        dimensions = list(zip(self.dimension_names, dimension_values, strict=False))
        self.metrics.add_metric(
            self.metric_name, value, self.unit, dimensions=dimensions, metric_type=self.metric_type
        )

    def update(self, value: Any, request_id: str = "", dimensions: Iterable[Any] = ()) -> None:
        """Record a value, with dimensions."""
        self.metrics.add_metric(
            self.metric_name, value, self.unit, dimensions=dimensions, metric_type=self.metric_type
        )


class UserMetrics:
    """Records what an inference script measures, in the metrics of its worker.

    `registry`: the worker's. ``idx``, the place in a batch, says nothing here: a metric is the
    worker's. Dimensions are TorchServe's (``name`` and ``value``), pairs, a mapping, or texts
    ``name:value``; those of a metric's first use are its labels. No method raises.
    """

    def __init__(self, registry: "CollectorRegistry") -> None:
        self._registry = registry
        self._metrics: dict[str, tuple[str, tuple[str, ...], Any]] = {}
        self._series: set[tuple[str, tuple[str, ...]]] = set()
        self._cached: dict[tuple[str, str], UserMetric] = {}
        self._complaints: set[str] = set()

    @_never_raising
    def add_counter(self, name: str, value: Any, idx: int | None = None, dimensions: Any = None) -> None:
        """Add to a counter."""
        self._record(COUNTER, name, value, "count", dimensions)

    @_never_raising
    def add_time(
        self,
        name: str,
        value: Any,
        idx: int | None = None,
        unit: str = "ms",
        dimensions: Any = None,
        metric_type: object = HISTOGRAM,
    ) -> None:
        """Observe a time; `unit`: ms or s."""
        self._record(metric_type, name, value, unit, dimensions)

    @_never_raising
    def add_size(
        self,
        name: str,
        value: Any,
        idx: int | None = None,
        unit: str = "MB",
        dimensions: Any = None,
        metric_type: object = GAUGE,
    ) -> None:
        """Say how large something is; `unit`: B, kB, MB or GB, each 1024 of the one before."""
        self._record(metric_type, name, value, unit, dimensions)

    @_never_raising
    def add_percent(
        self,
        name: str,
        value: Any,
        idx: int | None = None,
        dimensions: Any = None,
        metric_type: object = GAUGE,
    ) -> None:
        """Say what part something is, in percent."""
        self._record(metric_type, name, value, "percent", dimensions)

    @_never_raising
    def add_error(self, name: str, value: Any, dimensions: Any = None) -> None:
        """Count an error of this name; its text goes to the log."""
        self._record(COUNTER, f"{name}_errors", 1, "count", dimensions)
        _log.error("the inference script reports an error", name=_short(name), error=_short(value))

    @_never_raising
    def add_metric(
        self,
        name: str,
        value: Any,
        unit: Any = None,
        idx: int | None = None,
        dimensions: Any = None,
        metric_type: object = COUNTER,
    ) -> None:
        """Record a value of any unit; `metric_type`: counter, gauge or histogram."""
        self._record(metric_type, name, value, unit, dimensions)

    def add_metric_to_cache(
        self,
        metric_name: str,
        unit: str = "",
        dimension_names: Iterable[str] = (),
        metric_type: object = COUNTER,
    ) -> UserMetric:
        """Return a metric to keep and to add to."""
        metric = UserMetric(self, metric_name, unit, tuple(dimension_names), metric_type)
        if len(self._cached) < _MAX_SERIES:
            self._cached[str(metric_name), _said_kind(metric_type)] = metric
        return metric

    def get_metric(self, metric_name: str, metric_type: object = COUNTER) -> UserMetric:
        """Return a metric that was added to the cache, or one without dimensions."""
        found = self._cached.get((str(metric_name), _said_kind(metric_type)))
        return found or self.add_metric_to_cache(metric_name, metric_type=metric_type)

    # -- recording -----------------------------------------------------------------------------

    def _record(self, metric_type: object, name: str, value: Any, unit: Any, dimensions: Any) -> None:
        kind, number = _kind(metric_type), float(value)
        if not math.isfinite(number):
            raise _RefusedError("it is not a finite number")
        word, factor = _unit(unit)
        labels = dict(_pair(dimension) for dimension in _listed(dimensions))
        metric = self._metric(kind, _full_name(name, word), labels)
        if kind == COUNTER:
            metric.inc(number * factor)
        elif kind == GAUGE:
            metric.set(number * factor)
        else:
            metric.observe(number * factor)

    def _metric(self, kind: str, name: str, labels: dict[str, str]) -> Any:
        """Return the series of these labels. Raises `_RefusedError` where that would be one too many."""
        names = self._metrics[name][1] if name in self._metrics else tuple(labels)
        if unknown := labels.keys() - set(names):
            raise _RefusedError(
                f"the first use of {name} had the dimensions {list(names)}, not {sorted(unknown)}"
            )
        values = tuple(labels.get(label, "") for label in names)
        if (name, values) not in self._series and len(self._series) >= _MAX_SERIES:
            raise _RefusedError(f"there are {_MAX_SERIES} series already")
        if name not in self._metrics:
            self._metrics[name] = (kind, names, self._made(kind, name, names))
        known, _, metric = self._metrics[name]
        if known != kind:
            raise _RefusedError(f"{name} is a {known}, not a {kind}")
        self._series.add((name, values))
        return metric.labels(*values) if names else metric

    def _made(self, kind: str, name: str, labels: tuple[str, ...]) -> Any:
        from prometheus_client import Counter, Gauge, Histogram

        said = f"The inference script's {kind}"
        if kind == COUNTER:
            return Counter(name, said, labels, registry=self._registry)
        if kind == HISTOGRAM:
            return Histogram(name, said, labels, registry=self._registry)
        # Of several workers the one that spoke last: a sum of percentages would say nothing.
        return Gauge(name, said, labels, registry=self._registry, multiprocess_mode="livemostrecent")

    def _complain(self, method: str, args: Any, kwargs: Any, error: Exception) -> None:
        """Log what could not be recorded, once for each metric."""
        name = _short(args[0] if args else kwargs.get("name", ""))
        if name in self._complaints or len(self._complaints) >= _MAX_COMPLAINTS:
            return
        self._complaints.add(name)
        _log.warning(
            "a metric of the inference script is left out, now and from now on without a word",
            metric=name,
            method=method,
            reason=_short(error) or type(error).__name__,
        )


def _said_kind(metric_type: object) -> str:
    """Return what a text or a member of TorchServe's enumeration says."""
    return str(getattr(metric_type, "value", metric_type)).lower()


def _kind(metric_type: object) -> str:
    kind = _said_kind(metric_type)
    if kind not in {COUNTER, GAUGE, HISTOGRAM}:
        raise _RefusedError("a metric is a counter, a gauge or a histogram")
    return kind


def _unit(unit: Any) -> tuple[str, float]:
    """Return the unit's name and size in Prometheus; a unit that is not known stays as it is."""
    text = str(unit or "").strip().lower()
    return ("", 1.0) if text in _NO_UNIT else _UNITS.get(text, (_word(text), 1.0))


def _word(text: object) -> str:
    return _NOT_IN_NAMES.sub("_", str(text)[:_MAX_TEXT]).strip("_")


def _full_name(name: object, unit: str) -> str:
    word = _word(name)
    if not word:
        raise _RefusedError("it has no name")
    word = word.removesuffix("_total")
    return PREFIX + (word if not unit or word.endswith(unit) else f"{word}_{unit}")


def _listed(dimensions: Any) -> Iterable[Any]:
    if dimensions is None:
        return ()
    listed: Iterable[Any] = dimensions.items() if hasattr(dimensions, "items") else dimensions
    return listed


def _pair(dimension: Any) -> tuple[str, str]:
    if isinstance(dimension, str):
        name, _, value = dimension.partition(":")
    elif isinstance(dimension, (tuple, list)):
        name, value = dimension
    else:
        name, value = dimension.name, dimension.value
    label = _word(name)
    if not label or label[0].isdigit() or label in _TAKEN:
        label = f"dimension_{label}"
    return label, str(value)[:_MAX_TEXT]


def _short(text: object) -> str:
    try:
        return str(text)[:_MAX_TEXT]
    except Exception:  # noqa: BLE001 - the script's own class
        return type(text).__name__
