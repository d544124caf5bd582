"""Where a source says ``/opt/ml``: folders that exist on SageMaker and in its containers, not here."""

import ast
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import attrs

from modelyard.core.errors import InvalidPlanError
from modelyard.plugins.backends.local.rooms import OPT_ML

# Not `/opt/mlflow`, and not `/home/me/opt/ml`.
_OPT_ML = rf"(?<![\w.~-]){OPT_ML}(?![\w.-])"
_SETTINGS = frozenset({".cfg", ".ini", ".json", ".toml", ".yaml", ".yml"})
_SHELL = frozenset({".bash", ".sh"})
_LINE_END = re.compile(r"\r\n?|\n")
"""What ends a line for Python, which counts no form feeds."""

_LARGEST = 1 << 20
_SHOWN = 3

_VARIABLES = {
    "model": "SM_MODEL_DIR",
    "output/data": "SM_OUTPUT_DATA_DIR",
    "output/intermediate": "SM_OUTPUT_INTERMEDIATE_DIR",
    "output": "SM_OUTPUT_DIR",
    "input/config": "SM_INPUT_CONFIG_DIR",
    "input": "SM_INPUT_DIR",
    "code": "SM_MODULE_DIR",
}
"""What holds the path of a folder, the deeper folder first."""

_TOLD = rf"(?:{'|'.join(_VARIABLES.values())}|SM_CHANNEL_\w+)"
"""Variables that a job has: what a script says for the case that they are missing is never used."""

_SHELL_DEFAULT = rf"\$\{{{_TOLD}:?[-=][^}}]*\}}"


@attrs.frozen
class Mention:
    """A line of a source that says ``/opt/ml``. ``file``: relative to the source; ``line``: from 1."""

    file: str
    line: int
    text: str


def mentions(source: Path) -> tuple[Mention, ...]:
    """Return the lines of a source, a folder or one file, that need ``/opt/ml`` to exist.

    Looks at Python, shell and settings files and at anything that names its interpreter, of up to
    1 MiB. Comments and docstrings do not count, nor does the default of an environment variable that a
    job has anyway, as in ``os.environ.get("SM_MODEL_DIR", "/opt/ml/model")``. A path that is put
    together from parts is not found.
    """
    found: list[Mention] = []
    for path in _files(source):
        name = str(path.relative_to(source)) if path != source else path.name
        if OPT_ML in (text := _text(path)):
            lines = _LINE_END.split(text)
            numbers = _python(text, lines) if path.suffix == ".py" else _others(lines)
            found.extend(Mention(name, number, lines[number - 1].strip()) for number in numbers)
    return tuple(found)


def refuse(found: Sequence[Mention], why: str) -> InvalidPlanError:
    """Return the error for a source that needs ``/opt/ml``, where the job cannot have it because of `why`."""
    places = [f"  {mention.file}:{mention.line}: {mention.text}" for mention in found[:_SHOWN]]
    if more := len(found) - _SHOWN:
        places += [f"  and {more} more"] if more > 0 else []
    return InvalidPlanError(
        f"the script needs {OPT_ML}, which a local job cannot be shown on this machine ({why}):\n"
        + "\n".join(places)
        + f"\nTake the path from the job's environment, as in {_instead(found[0].text)}: it is right "
        "here and on SageMaker; or run the job in a container."
    )


def _instead(text: str) -> str:
    """Return the expression that stands for the path in a line of code."""
    said = re.search(rf"{OPT_ML}/?([\w./-]*)", text)
    inside = PurePosixPath(said[1] if said else "")
    if inside.parts[:2] == ("input", "data") and len(inside.parts) > 2:
        return f'os.environ["SM_CHANNEL_{inside.parts[2].upper()}"]'
    for folder, variable in _VARIABLES.items():
        if inside.is_relative_to(folder):
            return f'os.environ["{variable}"]'
    return 'os.environ["SM_MODEL_DIR"]'


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        yield from (path for name in sorted(names) if (path := Path(folder, name)).is_file())


def _text(path: Path) -> str:
    """Return what a file says, if it is one that can be code or settings."""
    if path.stat().st_size > _LARGEST:
        return ""
    known = path.suffix == ".py" or path.suffix in _SHELL | _SETTINGS
    with path.open("rb") as file:
        start = file.read(2)
        return (start + file.read()).decode("utf-8", "replace") if known or start == b"#!" else ""


def _others(lines: Sequence[str]) -> Iterator[int]:
    for number, line in enumerate(lines, 1):
        code = re.sub(_SHELL_DEFAULT, "", line)
        if not code.lstrip().startswith(("#", ";")) and re.search(_OPT_ML, code):
            yield number


def _python(text: str, lines: Sequence[str]) -> list[int]:
    """Return the lines of a module's string literals that say it; of all lines if it cannot be parsed."""
    try:
        literals = list(_literals(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # The last two: expressions too deep.
        return list(_others(lines))
    numbers = {_line_of(literal, lines) for literal in literals if re.search(_OPT_ML, str(literal.value))}
    return sorted(numbers)


def _line_of(literal: ast.Constant, lines: Sequence[str]) -> int:
    span = range(literal.lineno, (literal.end_lineno or literal.lineno) + 1)
    return next((number for number in span if OPT_ML in lines[number - 1]), literal.lineno)


def _literals(node: ast.AST) -> Iterator[ast.Constant]:
    """Yield the strings that the code uses."""
    match node:
        case ast.Constant(value=str()):
            yield node
        case ast.Expr(value=ast.Constant()):
            return
        case ast.Call(
            func=ast.Attribute(attr="get" | "getenv" | "setdefault") | ast.Name(id="getenv"),
            args=[ast.Constant(value=str(name)), *_],
        ) if re.fullmatch(_TOLD, name):
            yield from _literals(node.func)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _literals(child)
