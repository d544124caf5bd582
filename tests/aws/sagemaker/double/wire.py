"""The double over HTTP: AWS's JSON 1.1 for SageMaker and Logs, REST and event streams for endpoints."""

import binascii
import json
import re
import struct
import threading
import traceback
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.aws.sagemaker.double.service import LostAnswer, ServiceError

_INVOCATIONS = re.compile(r"/endpoints/([^/]+)/invocations(-response-stream)?")
_PIECE = 7
"""Bytes of a piece of a streamed answer: few, so that every answer has several."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self._body()
        try:
            if found := _INVOCATIONS.fullmatch(self.path):
                self._invoke(found[1], body, stream=bool(found[2]))
            else:
                prefix, _, operation = self.headers.get("X-Amz-Target", "").partition(".")
                answer = self.server.double.carry_out(prefix, operation, json.loads(body or b"{}"))
                self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/x-amz-json-1.1"})
        except ServiceError as error:
            told = {"__type": error.code, "message": error.message, "Message": error.message, **error.members}
            self._send(
                error.status,
                json.dumps(told).encode(),
                {"Content-Type": "application/json", "x-amzn-ErrorType": error.code},
            )
        except LostAnswer:
            self.close_connection = True
            self.connection.close()
        except ConnectionError:
            self.close_connection = True  # A client that has lost its patience.
        except Exception:
            self.server.double.broken.append(traceback.format_exc())
            raise

    def _invoke(self, name, body, *, stream):
        # A stream's own Accept is a header of its own: that of the request is the event stream's.
        accept = self.headers.get("X-Amzn-SageMaker-Accept" if stream else "Accept", "")
        kind = self.headers.get("Content-Type", "")
        _, answer, said = self.server.double.invoke(name, body, kind, accept)
        if not stream:
            self._send(200, answer, {"Content-Type": said, "x-Amzn-Invoked-Production-Variant": "AllTraffic"})
            return
        pieces = [answer[at : at + _PIECE] for at in range(0, len(answer), _PIECE)]
        self._send(
            200,
            b"".join(map(_event, pieces)),
            {
                "Content-Type": "application/vnd.amazon.eventstream",
                "X-Amzn-SageMaker-Content-Type": said,
            },
        )

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Say nothing."""


def _event(payload):
    """Return a message of an event stream."""
    headers = b"".join(
        _header(name, value)
        for name, value in (
            (":event-type", "PayloadPart"),
            (":content-type", "application/octet-stream"),
            (":message-type", "event"),
        )
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", binascii.crc32(message))


def _header(name, value):
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    double = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Say nothing of clients that go away."""


@contextmanager
def serving():
    """Serve on a free port of the loopback address; give the server, of which ``double`` is to be set."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
