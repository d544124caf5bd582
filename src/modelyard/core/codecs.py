"""Which codec reads a Content-Type, and which one writes what an Accept header asks for."""

from collections.abc import Mapping
from typing import Self

import attrs

from modelyard.core.contracts import Codec
from modelyard.core.errors import NotAcceptableError, ProviderConflictError, UnsupportedMediaTypeError
from modelyard.core.media_types import negotiate, parse_media_type
from modelyard.core.registry import Registry


@attrs.frozen
class CodecTable:
    """Every registered codec by media type, bound once.

    A conflict over a media type is kept, and raised when that type is asked for.
    ``default_accept``: the media type for clients that take any; ``note``: the end of an error
    message, about plugins that failed to load.
    """

    by_type: Mapping[str, Codec | ProviderConflictError]
    default_accept: str = ""
    note: str = ""

    @classmethod
    def of(cls, registry: Registry[Codec], *, default_accept: str = "") -> Self:
        """Return the table of all codecs, the default media type first."""
        names = sorted(registry.declared("media_types"), key=lambda name: (name != default_accept, name))
        table = {name: _codec_or_conflict(registry, name) for name in names}
        return cls(table, default_accept, registry.note())

    def reading(self, content_type: str) -> Codec:
        """Return the codec of a Content-Type. Raises `UnsupportedMediaTypeError`."""
        media_type = parse_media_type(content_type)
        codec = self.by_type.get(media_type.essence) if media_type else None
        if codec is None:
            said = f"{content_type!r} is not supported" if content_type.strip() else "Content-Type is missing"
            raise UnsupportedMediaTypeError(f"{said}; supported: {self._known()}")
        return _usable(codec)

    def writing(self, accept: str) -> tuple[str, Codec]:
        """Return the media type that `accept` wants most, and its codec. Raises `NotAcceptableError`."""
        chosen = negotiate(accept, self.by_type)
        if chosen is None:
            raise NotAcceptableError(f"cannot answer with {accept!r}; possible: {self._known()}")
        return chosen, _usable(self.by_type[chosen])

    def _known(self) -> str:
        return ", ".join(sorted(self.by_type)) + self.note


def _codec_or_conflict(registry: Registry[Codec], media_type: str) -> Codec | ProviderConflictError:
    try:
        provider = registry.declaring("media_types", media_type)
    except ProviderConflictError as conflict:
        return conflict
    if provider is None:
        raise LookupError(media_type)
    return provider.create()


def _usable(codec: Codec | ProviderConflictError) -> Codec:
    if isinstance(codec, ProviderConflictError):
        raise codec
    return codec
