"""The plugin manager: plugins found, chosen among, and told what happens; one typed method per hook.

There is no global manager: `PluginManager.discover` makes one, and whoever needs plugins is handed it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from modelyard.core.contracts import Host, JobDescription
from modelyard.core.discovery import builtins, installed
from modelyard.core.errors import did_you_mean
from modelyard.core.log import get_logger
from modelyard.core.plans import TrainingPlan
from modelyard.core.selection import Selection
from modelyard.core.statuses import shown

if TYPE_CHECKING:
    from modelyard.core.http import Handler

DISABLED = "MODELYARD_PLUGINS_DISABLED"
AUTOLOAD = "MODELYARD_PLUGINS_AUTOLOAD"
STRICT = "MODELYARD_PLUGINS_STRICT"

_log = get_logger(__name__)


class PluginManager(Selection):
    """Which plugins there are, and what they provide."""

    @classmethod
    def discover(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return a manager with the built-in plugins and the installed ones.

        ``MODELYARD_PLUGINS_DISABLED`` (names, comma-separated) leaves plugins out,
        ``MODELYARD_PLUGINS_AUTOLOAD=0`` all that are not built in, and ``MODELYARD_PLUGINS_STRICT=1``
        makes the first broken plugin a `BrokenPluginError`.
        """
        settings = os.environ if environ is None else environ
        manager = cls(strict=settings.get(STRICT, "") not in ("", "0"))
        disabled = {name.strip() for name in settings.get(DISABLED, "").split(",")} - {""}
        autoload = settings.get(AUTOLOAD, "1") != "0"
        for found in (*builtins(), *(installed() if autoload else ())):
            manager._add(found, disabled=found.name in disabled)
        for name in disabled - set(manager._statuses):
            hint = did_you_mean(name, manager._statuses)
            _log.warning(f"{DISABLED} names a plugin that is not installed", plugin=name, hint=hint)
        return manager

    @classmethod
    def builtin(cls) -> Self:
        """Return a manager with the built-in plugins only, whatever is installed."""
        return cls.discover({AUTOLOAD: "0"})

    # -- telling plugins -----------------------------------------------------------------------

    def job_environ(self, host: Host, hardware: str) -> dict[str, str]:
        """Return the variables that plugins add to a job's environment."""
        environ: dict[str, str] = {}
        for plugin, added in self._each("modelyard_job_environ", {"host": host, "hardware": hardware}):
            try:
                environ |= _variables(added)
            except Exception as error:  # noqa: BLE001 - of a mapping of its own
                self._reject(plugin, f"modelyard_job_environ must return {error}, not {shown(added)}")
        return environ

    def job_started(self, plan: TrainingPlan) -> None:
        """Tell the plugins that a job was submitted."""
        self._observe("modelyard_job_started", {"plan": plan})

    def job_finished(self, description: JobDescription) -> None:
        """Tell the plugins that a job reached a terminal state."""
        self._observe("modelyard_job_finished", {"description": description})

    def model_loaded(self, model: object, model_dir: Path) -> None:
        """Tell the plugins that a worker has loaded its model."""
        self._observe("modelyard_model_loaded", {"model": model, "model_dir": model_dir})

    def wrap_handler(self, handler: "Handler") -> "Handler":
        """Return `handler` inside the middleware of all plugins."""
        arguments = {"handler": handler}
        # `_each` is lazy, so each plugin is handed what the one before it returned.
        for plugin, outer in self._each("modelyard_wrap_handler", arguments):
            if callable(outer):
                arguments["handler"] = outer
            elif outer is not None:
                self._reject(plugin, f"modelyard_wrap_handler must return a handler, not {shown(outer)}")
        return arguments["handler"]

    def _observe(self, hook: str, arguments: Mapping[str, Any]) -> None:
        for _ in self._each(hook, arguments, observing=True):
            pass


def _variables(added: object) -> dict[str, str]:
    """Return what a plugin adds to an environment. Raises an error that says what it must be."""
    if not isinstance(added, Mapping):
        raise TypeError("strings by name")
    variables = dict(added)
    if not all(isinstance(text, str) for text in (*variables, *variables.values())):
        raise TypeError("strings by name")
    if any(not name or "=" in name or "\0" in name + value for name, value in variables.items()):
        raise ValueError("variables that an operating system takes: no name with '=', no NUL")
    return variables
