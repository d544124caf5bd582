"""The command line: ``modelyard``."""

import argparse
import json
import sys
from collections.abc import Sequence

from modelyard.__about__ import __version__
from modelyard.core import log
from modelyard.core.errors import ModelyardError
from modelyard.core.kinds import KINDS
from modelyard.core.manager import PluginManager


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0, 1 for an error of modelyard's, 2 for usage."""
    options = _parser().parse_args(arguments)
    log.configure(level="ERROR")
    try:
        status: int = options.run(options)
    except ModelyardError as error:
        print(f"modelyard: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="modelyard", description="SageMaker's way of training and serving, with every part a plugin."
    )
    parser.add_argument("--version", action="version", version=f"modelyard {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    plugins = commands.add_parser("plugins", help="what is installed")
    plugins_commands = plugins.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listing = plugins_commands.add_parser("list", help="every provider, its source and its state")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(run=_list_plugins)
    return parser


def _list_plugins(options: argparse.Namespace) -> int:
    """Print a row per provider, and one for each plugin that provides nothing."""
    rows = plugin_rows(PluginManager.discover())
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(_table(rows, ("kind", "name", "plugin", "source", "state", "error")))
    return 0


def plugin_rows(plugins: PluginManager) -> list[dict[str, str]]:
    """Return what ``modelyard plugins list`` shows: providers by kind, then plugins without any."""
    statuses = {status.plugin: status for status in plugins.statuses}
    rows = []
    for kind in KINDS:
        for provider in sorted(plugins.registry(kind.word), key=lambda p: (p.name, p.plugin)):
            status = statuses[provider.plugin]
            rows.append(
                _row(kind.word, provider.name, provider.plugin, provider.source, status.state, status.error)
            )
    shown = {row["plugin"] for row in rows}
    for status in statuses.values():
        if status.plugin not in shown:
            source = f"{status.distribution} {status.version}".strip()
            rows.append(_row("-", "-", status.plugin, source, status.state, status.error))
    return rows


def _row(kind: str, name: str, plugin: str, source: str, state: str, error: str) -> dict[str, str]:
    return {"kind": kind, "name": name, "plugin": plugin, "source": source, "state": state, "error": error}


def _table(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> str:
    """Return the rows under their column names; a column that is empty everywhere is left out."""
    used = [column for column in columns if any(row[column] for row in rows)]
    cells = [[column.upper() for column in used], *([row[column] for column in used] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(used))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
