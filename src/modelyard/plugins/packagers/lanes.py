"""Work on one chunk beside the making of the next."""

from collections.abc import Callable
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Self

_CHUNK = 1 << 20
_AHEAD = 2


class Chunks:
    """Hands what is written to several functions, in chunks, each function in a thread of its own.

    The bounds of the chunks depend on what is written alone. Little data needs no threads. What a
    function raises is raised by a later `write` or by `close`.
    """

    def __init__(self, *functions: Callable[[bytes], object]) -> None:
        self._functions = functions
        self._parts: list[bytes] = []
        self._size = 0
        self._lanes: list[_Lane] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lane in self._lanes:
            lane.end()

    def write(self, data: bytes) -> None:
        """Note `data`, which must not be changed any more."""
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _CHUNK:
            self._lanes = self._lanes or [_Lane(function) for function in self._functions]
            chunk = self._chunk()
            for lane in self._lanes:
                lane.put(chunk)

    def close(self) -> None:
        """Have the rest worked on as well; returns once everything is done."""
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            lane.end()
        for lane in lanes:
            lane.check()
        chunk = self._chunk()
        for function in self._functions:
            function(chunk)

    def _chunk(self) -> bytes:
        chunk = b"".join(self._parts)
        self._parts, self._size = [], 0
        return chunk


class _Lane:
    """One function and its thread."""

    def __init__(self, function: Callable[[bytes], object]) -> None:
        self._function = function
        self._chunks: Queue[bytes | None] = Queue(_AHEAD)
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, chunk: bytes) -> None:
        self.check()
        self._chunks.put(chunk)

    def end(self) -> None:
        self._chunks.put(None)
        self._thread.join()

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            if self._error is None:
                try:
                    self._function(chunk)
                except Exception as error:  # noqa: BLE001 - raised again by `check`
                    self._error = error
