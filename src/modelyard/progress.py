"""What a person sees while a job or an endpoint is waited for.

On a terminal: the log's lines above one status line that is drawn again and again. In a pipe, a
file or a notebook: plain lines.
"""

import shutil
import sys
import threading
import time
from typing import Self, TextIO

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_CLEAR = "\r\x1b[2K"


class Progress:
    """Lines and, on a terminal, a status with the time that has passed; used as a context manager."""

    def __init__(self, status: str, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._status = status
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._live = self._stream.isatty()

    def __enter__(self) -> Self:
        if self._live:
            threading.Thread(target=self._animate, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        with self._lock:
            self._write(_CLEAR if self._live else "")

    def line(self, text: str) -> None:
        """Print one line above the status."""
        with self._lock:
            self._write(f"{_CLEAR if self._live else ''}{text}\n")

    def _animate(self) -> None:
        frame = 0
        while not self._ended.wait(0.1):
            with self._lock:
                if self._ended.is_set():
                    return
                seconds = int(time.monotonic() - self._started)
                text = f"{_FRAMES[frame % len(_FRAMES)]} {self._status} {seconds} s"
                self._write(_CLEAR + text[: shutil.get_terminal_size().columns - 1])
            frame += 1

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:  # A log may hold what this terminal's encoding does not.
            self._stream.write(text.encode(error.encoding, "replace").decode(error.encoding))
        self._stream.flush()
