"""Objects into a folder: in parallel, each whole or not at all, and going on where it broke off.

The parts of an object are read by ranges, all of them of the same version of it, into a file of a hidden
folder beside the targets; a second file there says which parts have come. So a download that has failed
goes on from there when it is asked for again, which s3transfer's downloads do not.
"""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from modelyard.core.errors import StorageError
from modelyard.plugins._aws import code_of
from modelyard.plugins.storage.s3_content import Content
from modelyard.plugins.storage.s3_places import MISSING, S3Object
from modelyard.plugins.storage.s3_transfer import Means, Meter

PARTIAL = ".modelyard-partial"
"""The folder, in the target folder, of what has come in part; gone when all is there."""

_OTHER_VERSION = MISSING | {"PreconditionFailed", "412"}
_JOURNAL = ".parts"
_CHUNK = 1 << 20
_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


@attrs.frozen
class Downloads:
    """Downloads of a bucket's objects into the folder ``into``."""

    means: Means
    into: Path
    meter: Meter

    def run(self, wanted: Sequence[tuple[S3Object, Path]]) -> None:
        """Bring each object to its path. What has come whole before is not brought again."""
        if taken := [item.key for item, target in wanted if target.is_relative_to(self._partial)]:
            raise StorageError(f"{taken[0]!r} cannot be downloaded: {PARTIAL!r} is where parts of files go")
        self._check_space(wanted)
        self._partial.mkdir(exist_ok=True)
        try:
            self._bring_all(wanted)
        except BaseException:
            if not any(self._partial.glob(f"*{_JOURNAL}")):
                shutil.rmtree(self._partial)
            raise
        shutil.rmtree(self._partial)

    def _bring_all(self, wanted: Sequence[tuple[S3Object, Path]]) -> None:
        for folder in {target.parent for _, target in wanted}:
            folder.mkdir(parents=True, exist_ok=True)
        small = [pair for pair in wanted if pair[0].size <= self.means.part_size]
        self.means.run(partial(self._bring, *pair) for pair in small)
        for item, target in wanted:
            if item.size > self.means.part_size:
                self._bring_in_parts(item, target)

    @property
    def _partial(self) -> Path:
        return self.into / PARTIAL

    def _check_space(self, wanted: Sequence[tuple[S3Object, Path]]) -> None:
        """Refuse, before anything is written, what does not go onto the disk."""
        there = sum(path.stat().st_blocks * 512 for path in self._partial.glob("*"))
        there += sum(item.size for item, target in wanted if target.is_file())
        needed = sum(item.size for item, _ in wanted) - there
        free = shutil.disk_usage(self.into).free
        if needed > free:
            raise StorageError(
                f"there are {needed:,} bytes to download and {free:,} free in '{self.into}'; free some "
                "space, or download elsewhere"
            )

    # -- whole objects -------------------------------------------------------------------------

    def _bring(self, item: S3Object, target: Path) -> None:
        self.means.go_on()
        if _has_come(target, Content.of(self.means.bucket, item.key, {"ETag": item.etag}, item.size)):
            self.meter.add(item.size)
            return
        part = self._partial / _name(item, 0)
        answer = {"ETag": item.etag}
        with part.open("wb") as file:
            if item.size:
                answer = self._read(item, file.fileno(), 0, item.size)
        self._check(item, part, Content.of(self.means.bucket, item.key, answer, item.size))
        part.replace(target)

    # -- parts ---------------------------------------------------------------------------------

    def _bring_in_parts(self, item: S3Object, target: Path) -> None:
        with _this_version(item):
            head = self.means.bucket.call(
                "head_object", Key=item.key, IfMatch=item.etag, ChecksumMode="ENABLED"
            )
        content = Content.of(self.means.bucket, item.key, head)
        if _has_come(target, content):
            self.meter.add(item.size)
            return
        size = self.means.part_size_of(item.size)
        part = self._partial / _name(item, size)
        journal = Journal.of(part)
        spans = range(0, item.size, size)
        self.meter.add(sum(min(size, item.size - start) for start in journal.done))
        with part.open("r+b" if part.exists() else "w+b") as file:
            self.means.run(
                partial(
                    self._read_part, item, file.fileno(), range(start, min(start + size, item.size)), journal
                )
                for start in spans
                if start not in journal.done
            )
        journal.path.unlink(missing_ok=True)
        self._check(item, part, content)
        part.replace(target)

    def _read_part(self, item: S3Object, file: int, span: range, journal: "Journal") -> None:
        self._read(item, file, span.start, span.stop)
        journal.add(span.start)

    # -- bytes ---------------------------------------------------------------------------------

    def _read(self, item: S3Object, file: int, start: int, end: int) -> dict[str, Any]:
        """Write the object's bytes from `start` to `end` to their place; return the service's first answer.

        An answer that breaks off is asked for again, from where it broke off.
        """
        done, failures = start, 0
        first: dict[str, Any] = {}
        while True:
            whole = done == 0 and end == item.size
            asked = {} if whole else {"Range": f"bytes={done}-{end - 1}"}
            answer = self._get(item, end - done, asked)
            first = first or answer
            try:
                for chunk in self._chunks(answer["Body"]):
                    _write(file, chunk, done)
                    self.meter.add(len(chunk))
                    done, failures = done + len(chunk), 0
                if done == end:
                    return first
                raise BrokenBodyError("the answer is too short")  # noqa: TRY301 - as if the reading had said so
            except BrokenBodyError as error:
                failures += 1
                if failures >= self.means.attempts:
                    raise StorageError(f"{item.key!r} breaks off again and again: {error}") from error
                if error.is_damaged:
                    self.meter.add(start - done)
                    done = start
                time.sleep(min(_PAUSE * 2**failures, _LONGEST_PAUSE))

    def _get(self, item: S3Object, size: int, asked: dict[str, str]) -> dict[str, Any]:
        self.means.go_on()
        with _this_version(item):
            answer: dict[str, Any] = self.means.bucket.call(
                "get_object", Key=item.key, IfMatch=item.etag, ChecksumMode="ENABLED", **asked
            )
        if answer["ContentLength"] != size:
            answer["Body"].close()
            raise StorageError(
                f"the service sends {answer['ContentLength']} bytes of {item.key!r}, not {size}"
            )
        return answer

    def _chunks(self, body: Any) -> Any:
        """Yield an answer's bytes. Raises `BrokenBodyError` where they do not come, or come damaged."""
        from botocore.exceptions import (
            FlexibleChecksumError,
            IncompleteReadError,
            ReadTimeoutError,
            ResponseStreamingError,
        )

        with closing(body):
            while True:
                self.means.go_on()
                try:
                    chunk = body.read(_CHUNK)
                except FlexibleChecksumError as error:
                    raise BrokenBodyError(str(error), is_damaged=True) from error
                except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError) as error:
                    raise BrokenBodyError(str(error)) from error
                if not chunk:
                    return
                yield chunk

    def _check(self, item: S3Object, part: Path, content: Content) -> None:
        """Refuse what has come damaged."""
        if content.is_in(part) is False:
            part.unlink()
            raise StorageError(
                f"{item.key!r} came damaged: its checksum is not the service's; download it again"
            )


