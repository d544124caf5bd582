"""Good traffic beside whatever else goes on: a load client in a process of its own, and what it saw.

Run as a program it reads one JSON document of settings from its first line of standard input, sends
requests until the input ends, and writes a record of each: when it began (monotonic), how long it took,
the status or what happened instead, and the start of the body.
"""

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections import Counter

BODY_KEPT = 24


class Traffic:
    """Sends `requests` (bytes, one after the other) while the block runs; the records are there after it.

    `connections`: at once; `rate`: requests per second over all of them, 0 for as fast as they are
    answered; `keep`: connections are used again; `timeout`: seconds per request.
    """

    def __init__(self, port, *requests, connections=4, rate=50.0, keep=True, timeout=20.0):
        self._settings = {
            "port": port,
            "requests": [request.decode("latin-1") for request in requests],
            "connections": connections,
            "rate": rate,
            "keep": keep,
            "timeout": timeout,
        }
        self.records = []

    def __enter__(self):
        self._popen = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._popen.stdin.write(json.dumps(self._settings) + "\n")
        self._popen.stdin.flush()
        assert self._popen.stdout.readline() == "begun\n"
        return self

    def __exit__(self, *_):
        try:
            said, _ = self._popen.communicate(timeout=self._settings["timeout"] + 20)
            self.records = [Record(*record) for record in json.loads(said)]
        finally:
            if self._popen.poll() is None:
                self._popen.kill()
                self._popen.communicate()

    # -- what was seen -----------------------------------------------------------------------------

    @property
    def failed(self):
        """Requests that did not get a 200, as (what happened, seconds from the first request)."""
        return [record for record in self.records if record.result != 200]

    @property
    def results(self):
        return Counter(record.result for record in self.records)

    def slowest(self, result=200):
        return max((record.seconds for record in self.records if record.result == result), default=0.0)

    def percentile(self, share, result=200):
        """Return the seconds within which that share of the requests had their answer."""
        times = sorted(record.seconds for record in self.records if record.result == result)
        return times[min(len(times) - 1, int(len(times) * share))] if times else 0.0

    def rate(self, begin, end, result=200):
        """Return answers per second between two moments (monotonic)."""
        ended = (record.began + record.seconds for record in self.records if record.result == result)
        return sum(begin <= moment < end for moment in ended) / (end - begin)

    def __str__(self):
        return (
            f"{len(self.records)} requests, {len(self.failed)} failed, "
            f"p99 {self.percentile(0.99) * 1e3:.0f} ms, max {self.slowest() * 1e3:.0f} ms"
        )


class Record:
    """One request of the traffic."""

    def __init__(self, began, seconds, result, body):
        self.began = began
        self.seconds = seconds
        self.result = result
        self.body = body

    def __repr__(self):
        return f"{self.result} after {self.seconds:.3f} s at {self.began:.3f}"


# -- the program -----------------------------------------------------------------------------------


class _Client:
    def __init__(self, settings):
        self.settings = settings
        self.requests = [request.encode("latin-1") for request in settings["requests"]]
        self.records = []
        self.stopped = asyncio.Event()

    async def run(self):
        count = self.settings["connections"]
        interval = count / self.settings["rate"] if self.settings["rate"] else 0.0
        await asyncio.gather(*(self._connection(n, count, interval) for n in range(count)))

    async def _connection(self, number, count, interval):
        began = time.monotonic() + interval * number / count
        requests = itertools.cycle(
            self.requests[number % len(self.requests) :] + self.requests[: number % len(self.requests)]
        )
        streams = None
        for turn in itertools.count():
            if interval:
                await self._sleep_until(began + turn * interval)
            if self.stopped.is_set():
                break
            streams = await self._request(streams, next(requests))
        _close(streams)

    async def _request(self, streams, request):
        """Send one request; return the connection if it can be used again."""
        began = time.monotonic()
        body = b""
        try:
            async with asyncio.timeout(self.settings["timeout"]):
                if streams is not None and (streams[0].at_eof() or streams[1].is_closing()):
                    _close(streams)
                    streams = None
                if streams is None:
                    streams = await asyncio.open_connection("127.0.0.1", self.settings["port"])
                streams[1].write(request)
                result, keep, body = await _answer(streams[0])
        except ConnectionRefusedError:
            result, keep = "refused", False
        except TimeoutError:
            result, keep = "timeout", False
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            result, keep = "reset" if isinstance(error, ConnectionError) else "closed", False
        kept = body[:BODY_KEPT].decode("latin-1")
        self.records.append((began, time.monotonic() - began, result, kept))
        if keep and self.settings["keep"]:
            return streams
        _close(streams)
        if result == "refused":
            await self._sleep_until(time.monotonic() + 0.02)
        return None

    async def _sleep_until(self, moment):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopped.wait(), max(0.0, moment - time.monotonic()))


async def _answer(reader):
    """Return an answer's status, whether the connection goes on, and the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    body = await reader.readexactly(int(length or 0))
    return int(head[9:12]), b"connection: close" not in head, body


def _close(streams):
    if streams is not None:
        streams[1].close()


async def _main():
    loop = asyncio.get_running_loop()
    client = _Client(json.loads(sys.stdin.readline()))
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    loop.add_reader(sys.stdin.fileno(), client.stopped.set)
    await client.run()
    loop.remove_reader(sys.stdin.fileno())
    json.dump(client.records, sys.stdout)


if __name__ == "__main__":
    asyncio.run(_main())
