"""A job's or an endpoint's log, as CloudWatch Logs has it: one stream per host."""

import heapq
from collections.abc import Iterator
from typing import Any

import attrs

from modelyard.core.errors import JobError
from modelyard.plugins.backends.sagemaker.clients import Clients, is_unknown, reporting


@attrs.frozen
class Line:
    """A line of one host's. ``time``: in milliseconds since 1970 (UTC)."""

    time: int
    host: str
    text: str


class LogReader:
    """Reads the streams of a log group from where it has got to, on all of them.

    ``prefix``: what the names of the streams begin with; the next part of it is the host.
    """

    def __init__(self, clients: Clients, group: str, prefix: str = "") -> None:
        self._clients = clients
        self._group = group
        self._prefix = prefix
        self._tokens: dict[str, str | None] = {}

    @property
    def hosts(self) -> int:
        """How many streams there were so far."""
        return len(self._tokens)

    def new(self) -> Iterator[Line]:
        """Yield what has come since the last call, the lines of all hosts by their time."""
        with reporting(f"cannot read the log {self._group}", JobError):
            for stream in self._streams():
                self._tokens.setdefault(stream, None)
            yield from heapq.merge(
                *(self._of(stream) for stream in sorted(self._tokens)), key=lambda line: line.time
            )

    def last(self, count: int) -> list[str]:
        """Return the last lines, at most `count` of each host."""
        with reporting(f"cannot read the log {self._group}", JobError):
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

    def _of(self, stream: str) -> Iterator[Line]:
        host = stream.removeprefix(self._prefix).partition("/")[0]
        # The service names a host algo-1-1700000000, with the time of its start.
        host = "-".join(host.split("-")[:2])
        while True:
            answer = self._page(stream)
            for event in answer["events"]:
                for text in event["message"].rstrip("\n").split("\n"):
                    yield Line(event["timestamp"], host, text)
            token, self._tokens[stream] = self._tokens[stream], answer["nextForwardToken"]
            # The end of a stream is told by a token that stays the same; a page may well be empty.
            if token == self._tokens[stream]:
                return

    def _page(self, stream: str) -> dict[str, Any]:
        asked = {"logGroupName": self._group, "logStreamName": stream, "startFromHead": True}
        if token := self._tokens[stream]:
            asked["nextToken"] = token
        page: dict[str, Any] = self._clients.logs.get_log_events(**asked)
        return page