class BrokenBodyError(Exception):
    """An answer that broke off. ``is_damaged``: what has come of it is not to be trusted."""

    def __init__(self, message: str, *, is_damaged: bool = False) -> None:
        super().__init__(message)
        self.is_damaged = is_damaged


class Journal:
    """Which parts of an object have come, by where they start: a line each in a file beside it."""

    def __init__(self, path: Path, done: frozenset[int]) -> None:
        self.path = path
        self.done = done
        self._lock = threading.Lock()

    @classmethod
    def of(cls, part: Path) -> "Journal":
        """Return the journal of a file. A last line without its end says nothing."""
        path = part.with_suffix(_JOURNAL)
        if not part.exists():
            path.unlink(missing_ok=True)
        lines = path.read_text("ascii").split("\n")[:-1] if path.exists() else []
        return cls(path, frozenset(map(int, lines)))

    def add(self, start: int) -> None:
        """Say that a part has come, which survives this process."""
        with self._lock, self.path.open("a", encoding="ascii") as file:
            file.write(f"{start}\n")


def _write(file: int, data: bytes, at: int) -> None:
    """Write all of the data: a disk that fills up takes some of it before it is an error."""
    while data:
        written = os.pwrite(file, data, at)
        data, at = data[written:], at + written


def _name(item: S3Object, part_size: int) -> str:
    """Return a name for what has come of this version of an object."""
    return hashlib.sha256(f"{item.key}\n{item.etag}\n{part_size}".encode()).hexdigest()[:32]


def _has_come(target: Path, content: Content) -> bool:
    return target.is_file() and not target.is_symlink() and content.is_in(target) is True


@contextmanager
def _this_version(item: S3Object) -> Iterator[None]:
    """Say of a request for one version of an object that there is another one now, or none."""
    try:
        yield
    except Exception as error:
        if code_of(error) not in _OTHER_VERSION:
            raise
        raise StorageError(
            f"{item.key!r} changed, or was deleted, while it was downloaded; download it again"
        ) from error
