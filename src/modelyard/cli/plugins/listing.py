"""``modelyard plugins list``: a row for all that is installed."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from modelyard.cli.terminal import Terminal

if TYPE_CHECKING:
    from modelyard.cli.plugins.entries import Entry
    from modelyard.core.statuses import PluginStatus

_COLUMNS = ("kind", "name", "source", "state", "provides")
COLOURS = {"active": None, "failed": "red", "disabled": "yellow"}


def run(options: argparse.Namespace) -> int:
    """Print the rows, and below each what is wrong with its plugin."""
    from modelyard.cli.plugins.entries import entries
    from modelyard.cli.plugins.quiet import discovered

    found = entries(discovered())
    if options.json:
        print(json.dumps([entry.to_dict() for entry in found], indent=2))
    else:
        print("\n".join(lines_of(found, Terminal.of(sys.stdout))))
    return 0


def lines_of(found: "Sequence[Entry]", terminal: Terminal) -> Iterator[str]:
    """Yield a table; errors and notes of a plugin are on lines of their own, below its first row."""
    from modelyard.cli.tables import table

    def paint(column: str, cell: str) -> str:
        return terminal.paint(cell, COLOURS.get(cell.strip())) if column == "state" else cell

    header, *rows = table(_fitted([_row(entry) for entry in found], terminal), _COLUMNS, paint)
    yield header
    told = set()
    for entry, row in zip(found, rows, strict=True):
        yield row
        if entry.status.plugin not in told:
            told.add(entry.status.plugin)
            yield from (terminal.cut(f"  {text}") for text in remarks(entry.status))


def remarks(status: "PluginStatus") -> Iterator[str]:
    """Yield what is wrong with a plugin, and what else there is to know of it, each on one line."""
    for text in (status.error, *status.notes):
        if text:
            yield "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def _fitted(rows: list[dict[str, str]], terminal: Terminal) -> list[dict[str, str]]:
    """Return the rows with their last cell as short as the terminal needs it."""
    if terminal.width is None:
        return rows
    *columns, last = _COLUMNS
    taken = sum(max(len(column), *(len(row[column]) for row in rows)) + 2 for column in columns)
    room = Terminal(max(len(last), terminal.width - taken), terminal.unicode)
    return [{**row, last: room.cut(row[last])} for row in rows]


def _row(entry: "Entry") -> dict[str, str]:
    return {
        "kind": entry.kind,
        "name": entry.name,
        "source": entry.status.source,
        "state": entry.status.state,
        "provides": entry.summary,
    }
