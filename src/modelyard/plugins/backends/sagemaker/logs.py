"""A job's or an endpoint's log, as CloudWatch Logs has it: one stream per host."""

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Any

import attrs

from modelyard.core.errors import ModelyardError
from modelyard.plugins.backends.sagemaker.clients import Clients, is_unknown, reporting


@attrs.frozen
class Line:
    """A line of one host's. ``time``: in milliseconds since 1970 (UTC)."""

    time: int
    host: str
    text: str


class LogReader:
    """Reads the streams of a log group from where it has got to, on all of them.

    ``prefix``: what the names of the streams begin with; the next part of it is the host. What cannot be
    read is an error of ``kind``, and loses no line: the next call goes on where this one ended.
    """

    def __init__(self, clients: Clients, kind: type[ModelyardError], group: str, prefix: str = "") -> None:
        self._clients = clients
        self._kind = kind
        self._group = group
        self._prefix = prefix
        self._read: dict[str, _Stream] = {}

    def new(self) -> Iterator[Line]:
        """Yield what has come since the last call, the lines of all hosts by their time."""
        with reporting(f"cannot read the log {self._group}", self._kind):
            for name in self._streams():
                if name not in self._read:
                    self._read[name] = _Stream(self._clients, self._group, name, self._host(name))
            streams = [self._read[name].new() for name in sorted(self._read)]
            yield from heapq.merge(*streams, key=lambda line: line.time)

    def last(self, count: int) -> list[str]:
        """Return the last lines, at most `count` of each host."""
        with reporting(f"cannot read the log {self._group}", self._kind):
            pages = (
                self._clients.logs.get_log_events(
                    logGroupName=self._group, logStreamName=stream, startFromHead=False, limit=count
                )
                for stream in list(self._streams())
            )
            return [event["message"].rstrip() for page in pages for event in page["events"]]

    def _streams(self) -> Iterator[str]:
        """Yield the names of the streams; there are none before the first line."""
        pages = self._clients.logs.get_paginator("describe_log_streams")
        asked = {"logGroupName": self._group}
        if self._prefix:
            asked["logStreamNamePrefix"] = self._prefix
        try:
            for page in pages.paginate(**asked):
                yield from (stream["logStreamName"] for stream in page["logStreams"])
        except self._clients.logs.exceptions.ClientError as error:
            if not is_unknown(error):
                raise

    def _host(self, stream: str) -> str:
        # The service names a host algo-1-1700000000, with the time of its start.
        return "-".join(stream.removeprefix(self._prefix).partition("/")[0].split("-")[:2])


@attrs.define
class _Stream:
    """One host's stream: what has been read of it, and where the rest begins."""

    _clients: Clients
    _group: str
    _name: str
    _host: str
    _token: str = ""
    _lines: deque[Line] = attrs.field(factory=deque)

    def new(self) -> Iterator[Line]:
        """Yield the lines that have not been yielded yet; one counts once the next is asked for."""
        more = True
        while self._lines or more:
            if not self._lines:
                more = self._fetch()
                continue
            yield self._lines[0]
            self._lines.popleft()

    def _fetch(self) -> bool:
        """Read a page, which may well be empty, and tell whether there is another."""
        asked: dict[str, Any] = {"nextToken": self._token} if self._token else {}
        page = self._clients.logs.get_log_events(
            logGroupName=self._group, logStreamName=self._name, startFromHead=True, **asked
        )
        for event in page["events"]:
            texts = event["message"].rstrip("\n").split("\n")
            self._lines.extend(Line(event["timestamp"], self._host, text) for text in texts)
        # The end of a stream is told by a token that stays the same.
        before, self._token = self._token, page["nextForwardToken"]
        return bool(before != self._token)
