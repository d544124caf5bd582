"""One host's part of a training job, from the folder that it is given to the archives it leaves.

What only some jobs need before the script starts is imported where it is needed.
"""

import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import attrs

from modelyard.core.contracts import (
    Command,
    DiagnosingLauncher,
    Hardware,
    Launcher,
    Packager,
    ProfiledLauncher,
)
from modelyard.core.errors import InvalidPlanError
from modelyard.core.handover import ISOLATED_PACKAGES, OUTPUT_URI, STOP_SECONDS
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef, Resources, SourceCode, TrainingPlan, is_secret
from modelyard.core.registry import Registry
from modelyard.training import environment, packages, profiles, source, supervisor
from modelyard.training.environment import TrainingEnvironment
from modelyard.training.streams import RelaySettings
from modelyard.training.supervisor import Outcome, Stop

P = TypeVar("P")

_DISTRIBUTIONS = {
    "sagemaker_mpi_enabled": "mpi",
    "sagemaker_pytorch_ddp_enabled": "pytorchddp",
    "sagemaker_torch_distributed_enabled": "torch_distributed",
    "sagemaker_distributed_dataparallel_enabled": "pytorchddp",
}
"""What other clients send for ``distribution={...}``, in the order in which the toolkit asks."""

_OPTIONS = {
    "sagemaker_mpi_num_of_processes_per_host": "processes_per_host",
    "sagemaker_mpi_custom_mpi_options": "custom_mpi_options",
    "sagemaker_distributed_dataparallel_custom_mpi_options": "custom_mpi_options",
}


def run(base: Path, environ: Mapping[str, str], plugins: PluginManager, stop: Stop) -> int:
    """Run the job below `base` on this host and return the exit code of the script.

    Writes ``output/success`` or ``output/failure``; packs and uploads the model and the output.
    `stop`: signals, taken since the program began. Raises `InvalidPlanError` for a plan that was made
    with other plugins than are installed here.
    """
    env = environment.read(base, environ)
    env.layout.create()
    plan = TrainingPlan.from_json(env.layout.plan.read_bytes()) if env.layout.plan.is_file() else None
    return Job(env, plan, environ, plugins, stop).run()


