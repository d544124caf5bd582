"""From the docstrings of hooks and nouns to Markdown; what ``hooks_page`` and ``noun_pages`` share."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

_EXAMPLE = re.compile(r"^Example::\n\n((?:    .*\n|\n)+)", re.MULTILINE)
_NOT_SHOWN = "computed"
_MADE = {dict: "`{}`", tuple: "`()`", list: "`[]`"}


def example_of(thing: object) -> str:
    """Return the example of a docstring, a whole module; empty where there is none."""
    found = _EXAMPLE.search(inspect.getdoc(thing) + "\n")
    return textwrap.dedent(found[1]).strip() + "\n" if found else ""


def markdown(text: str) -> str:
    """Return a docstring as Markdown."""
    prose, example, rest = _split(text + "\n")
    block = f"```python\n{textwrap.dedent(example).strip()}\n```" if example else ""
    return "\n\n".join(filter(None, (_prose(prose), block, _prose(rest))))


def heading(function: object) -> str:
    """Return a function's name and arguments with their types, as its source has them."""
    return _heading(_definition(function))


def call(function: object) -> str:
    """Return a function's name and the names of its arguments."""
    return f"{function.__name__}({', '.join(inspect.signature(function).parameters)})"


def fields(cls: type) -> Iterator[str]:
    """Yield a table of what a value or a provider is made of."""
    yield from ("| field | type | default |", "| --- | --- | --- |")
    for field in attrs.fields(cls):
        if field.init:
            yield f"| `{field.alias}` | `{_type(field.type)}` | {_default(field)} |"


def members(protocol: type) -> Iterator[str]:
    """Yield what a Protocol requires: its attributes and methods, each with its docstring."""
    body = _definition(protocol).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            said = after.value.value if _is_text(after) else ""
            yield f"* `{ast.unparse(node.target)}: {_unquoted(node.annotation)}`{_said(said)}"
        elif isinstance(node, ast.FunctionDef):
            yield f"* `{_heading(node, method=True)}`{_said(ast.get_docstring(node) or '')}"


def summary(thing: object) -> str:
    """Return the docstring of a class or a function as Markdown."""
    return markdown(inspect.getdoc(thing) or "")


@cache
def _definition(thing: object) -> ast.FunctionDef | ast.ClassDef:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    return node


def _split(text: str) -> tuple[str, str, str]:
    found = _EXAMPLE.search(text)
    return (text[: found.start()], found[1], text[found.end() :]) if found else (text, "", "")


def _prose(text: str) -> str:
    return text.replace("``", "`").strip()


def _heading(node: ast.FunctionDef, *, method: bool = False) -> str:
    arguments = _unquoted(node.args).replace("=", " = ")
    if method:
        arguments = arguments.removeprefix("self").removeprefix(", ")
    return f"{node.name}({arguments}) -> {_unquoted(node.returns)}"


def _unquoted(node: ast.AST | None) -> str:
    return re.sub(r"'([\w .|\[\]]+)'", r"\1", ast.unparse(node))


def _is_text(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _said(docstring: str) -> str:
    """Return a docstring as the rest of a list's item."""
    if not docstring:
        return ""
    return "<br>" + textwrap.indent(markdown(inspect.cleandoc(docstring)), "  ").strip()


def _type(annotation: object) -> str:
    name = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])", "", name).replace("|", "\\|")


def _default(field: "attrs.Attribute[object]") -> str:
    if field.default is attrs.NOTHING:
        return "required"
    if isinstance(field.default, attrs.Factory):
        return _MADE.get(field.default.factory) or _made_by(field.default.factory)
    return _computed(field.default) or f"`{field.default!r}`"


def _made_by(factory: object) -> str:
    return f"`{factory.__name__}()`" if isinstance(factory, type) else _NOT_SHOWN


def _computed(value: object) -> str:
    """Return what to say of a value that differs from machine to machine."""
    return _NOT_SHOWN if isinstance(value, str) and value.startswith("/") else ""
