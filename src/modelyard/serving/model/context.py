"""The serving context that a user's function may ask for.

Its fields and methods are those of TorchServe's ``Context`` (``ts/context.py``), which SageMaker's
documentation refers to; each request has its own. A batch has one of its own too, in which `idx` is
the place of a request.
"""

from collections.abc import Mapping, Sequence
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
        "limit_max_image_pixels": True,
    }


class RequestProcessor:
    """A request's headers, and what its answer is to have besides the body."""

    __slots__ = ("_headers", "_phrase", "_properties", "_status")

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._properties = properties
        self._headers: dict[str, str] = {}
        self._status = 200
        self._phrase = ""

    def get_request_property(self, key: str) -> str | None:
        """Return a header of the request whatever the case of `key`, or None."""
        return self._properties.get(key.lower())

    def get_request_properties(self) -> Mapping[str, str]:
        """Return every header of the request by its lower-case name."""
        return self._properties

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Set the status of the answer; the phrase is kept for who asks here."""
        self._status, self._phrase = code, reason_phrase or ""

    def add_response_property(self, key: str, value: str) -> None:
        """Set a header of the answer."""
        self._headers[key.lower()] = value

    def get_response_header(self, key: str) -> str | None:
        """Return a header that was set, whatever the case of `key`, or None."""
        return self._headers.get(key.lower())

    def get_response_headers(self) -> Mapping[str, str]:
        """Return the headers that were set."""
        return self._headers

    def get_response_status_code(self) -> int:
        """Return the status of the answer."""
        return self._status

    def get_response_status_phrase(self) -> str:
        """Return the phrase that was given with the status."""
        return self._phrase


class Context:
    """One request's view of the server, or no request's where there is none yet."""

    model_name = "model"
    manifest: Any = None
    stopping_criteria: Any = None
    cl_socket: Any = None
    header_key_sequence_id = "ts_request_sequence_id"
    header_key_sequence_start = "ts_request_sequence_start"
    header_key_sequence_end = "ts_request_sequence_end"

    def __init__(
        self, properties: Mapping[str, Any], request: Request | None = None, *, metrics: Any = None
    ) -> None:
        self.system_properties = dict(properties)
        self.model_yaml_config: dict[str, Any] = {}
        self.metrics = metrics
        self._request = request or Request(b"")
        self._processor = RequestProcessor(self._request.headers)

    @property
    def request_ids(self) -> dict[int, str]:
        """The ids of the requests, by their places in the batch."""
        return {0: self._request.request_id}

    @property
    def request_processor(self) -> list[RequestProcessor]:
        """What is known of the requests and set for their answers, by their places in the batch."""
        return [self._processor]

    def get_request_id(self, idx: int = 0) -> str | None:
        """Return a request's id."""
        return self.request_ids.get(idx)

    def get_request_header(self, idx: int, key: str) -> str | None:
        """Return a header's value whatever the case of `key`, or None."""
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> Mapping[str, str]:
        """Return every header of a request by its lower-case name."""
        return self.request_processor[idx].get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the Content-Type of an answer."""
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        """Return the Content-Type that was set, or None."""
        return self.request_processor[idx].get_response_header("content-type")

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a header of an answer."""
        self.request_processor[idx].add_response_property(key, value)

    def get_response_headers(self, idx: int) -> Mapping[str, str]:
        """Return the headers that were set."""
        return self.request_processor[idx].get_response_headers()

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of an answer."""
        self.request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """Set the status of every answer."""
        for processor in self.request_processor:
            processor.report_status(code, phrase)

    def get_response_status(self, idx: int) -> tuple[int, str]:
        """Return the status of an answer and its phrase."""
        processor = self.request_processor[idx]
        return processor.get_response_status_code(), processor.get_response_status_phrase()

    def get_sequence_id(self, idx: int) -> str | None:
        """Return the id of the sequence that a request belongs to, or None."""
        return self.get_request_header(idx, self.header_key_sequence_id)


class BatchContext(Context):
    """The view of a batch: what is set for the place `idx` is that request's own."""

    def __init__(self, contexts: Sequence[Context]) -> None:
        super().__init__(contexts[0].system_properties, metrics=contexts[0].metrics)
        self._contexts = contexts

    @property
    def request_ids(self) -> dict[int, str]:
        """The ids of the requests, by their places in the batch."""
        return {idx: context.request_ids[0] for idx, context in enumerate(self._contexts)}

    @property
    def request_processor(self) -> list[RequestProcessor]:
        """What is known of the requests and set for their answers, by their places in the batch."""
        return [context.request_processor[0] for context in self._contexts]
