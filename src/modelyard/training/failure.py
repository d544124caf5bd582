"""Why a script failed, in the 1,024 bytes that SageMaker shows of ``output/failure``."""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from modelyard.core.contracts import RankFailure
from modelyard.core.handover import FAILURE_BYTES, clip
from modelyard.core.layout import log_beside
from modelyard.core.processes import exit_status, signal_name
from modelyard.training.supervisor import Outcome
from modelyard.training.tails import Said

if TYPE_CHECKING:
    from modelyard.training.tracebacks import Raised

_DYING_SECONDS = 10.0
"""How long after its last traceback a process may take to end of it."""

_RULES = " \t\r-=_*#~+|"
"""What a line is drawn with that says nothing."""

_DYING_WORDS = 50
"""How many lines it may print meanwhile."""


def witness(outcome: Outcome, first: RankFailure | None = None) -> Said:
    """Return what the process said whose failure counts.

    That of the rank which failed `first`, where that is known. Else of the rank whose last traceback
    was printed first; one that lived on for long had handled it. Else of the command itself, or of the
    rank that ended first where the command only reports that its ranks have failed.
    """
    if first:
        return next((said for said in outcome.ranks if said.rank == first.rank), outcome.stderr)
    raising = ((said, _raised_at(said)) for said in outcome.ranks)
    failed = [(said.ended - at > _DYING_SECONDS, at, said) for said, at in raising if at is not None]
    if failed:
        return min(failed, key=lambda found: found[:2])[2]
    spoke = [said for said in outcome.ranks if said.text.strip()]
    raised = _raised(_spoken(outcome.stderr)) if spoke else None
    return min(spoke, key=lambda said: said.ended) if raised and raised.is_report else outcome.stderr


def moment(said: Said) -> float:
    """Return when a process failed, in seconds since 1970: its last traceback was whole, or it ended."""
    at = _raised_at(said)
    return said.ended if at is None else at


def exit_code(outcome: Outcome, first: RankFailure | None = None) -> int:
    """Return the exit code of the job: that of the rank which failed `first`, else the command's."""
    if first and first.status and outcome.exit_code:
        return exit_status(first.status)
    return outcome.exit_code


def reason(program: str, outcome: Outcome, code_dir: Path, first: RankFailure | None = None) -> str:
    """Return what ended the script and where, in at most 1,024 bytes.

    `first`: which rank failed first and how, where the launcher's tool has told. The line is the
    user's: the innermost one of a file below `code_dir`. An exception that the script seems to have
    survived is only what came before.
    """
    if not outcome.started:
        return clip(f"stopped by {signal_name(outcome.signal)} before {program} was started")
    said = witness(outcome, first)
    ended_by = _signal(outcome, first)
    head = f"{_who(program, outcome, said, first)} {_how(outcome, first, ended_by)}"
    # What a process said before it was killed from outside is not why.
    if ended_by in (signal.SIGKILL, signal.SIGTERM):
        return clip(head)
    text = _spoken(said).replace(f"{code_dir}/", "").replace(f"{code_dir.resolve()}/", "")
    raised = _raised(text)
    if not raised:
        _, last = _last_line(text)
        return clip(f"{head}: {last}" if last else head)
    if first and raised.is_report:
        return clip(head)  # The rank is one of another host; the report says what is said already.
    if not _survived(raised, said, ended_by):
        return _with_exception(f"{head}: ", raised)
    number, last = _last_line(text, raised.line + 1)
    if last and _led_to_the_end(said, number):
        head += f": {_shortened(last, FAILURE_BYTES // 4)}"
    return _with_exception(f"{head}; before: ", attrs.evolve(raised, more=[]))


def record(path: Path, text: str, full: str = "", at: float | None = None) -> str:
    """Write the failure file unless the script wrote its own; return what it says now.

    `full`: all that there is to say, written beside it as ``failure.log``; `at`: the moment of the
    failure in seconds since 1970, which becomes the file's time: by it a platform tells which of
    several hosts failed first. Where nothing can be written it goes to standard error; never raises.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if full:
            log_beside(path).write_text(full, "utf-8", "replace")
        if path.exists() and not path.is_file():  # A pipe of that name would be waited for.
            return _said_instead(text, path, "it is no file")
        own = path.read_text("utf-8", "replace").strip() if path.exists() else ""
        if own:
            return clip(own)
        path.write_text(text, "utf-8", "replace")
        if at is not None:
            os.utime(path, (at, at))
    except OSError as error:
        return _said_instead(text, path, str(error))
    return text


def _said_instead(text: str, path: Path, why: str) -> str:
    """Say on standard error what cannot be written, and return it."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"modelyard: {text}\nmodelyard: {path} cannot be written: {why}\n")
    return text


