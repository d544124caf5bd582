"""Predictors: encode, invoke, decode."""

import inspect
import io
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import attrs

from modelyard.compat.deserializers import BaseDeserializer
from modelyard.compat.names import old_keywords, old_name
from modelyard.compat.serializers import CodecSerializer
from modelyard.core.codecs import CodecTable
from modelyard.core.contracts import EndpointHandle, Invocation, StreamingEndpoint
from modelyard.core.errors import (
    EncodeError,
    EndpointNotFoundError,
    InvalidPlanError,
    UnsupportedMediaTypeError,
)
from modelyard.core.keywords import checked_keywords
from modelyard.core.manager import PluginManager
from modelyard.core.places import Place, found_anywhere, place_of
from modelyard.core.plans import ProviderRef

NPY = "application/x-npy"

_OLD_HOMES = {
    "Predictor": "modelyard.predictor",
    **dict.fromkeys(("CSVSerializer", "JSONSerializer", "NumpySerializer"), "modelyard.compat.serializers"),
    **dict.fromkeys(
        ("CSVDeserializer", "JSONDeserializer", "NumpyDeserializer"), "modelyard.compat.deserializers"
    ),
}


@attrs.frozen
class _CodecDeserializer(BaseDeserializer):
    """Whatever the codec of the answer's content type reads; the bytes where there is none."""

    codecs: CodecTable
    ACCEPT: str

    def deserialize(self, stream: Any, content_type: str) -> Any:
        """Return what the answer says. Raises `DecodeError`."""
        body = stream.read()
        try:
            codec = self.codecs.reading(content_type)
        except UnsupportedMediaTypeError:
            return body
        return codec.decode(body)


