"""Why a script failed, in the 1,024 bytes that SageMaker shows of ``output/failure``."""

import re
import signal
from pathlib import Path

from modelyard.core.handover import clip
from modelyard.core.processes import signal_name
from modelyard.training.supervisor import Outcome

_GROUP_MARGIN = re.compile(r"^ +\| ?")
_FRAME = re.compile(r'^\s*File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')


def reason(program: str, outcome: Outcome, code_dir: Path) -> str:
    """Return what ended the script and where, from its exit code and the end of its stderr."""
    stderr = outcome.stderr_tail.replace(f"{code_dir}/", "").replace(f"{code_dir.resolve()}/", "")
    said = _exception(stderr) or _last_line(stderr)
    text = f"{program} {_how(outcome)}" + (f": {said}" if said else "")
    return clip(text)


def record(path: Path, text: str) -> str:
    """Write the failure file unless the script wrote its own; return what it says now."""
    own = path.read_text("utf-8", "replace").strip() if path.is_file() else ""
    if own:
        return clip(own)
    path.write_text(text, "utf-8", "replace")
    return text


def _how(outcome: Outcome) -> str:
    if not outcome.signal:
        return f"exited with code {outcome.exit_code}"
    hint = " (often: out of memory)" if outcome.signal == signal.SIGKILL and not outcome.stopped else ""
    return f"was killed by {signal_name(outcome.signal)}{hint}"


def _exception(stderr: str) -> str:
    """Return the last exception of which a traceback was printed, with the user's line that led to it.

    Known by its form, frames and then a line that is not indented: a SyntaxError of the script
    itself has no header. The user's lines are those whose file has no absolute path any more.
    """
    frames: list[re.Match[str]] = []
    said = ""
    for line in (_GROUP_MARGIN.sub("", line) for line in stderr.splitlines()):
        if frame := _FRAME.match(line):
            frames.append(frame)
        elif frames and line and not line[0].isspace():
            users = [frame for frame in frames if not frame["file"].startswith(("/", "<"))]
            said, frames = f"{line} ({_place((users or frames)[-1])})", []
    return said


def _place(frame: re.Match[str]) -> str:
    where = f", in {frame['function']}" if frame["function"] else ""
    return f"{frame['file']}, line {frame['line']}{where}"


def _last_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else ""