def _spoken(said: Said) -> str:
    # Its expressions are compiled for jobs that fail only: every job starts with importing this module.
    from modelyard.training import tracebacks

    return tracebacks.without_ignored(said.text)


def _raised(spoken: str) -> "Raised | None":
    from modelyard.training import tracebacks

    return tracebacks.last(spoken)


def _raised_at(said: Said) -> float | None:
    raised = _raised(_spoken(said))
    return said.read_at(raised.line) if raised else None


def _survived(raised: "Raised", said: Said, ended_by: int) -> bool:
    """Whether the process went on after the traceback, by what it did then.

    Of an exception a process exits, aborts, or is interrupted; no other signal is the end of one.
    """
    if raised.final:
        return False
    # A message's own lines are often indented, or torch's frames in C++.
    words = [line for line in raised.more if line[:1].strip() and not line.startswith("frame #")]
    deadly = ended_by in (0, signal.SIGABRT, signal.SIGINT)
    return not deadly or len(words) > _DYING_WORDS or not _led_to_the_end(said, raised.line)


def _led_to_the_end(said: Said, line: int) -> bool:
    return said.ended - said.read_at(line) <= _DYING_SECONDS


def _signal(outcome: Outcome, first: RankFailure | None) -> int:
    return max(-first.status, 0) if first else outcome.signal


def _who(program: str, outcome: Outcome, said: Said, first: RankFailure | None) -> str:
    """Return the program, with its rank and host where there are several."""
    rank = first.rank if first else said.rank
    several = said.host or len(outcome.ranks) > 1 or (first and first.rank > 0)
    known_host = said.host if rank == said.rank else ""
    whose = f"rank {rank} of {program}" if rank is not None and several else program
    if rank is None and outcome.ranks and outcome.signal:
        whose = f"what launched {program}"
    return f"{whose} on {known_host}" if known_host else whose


def _how(outcome: Outcome, first: RankFailure | None, ended_by: int) -> str:
    if not ended_by:
        return f"exited with code {exit_code(outcome, first)}"
    # A rank that a tool names failed first: a stop that came meanwhile is for what another host lost with it.
    by_us = outcome.stopped and not first
    hint = " (often: out of memory)" if ended_by == signal.SIGKILL and not by_us else ""
    return f"was killed by {signal_name(ended_by)}{hint}"


def _with_exception(head: str, raised: "Raised") -> str:
    """Return the exception and its place, which is never cut off, and what else there is room for."""
    place = f" ({raised.place})"
    room = FAILURE_BYTES - _size(head + place)
    text = head + _shortened(raised.said, room) + place
    if raised.before:
        text += f"; {raised.before}"
    return _with_last_line(text, "\n".join([text, *raised.more]).rstrip())


def _with_last_line(kept: str, text: str) -> str:
    """Return `text`, of which `kept` is the beginning, cut before its last line if it must be cut."""
    before, _, line = text.rpartition("\n")
    end = f"\n...\n{_shortened(line, FAILURE_BYTES // 4)}"
    if _size(before) <= FAILURE_BYTES - _size(end) or _size(kept + end) > FAILURE_BYTES:
        return clip(text)
    room = FAILURE_BYTES - _size(end)
    return before.encode("utf-8", "replace")[:room].decode("utf-8", "ignore") + end


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _shortened(text: str, size: int) -> str:
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= size else encoded[: max(size - 3, 0)].decode("utf-8", "ignore") + "..."


def _last_line(text: str, start: int = 0) -> tuple[int, str]:
    """Return the last line that says something, from that of the number `start` on, and its number."""
    lines = list(enumerate(text.split("\n")))[start:]
    said = ((number, line.strip()) for number, line in reversed(lines) if line.strip(_RULES))
    return next(said, (start, ""))