class Predictor:
    """Sends data to an endpoint and returns its predictions.

    ``endpoint_name``: of an endpoint that this or another process deployed; ``serializer`` and
    ``deserializer``: objects of `modelyard.serializers` and `modelyard.deserializers`, or functions;
    without them the codecs of the content types do it. ``content_type`` and ``accept``: what to send
    and to ask for unless a call says otherwise; else those of the serializer and the deserializer, or
    NPY. All four are settable. ``sagemaker_session`` or ``backend``: where the endpoint runs; without
    them the local backend is asked first, then the others. As a context manager it deletes the
    endpoint at the end.

    Raises `EndpointNotFoundError` where no endpoint of that name is live.
    """

    # Slots: a setting of another name is an error.
    __slots__ = ("_accept", "_codecs", "_content_type", "_deserializer", "_handle", "_serializer", "plugins")

    @old_keywords
    @checked_keywords
    def __init__(
        self,
        endpoint_name: str,
        sagemaker_session: object = None,
        serializer: Any = None,
        deserializer: Any = None,
        content_type: str | None = None,
        accept: str | None = None,
        *,
        backend: ProviderRef | str | None = None,
        handle: EndpointHandle | None = None,
        plugins: PluginManager | None = None,
    ) -> None:
        place = place_of(sagemaker_session)
        self.plugins = plugins or (place and place.plugins) or PluginManager.discover()
        self._codecs = CodecTable.of(self.plugins.codecs)
        self._serializer, self._deserializer = serializer, deserializer
        self._content_type, self._accept = content_type, accept
        self._handle = handle or found_anywhere(
            self.plugins,
            backend or (place.backend if place else None),
            lambda asked: asked.endpoint(endpoint_name),
            EndpointNotFoundError,
        )

    # -- the endpoint --------------------------------------------------------------------------

    @property
    def endpoint_name(self) -> str:
        """The endpoint's name."""
        return self._handle.name

    @property
    def name(self) -> str:
        """The endpoint's name, as SageMaker's documentation calls it."""
        return self._handle.name

    @property
    def endpoint(self) -> str:
        """The endpoint's name, as SDK v1 calls it."""
        return self._handle.name

    @property
    def handle(self) -> EndpointHandle:
        """The endpoint: ``.describe()``, ``.logs()``, ``.delete()``."""
        return self._handle

    def delete_endpoint(self, delete_endpoint_config: bool = True) -> None:
        """End the endpoint and free its name; its configuration goes with it."""
        if not delete_endpoint_config:
            raise InvalidPlanError(
                "delete_endpoint_config=False: an endpoint is deleted with its configuration, which nothing "
                "else uses"
            )
        self._handle.delete()

    def delete_predictor(self) -> None:
        """End the endpoint, as `delete_endpoint` does."""
        self._handle.delete()

    def delete_model(self) -> None:
        """Delete the endpoint's model, where the backend keeps it apart from the endpoint."""
        delete = getattr(self._handle, "delete_model", None)
        if delete is not None:
            delete()

    @checked_keywords
    def update_endpoint(
        self,
        initial_instance_count: int | None = None,
        instance_type: str | None = None,
        accelerator_type: str | None = None,
        model_name: str | None = None,
        *,
        wait: bool = True,
    ) -> None:
        """Change what the endpoint runs on, or which of SageMaker's models it serves, while it answers.

        What is left out stays as it is. Raises `InvalidPlanError` for an endpoint that cannot be changed,
        and `EndpointError` where the service has gone back to how it was.
        """
        asked = {
            "InitialInstanceCount": initial_instance_count,
            "InstanceType": instance_type,
            "AcceleratorType": accelerator_type,
            "ModelName": model_name,
        }
        changes = {name: value for name, value in asked.items() if value is not None}
        if not changes:
            raise InvalidPlanError("update_endpoint: say what is to change, instance_type='ml.m5.xlarge' say")
        update = getattr(self._handle, "update", None)
        if update is None:
            raise InvalidPlanError(
                f"the endpoint {self.endpoint_name!r} cannot be changed, only those on SageMaker can: delete "
                "it, and deploy its model anew"
            )
        update(wait=wait, **changes)

    # -- what to send and to ask for -----------------------------------------------------------

    @property
    def content_type(self) -> str:
        """The Content-Type of requests."""
        return self._content_type or _content_type_of(self._serializer) or NPY

    @content_type.setter
    def content_type(self, content_type: str | None) -> None:
        self._content_type = content_type

    @property
    def accept(self) -> str:
        """What requests ask for."""
        return self._accept or _accept_of(self._deserializer) or NPY

    @accept.setter
    def accept(self, accept: str | tuple[str, ...] | None) -> None:
        self._accept = accept if accept is None or isinstance(accept, str) else ", ".join(accept)

    @property
    def serializer(self) -> Any:
        """What makes the body of a request of the data."""
        return self._serializer or CodecSerializer(self.content_type)

    @serializer.setter
    def serializer(self, serializer: Any) -> None:
        self._serializer = serializer

    @property
    def deserializer(self) -> Any:
        """What makes the prediction of the body of an answer."""
        return self._deserializer or _CodecDeserializer(self._codecs, self.accept)

    @deserializer.setter
    def deserializer(self, deserializer: Any) -> None:
        self._deserializer = deserializer

    # -- predictions ---------------------------------------------------------------------------

    @checked_keywords
    def predict(
        self,
        data: Any,
        initial_args: Mapping[str, Any] | None = None,
        target_model: str | None = None,
        target_variant: str | None = None,
        inference_id: str | None = None,
        custom_attributes: str | None = None,
        component_name: str | None = None,
        *,
        content_type: str | None = None,
        accept: str | None = None,
    ) -> Any:
        """Return the model's prediction for `data`.

        `data`: a numpy array, or numbers, lists and dicts; bytes, and texts for ``text/*``, are sent as
        they are. The result is what the codec of the answer makes of it: an array for NPY and CSV,
        Python values for JSON, and the bytes themselves where no codec reads the answer. A serializer
        and a deserializer that were set do this in their own way.

        `initial_args`: parts of the request by the names of InvokeEndpoint, ``{"ContentType": ...}``;
        they and `target_model`, `target_variant`, `inference_id`, `custom_attributes` and
        `component_name` need an endpoint that takes them. One of this machine takes `inference_id` and
        `custom_attributes`.

        Raises `EncodeError`, `UnsupportedMediaTypeError`, `InvocationError` and `DecodeError`.
        """
        named = {
            "TargetModel": target_model,
            "TargetVariant": target_variant,
            "InferenceId": inference_id,
            "CustomAttributes": custom_attributes,
            "InferenceComponentName": component_name,
        }
        answer = self._invoked(*self._request(data, named, initial_args, content_type, accept))
        return _called(self.deserializer, "deserialize")(io.BytesIO(answer.body), answer.content_type)

    @checked_keywords
    def predict_stream(
        self,
        data: Any,
        initial_args: Mapping[str, Any] | None = None,
        target_variant: str | None = None,
        inference_id: str | None = None,
        custom_attributes: str | None = None,
        component_name: str | None = None,
        *,
        content_type: str | None = None,
        accept: str | None = None,
    ) -> Iterator[bytes]:
        """Yield the answer's bytes as they come, from an endpoint that can. Takes what `predict` takes."""
        if not isinstance(self._handle, StreamingEndpoint):
            raise InvalidPlanError(
                f"the endpoint {self.endpoint_name!r} is not asked for streams here: let an HTTP client read "
                "what its url answers"
            )
        named = {
            "TargetVariant": target_variant,
            "InferenceId": inference_id,
            "CustomAttributes": custom_attributes,
            "InferenceComponentName": component_name,
        }
        body, sending, accepting, more = self._request(data, named, initial_args, content_type, accept)
        stream = self._handle.invoke_stream
        return stream(body, content_type=sending, accept=accepting, **self._arguments(more, stream))

    def _request(
        self,
        data: Any,
        named: Mapping[str, str | None],
        initial_args: Mapping[str, Any] | None,
        content_type: str | None,
        accept: str | None,
    ) -> tuple[bytes, str, str, dict[str, Any]]:
        """Return the body, what it is, what is asked for, and the other parts of the request."""
        more = {name: value for name, value in named.items() if value is not None} | dict(initial_args or {})
        sending = more.pop("ContentType", None) or content_type or self.content_type
        accepting = more.pop("Accept", None) or accept or self.accept
        if more.pop("EndpointName", self.endpoint_name) != self.endpoint_name:
            raise InvalidPlanError(
                f"initial_args name another endpoint than {self.endpoint_name!r}: make a Predictor for it"
            )
        body = more.pop("Body", None)
        return self._encoded(data, sending) if body is None else _bytes(body), sending, accepting, more

    def _invoked(self, body: bytes, content_type: str, accept: str, more: Mapping[str, str]) -> Invocation:
        invoke = self._handle.invoke
        return invoke(body, content_type=content_type, accept=accept, **self._arguments(more, invoke))

    def _arguments(self, more: Mapping[str, str], call: Callable[..., object]) -> dict[str, Any]:
        """Return the other parts of a request as keywords of a call that can take them, if there are any."""
        if more and "arguments" not in inspect.signature(call).parameters:
            raise InvalidPlanError(
                f"the endpoint {self.endpoint_name!r} takes no {', '.join(more)}: those on SageMaker do"
            )
        return {"arguments": more} if more else {}

    def _encoded(self, data: Any, content_type: str) -> bytes:
        if self._serializer is not None:
            body = _called(self._serializer, "serialize")(data)
            return body.encode("utf-8") if isinstance(body, str) else _bytes(body)
        if isinstance(data, (bytes, bytearray, memoryview)):
            return bytes(data)
        if isinstance(data, str) and content_type.strip().lower().startswith("text/"):
            return data.encode("utf-8")  # A text is a document already, as SDK v2 has it.
        try:
            return self._codecs.reading(content_type).encode(_typed(data, content_type))
        except EncodeError as error:
            raise EncodeError(f"cannot send the data as {content_type}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.delete_endpoint()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint_name!r})"


def predictor_of(
    predictor_cls: Callable[..., Any] | None,
    handle: EndpointHandle,
    place: Place,
    *,
    serializer: object = None,
    deserializer: object = None,
) -> Any:
    """Return the predictor of an endpoint that was just deployed: `predictor_cls` makes it, if given.

    It is called with the endpoint's name and something that a `Predictor` takes for its session, as
    SDK v2 does; a function of one argument gets the name alone.
    """
    if predictor_cls is None or predictor_cls is Predictor:
        predictor: Any = Predictor(handle.name, handle=handle, plugins=place.plugins)
    elif _takes_session(predictor_cls):
        predictor = predictor_cls(handle.name, place)
    else:
        predictor = predictor_cls(handle.name)
    if serializer is not None:
        predictor.serializer = serializer
    if deserializer is not None:
        predictor.deserializer = deserializer
    return predictor


def _takes_session(predictor_cls: Callable[..., Any]) -> bool:
    try:
        inspect.signature(predictor_cls).bind("name", "session")
    except TypeError:
        return False
    return True


def _called(converter: Any, method: str) -> Callable[..., Any]:
    """Return the method of SDK v2's objects, or the object itself: SDK v1 has functions."""
    found = getattr(converter, method, converter)
    if not callable(found):
        raise InvalidPlanError(f"{converter!r} is no {method[:-1]}er: it has no method {method!r}")
    return found  # type: ignore[no-any-return]


def _content_type_of(serializer: object) -> str | None:
    return getattr(serializer, "CONTENT_TYPE", None) or getattr(serializer, "content_type", None)


def _accept_of(deserializer: object) -> str | None:
    accept = getattr(deserializer, "ACCEPT", None) or getattr(deserializer, "accept", None)
    return accept if accept is None or isinstance(accept, str) else ", ".join(accept)


def _typed(data: Any, content_type: str) -> Any:
    """Return lists of floats as float32 where NPY is sent: as they arrive by JSON and by CSV."""
    first = data
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if first is data or type(first) is not float or content_type != NPY:
        return data
    import numpy as np

    try:
        return np.asarray(data, np.float32)
    except (TypeError, ValueError):
        return data  # The codec says what is wrong.


def _bytes(body: object) -> bytes:
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise EncodeError(f"the serializer made a {type(body).__name__}, where bytes or a text are sent")


def __getattr__(name: str) -> object:
    return old_name(__name__, name, _OLD_HOMES)
