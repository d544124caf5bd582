"""A generator of load in plain Python, for machines without wrk: it is the slower side for a fast server.

``simple_load.py PORT PATH CONNECTIONS SECONDS`` prints what ``load.lua`` prints.
"""

import json
import os
import re
import selectors
import socket
import sys
import time
from pathlib import Path

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection:
    """One connection, which sends the next request when the last one is answered."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(20)
        self._request = request
        self.send()

    def send(self) -> None:
        """Send the request, from now on."""
        self._received, self.sent = b"", time.perf_counter()
        self.socket.sendall(self._request)

    def answered(self) -> bool | None:
        """Read; return whether the answer was a 200, or None if it is not complete yet."""
        data = self.socket.recv(262144)
        if not data:
            raise ConnectionError("the server closed a connection")
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not end or (length and len(body) < int(length[1])):
            return None
        if not length:
            raise ConnectionError("an answer without a Content-Length")
        return head.startswith(b"HTTP/1.1 200")


def main() -> None:
    """Print the figures."""
    port, path, connections, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    body, media_type = Path(os.environ["BENCH_BODY"]).read_bytes(), os.environ["BENCH_MEDIA_TYPE"]
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media_type}\r\n"
        f"Accept: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    selector, times, failed, start = selectors.DefaultSelector(), [], 0, time.perf_counter()
    for _ in range(connections):
        connection = Connection(port, head.encode() + body)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    while (now := time.perf_counter()) - start < seconds:
        for key, _ in selector.select(1):
            answered = key.data.answered()
            if answered is None:
                continue
            failed += not answered
            times.append(time.perf_counter() - key.data.sent)
            key.data.send()
    times.sort()
    p50, p99 = (times[int(len(times) * part)] * 1000 for part in (0.5, 0.99))
    print(
        json.dumps({"answers": len(times), "seconds": now - start, "p50": p50, "p99": p99, "failed": failed})
    )


if __name__ == "__main__":
    main()
