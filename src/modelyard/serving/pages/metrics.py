"""What a server counts, for Prometheus: ``GET /metrics``, the sum over all workers.

Several processes share one folder: each writes files of its own there, and whichever is asked reads
them all (`prometheus_client`'s multi-process mode, which its environment variable turns on before it is
imported: hence `prepare`). Without a folder the numbers are those of this process alone.
"""

import contextlib
import fcntl
import os
import struct
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.core.errors import InvalidPlanError
from modelyard.core.log import get_logger
from modelyard.core.media_types import negotiate

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Histogram

FOLDER = "PROMETHEUS_MULTIPROC_DIR"

_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0
)  # fmt: skip
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
_RETIRED = "retired"
_OPEN_METRICS = "application/openmetrics-text"

_log = get_logger(__name__)


# -- the folder --------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Make `folder` the one that this process and its children share, and empty it.

    To be called once, by the parent, before anything imports `prometheus_client`. Raises
    `InvalidPlanError` where that has happened already, and `OSError`.
    """
    if "prometheus_client" in sys.modules:
        raise InvalidPlanError(
            "prometheus_client is imported already: it cannot count for several processes any more"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.db"):
        old.unlink(missing_ok=True)
    os.environ[FOLDER] = str(folder)


def forget(pid: int) -> None:
    """Take a process that has ended out of the sums of what is, and keep what it counted.

    To be called by the parent once it has waited for the process. Its counts become part of those of
    all that ended, so that restarts leave no files behind; its gauges are gone.
    """
    folder = _shared_folder()
    if folder is None:
        return
    with _locked(folder, fcntl.LOCK_EX):
        for path in folder.glob(f"*_{pid}.db"):
            kind = path.name.partition("_")[0]
            if kind != "gauge":
                _keep(path, folder / f"{kind}_{_RETIRED}.db")
            path.unlink(missing_ok=True)


def _keep(path: Path, retired: Path) -> None:
    from prometheus_client import mmap_dict

    files: Any = mmap_dict.MmapedDict  # untyped
    try:
        counted = list(files.read_all_values_from_file(str(path)))
    except (OSError, RuntimeError, ValueError, struct.error):  # it may have ended in the middle of a write
        _log.warning("the counts of a worker that ended are lost", file=path.name, exc_info=True)
        return
    kept = files(str(retired))
    try:
        for key, value, *_ in counted:
            kept.write_value(key, kept.read_value(key)[0] + value, 0.0)
    finally:
        kept.close()


def _shared_folder() -> Path | None:
    folder = os.environ.get(FOLDER)
    return Path(folder) if folder else None


@contextlib.contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Hold the folder: who reads it must not count what is being moved twice, or not at all."""
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, how)
        yield


# -- what the server itself counts -------------------------------------------------------------


class Metrics:
    """The numbers of one worker.

    A request costs one append: what was seen goes to Prometheus all at once, in `flush`. For the thread
    of the event loop; `batch` for that of the model too. Made in the worker, not before the fork.
    ``registry``: for more metrics of the same worker.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry

        self.registry = CollectorRegistry()
        self._prometheus = _Prometheus(self.registry)
        self._requests: list[tuple[int, float]] = []
        self._batches: list[int] = []
        self._state: tuple[bool, int] | None = None

    def observe(self, status: int, seconds: float) -> None:
        """Note a request that was answered; `seconds`: from its last byte to its answer."""
        self._requests.append((status, seconds))

    def batch(self, size: int) -> None:
        """Note that the model was given `size` requests at once."""
        self._batches.append(size)

    def loaded(self, seconds: float) -> None:
        """Note how long the model took to load."""
        self._prometheus.load_seconds.set(seconds)

    def state(self, *, ready: bool, queued: int) -> None:
        """Say how this worker is: ready to answer, and with so many requests to answer."""
        if self._state != (ready, queued):
            self._state = (ready, queued)
            self._prometheus.ready.set(ready)
            self._prometheus.queued.set(queued)

    def flush(self) -> None:
        """Hand what was seen since the last time to Prometheus."""
        requests, self._requests = self._requests, []
        batches = tuple(self._batches)
        del self._batches[: len(batches)]  # what the model's thread appends meanwhile is behind them
        if requests:
            statuses, seconds = zip(*requests, strict=True)
            for status, number in Counter(statuses).items():
                self._prometheus.requests.labels(status).inc(number)
            _observe_all(self._prometheus.seconds, seconds)
        if batches:
            _observe_all(self._prometheus.sizes, batches)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics of all workers and their Content-Type, as the Accept header wants them."""
        self.flush()
        return render(accept, self.registry)


class _Prometheus:
    """The metrics as Prometheus has them."""

    def __init__(self, registry: "CollectorRegistry") -> None:
        from prometheus_client import Counter, Gauge, Histogram

        made: Any = {"registry": registry}
        live: Any = {"multiprocess_mode": "livesum", **made}
        slowest: Any = {"multiprocess_mode": "livemax", **made}
        self.requests = Counter("modelyard_requests_total", "Requests by status", ["status"], **made)
        self.seconds = Histogram(
            "modelyard_request_seconds", "From a request to its answer", buckets=_SECONDS, **made
        )
        self.sizes = Histogram(
            "modelyard_batch_size", "Requests per call of the model", buckets=_SIZES, **made
        )
        self.queued = Gauge("modelyard_queue_length", "Requests that a model has or that wait for it", **live)
        self.ready = Gauge("modelyard_workers_ready", "Workers whose model is loaded", **live)
        self.load_seconds = Gauge("modelyard_model_load_seconds", "The slowest worker's load", **slowest)


def _observe_all(histogram: "Histogram", values: Iterable[float]) -> None:
    """Observe many values at once: as `Histogram.observe` does, yet one addition for each bucket."""
    values = tuple(values)
    places = Counter(map(partial(bisect_left, histogram._upper_bounds), values))  # noqa: SLF001 - see above
    for place, number in places.items():
        histogram._buckets[place].inc(number)  # noqa: SLF001
    histogram._sum.inc(sum(values))  # noqa: SLF001


# -- what Prometheus reads ---------------------------------------------------------------------


def render(accept: str = "", registry: "CollectorRegistry | None" = None) -> tuple[bytes, str]:
    """Return the text of all metrics in the folder and its Content-Type.

    `accept`: for Prometheus's own text or OpenMetrics; `registry`: what is shown where there is no
    folder. Takes some milliseconds per worker.
    """
    from prometheus_client import REGISTRY, CollectorRegistry

    encode, content_type = _encoder(accept)
    folder = _shared_folder()
    if folder is None:
        return encode(registry or REGISTRY), content_type
    shared = CollectorRegistry()
    shared.register(_Collector(folder))
    with _locked(folder, fcntl.LOCK_SH):
        return encode(shared), content_type


class _Collector:
    """Sums over the files of a folder, without those that a worker has made and not yet filled.

    Prometheus's own collector fails at such a file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Any:
        """Return the sums over all files."""
        from prometheus_client import multiprocess

        collector: Any = multiprocess.MultiProcessCollector  # untyped
        return collector.merge([str(path) for path in self._folder.glob("*.db") if path.stat().st_size])


def _encoder(accept: str) -> tuple[Any, str]:
    """Return what writes the format that the client wants most; text where it wants neither."""
    from prometheus_client.exposition import choose_encoder

    # In words of ours: the library raises for a version that is none, and repeats it in the answer.
    wanted = negotiate(accept, ("text/plain", _OPEN_METRICS))
    return choose_encoder(f"{_OPEN_METRICS}; version=1.0.0" if wanted == _OPEN_METRICS else "")
