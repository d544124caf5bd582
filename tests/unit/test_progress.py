"""What a person sees while something is waited for: in a pipe, and on a terminal."""

import io
import os
import pty
import re
import threading
import time

import pytest

from modelyard.progress import Progress

CLEAR = "\r\x1b[2K"


class Terminal:
    """A pseudo-terminal: ``stream`` is what a program writes to, ``text`` what has arrived."""

    def __init__(self, encoding="utf-8"):
        self._master, slave = pty.openpty()
        self.stream = open(slave, "w", encoding=encoding)  # noqa: PTH123, SIM115 - a descriptor, closed below
        self._received = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        try:
            while chunk := os.read(self._master, 4096):
                self._received += chunk
        except OSError:  # Linux's way to say that the other end is closed.
            pass

    @property
    def text(self):
        return self._received.decode("utf-8", "replace")

    def until(self, pattern, seconds=30.0):
        """Wait for what matches `pattern`."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"{pattern!r} is not in {self.text!r}"
            time.sleep(0.01)

    def close(self):
        """Return everything that was written."""
        self.stream.close()
        self._reader.join(30)
        os.close(self._master)
        return self.text


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal


# -- pipes, files, notebooks -------------------------------------------------------------------


def test_a_pipe_gets_plain_lines_and_nothing_else():
    stream = io.StringIO()
    with Progress("job InProgress", stream) as progress:
        progress.line("one")
        progress.line("two\r 50%")
        time.sleep(0.3)  # Long enough for a status, if there were one.
    assert stream.getvalue() == "one\ntwo\r 50%\n"


def test_lines_are_flushed_at_once():
    read, write = os.pipe()
    with open(write, "w", encoding="utf-8") as stream, Progress("status", stream) as progress:  # noqa: PTH123
        progress.line("one")
        assert os.read(read, 100) == b"one\n"
    os.close(read)


def test_stdout_is_the_default(capsys):
    with Progress("status") as progress:
        progress.line("one")
    assert capsys.readouterr() == ("one\n", "")


def test_a_stream_that_cannot_write_a_character_replaces_it():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with Progress("status", stream) as progress:
        progress.line("loss größer ⠋ 0.1")
    assert raw.getvalue() == b"loss gr??er ? 0.1\n"


def test_threads_do_not_mix_their_lines():
    stream = io.StringIO()
    with Progress("status", stream) as progress:
        threads = [
            threading.Thread(target=lambda c=c: [progress.line(c * 50) for _ in range(50)]) for c in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 200
    assert {len(set(line)) for line in lines} == {1}


# -- terminals ---------------------------------------------------------------------------------


def test_a_terminal_shows_the_status_and_the_time(terminal):
    shown = terminal()
    with Progress("job InProgress", shown.stream):
        shown.until(r"\S job InProgress \d+ s")
    shown.close()


def test_the_status_is_cleared_before_each_line(terminal):
    shown = terminal()
    with Progress("job InProgress", shown.stream) as progress:
        for line in ("one", "two", "three"):
            seen = len(re.findall("job InProgress", shown.text))
            shown.until(rf"(?s)(job InProgress.*){{{seen + 1}}}")
            progress.line(line)
    text = shown.close()
    for line in ("one", "two", "three"):
        assert f"{CLEAR}{line}\r\n" in text
    # Between two line ends there are only statuses, each of them cleared.
    for part in text.split("\r\n"):
        assert part.startswith(CLEAR)
        assert all(piece.count("job InProgress") <= 1 for piece in part.split(CLEAR))


def test_the_status_is_gone_at_the_end(terminal):
    shown = terminal()
    with Progress("job InProgress", shown.stream) as progress:
        shown.until("job InProgress")
        progress.line("done")
    text = shown.close()
    assert text.endswith(CLEAR)
    assert "job InProgress" not in text.rpartition(CLEAR)[2]


def test_the_status_is_gone_after_an_error(terminal):
    shown = terminal()

    def interrupted():
        with Progress("job InProgress", shown.stream):
            shown.until("job InProgress")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert shown.close().endswith(CLEAR)


def test_a_status_that_is_too_long_does_not_wrap(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    shown = terminal()
    with Progress("x" * 100, shown.stream):
        shown.until("xxx")
        shown.until(r"\x1b\[2K\S x+\r")
    longest = max(len(piece) for piece in shown.close().split(CLEAR))
    assert longest == 19


def test_a_terminal_without_unicode_gets_a_status_too(terminal):
    shown = terminal(encoding="ascii")
    with Progress("job InProgress", shown.stream) as progress:
        shown.until(r"\? job InProgress \d+ s")
        progress.line("größer")
    assert "gr??er\r\n" in shown.close()


def test_nothing_goes_on_after_the_end(terminal):
    shown = terminal()
    with Progress("job InProgress", shown.stream):
        shown.until("job InProgress")
    time.sleep(0.3)  # Long enough for another status, if there were one.
    assert shown.close().endswith(CLEAR)