@attrs.frozen
class Job:
    """One host's part of a job. ``plan``: None where another client than modelyard started it."""

    env: TrainingEnvironment
    plan: TrainingPlan | None
    environ: Mapping[str, str]
    plugins: PluginManager
    stop: Stop

    def run(self) -> int:
        """Fetch the source, run the script, deliver what it leaves; return its exit code."""
        self._check_plan()
        source.fetch(self.env, self.plugins, lambda: self.packager)
        outcome = self._launch()
        code = self._record_failure(outcome) if outcome.exit_code else 0
        if not outcome.stopped:  # Who stopped it may have it start again.
            self._deliver(model=not code)
            if not code:
                self.env.layout.success.touch()
        return code

    # -- the providers: what the plan names, or what this machine selects without one ------------

    @cached_property
    def hardware(self) -> Hardware:
        """The devices of this host."""
        ref = self.plan.hardware if self.plan else self.plugins.select_hardware(self._resources)
        return _installed(self.plugins.hardware, ref)

    @cached_property
    def launcher(self) -> Launcher:
        """What makes the command."""
        if self.plan:
            return _installed(self.plugins.launchers, self.plan.launcher)
        asked = distribution(self.env.settings)
        ref = self.plugins.select_launcher(self._resources, self.hardware.name, asked)
        return _installed(self.plugins.launchers, ref)

    @cached_property
    def packager(self) -> Packager:
        """What opens and makes archives."""
        ref = self.plan.packager if self.plan else self.plugins.select_packager(SourceCode(self.env.program))
        return _installed(self.plugins.packagers, ref)

    @property
    def profile(self) -> profiles.Profile:
        """Which variables and arguments the script expects."""
        named = self.launcher.profile if isinstance(self.launcher, ProfiledLauncher) else "toolkit"
        return profiles.named(named)

    @property
    def _resources(self) -> Resources:
        return Resources(self.env.instance_type, len(self.env.host.names))

    def _check_plan(self) -> None:
        """Compare all that the plan names with what is installed, before anything runs."""
        if self.plan:
            _installed(self.plugins.hardware, self.plan.hardware)
            _installed(self.plugins.launchers, self.plan.launcher)
            _installed(self.plugins.packagers, self.plan.packager)

    # -- the script ------------------------------------------------------------------------------

    def _launch(self) -> Outcome:
        """Install what the source asks for, and run its entry point."""
        env = self.env
        # What is wrong with the entry point is said before pip has taken its time.
        entry = source.entry_point(env, self.profile.arguments(env.hyperparameters), sys.executable)
        isolated = ISOLATED_PACKAGES in self.environ
        interpreter = packages.install(env.layout, self.environ, self._supervised, isolated=isolated)
        entry = attrs.evolve(entry, interpreter=interpreter)
        command = self.launcher.command(entry, env.host, self.hardware)
        return self._supervised(command, self.script_environ(interpreter))

    def _supervised(self, command: Command, environ: Mapping[str, str]) -> Outcome:
        """Run a command of the job to its end."""
        grace = float(self.environ.get(STOP_SECONDS, "30"))
        return supervisor.run(command, environ, grace=grace, relay=self._relay, stop=self.stop)

    def script_environ(self, interpreter: str) -> dict[str, str]:
        """Return the variables that the script is started with, those that win last."""
        env, environ, hardware = self.env, self.environ, self.hardware
        devices = hardware.environ(env.host)
        return {
            "PYTHONUNBUFFERED": "1",
            **environ,
            **packages.activation(interpreter, environ),
            "PYTHONPATH": os.pathsep.join(self._python_path(interpreter)),
            **self.profile.variables(env, devices={hardware.device_type: hardware.device_count()}),
            **{name: value for name, value in devices.items() if name not in environ},
            **self.plugins.job_environ(env.host, hardware.name),
            **self._asked_for(),
        }

    def _python_path(self, interpreter: str) -> list[str]:
        from modelyard.compat import shim_path

        own = filter(None, [self.environ.get("PYTHONPATH")])
        return [str(self.env.layout.code), *own, *shim_path(interpreter)]

    def _asked_for(self) -> dict[str, str]:
        """Return the user's own variables; their values come from the process, not from the file."""
        names = self.plan.environment if self.plan else ()
        return {name: self.environ[name] for name in names if name in self.environ}

    @property
    def _relay(self) -> RelaySettings:
        env = self.env
        named = {**self.environ, **env.hyperparameters}
        return RelaySettings(
            host=env.host.name if len(env.cluster.hosts) > 1 else "",
            secrets=tuple(value for name, value in named.items() if is_secret(name, value)),
            metrics=self.plan.metrics if self.plan else (),
            metrics_file=env.layout.metrics,
        )

    # -- after the script ------------------------------------------------------------------------

    def _record_failure(self, outcome: Outcome) -> int:
        """Record why the script failed; return its own exit code, which a launcher's tool may hide."""
        from modelyard.training import failure

        launcher, layout = self.launcher, self.env.layout
        first = None
        if isinstance(launcher, DiagnosingLauncher):
            first = launcher.first_failure(outcome.stderr_tail)
        said = failure.witness(outcome, first)
        reason = failure.reason(self.env.program, outcome, layout.code, first)
        failure.record(layout.failure, reason, full=said.text, at=failure.moment(said))
        return failure.exit_code(outcome, first)

    def _deliver(self, *, model: bool) -> None:
        """Bring the output, and the model of a script that succeeded, to where the platform wants them."""
        if uri := self.environ.get(OUTPUT_URI):
            from modelyard.training.delivery import Delivery

            Delivery(uri.rstrip("/"), self.packager, self.plugins).run(self.env.layout, model=model)


def distribution(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return ``distribution={...}`` as it was before SDK v2 made hyperparameters of it.

    >>> distribution({"sagemaker_mpi_enabled": True, "sagemaker_mpi_num_of_processes_per_host": 2})
    {'mpi': {'processes_per_host': 2}}
    """
    for enabled, strategy in _DISTRIBUTIONS.items():
        if settings.get(enabled):
            named = {option: settings.get(name) for name, option in _OPTIONS.items()}
            return {strategy: {option: value for option, value in named.items() if value}}
    return {}


def _installed(registry: Registry[P], ref: ProviderRef) -> P:
    """Return the provider, if it is the one that the plan was made with. Raises `InvalidPlanError`."""
    found = registry.get(ref.name)
    if ref.version and (found.distribution, found.version) != (ref.distribution, ref.version):
        raise InvalidPlanError(
            f"the plan uses {registry.kind} {ref.name!r} of {ref.distribution} {ref.version}, "
            f"but here it is of {found.source}; install the same version in both places"
        )
    return found.create(ref.options)
