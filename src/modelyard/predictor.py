"""Predictors: encode, invoke, decode."""

from types import TracebackType
from typing import Any, Self

from modelyard.core.codecs import CodecTable
from modelyard.core.contracts import EndpointHandle
from modelyard.core.errors import EncodeError, UnsupportedMediaTypeError
from modelyard.core.keywords import checked_keywords
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef

NPY = "application/x-npy"


class Predictor:
    """Sends data to an endpoint and returns its predictions.

    ``endpoint_name``: of an endpoint that this or another process deployed; ``content_type`` and
    ``accept``: what to send and to ask for unless a call says otherwise, both settable;
    ``backend``: where the endpoint runs. As a context manager it deletes the endpoint at the end.

    Raises `EndpointNotFoundError` where no endpoint of that name is live.
    """

    # Slots: a setting under another name, such as SDK v2's ``serializer``, is an error.
    __slots__ = ("_codecs", "_handle", "accept", "content_type", "endpoint_name", "plugins")

    @checked_keywords
    def __init__(
        self,
        endpoint_name: str,
        *,
        content_type: str = NPY,
        accept: str = NPY,
        backend: ProviderRef | str = "local",
        handle: EndpointHandle | None = None,
        plugins: PluginManager | None = None,
    ) -> None:
        self.endpoint_name = endpoint_name
        self.content_type = content_type
        self.accept = accept
        self.plugins = plugins or PluginManager.discover()
        self._codecs = CodecTable.of(self.plugins.codecs)
        self._handle = handle or self.plugins.backends.create(backend).endpoint(endpoint_name)

    @property
    def endpoint(self) -> EndpointHandle:
        """The endpoint: ``.describe()``, ``.logs()``, ``.delete()``."""
        return self._handle

    @checked_keywords
    def predict(self, data: Any, *, content_type: str | None = None, accept: str | None = None) -> Any:
        """Return the model's prediction for `data`.

        `data`: a numpy array, or numbers, lists and dicts; bytes, and texts for ``text/*``, are sent as
        they are. The result is what the codec of the answer makes of it: an array for NPY and CSV,
        Python values for JSON, and the bytes themselves where no codec reads the answer.

        Raises `EncodeError`, `UnsupportedMediaTypeError`, `InvocationError` and `DecodeError`.
        """
        sending = content_type or self.content_type
        answer = self._handle.invoke(
            self._encoded(data, sending), content_type=sending, accept=accept or self.accept
        )
        try:
            codec = self._codecs.reading(answer.content_type)
        except UnsupportedMediaTypeError:
            return answer.body
        return codec.decode(answer.body)

    def delete_endpoint(self) -> None:
        """End the endpoint and free its name."""
        self._handle.delete()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.delete_endpoint()

    def __repr__(self) -> str:
        return f"Predictor({self.endpoint_name!r})"

    def _encoded(self, data: Any, content_type: str) -> bytes:
        if isinstance(data, (bytes, bytearray, memoryview)):
            return bytes(data)
        if isinstance(data, str) and content_type.strip().lower().startswith("text/"):
            return data.encode("utf-8")  # A text is a document already, as SDK v2 has it.
        try:
            return self._codecs.reading(content_type).encode(data)
        except EncodeError as error:
            raise EncodeError(f"cannot send the data as {content_type}: {error}") from error
