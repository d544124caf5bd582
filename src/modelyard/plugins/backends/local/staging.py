"""From a plan to the folders of a job's hosts, each with what ``/opt/ml`` has on SageMaker."""

import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from modelyard.core.carrier import local_path
from modelyard.core.contracts import Bundle, Carrier
from modelyard.core.errors import InvalidPlanError
from modelyard.core.handover import HOST_ADDRESSES, HOST_KEY
from modelyard.core.layout import JobLayout
from modelyard.core.listening import free_port
from modelyard.core.plans import InputMode, TrainingPlan
from modelyard.core.values import thaw
from modelyard.plugins.backends.local import channels, opt_ml, rooms
from modelyard.plugins.backends.local.job_guard import HostSettings
from modelyard.plugins.backends.local.records import SHARED

_MOST_HOSTS = 250
"""As many as there are addresses with the same first three bytes, and some."""

_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


@attrs.frozen
class Staged:
    """A job that can start.

    ``source``: its archive; ``environ``: what its hosts need to meet; ``notes``: for its log.
    """

    hosts: tuple[HostSettings, ...]
    source: Path
    environ: Mapping[str, str]
    notes: Sequence[str]


def stage(plan: TrainingPlan, folder: Path, carrier: Carrier) -> Staged:
    """Make the folders of all hosts below `folder`, with the input, the source and the configuration.

    Raises what packing and downloading raise, and `InvalidPlanError` for what cannot be had here.
    """
    if plan.resources.instance_count > _MOST_HOSTS:
        raise InvalidPlanError(
            f"the backend 'local' runs a job on {_MOST_HOSTS} hosts at most; instance_count is "
            f"{plan.resources.instance_count}"
        )
    names = [f"algo-{number + 1}" for number in range(plan.resources.instance_count)]
    layouts = [JobLayout(folder / name) for name in names]
    for layout in layouts:
        layout.create()
        if plan.checkpoint_uri:
            _link_checkpoints(layout, plan.checkpoint_uri)
    sources = folder / "source"
    sources.mkdir()
    bundle = carrier.pack(sources)
    mentions = _mentions(bundle, folder, carrier)
    wanted = mentions or len(names) > 1 or _reads_in_place(plan)
    why_not = rooms.unavailable(folder) if wanted else ""
    if mentions and why_not:
        raise opt_ml.refuse(mentions, why_not)
    staged = channels.stage(plan.channels, layouts, carrier, shared=folder / SHARED, no_mounts=why_not)
    for layout in layouts:
        _write_config(plan, layout, names, bundle)
    addresses = _addresses(len(names))
    known = _hosts_file(folder, dict(zip(names, addresses, strict=True))) if len(names) > 1 else None
    hosts = tuple(
        HostSettings(
            layout.base.name,
            str(layout.base),
            feeder=given.feeder,
            room=rooms.furnished(
                layout, opt_ml=bool(mentions), hosts=None if why_not else known, data=given.data
            ),
        )
        for layout, given in zip(layouts, staged.hosts, strict=True)
    )
    return Staged(hosts, bundle.path, _meeting_point(addresses), (*staged.notes, *_unseen(names, why_not)))


def _unseen(names: Sequence[str], why_not: str) -> Sequence[str]:
    if len(names) == 1 or not why_not:
        return ()
    return (f"the hosts' names cannot be resolved here, only MASTER_ADDR: {why_not}",)


def _mentions(bundle: Bundle, folder: Path, carrier: Carrier) -> Sequence[opt_ml.Mention]:
    """Return where the source says ``/opt/ml``."""
    with TemporaryDirectory(prefix="reading-", dir=folder) as scratch:
        carrier.unpack(bundle.path, Path(scratch, "source"))
        return opt_ml.mentions(Path(scratch, "source"))


def _reads_in_place(plan: TrainingPlan) -> bool:
    return any(channel.input_mode is InputMode.FAST_FILE for channel in plan.channels)


def _hosts_file(folder: Path, addresses: Mapping[str, str]) -> Path:
    original = Path(rooms.HOSTS)
    path = folder / "hosts"
    path.write_text(
        rooms.hosts_file(addresses, original.read_text("utf-8") if original.exists() else ""), "utf-8"
    )
    path.chmod(0o644)
    return path


def _addresses(hosts: int) -> list[str]:
    """Return a loopback address for each host, so that all can use one port, as machines can."""
    net = f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(250)}"
    own = sys.platform == "linux" and hosts > 1
    return [f"{net}.{number + 1}" if own else "127.0.0.1" for number in range(hosts)]


def _meeting_point(addresses: Sequence[str]) -> dict[str, str]:
    """Return where the hosts of the job reach each other: ``algo-1`` is the name of no machine here."""
    key = {HOST_KEY: secrets.token_hex(32)} if len(addresses) > 1 else {}
    return {
        **key,
        HOST_ADDRESSES: ",".join(addresses),
        "MASTER_ADDR": addresses[0],
        "MASTER_PORT": str(free_port(count=2)),  # The next one is the launcher's.
    }


def _link_checkpoints(layout: JobLayout, uri: str) -> None:
    """Let the hosts' checkpoints be those of the folder at `uri`, at any moment."""
    folder = local_path(uri)
    if folder is None:
        raise InvalidPlanError(
            f"the backend 'local' keeps checkpoints in a folder, not in {uri!r}: give its path"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidPlanError(f"cannot keep checkpoints in '{folder}': {error.strerror}") from error
    layout.checkpoints.rmdir()
    layout.checkpoints.symlink_to(folder)


def _write_config(plan: TrainingPlan, layout: JobLayout, names: Sequence[str], bundle: Bundle) -> None:
    """Write the files of ``input/config`` as SageMaker and SDK v2 do."""
    told = {
        "sagemaker_program": plan.source.program if plan.source else "",
        "sagemaker_submit_directory": bundle.path.as_uri(),
        "sagemaker_container_log_level": 20,
        "sagemaker_job_name": plan.job_name,
    }
    encoded = {key: json.dumps(thaw(value)) for key, value in {**plan.hyperparameters, **told}.items()}
    inputs = {channel.name: channels.channel_config(channel) for channel in plan.channels}
    resources = {
        "current_host": layout.base.name,
        "hosts": names,
        "current_instance_type": plan.resources.instance_type,
        "network_interface_name": _LOOPBACK,
    }
    for name, content in (
        ("hyperparameters.json", encoded),
        ("inputdataconfig.json", inputs),
        ("resourceconfig.json", resources),
    ):
        path = layout.config / name
        path.touch(0o600)  # A hyperparameter may be a secret.
        path.write_text(json.dumps(content, indent=2), "utf-8")
    layout.plan.write_text(plan.redacted().to_json(), "utf-8")
