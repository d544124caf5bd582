"""The yardstick: about the least that a server in Python can do, and nothing that an endpoint needs.

An asyncio protocol on httptools and uvloop with the model called in it: no limits, no time-outs, no
errors, no statuses. ``python -m benchmarks.serving.yardstick FOLDER MEDIA_TYPE PORT``
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import httptools
import uvloop

from benchmarks.serving.bare import answerer


class Yardstick(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: Callable[[bytes], bytes], media_type: str) -> None:
        self._answer = answer
        self._head = f"HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: %d\r\n\r\n".encode()
        self._parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to parse."""
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Go on parsing."""
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """Answer."""
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        answer = self._answer(body)
        self._transport.write(self._head % len(answer) + answer)


async def serve() -> None:
    """Serve until the process is ended."""
    media_type, port = sys.argv[2], int(sys.argv[3])
    answer = answerer(Path(sys.argv[1]), media_type)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Yardstick(answer, media_type), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
