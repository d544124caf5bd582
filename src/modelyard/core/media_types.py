"""Media types, charsets and the Accept header, as RFC 9110 says (sections 5.6.6, 8.3.1, 8.3.2, 12.5.1)."""

import re
from collections.abc import Iterable, Mapping
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import lru_cache
from itertools import islice

import attrs

from modelyard.core.errors import UnsupportedMediaTypeError
from modelyard.core.values import freeze

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a grammar's token, not a secret
_TYPE = re.compile(rf"\s*({_TOKEN})/({_TOKEN})\s*")
_PARAMETER = re.compile(rf"\s*;\s*(?:({_TOKEN})=({_TOKEN}|\"(?:[^\"\\]|\\.)*\"))?\s*")
# A quotation that never ends goes to the end of the text: where it is looked for anew from every place
# on, a header of 64 KB takes a minute.
_ELEMENT = re.compile(r'(?s)(?:[^,"]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))++')

MAX_RANGES = 64
"""Of an Accept header; a browser sends ten. What follows them is passed over."""

# Bytes to bytes, text to text, and the locale of a Windows machine.
_NO_CHARSETS = {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "uu_codec", "zlib_codec"}
_CHARSETS = {"koi8_u", "utf_8_sig", *aliases.values()} - _NO_CHARSETS - {"mbcs", "rot_13"}


@attrs.frozen
class MediaType:
    """One media type: ``essence`` (``type/subtype``, lower case) and its parameters."""

    essence: str
    parameters: Mapping[str, str] = attrs.field(factory=dict, converter=freeze)

    @property
    def quality(self) -> float:
        """The weight ``q``, from 0 to 1; 1 where it is absent or makes no sense."""
        try:
            weight = float(self.parameters.get("q", 1))
        except ValueError:
            return 1.0
        return weight if 0.0 <= weight <= 1.0 else 1.0

    def covers(self, essence: str) -> bool:
        """Tell whether this media range includes the media type `essence`."""
        kind, _, subtype = self.essence.partition("/")
        return self.essence in ("*/*", essence) or (subtype == "*" and essence.startswith(kind + "/"))


# Few, for each may be as long as a header: clients send a dozen, and hostile ones must not fill the memory.
@lru_cache(maxsize=128)
def parse_media_type(text: str) -> MediaType | None:
    """Return the media type that a Content-Type header holds, or None where it is not one."""
    match = _TYPE.match(text)
    if match is None:
        return None
    essence, position = f"{match[1]}/{match[2]}".lower(), match.end()
    parameters = {}
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None or match.end() == position:
            return None
        if match[1]:
            value = match[2]
            parameters[match[1].lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] == '"' else value
        position = match.end()
    return MediaType(essence, parameters)


def fault_of(declared: str) -> str:
    """Return what is wrong with a media type that a codec declares, in words; empty for nothing."""
    parsed = parse_media_type(declared)
    if parsed is None:
        return f"{declared!r} is not a media type"
    if "*" in declared:
        return f"{declared!r} is not a media type: {declared!r} is a range of them"
    return "" if parsed.essence == declared else f"{declared!r} must be written {parsed.essence!r}"


def excerpt(header: str) -> str:
    """Return what an error message shows of a header's text."""
    return repr(header if len(header) <= 100 else header[:100] + "...")


@lru_cache(maxsize=128)
def foreign_charset(content_type: str) -> str:
    """Return Python's name of the charset that a Content-Type names; empty for UTF-8, and for none.

    Raises `UnsupportedMediaTypeError` for a charset that Python does not know.
    """
    media_type = parse_media_type(content_type)
    named = media_type.parameters.get("charset", "") if media_type else ""
    if not named:
        return ""
    # Looked up here: Python's own look-up keeps every name that it was ever asked for, known or not.
    name = normalize_encoding(named).lower()
    charset = aliases.get(name, name)
    if charset not in _CHARSETS:
        raise UnsupportedMediaTypeError(f"the charset {excerpt(named)} is not known; send UTF-8")
    return "" if charset == "utf_8" else charset


@lru_cache(maxsize=128)
def parse_accept(text: str) -> tuple[MediaType, ...]:
    """Return the media ranges of an Accept header, the most wanted first.

    Ranges of one weight are ordered by how specific they are, then as written. Elements that are
    not media ranges are passed over; an empty header accepts everything.
    """
    elements = islice(_ELEMENT.finditer(text), MAX_RANGES)
    parsed = (parse_media_type(element[0]) for element in elements)
    ranges = [media_type for media_type in parsed if media_type is not None]
    if not ranges:
        return (MediaType("*/*"),) if not text.strip() else ()
    return tuple(sorted(ranges, key=lambda m: (-m.quality, m.essence.count("*"))))


def negotiate(accept: str, offers: Iterable[str]) -> str | None:
    """Return the offer that `accept` wants most, or None if it accepts none of them.

    Among offers that are equally wanted the first one wins. An offer's weight is that of the most
    specific range that covers it, so ``*/*, text/csv;q=0`` excludes CSV.
    """
    return _negotiated(accept, tuple(offers))


@lru_cache(maxsize=128)
def _negotiated(accept: str, offers: tuple[str, ...]) -> str | None:
    ranges = parse_accept(accept)
    best, best_rank = None, (0.0, 0)
    for offer in offers:
        covering = [(r.essence.count("*"), i, r) for i, r in enumerate(ranges) if r.covers(offer)]
        if not covering:
            continue
        _, place, most_specific = min(covering, key=lambda item: item[:2])
        rank = (most_specific.quality, -place)
        if most_specific.quality > 0 and (best is None or rank > best_rank):
            best, best_rank = offer, rank
    return best
