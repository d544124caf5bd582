"""The options of a provider: its attrs fields, or the parameters of its class."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import attrs

COMPUTED = "(computed)"
"""The default of an option that is known once a provider is made."""
REQUIRED = "(required)"


@attrs.frozen
class Option:
    """One option. ``default``: as Python writes it, `COMPUTED` or `REQUIRED`."""

    name: str
    type: str
    default: str
    doc: str


def options_of(cls: type) -> list[Option]:
    """Return the options that ``cls(...)`` takes, in their order."""
    docs = {**_in_docstring(inspect.getdoc(cls) or ""), **_below_fields(cls)}
    if attrs.has(cls):
        found = [
            (field.alias or field.name, field.type, _default_of_field(field))
            for field in attrs.fields(cls)
            if field.init
        ]
    else:
        found = [
            (parameter.name, parameter.annotation, _default_of_parameter(parameter))
            for parameter in _parameters(cls)
        ]
    return [Option(name, _spelled(kind), default, docs.get(name, "")) for name, kind, default in found]


def _parameters(cls: type) -> Iterator[inspect.Parameter]:
    """Yield what the class is called with; nothing where that cannot be told."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        return
    yield from (p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))


def _default_of_field(field: "attrs.Attribute[Any]") -> str:
    if field.default is attrs.NOTHING:
        return REQUIRED
    return COMPUTED if isinstance(field.default, attrs.Factory) else repr(field.default)  # type: ignore[arg-type]


def _default_of_parameter(parameter: inspect.Parameter) -> str:
    return REQUIRED if parameter.default is parameter.empty else repr(parameter.default)


def _spelled(kind: object) -> str:
    if kind in (None, inspect.Parameter.empty):
        return ""
    return kind if isinstance(kind, str) else inspect.formatannotation(kind)


_NAMES = r"``\w+``(?:,? (?:and )?``\w+``)*"
_DESCRIBED = re.compile(rf"({_NAMES})(?: \([^)]*\))?: (.+?)(?=[.;,]? {_NAMES}(?: \([^)]*\))?:|[.;] |\.?$)")


def _in_docstring(text: str) -> dict[str, str]:
    """Return what a docstring says of each option, as in "``name``: what it is"."""
    found = {}
    for paragraph in text.split("\n\n"):
        for names, said in _DESCRIBED.findall(" ".join(paragraph.split())):
            found.update(dict.fromkeys(re.findall(r"\w+", names.replace(" and ", " ")), said))
    return found


def _below_fields(cls: type) -> Mapping[str, str]:
    """Return the texts that stand below fields in the source of the class, where there is one."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
