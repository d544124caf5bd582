"""Good requests with something wrong in them: the same ones for the same seed."""

import random

import numpy as np
from tests.chaos.corpus.npy import NPY, NPZ, TORCH, saved, tensors, zipped
from tests.chaos.wire import post

_CHUNKED = (
    b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\n[1]\r\n0\r\nX-After: 1\r\n\r\n"
)
_GOOD = (
    post(b"[[1, 2.5], [3, -4e2]]", "application/json"),
    post(b"1,2\n3,4\n", "text/csv", "text/csv"),
    post(b'"1","2"\na,b\n', "text/csv; charset=utf-8", "text/csv;q=0.5, */*;q=0.1"),
    post(saved(np.arange(6, dtype="<f4").reshape(2, 3)), NPY, NPY),
    post(saved(np.asfortranarray(np.arange(6, dtype=">i8").reshape(2, 3))), NPY, "application/json"),
    post(zipped(("a.npy", saved(np.ones(3)))), NPZ, NPZ),
    post(tensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8), TORCH, TORCH),
    post(b"[1, 2]\n[3, 4]\n", "application/jsonlines", "application/jsonlines"),
    post(b"\x80\x04]\x94(K\x01K\x02e.", "application/python-pickle", "application/python-pickle"),
    _CHUNKED,
    b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\r\nConnection: keep-alive\r\n\r\n",
    post(path=b"/endpoints/digits/invocations-response-stream", more=[b"X-Amzn-SageMaker-Accept: text/csv"]),
)
_PIECES = (
    b"\r\n", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b":", b" ", b"\t", b",", b";", b'"', b"'",
    b"\\", b"%", b"%00", b"..", b"/", b"-1", b"0", b"1e999", b"9" * 400, b"18446744073709551616",
    b"NaN", b"null", b"[" * 2_000, b"{", b"}", b"(" * 2_000, b"|O", b"chunked",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/2.0", b"q=0", b"*/*",
    b"charset=utf-16", b"A" * 5_000,
)  # fmt: skip


def requests(seed, count):
    """Yield `count` requests, each a good one that has been changed in one to four places."""
    chance = random.Random(seed)
    for _ in range(count):
        request = chance.choice(_GOOD)
        head, _, body = request.partition(b"\r\n\r\n")
        where = chance.random()
        if where < 0.4 and body:
            # The length stays right, so that the body is looked at.
            changed = _changed(chance, body)
            old, new = b"Content-Length: %d" % len(body), b"Content-Length: %d" % len(changed)
            yield head.replace(old, new) + b"\r\n\r\n" + changed
        elif where < 0.7:
            yield _changed(chance, head) + b"\r\n\r\n" + body
        else:
            yield _changed(chance, request)


def _changed(chance, data):
    for _ in range(chance.randint(1, 4)):
        data = chance.choice((_flip, _cut, _repeat, _insert, _swap, _replace))(chance, data)
    return data


def _flip(chance, data):
    at = chance.randrange(len(data) + 1)
    return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]


def _span(chance, data):
    begin = chance.randrange(len(data) + 1)
    return begin, min(len(data), begin + chance.randint(1, 1 + len(data) // 4))


def _cut(chance, data):
    begin, end = _span(chance, data)
    return data[:begin] + data[end:]


def _repeat(chance, data):
    begin, end = _span(chance, data)
    return data[:end] + data[begin:end] * chance.randint(1, 20) + data[end:]


def _insert(chance, data):
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(_PIECES) + data[at:]


def _swap(chance, data):
    begin, end = _span(chance, data)
    return data[:begin] + bytes(reversed(data[begin:end])) + data[end:]


def _replace(chance, data):
    begin, end = _span(chance, data)
    return data[:begin] + chance.choice(_PIECES) + data[end:]
