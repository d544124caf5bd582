"""Media types and the Accept header, parsed as RFC 9110 says (sections 5.6.6, 8.3.1 and 12.5.1)."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import attrs

from modelyard.core.values import freeze

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a grammar's token, not a secret
_TYPE = re.compile(rf"\s*({_TOKEN})/({_TOKEN})\s*")
_PARAMETER = re.compile(rf"\s*;\s*(?:({_TOKEN})=({_TOKEN}|\"(?:[^\"\\]|\\.)*\"))?\s*")
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')


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


@lru_cache(maxsize=512)
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


@lru_cache(maxsize=512)
def parse_accept(text: str) -> tuple[MediaType, ...]:
    """Return the media ranges of an Accept header, the most wanted first.

    Ranges of one weight are ordered by how specific they are, then as written. Elements that are
    not media ranges are passed over; an empty header accepts everything.
    """
    parsed = (parse_media_type(element) for element in _ELEMENT.findall(text))
    ranges = [media_type for media_type in parsed if media_type is not None]
    if not ranges:
        return (MediaType("*/*"),) if not text.strip() else ()
    return tuple(sorted(ranges, key=lambda m: (-m.quality, m.essence.count("*"))))


def negotiate(accept: str, offers: Iterable[str]) -> str | None:
    """Return the offer that `accept` wants most, or None if it accepts none of them.

    Among offers that are equally wanted the first one wins. An offer's weight is that of the most
    specific range that covers it, so ``*/*, text/csv;q=0`` excludes CSV.
    """
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
