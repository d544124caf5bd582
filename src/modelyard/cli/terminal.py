"""What the output goes to: its width, its characters, its colours."""

import os
import shutil
from typing import Self, TextIO

import attrs

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36}


@attrs.frozen
class Terminal:
    """``width``: columns, None where lines are not cut; ``unicode``: whether it can show more than ASCII."""

    width: int | None = None
    unicode: bool = True
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Self:
        """Return what `stream` is. A pipe or a file has no width and no colour.

        ``COLUMNS`` sets the width of a terminal and ``NO_COLOR`` takes its colour away.
        """
        live = stream.isatty()
        colour = live and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(shutil.get_terminal_size().columns if live else None, _is_unicode(stream), colour)

    def paint(self, text: str, colour: str | None) -> str:
        """Return `text` in a colour (``red``, ``green``, ``yellow``, ``cyan``), where there are any."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self.colour and colour and text else text

    def cut(self, text: str) -> str:
        """Return `text` shortened to one line."""
        if self.width is None or len(text) <= self.width:
            return text
        mark = "…" if self.unicode else "..."
        return text[: self.width - len(mark)] + mark


def _is_unicode(stream: TextIO) -> bool:
    try:
        "⣿│…".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
