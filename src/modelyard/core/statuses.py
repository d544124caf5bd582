"""What is known of a plugin, for people: a row of ``modelyard plugins list``."""

import importlib
import os
from pathlib import Path

import attrs

_NOT_THEIRS = (f"{Path(__file__).parents[1]}{os.sep}", f"{Path(str(importlib.__file__)).parent}{os.sep}")
"""The folders of modelyard and of importlib, which have imported and called the plugin."""
_SHOWN = 200
"""Characters of what a hook returned."""


@attrs.define
class PluginStatus:
    """One plugin: ``state`` is ``active``, ``failed`` or ``disabled``; ``error`` says why it failed.

    ``notes``: what else a person should know of it, most of it about what it does to others when it is
    imported; ``seconds``: how long it took to import, with the classes that it registers.
    """

    plugin: str
    distribution: str = ""
    version: str = ""
    state: str = "active"
    error: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def source(self) -> str:
        """The distribution and its version, for people; the plugin's name where there is none."""
        return f"{self.distribution} {self.version}".strip() or self.plugin

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes = (*self.notes, text)


def described(error: BaseException) -> str:
    """Return an error's type and message, even where the message cannot be made."""
    try:
        return f"{type(error).__name__}: {error}{_where(error)}"
    except Exception as again:  # noqa: BLE001 - a third party's class, which may do anything
        return f"{type(error).__name__} (its message cannot be made: {type(again).__name__})"


def _where(error: BaseException) -> str:
    """Return the file and line that raised an error, as its message does not say them."""
    import traceback  # Most plugins do not fail.

    if isinstance(error, SyntaxError):
        return ""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", *_NOT_THEIRS))
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def shown(value: object) -> str:
    """Return what an error message shows of what a hook returned."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a third party's class, which may do anything
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
