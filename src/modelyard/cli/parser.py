"""argparse with errors that help: the option that was meant, and an example."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]  # noqa: SLF001 - argparse has no public name for it


class Parser(argparse.ArgumentParser):
    """A parser of one command.

    ``examples``: command lines, shown in the help and the first one after an error; ``advice``: what
    else to say about an option that there is not, with ``{}`` for its name. Options cannot be
    abbreviated, so that a new one breaks nobody's script.
    """

    def __init__(self, *, examples: Sequence[str] = (), advice: str = "", **options: Any) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=_HelpFormatter,
            epilog="\n  ".join(("examples:", *examples)) if examples else None,
            **options,
        )
        self._example = examples[0] if examples else ""
        self._advice = advice

    def parse_known_args(self, *args: Any, **options: Any) -> tuple[Any, list[str]]:
        """Parse, and refuse what is left over here, where the command's own options are known."""
        namespace, unknown = super().parse_known_args(*args, **options)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """End with status 2, the usage, the message and an example, on stderr."""
        self.print_usage(sys.stderr)
        example = f"example: {self._example}\n" if self._example else ""
        self.exit(2, f"{self.prog}: {message}\n{example}")

    def _unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"there is nothing to do with {argument!r}"
        import difflib

        name = argument.partition("=")[0]
        close = difflib.get_close_matches(name, self._option_string_actions, n=1, cutoff=0.75)
        if close:
            return f"there is no option {name}; did you mean {close[0]}?"
        return f"there is no option {name}{self._advice.format(name.lstrip('-'))}"


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Lines as they are written, and room for the names of options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)
        self._action_max_length = 17  # At least: argparse forgets that a command's name is indented.


class Collect(argparse.Action):
    """Gathers in one dict what an option gives that may be given again; each name once."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Mapping[str, Any] | Any,
        option_string: str | None = None,
    ) -> None:
        """Add the names and values that the option's ``type`` made of its text."""
        collected = dict(getattr(namespace, self.dest) or {})
        for name, value in values.items():
            if name in collected:
                raise argparse.ArgumentError(self, f"{name!r} is given twice")
            collected[name] = value
        setattr(namespace, self.dest, collected)


def pair(text: str) -> dict[str, str]:
    """Return ``NAME=VALUE`` as a dict of one."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return {name: value}


def json_pair(text: str) -> dict[str, object]:
    """Return ``NAME=VALUE`` as a dict of one, its value parsed if it is JSON, else as it is."""
    return {name: _json_or_text(value) for name, value in pair(text).items()}


def _json_or_text(text: str) -> object:
    import json

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)  # NaN and Infinity, which JSON has not.

    try:
        value: object = json.loads(text, parse_constant=refuse)
    except ValueError:
        return text
    return value
