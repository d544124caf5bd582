"""Tracebacks in the text that a program wrote to its standard error.

Known by their form, frames and then the exception's name: a SyntaxError of the script itself has no
header. Torch begins each line of a rank's with ``[rank0]: ``; the lines of an exception group have a margin.
What the interpreter or asyncio prints of an exception that ended nothing is left out.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import attrs

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RANK = re.compile(r"^(\[rank\d+\]): (.*)$")
_MARGIN = re.compile(r"^ +\| ?")
_FRAME = re.compile(r'^\s*File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
_RAISED = re.compile(r"^[A-Za-z_][\w.<>]*(:.*)?$")
_HEADER = re.compile(r"^\s*(\+ )?(.* )?Traceback \(most recent call last\):$|^ *\+[-+ \d]*$")
_LINKS = {
    "The above exception was the direct cause of the following exception:": "caused by",
    "During handling of the above exception, another exception occurred:": "while handling",
}
# What torchrun raises itself, because a rank has failed.
_REPORT = "ChildFailedError"
_PRINTED = r"Traceback \(most recent call last\):\n(?:[ \t].*\n)*(?:\S.*\n?)?"
_LINKED = rf"{_PRINTED}(?:\n(?:{'|'.join(map(re.escape, _LINKS))})\n\n{_PRINTED})*"
_IGNORED = re.compile(
    r"^(?:Exception ignored .*\n|Error in atexit\._run_exitfuncs:\n"
    r"|.*(?:Task|Future) exception was never retrieved\n(?:future: .*\n)?)"
    rf"(?:{_LINKED}|[A-Za-z_][\w.]*(?:: .*)?\n?)?",
    re.MULTILINE,
)


@attrs.define
class Raised:
    """An exception of which a traceback was printed.

    ``said``: its name and the first line of its message; ``place``: the user's line that led to it;
    ``more``: the message's other lines, and what else came after; ``before``: the exception that it
    follows, and how; ``line``: the number of the line with its name, from 0; ``final``: whether it is
    known to have ended its process, and not only to have been printed.
    """

    said: str
    place: str
    line: int
    before: str = ""
    more: list[str] = attrs.Factory(list)
    final: bool = False

    @property
    def is_report(self) -> bool:
        """Whether it only reports another one."""
        return self.said.partition(":")[0].endswith(_REPORT)


def without_ignored(text: str) -> str:
    """Return as many lines, those of exceptions that ended nothing empty, and nothing coloured."""
    return _IGNORED.sub(lambda ignored: "\n" * ignored[0].count("\n"), _COLOUR.sub("", text))


def last(text: str) -> Raised | None:
    """Return the exception that ended the program, by what it printed; None without a traceback.

    It is the last one of a text `without_ignored`. Where several ranks wrote to the same stream, which
    torch's mark tells, the rank counts that came to its last one first. What torch marks and what a
    report follows is ``final``. The user's lines are those whose file is relative.
    """
    found = {mark: list(_exceptions(lines)) for mark, lines in _by_rank(text).items()}
    finals = [exceptions[-1] for mark, exceptions in found.items() if mark and exceptions]
    if finals:
        return attrs.evolve(min(finals, key=lambda raised: raised.line), final=True)
    others = found.get("", [])
    if not others:
        return None
    cause = next((raised for raised in reversed(others) if not raised.is_report), others[-1])
    return attrs.evolve(cause, final=others[-1].is_report)


def _by_rank(text: str) -> dict[str, list[tuple[int, str]]]:
    """Return the numbered lines of each rank, by torch's mark; those without one under ``""``."""
    lines = defaultdict[str, list[tuple[int, str]]](list)
    for number, line in enumerate(text.split("\n")):
        mark, rest = match.groups() if (match := _RANK.match(line)) else ("", line)
        lines[mark].append((number, _MARGIN.sub("", rest)))
    return lines


def _exceptions(lines: Sequence[tuple[int, str]]) -> Iterator[Raised]:
    frames: list[re.Match[str]] = []
    raised: Raised | None = None
    before = ""
    for number, line in lines:
        if frame := _FRAME.match(line):
            frames.append(frame)
        elif frames and _RAISED.match(line):
            raised, frames, before = Raised(line, _place(frames), number, before), [], ""
            yield raised
        elif link := _LINKS.get(line):
            before = f"{link} {raised.said} ({raised.place})" if raised else ""
            raised = None
        elif _HEADER.match(line):
            raised = None
        elif raised and not frames:
            raised.more.append(line)


def _place(frames: Sequence[re.Match[str]]) -> str:
    users = [frame for frame in frames if not frame["file"].startswith(("/", "<"))]
    frame = (users or frames)[-1]
    where = f", in {frame['function']}" if frame["function"] else ""
    return f"{frame['file']}, line {frame['line']}{where}"
