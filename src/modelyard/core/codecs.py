"""Which codec reads a Content-Type, and which one writes what an Accept header asks for."""

from collections.abc import Iterator, Mapping
from typing import Self, cast

import attrs

from modelyard.core.contracts import Codec
from modelyard.core.errors import (
    ModelyardError,
    NotAcceptableError,
    PluginError,
    UnsupportedMediaTypeError,
)
from modelyard.core.media_types import negotiate, parse_media_type
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

    @classmethod
    def of(cls, registry: Registry[Codec], *, default_accept: str = "") -> Self:
        """Return the table of all codecs, the default media type first."""
        names = sorted(registry.declared("media_types"), key=lambda name: (name != default_accept, name))
        return cls({name: _codec_or_error(registry, name) for name in names}, default_accept)

    def usable(self) -> Iterator[Codec]:
        """Yield the codecs, one for each media type."""
        return (codec for codec in self.by_type.values() if not isinstance(codec, ModelyardError))

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
        return ", ".join(sorted(self.by_type))


def _codec_or_error(registry: Registry[Codec], media_type: str) -> Codec | ModelyardError:
    try:
        # There is one: the media type was taken from what the codecs declare.
        return cast("Provider[Codec]", registry.declaring("media_types", media_type)).create()
    except ModelyardError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a codec may lack what it needs; others go on without it
        return PluginError(f"the codec of {media_type} cannot be made: {type(error).__name__}: {error}")


def _usable(codec: Codec | ModelyardError) -> Codec:
    if isinstance(codec, ModelyardError):
        # Raised again and again: it must not collect the frames of every request.
        raise codec.with_traceback(None)
    return codec
