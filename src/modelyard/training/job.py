"""One host's part of a training job, from the folder that it is given to the result that it records.

What only some jobs need before the script starts is imported where it is needed.
"""

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

import attrs

from modelyard.core.contracts import (
    Command,
    DiagnosingLauncher,
    EntryPoint,
    Hardware,
    Launcher,
    Packager,
    PreparingHardware,
    ProfiledLauncher,
)
from modelyard.core.errors import BrokenPluginError, InvalidPlanError, JobError, ModelyardError
from modelyard.core.handover import FOR_LAUNCHERS, HANDED_OVER, ISOLATED_PACKAGES, STOP_SECONDS
from modelyard.core.layout import JobLayout
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef, Resources, SourceCode, TrainingPlan
from modelyard.core.processes import signal_name
from modelyard.core.registry import Registry
from modelyard.core.statuses import described, shown
from modelyard.training import aside, environment, masking, packages, profiles, source, supervisor
from modelyard.training.environment import TrainingEnvironment
from modelyard.training.streams import RelaySettings
from modelyard.training.supervisor import Interrupted, Outcome, Stop

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


class StoppedError(JobError):
    """The job was told to stop while something else than its script went on. ``signal``: by which signal."""

    def __init__(self, sig: int, meanwhile: str) -> None:
        super().__init__(sig, meanwhile)
        self.signal = sig
        self.meanwhile = meanwhile

    def __str__(self) -> str:
        return f"stopped by {signal_name(self.signal)} while {self.meanwhile}"


def run(layout: JobLayout, environ: Mapping[str, str], plugins: PluginManager, stop: Stop) -> int:
    """Run the job of `layout` on this host and return the exit code of the script.

    Writes ``output/success`` or ``output/failure``, in place of those of an earlier run. The model and
    the output stay in their folders: bringing them away is the platform's part. `stop`: signals, taken
    since the program began. Raises `StoppedError`, and `InvalidPlanError` for a plan that was made with
    other plugins than are installed here.
    """
    aside.set_results_aside(layout)
    env = environment.read(layout.base, environ)
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
        """Fetch the source, run the script, record how it ended; return its exit code."""
        self._check()
        with self._stoppable("the source was fetched"):
            source.fetch(self.env, self.plugins, lambda: self.packager)
        outcome = self._launch()
        code = self._record_failure(outcome) if outcome.exit_code else 0
        if not code and not outcome.stopped:  # Who stopped it may have it start again.
            self.env.layout.success.touch()
        return code

    @contextlib.contextmanager
    def _stoppable(self, meanwhile: str) -> Iterator[None]:
        """Have a signal end the block. Raises `StoppedError`."""
        try:
            with self.stop.interrupting():
                yield
        except Interrupted as interrupted:
            raise StoppedError(interrupted.signal, meanwhile) from None

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

    def _check(self) -> None:
        """Compare all that the plan names with what is installed, before anything runs."""
        stop_seconds(self.environ)
        if self.plan:
            _ = self.hardware, self.launcher, self.packager

    # -- the script ------------------------------------------------------------------------------

    def _launch(self) -> Outcome:
        """Install what the source asks for, and run its entry point."""
        env = self.env
        # What is wrong with the entry point is said before pip has taken its time.
        entry = source.entry_point(env, self.profile.arguments(env.hyperparameters), sys.executable)
        isolated = ISOLATED_PACKAGES in self.environ
        with self._stoppable("its packages were installed"):
            interpreter = packages.install(env.layout, self._own_environ, self._install, isolated=isolated)
        source.check_interpreter(entry)
        entry = attrs.evolve(entry, interpreter=interpreter)
        command = self._command(entry)
        environ = self.script_environ(interpreter, processes=max(1, command.ranks))
        if isinstance(self.hardware, PreparingHardware):
            command = self.hardware.prepare(command, env.host, environ)
        return self._supervised(command, environ, self._relay)

    def _command(self, entry: EntryPoint) -> Command:
        """Return the launcher's command. Raises `BrokenPluginError` for what is the launcher's own fault."""
        who = f"launcher {type(self.launcher).name!r}"
        try:
            command: object = self.launcher.command(entry, self.env.host, self.hardware)
        except ModelyardError:
            raise
        except Exception as error:
            raise BrokenPluginError(f"{who} raised {described(error)}") from error
        if not isinstance(command, Command):
            raise BrokenPluginError(f"{who} must return a Command, not {shown(command)}")
        tokens: list[object] = [*command.argv, *command.environ, *command.environ.values()]
        if wrong := [token for token in tokens if not isinstance(token, str)]:
            raise BrokenPluginError(f"{who} has in its command what is no text: {shown(wrong)}")
        return command

    def _install(self, command: Command, environ: Mapping[str, str]) -> Outcome:
        """Run pip, whose output has no metrics. Raises `Interrupted` where it was stopped."""
        outcome = self._supervised(command, environ, attrs.evolve(self._relay, metrics=()))
        if outcome.stopped:
            raise Interrupted(self.stop.signal)
        return outcome

    def _supervised(self, command: Command, environ: Mapping[str, str], relay: RelaySettings) -> Outcome:
        """Run a command of the job to its end."""
        grace = stop_seconds(self.environ)
        return supervisor.run(command, environ, grace=grace, relay=relay, stop=self.stop)

    @property
    def _own_environ(self) -> dict[str, str]:
        """Return the variables of this process but for those that are about it alone."""
        alone = {*HANDED_OVER} - {*FOR_LAUNCHERS}
        return {name: value for name, value in self.environ.items() if name not in alone}

    def script_environ(self, interpreter: str, *, processes: int = 1) -> dict[str, str]:
        """Return the variables that the script is started with, those that win last.

        `processes`: how many of it each host runs.
        """
        env, environ, hardware = self.env, self.environ, self.hardware
        host = attrs.evolve(env.host, processes=processes * env.host.neighbours)
        devices = hardware.environ(host)
        return {
            "PYTHONUNBUFFERED": "1",
            **self._own_environ,
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

    @cached_property
    def _secrets(self) -> tuple[str, ...]:
        env = self.env
        return masking.secrets_in(self.environ, env.hyperparameters, env.settings, env.channels)

    @property
    def _relay(self) -> RelaySettings:
        env = self.env
        return RelaySettings(
            host=env.host.name if len(env.cluster.hosts) > 1 else "",
            secrets=self._secrets,
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
        # A script that was never started said nothing at any time.
        failure.record(layout.failure, reason, full=said.text, at=failure.moment(said) or None)
        return failure.exit_code(outcome, first)


def stop_seconds(environ: Mapping[str, str]) -> float:
    """Return how long the script may take to end once it is told to stop. Raises `InvalidPlanError`."""
    text = environ.get(STOP_SECONDS) or "30"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InvalidPlanError(f"{STOP_SECONDS} must be a number of seconds, 0 or more, not {text!r}")
    return seconds


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
