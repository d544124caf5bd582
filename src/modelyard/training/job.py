"""One host's part of a training job, from the folder that it is given to the archives it leaves.

What only some jobs need before the script starts is imported where it is needed.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TypeVar

import attrs

from modelyard.core.carrier import ARCHIVE, as_uri, fetched
from modelyard.core.contracts import EntryPoint, Hardware, Launcher, Packager
from modelyard.core.errors import InvalidPlanError
from modelyard.core.handover import OUTPUT_URI, STOP_SECONDS
from modelyard.core.log import get_logger
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef, Resources, SourceCode, TrainingPlan
from modelyard.core.registry import Registry
from modelyard.training import environment, failure, supervisor
from modelyard.training.environment import TrainingEnvironment

P = TypeVar("P")
_log = get_logger(__name__)


def run(base: Path, environ: Mapping[str, str], plugins: PluginManager) -> int:
    """Run the job below `base` on this host and return the exit code of the script.

    Writes ``output/success`` or ``output/failure``; packs and uploads the model and the output.
    Raises `InvalidPlanError` for a plan that was made with other plugins than are installed here.
    """
    env = environment.read(base, environ)
    env.layout.create()
    plan = TrainingPlan.from_json(env.layout.plan.read_bytes()) if env.layout.plan.is_file() else None
    return Job(env, plan, environ, plugins).run()


@attrs.frozen
class Job:
    """One host's part of a job. ``plan``: None where another client than modelyard started it."""

    env: TrainingEnvironment
    plan: TrainingPlan | None
    environ: Mapping[str, str]
    plugins: PluginManager

    def run(self) -> int:
        """Fetch the source, run the script, deliver what it leaves; return its exit code."""
        layout = self.env.layout
        self._check_plan()
        self._fetch_source()
        outcome = self._launch()
        if outcome.exit_code:
            failure.record(layout.failure, failure.reason(self.env.program, outcome, layout.code))
        if not outcome.stopped:  # Who stopped it may have it start again.
            self._deliver(model=not outcome.exit_code)
            if not outcome.exit_code:
                layout.success.touch()
        return outcome.exit_code

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
        ref = self.plugins.select_launcher(self._resources, self.hardware.name, None)
        return _installed(self.plugins.launchers, ref)

    @cached_property
    def packager(self) -> Packager:
        """What opens and makes archives."""
        source = SourceCode(self.env.program)
        ref = self.plan.packager if self.plan else self.plugins.select_packager(source)
        return _installed(self.plugins.packagers, ref)

    @property
    def _resources(self) -> Resources:
        return Resources(self.env.instance_type, len(self.env.host.names))

    def _check_plan(self) -> None:
        """Compare all that the plan names with what is installed, before anything runs."""
        if self.plan:
            _installed(self.plugins.hardware, self.plan.hardware)
            _installed(self.plugins.launchers, self.plan.launcher)
            _installed(self.plugins.packagers, self.plan.packager)

    # -- before, during and after the script -----------------------------------------------------

    def _fetch_source(self) -> None:
        """Unpack the submitted source into the code folder; what was there before is set aside."""
        location, code = self.env.submit_directory, self.env.layout.code
        if not location.endswith(ARCHIVE):
            return
        with fetched(self.plugins, as_uri(location), self.env.layout.input) as archive:
            _set_aside(code)
            self.packager.unpack(archive, code)
        if (code / "requirements.txt").is_file():
            _log.warning("requirements.txt is not installed: the job uses the packages of this environment")

    def _launch(self) -> supervisor.Outcome:
        env = self.env
        entry = EntryPoint(env.program, environment.arguments(env.hyperparameters), env.layout.code)
        command = self.launcher.command(entry, env.host, self.hardware)
        grace = float(self.environ.get(STOP_SECONDS, "30"))
        return supervisor.run(command, self.script_environ(), grace=grace)

    def script_environ(self) -> dict[str, str]:
        """Return the variables that the script is started with, those that win last."""
        env, environ, hardware = self.env, self.environ, self.hardware
        python_path = [str(env.layout.code), *filter(None, [environ.get("PYTHONPATH")])]
        devices = hardware.environ(env.host)
        return {
            "PYTHONUNBUFFERED": "1",
            **environ,
            "PYTHONPATH": os.pathsep.join(python_path),
            **environment.variables(env, accelerators={hardware.device_type: hardware.device_count()}),
            **{name: value for name, value in devices.items() if name not in environ},
            **self.plugins.job_environ(env.host, hardware.name),
            **self._asked_for(),
        }

    def _asked_for(self) -> dict[str, str]:
        """Return the user's own variables; their values come from the process, not from the file."""
        names = self.plan.environment if self.plan else ()
        return {name: self.environ[name] for name in names if name in self.environ}

    def _deliver(self, *, model: bool) -> None:
        """Bring the output, and the model of a script that succeeded, to where the platform wants them."""
        if uri := self.environ.get(OUTPUT_URI):
            from modelyard.training.delivery import Delivery

            Delivery(uri.rstrip("/"), self.packager, self.plugins).run(self.env.layout, model=model)


def _installed(registry: Registry[P], ref: ProviderRef) -> P:
    """Return the provider, if it is the one that the plan was made with. Raises `InvalidPlanError`."""
    found = registry.get(ref.name)
    if ref.version and (found.distribution, found.version) != (ref.distribution, ref.version):
        raise InvalidPlanError(
            f"the plan uses {registry.kind} {ref.name!r} of {ref.distribution} {ref.version}, "
            f"but here it is of {found.source}; install the same version in both places"
        )
    return found.create(ref.options)


def _set_aside(folder: Path) -> None:
    """Rename a folder that is not empty: an image's own code, or that of an earlier run, is kept."""
    if any(folder.iterdir()):
        import shutil

        names = (folder.with_name(f"{folder.name}.{number}") for number in count())
        # Not `rename`: a container's file system refuses it for a folder of the image.
        shutil.move(folder, next(name for name in names if not os.path.lexists(name)))
