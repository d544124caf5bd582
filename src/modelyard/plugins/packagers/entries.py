"""What an archive is made of, and which names may stand in one."""

import enum
import unicodedata
from collections.abc import Iterable

import attrs

MAX_LEVELS = 32
_MAX_PART = 255
_MAX_NAME = 1024
"""Of a whole name, so that it fits into PATH_MAX below any folder it is unpacked into."""

_MAX_SHOWN = 120


class EntryKind(enum.Enum):
    """The three kinds of entries: devices, pipes and symbolic links are never packed or unpacked."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    """Another name for an earlier file of the archive."""


@attrs.frozen
class Entry:
    """One entry of an archive, under its canonical name.

    ``chunks``: the content of a file, to be read once and before the next entry is asked for;
    ``target``: of a link, the name of the earlier file; ``size``: bytes of the content, of the
    target's content for a link.
    """

    name: str
    kind: EntryKind = EntryKind.FILE
    size: int = 0
    executable: bool = False
    chunks: Iterable[bytes] = ()
    target: str = ""


def canonical_name(raw: str) -> str:
    """Return `raw` without the parts that say nothing (``./a//b/`` is ``a/b``); the root is empty."""
    return "/".join(part for part in raw.split("/") if part not in ("", "."))


def name_fault(raw: str) -> str:
    """Return why nothing may be packed or unpacked under the name `raw`; empty where it may."""
    parts = canonical_name(raw).split("/")
    faults = {
        "is absolute": raw.startswith("/"),
        "has a '..' in it": ".." in parts,
        "has a control character in it": _has_control(raw),
        f"is nested deeper than {MAX_LEVELS} levels": len(parts) > MAX_LEVELS,
        f"has a part of more than {_MAX_PART} bytes": any(_bytes(part) > _MAX_PART for part in parts),
        f"is longer than {_MAX_NAME:,} bytes": _bytes(raw) > _MAX_NAME,
    }
    return next((fault for fault, present in faults.items() if present), "")


def _has_control(text: str) -> bool:
    plain = text.isascii() and text.isprintable()
    return not plain and any(unicodedata.category(char) == "Cc" for char in text)


def shown(name: str) -> str:
    """Return `name` for an error message: quoted, escaped and of bounded length."""
    return repr(name if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]}...")


def is_below(name: str, tops: Iterable[str]) -> bool:
    """Tell whether `name` is one of `tops` or lies in one of them."""
    return any(name == top or name.startswith(f"{top}/") for top in tops)


class Names:
    """The names of an archive so far, by which a file can never become a folder or the reverse."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self._folders: set[str] = set()
        self._taken: set[str] = set()
        self._parents: set[str] = set()

    def __len__(self) -> int:
        return len(self.files) + len(self._folders)

    def add(self, entry: Entry) -> bool:
        """Note an entry; False where it, or a folder that it lies in, is of another kind already."""
        own = self._folders if entry.kind is EntryKind.FOLDER else self.files
        own.add(entry.name)
        self._parents |= _parents(entry.name)
        return self.files.isdisjoint(_parents(entry.name)) and not self._is_both(entry.name)

    def take_empty_folders(self) -> list[str]:
        """Return the folders that nothing lies in so far, sorted, and each of them once."""
        empty = self._folders - self._parents - self._taken
        self._taken |= empty
        return sorted(empty)

    def _is_both(self, name: str) -> bool:
        return name in self.files and (name in self._folders or name in self._parents)


def _parents(name: str) -> set[str]:
    parts = name.split("/")
    return {"/".join(parts[:depth]) for depth in range(1, len(parts))}


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
