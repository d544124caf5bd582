"""What downloads and uploads share: threads that end together, and how far they have come."""

import threading
from collections.abc import Callable, Iterable

import attrs

from modelyard.core.errors import StorageError
from modelyard.core.log import get_logger
from modelyard.plugins.storage.s3_places import Bucket

_WORTH_TELLING = 64 << 20
_MEMORY = 512 << 20
_MOST_PARTS = 10_000
_MIB = 1 << 20

_log = get_logger("modelyard.plugins.storage.s3")

Progress = Callable[[str, int, int], None]
"""Called with a URI, the bytes that have been transferred, and how many there are."""


@attrs.frozen
class Means:
    """How objects of a bucket are transferred."""

    bucket: Bucket
    part_size: int
    concurrency: int
    attempts: int
    stop: threading.Event = attrs.field(factory=threading.Event)

    def part_size_of(self, size: int) -> int:
        """Return the size of the parts of so large an object: more of them than 10,000 cannot be."""
        least = -(-size // _MOST_PARTS)
        return max(self.part_size, -(-least // _MIB) * _MIB)

    def run(self, calls: Iterable[Callable[[], object]], part_size: int = 0) -> None:
        """Call all of them, in threads, as many as parts of that size go into memory.

        Raises the first error, when the others have ended as well.
        """
        from concurrent.futures import ThreadPoolExecutor, as_completed

        workers = max(1, min(self.concurrency, _MEMORY // (part_size or self.part_size)))
        try:
            with ThreadPoolExecutor(workers, thread_name_prefix="modelyard-s3") as pool:
                try:
                    for future in as_completed([pool.submit(call) for call in calls]):
                        future.result()
                except BaseException:
                    self.stop.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        except Exception:
            # All have ended, and who knows what to do may try again. After a second Ctrl-C they have not.
            self.stop.clear()
            raise

    def go_on(self) -> None:
        """Raise `StorageError` where another thread's error, or Ctrl-C, has ended the transfer."""
        if self.stop.is_set():
            raise StorageError("the transfer was stopped")


class Meter:
    """Counts what has been transferred, from several threads, and tells at each tenth."""

    def __init__(self, uri: str, total: int, progress: Progress | None) -> None:
        self._uri = uri
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._progress = progress or _logged

    def add(self, size: int) -> None:
        """Count these bytes."""
        with self._lock:
            tenth = self._tenth()
            self._done += size
            if self._tenth() != tenth:
                self._progress(self._uri, self._done, self._total)

    def _tenth(self) -> int:
        return 10 * self._done // self._total if self._total else 0


def _logged(uri: str, done: int, total: int) -> None:
    if total >= _WORTH_TELLING:
        _log.info("transferring", uri=uri, mib=done // _MIB, of_mib=total // _MIB)
