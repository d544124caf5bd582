"""``modelyard plugins``: what is installed."""

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelyard.cli.parser import Commands
    from modelyard.core.manager import PluginManager

_COLUMNS = ("kind", "name", "plugin", "source", "state", "error")


def add_to(commands: "Commands") -> None:
    """Add the command to the parser of ``modelyard``."""
    plugins = commands.add_parser("plugins", help="what is installed", examples=("modelyard plugins list",))
    plugins_commands = plugins.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listing = plugins_commands.add_parser("list", help="every provider, its source and its state")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> int:
    """Print a row per provider, and one for each plugin that provides nothing."""
    from modelyard.cli.tables import table
    from modelyard.core.manager import PluginManager

    rows = plugin_rows(PluginManager.discover())
    print(json.dumps(rows, indent=2) if options.json else "\n".join(table(rows, _COLUMNS)))
    return 0


def plugin_rows(plugins: "PluginManager") -> list[dict[str, str]]:
    """Return what ``modelyard plugins list`` shows: providers by kind, then plugins without any."""
    from modelyard.core.kinds import KINDS

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


def _row(*cells: str) -> dict[str, str]:
    return dict(zip(_COLUMNS, cells, strict=True))
