"""One host's part of a training job, from the folder that it is given to the archives it leaves."""

import os
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import attrs

from modelyard.core.carrier import as_uri, storage_for
from modelyard.core.contracts import EntryPoint, Hardware, Launcher, Packager
from modelyard.core.errors import InvalidPlanError
from modelyard.core.log import get_logger
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef, Resources, SourceCode, TrainingPlan
from modelyard.core.registry import Registry
from modelyard.training import environment, failure, supervisor
from modelyard.training.environment import TrainingEnvironment

OUTPUT_URI = "MODELYARD_OUTPUT_URI"
"""Where the archives go. Where it is not set the platform collects the folders, as SageMaker does."""

STOP_SECONDS = "MODELYARD_STOP_SECONDS"
"""How long the script may take to end after SIGTERM, before SIGKILL; 30 as on SageMaker."""

P = TypeVar("P")
_log = get_logger(__name__)


@attrs.frozen
class _Providers:
    hardware: Hardware
    launcher: Launcher
    packager: Packager


def run(base: Path, environ: Mapping[str, str], plugins: PluginManager) -> int:
    """Run the job below `base` on this host and return the exit code of the script.

    Writes ``output/success`` or ``output/failure``; packs and uploads the model and the output.
    """
    env = environment.read(base, environ)
    env.layout.create()
    plan = _plan(env)
    providers = _providers(env, plan, plugins)
    _fetch_source(env, providers.packager, plugins)
    outcome = _launch(env, plan, providers, environ, plugins)
    if outcome.exit_code:
        failure.record(env.layout.failure, failure.reason(env.program, outcome, env.layout.code))
        return outcome.exit_code
    if uri := environ.get(OUTPUT_URI):
        _deliver(env, providers.packager, plugins, uri)
    env.layout.success.touch()
    return 0


def _plan(env: TrainingEnvironment) -> TrainingPlan | None:
    path = env.layout.plan
    return TrainingPlan.from_json(path.read_bytes()) if path.is_file() else None


def _providers(env: TrainingEnvironment, plan: TrainingPlan | None, plugins: PluginManager) -> _Providers:
    """Return what the plan names, or what this machine selects where there is no plan."""
    if plan is None:
        resources = Resources(env.instance_type, len(env.host.names))
        hardware = plugins.select_hardware(resources)
        launcher = plugins.select_launcher(resources, hardware.name, None)
        packager = plugins.select_packager(SourceCode(env.program))
    else:
        hardware, launcher, packager = plan.hardware, plan.launcher, plan.packager
    return _Providers(
        _installed(plugins.hardware, hardware),
        _installed(plugins.launchers, launcher),
        _installed(plugins.packagers, packager),
    )


def _installed(registry: Registry[P], ref: ProviderRef) -> P:
    """Return the provider, if it is the one that the plan was made with."""
    found = registry.get(ref.name)
    if ref.version and (found.distribution, found.version) != (ref.distribution, ref.version):
        raise InvalidPlanError(
            f"the plan uses {registry.kind} {ref.name!r} of {ref.distribution} {ref.version}, "
            f"but here it is of {found.source}; install the same version in both places"
        )
    return found.create(ref.options)


def _fetch_source(env: TrainingEnvironment, packager: Packager, plugins: PluginManager) -> None:
    """Unpack the submitted source into the code folder; what was there before is set aside."""
    location = env.submit_directory
    if not location.endswith(".tar.gz"):
        return
    uri = as_uri(location)
    with TemporaryDirectory(prefix="source-", dir=env.layout.input) as fetched:
        storage_for(plugins, uri).download(uri, Path(fetched))
        _set_aside(env.layout.code)
        # Not looked for by the URI's last part: whether that is percent-encoded, the storage knows.
        packager.unpack(next(Path(fetched).iterdir()), env.layout.code)
    if (env.layout.code / "requirements.txt").is_file():
        _log.warning("requirements.txt is not installed: the job uses the packages of this environment")


def _set_aside(folder: Path) -> None:
    """Rename a folder that is not empty: an image's own code, or that of an earlier run, is kept."""
    if any(folder.iterdir()):
        names = (folder.with_name(f"{folder.name}.{number}") for number in count())
        # Not `rename`: a container's file system refuses it for a folder of the image.
        shutil.move(folder, next(name for name in names if not os.path.lexists(name)))


def _launch(
    env: TrainingEnvironment,
    plan: TrainingPlan | None,
    providers: _Providers,
    environ: Mapping[str, str],
    plugins: PluginManager,
) -> supervisor.Outcome:
    hardware, host = providers.hardware, env.host
    entry = EntryPoint(env.program, environment.arguments(env.hyperparameters), env.layout.code)
    accelerators = {hardware.device_type: hardware.device_count()}
    python_path = [str(env.layout.code), *filter(None, [environ.get("PYTHONPATH")])]
    script_environ = {
        "PYTHONUNBUFFERED": "1",
        **environ,
        "PYTHONPATH": os.pathsep.join(python_path),
        **environment.variables(env, accelerators=accelerators),
        **{name: value for name, value in hardware.environ(host).items() if name not in environ},
        **plugins.job_environ(host, hardware.name),
        **_asked_for(plan, environ),
    }
    command = providers.launcher.command(entry, host, hardware)
    return supervisor.run(command, script_environ, grace=float(environ.get(STOP_SECONDS, "30")))


def _asked_for(plan: TrainingPlan | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the user's own variables, which win; their values come from the process, not the file."""
    return {name: environ[name] for name in (plan.environment if plan else ()) if name in environ}


def _deliver(env: TrainingEnvironment, packager: Packager, plugins: PluginManager, uri: str) -> None:
    """Pack the model and the output and upload both below `uri`."""
    layout, packed = env.layout, env.layout.base / "artifacts"
    layout.create()  # The script may have removed a folder that it had no use for.
    if not any(layout.model.iterdir()):
        _log.warning("the script saved no model", folder=str(layout.model))
    for folder, name in ((layout.model, "model.tar.gz"), (layout.output_data, "output.tar.gz")):
        if name == "model.tar.gz" or any(folder.iterdir()):
            packed.mkdir(exist_ok=True)
            bundle = packager.pack_tree(folder, packed / name)
            storage_for(plugins, uri).upload(bundle.path, f"{uri.rstrip('/')}/{name}")
            bundle.path.unlink()
            packed.rmdir()
