"""Which codec reads a Content-Type, and which one writes what an Accept header asks for."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, Self, cast

import attrs

from modelyard.core.contracts import ArrayCodec, Codec, GuardedCodec
from modelyard.core.errors import (
    DecodeError,
    InvalidPlanError,
    ModelyardError,
    NotAcceptableError,
    PluginError,
    UnsupportedMediaTypeError,
)
from modelyard.core.media_types import excerpt, foreign_charset, negotiate, parse_media_type
from modelyard.core.registry import Provider, Registry


@attrs.frozen
class CodecTable:
    """Every registered codec by media type, bound once.

    What is wrong with a media type (two providers, or a codec that cannot be made) is kept, and
    raised when that type is asked for.
    ``default_accept``: the media type for clients that take any.
    """

    by_type: Mapping[str, Codec | ModelyardError]
    default_accept: str = ""
    _offers: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)
    _texts: frozenset[str] = attrs.field(init=False, eq=False, repr=False)
    _chosen: Callable[[str], str | None] = attrs.field(init=False, eq=False, repr=False)

    @_offers.default
    def _of_all_types(self) -> tuple[str, ...]:
        return tuple(self.by_type)

    @_texts.default
    def _of_text(self) -> frozenset[str]:
        return frozenset(name for name, codec in self.by_type.items() if isinstance(codec, ArrayCodec))

    @_chosen.default
    def _among_all_types(self) -> Callable[[str], str | None]:
        # A cache of its own: to look a request up among all types would take longer, the more there are.
        return lru_cache(maxsize=128)(partial(negotiate, offers=self._offers))

    @classmethod
    def of(
        cls,
        registry: Registry[Codec],
        *,
        default_accept: str = "",
        strict: str = "",
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Self:
        """Return the table of all codecs, the default media type first.

        `strict`: for the codecs that have an option of that name; `options`: of codecs by their name,
        ``{"pickle": {"trusted": True}}``. Raises `UnknownProviderError` for a codec that there is not
        and `InvalidPlanError` for an option that it has not or a value that it does not take.
        """
        for name in options or {}:
            registry.get(name)
        names = sorted(registry.declared("media_types"), key=lambda name: (name != default_accept, name))
        made = {name: _codec_or_error(registry, name, strict, options or {}) for name in names}
        return cls({name: codec for name, codec in made.items() if not _withheld(codec)}, default_accept)

    def usable(self) -> Iterator[Codec]:
        """Yield the codecs, one for each media type."""
        return (codec for codec in self.by_type.values() if not isinstance(codec, ModelyardError))

    def reading(self, content_type: str) -> Codec:
        """Return the codec of a Content-Type. Raises `UnsupportedMediaTypeError`."""
        media_type = parse_media_type(content_type)
        codec = self.by_type.get(media_type.essence) if media_type else None
        if codec is None:
            said = f"{excerpt(content_type)} is not supported"
            if not content_type.strip():
                said = "Content-Type is missing"
            raise UnsupportedMediaTypeError(f"{said}; supported: {self._known()}")
        return _usable(codec)

    def writing(self, accept: str) -> tuple[str, Codec]:
        """Return the media type that `accept` wants most, and its codec. Raises `NotAcceptableError`."""
        chosen = self._chosen(accept)
        if chosen is None:
            raise NotAcceptableError(f"cannot answer with {excerpt(accept)}; possible: {self._known()}")
        return chosen, _usable(self.by_type[chosen])

    def utf8(self, content_type: str, body: bytes) -> bytes:
        """Return `body` as the codecs read it: text in UTF-8, whatever charset `content_type` names.

        The parameter means nothing where the media type is not one of text. Raises `DecodeError` where
        the bytes are not of the charset, and `UnsupportedMediaTypeError` for a charset that is not known.
        """
        if ";" not in content_type or not self._is_text(content_type):
            return body
        charset = foreign_charset(content_type)
        if not charset:
            return body
        try:
            return body.decode(charset).encode("utf-8")
        except UnicodeError as error:
            raise DecodeError(f"the body is not {charset.replace('_', '-')}: {error}") from error

    def _is_text(self, content_type: str) -> bool:
        media_type = parse_media_type(content_type)
        essence = media_type.essence if media_type else ""
        return essence in self._texts or essence.startswith("text/")

    def _known(self) -> str:
        return ", ".join(sorted(self.by_type))


def _codec_or_error(
    registry: Registry[Codec], media_type: str, strict: str, options: Mapping[str, Mapping[str, Any]]
) -> Codec | ModelyardError:
    try:
        # There is one: the media type was taken from what the codecs declare.
        provider = cast("Provider[Codec]", registry.declaring("media_types", media_type))
    except ModelyardError as error:
        return error
    given = _options(provider, strict, options)
    try:
        return provider.create(given)
    except ModelyardError as error:
        if given and isinstance(error, InvalidPlanError):
            raise  # The options are the caller's.
        return error
    except Exception as error:  # noqa: BLE001 - a codec may lack what it needs; others go on without it
        return PluginError(f"the codec of {media_type} cannot be made: {type(error).__name__}: {error}")


def _options(
    provider: Provider[Codec], strict: str, options: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    own = options.get(provider.name, {})
    if strict and "strict" in inspect.signature(provider.cls).parameters:
        return {"strict": strict, **own}
    return own


def _withheld(codec: Codec | ModelyardError) -> bool:
    return isinstance(codec, GuardedCodec) and not codec.trusted


def _usable(codec: Codec | ModelyardError) -> Codec:
    if isinstance(codec, ModelyardError):
        # Raised again and again: it must not collect the frames of every request.
        raise codec.with_traceback(None)
    return codec
