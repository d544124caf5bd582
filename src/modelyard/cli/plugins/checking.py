"""``modelyard plugins check``: whether what is installed keeps its promises."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import attrs

from modelyard.cli.plugins import finding
from modelyard.cli.plugins.quiet import discovered
from modelyard.cli.terminal import Terminal
from modelyard.core.errors import PluginError
from modelyard.core.manager import PluginManager
from modelyard.core.registry import Provider
from modelyard.testing.checking import Task, Verdict, check, named

_COLOURS = {"ok": "green", "broken": "red", "skipped": "yellow"}
_FOR = {"uri": "storage", "instance_type": "backend"}


def run(options: argparse.Namespace) -> int:
    """Print a verdict for each promise; return 1 where one is broken."""
    if find_spec("pytest") is None:
        raise PluginError("checking needs pytest: pip install 'modelyard[test]'")
    tasks = tasks_of(discovered(), options)
    if options.json:
        results = [(task, list(check(task))) for task in tasks]
        print(json.dumps([_as_dict(*result) for result in results], indent=2))
    else:
        terminal = Terminal.of(sys.stdout)
        results = [(task, list(_told(task, terminal))) for task in tasks]
    return int(any(verdict.outcome == "broken" for _, verdicts in results for verdict in verdicts))


# -- what to check ---------------------------------------------------------------------------------


def tasks_of(plugins: PluginManager, options: argparse.Namespace) -> list[Task]:
    """Return what to check: a provider, or a plugin and all that it provides.

    Raises `PluginError` for a name that means nothing or too much, and for options that go with nothing.
    """
    plugin, providers = _named(plugins, options)
    if options.options and len(providers) != 1:
        raise PluginError("--options are those of one provider: modelyard plugins check KIND NAME")
    _check_flags(providers, options)
    common: dict[str, Any] = {
        "uri": options.uri or "",
        "run": options.for_real,
        "instance_type": options.instance_type or "",
        "contract": options.contract or "",
        "timeout": options.timeout,
    }
    if options.contract:
        kind = providers[0].kind if len(providers) == 1 else "plugin"
        return [Task(kind, options.name, **common)]
    given = _parsed(options.options)
    own = [Task("plugin", plugin, **common)] if plugin else []
    return own + [Task(provider.kind, provider.name, given, **common) for provider in providers]


def _named(plugins: PluginManager, options: argparse.Namespace) -> tuple[str, list[Provider[Any]]]:
    """Return the plugin of that name with what it provides, or no plugin and the one provider."""
    status = next((status for status in plugins.statuses if status.plugin == options.name), None)
    if status is not None and not options.kind:
        if status.state != "active":
            what = f"has failed: {status.error}" if status.error else "is turned off"
            raise PluginError(f"plugin {status.plugin!r} {what}")
        return status.plugin, finding.providers_of(plugins, status.plugin)
    found = finding.providers_called(plugins, options)
    if not found:
        raise finding.unknown(plugins, options)
    if len({provider.kind for provider in found}) > 1:
        raise finding.ambiguous(found, "check")
    return "", [plugins.registry(found[0].kind).get(options.name)]  # Raises where two plugins provide it.


def _parsed(text: str | None) -> Mapping[str, Any]:
    try:
        parsed = json.loads(text or "{}")
    except ValueError as error:
        raise PluginError(f"--options is no JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise PluginError(f"--options takes options by name, as '{{\"level\": 1}}', not {text}")
    return parsed


def _check_flags(providers: Sequence[Provider[Any]], options: argparse.Namespace) -> None:
    kinds = {provider.kind for provider in providers}
    for option, kind in _FOR.items():
        if getattr(options, option) and kind not in kinds:
            raise PluginError(f"--{option.replace('_', '-')} is for a {kind}, which {options.name!r} is not")
    for provider in providers:
        patterns = provider.declares("instance_types")
        needs_type = provider.kind == "backend" and options.for_real and not options.contract
        if needs_type and not options.instance_type and named(patterns) is None:
            raise PluginError(
                f"the backend {provider.name!r} offers {', '.join(patterns) or 'nothing by name'}: "
                "say what to run on with --instance-type"
            )


# -- checking it -----------------------------------------------------------------------------------


def _told(task: Task, terminal: Terminal) -> Iterator[Verdict]:
    """Yield the verdicts, each of which is printed at once, and print the summary."""
    print(f"{task.kind} {task.name}", flush=True)
    count: Counter[str] = Counter()
    reason = ""
    for verdict in check(task):
        count[verdict.outcome] += 1
        outcome = terminal.paint(f"{verdict.outcome:<7}", _COLOURS.get(verdict.outcome))
        print(f"  {outcome}  {verdict.text}", flush=True)
        if verdict.reason and verdict.reason != reason:  # Said once for all that follow each other.
            print(f"           {verdict.reason}", flush=True)
        reason = verdict.reason
        yield verdict
    said = ", ".join(f"{count[outcome]} {outcome}" for outcome in _COLOURS if count[outcome])
    print(f"{task.kind} {task.name}: {said or 'nothing was checked'}", flush=True)
    if task.uri and task.kind == "storage":
        print(f"  what was written stays, in a folder modelyard-check-... below {task.uri}", flush=True)


def _as_dict(task: Task, verdicts: Iterable[Verdict]) -> dict[str, object]:
    return {
        "kind": task.kind,
        "name": task.name,
        "promises": [attrs.asdict(verdict) for verdict in verdicts],
    }
