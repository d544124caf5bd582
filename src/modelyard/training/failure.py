"""Why a script failed, in the 1,024 bytes that SageMaker shows of ``output/failure``."""

import re
import signal
from pathlib import Path

from modelyard.training.supervisor import Outcome

LIMIT = 1024

_GROUP_MARGIN = re.compile(r"^ +\| ?")
_FRAME = re.compile(r'^\s*File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')


def reason(program: str, outcome: Outcome, code_dir: Path) -> str:
    """Return what ended the script and where, from its exit code and the end of its stderr."""
    stderr = outcome.stderr_tail.replace(f"{code_dir}/", "").replace(f"{code_dir.resolve()}/", "")
    said = _exception(stderr) or _last_line(stderr)
    text = f"{program} {_how(outcome)}" + (f": {said}" if said else "")
    return clip(text)


def clip(text: str) -> str:
    """Return `text` cut to `LIMIT` bytes of UTF-8, at a character's end."""
    return text.encode("utf-8", "replace")[:LIMIT].decode("utf-8", "ignore")


def record(path: Path, text: str) -> str:
    """Write the failure file unless the script wrote its own; return what it says now."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return clip(path.read_text("utf-8", "replace").strip()) or text
    return text


def _how(outcome: Outcome) -> str:
    if not outcome.signal:
        return f"exited with code {outcome.exit_code}"
    try:
        name = signal.Signals(outcome.signal).name
    except ValueError:
        name = f"signal {outcome.signal}"
    hint = " (often: out of memory)" if outcome.signal == signal.SIGKILL and not outcome.stopped else ""
    return f"was killed by {name}{hint}"


def _exception(stderr: str) -> str:
    """Return the last exception of which a traceback was printed, with the place that raised it.

    Known by its form, frames and then a line that is not indented: a SyntaxError of the script
    itself has no header.
    """
    place = said = ""
    for line in (_GROUP_MARGIN.sub("", line) for line in stderr.splitlines()):
        if frame := _FRAME.match(line):
            where = f", in {frame['function']}" if frame["function"] else ""
            place = f" ({frame['file']}, line {frame['line']}{where})"
        elif place and line and not line[0].isspace():
            said, place = line + place, ""
    return said


def _last_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else ""
