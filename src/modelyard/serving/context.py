"""The serving context that a user's function may ask for.

Its fields and methods are those of TorchServe's ``Context``, which SageMaker's documentation refers
to; each request has its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.__about__ import __version__
from modelyard.core.http import Request


def system_properties(model_dir: Path, *, gpu_id: int | None = None, batch_size: int = 1) -> dict[str, Any]:
    """Return what a worker knows before any request, by TorchServe's names."""
    return {
        "model_dir": str(model_dir),
        "gpu_id": gpu_id,
        "batch_size": batch_size,
        "server_name": "modelyard",
        "server_version": __version__,
    }


class Context:
    """One request's view of the server. `idx` is the place in a batch, always 0 here."""

    __slots__ = ("_headers", "_phrase", "_request", "_status", "system_properties")

    def __init__(self, properties: dict[str, Any], request: Request | None = None) -> None:
        self.system_properties = dict(properties)
        self._request = request or Request(b"")
        self._headers: dict[str, str] = {}
        self._status = 200
        self._phrase = ""

    @property
    def request_ids(self) -> dict[int, str]:
        """The request's id, by its place in the batch."""
        return {0: self._request.request_id}

    def get_request_id(self, idx: int = 0) -> str:
        """Return the request's id."""
        return self.request_ids[idx]

    def get_request_header(self, idx: int, key: str) -> str | None:
        """Return a header's value whatever the case of `key`, or None."""
        return self._request.headers.get(key.lower())

    def get_all_request_header(self, idx: int) -> Mapping[str, str]:
        """Return every header by its lower-case name."""
        return self._request.headers

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the Content-Type of the answer."""
        self._headers["content-type"] = value

    def get_response_content_type(self, idx: int) -> str | None:
        """Return the Content-Type that was set, or None."""
        return self._headers.get("content-type")

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a header of the answer."""
        self._headers[key.lower()] = value

    def get_response_headers(self, idx: int) -> Mapping[str, str]:
        """Return the headers that were set."""
        return self._headers

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of the answer; the phrase is kept for `get_response_status` only."""
        self._status, self._phrase = code, phrase

    def get_response_status(self, idx: int) -> tuple[int, str]:
        """Return the status and its phrase."""
        return self._status, self._phrase
