"""From a plan to the folders of a job's hosts, each with what ``/opt/ml`` has on SageMaker."""

import json
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from modelyard.core.carrier import local_path
from modelyard.core.contracts import Bundle, Carrier
from modelyard.core.errors import InvalidPlanError
from modelyard.core.handover import HOST_ADDRESSES, HOST_KEY
from modelyard.core.layout import JobLayout
from modelyard.core.plans import Channel, TrainingPlan
from modelyard.core.values import thaw
from modelyard.plugins.backends.local.job_guard import HostSettings

_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


@attrs.frozen
class Staged:
    """A job that can start. ``source``: its archive; ``environ``: what its hosts need to meet."""

    hosts: Sequence[HostSettings]
    source: Path
    environ: Mapping[str, str]


def stage(plan: TrainingPlan, folder: Path, carrier: Carrier) -> Staged:
    """Make the folders of all hosts below `folder`, with the input, the source and the configuration.

    Raises what packing and downloading raise, and `InvalidPlanError`.
    """
    names = [f"algo-{number + 1}" for number in range(plan.resources.instance_count)]
    layouts = [JobLayout(folder / name) for name in names]
    for layout in layouts:
        layout.create()
        if plan.checkpoint_uri:
            _link_checkpoints(layout, plan.checkpoint_uri)
    sources = folder / "source"
    sources.mkdir()
    bundle = carrier.pack(sources)
    for layout in layouts:
        _fetch_channels(plan.channels, layout, carrier)
        _write_config(plan, layout, names, bundle)
    hosts = [HostSettings(layout.base.name, str(layout.base)) for layout in layouts]
    return Staged(hosts, bundle.path, _meeting_point(len(hosts)))


def _meeting_point(hosts: int) -> dict[str, str]:
    """Return where the hosts of the job reach each other: ``algo-1`` is the name of no machine here.

    Each has a loopback address of its own, so that they can use one port, as machines can.
    """
    net = f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(250)}"
    own = sys.platform == "linux" and hosts > 1
    addresses = [f"{net}.{number + 1}" if own else "127.0.0.1" for number in range(hosts)]
    key = {HOST_KEY: secrets.token_hex(32)} if hosts > 1 else {}
    return {
        **key,
        HOST_ADDRESSES: ",".join(addresses),
        "MASTER_ADDR": addresses[0],
        "MASTER_PORT": str(_free_port()),
    }


def _free_port() -> int:
    """Return a port of which the next one is free as well: that is the launcher's."""
    for _ in range(100):
        with socket.create_server(("", 0)) as first:
            port: int = first.getsockname()[1]
            try:
                socket.create_server(("", port + 1)).close()
            except (OSError, OverflowError):
                continue
            return port
    raise InvalidPlanError("no two neighbouring ports are free on this machine")


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


def _fetch_channels(channels: Sequence[Channel], layout: JobLayout, carrier: Carrier) -> None:
    """Copy each channel's data into the job; a channel of the same data is a link to the first."""
    first_of: dict[str, str] = {}
    for channel in channels:
        folder = layout.channel(channel.name)
        if channel.uri in first_of:
            folder.symlink_to(first_of[channel.uri])
        else:
            carrier.download(channel.uri, folder)
            first_of[channel.uri] = channel.name


def _write_config(plan: TrainingPlan, layout: JobLayout, names: Sequence[str], bundle: Bundle) -> None:
    """Write the files of ``input/config`` as SageMaker and SDK v2 do."""
    told = {
        "sagemaker_program": plan.source.program,
        "sagemaker_submit_directory": bundle.path.as_uri(),
        "sagemaker_container_log_level": 20,
        "sagemaker_job_name": plan.job_name,
    }
    encoded = {key: json.dumps(thaw(value)) for key, value in {**plan.hyperparameters, **told}.items()}
    channels = {
        channel.name: {"TrainingInputMode": "File", **_content_type(channel.content_type)}
        for channel in plan.channels
    }
    resources = {
        "current_host": layout.base.name,
        "hosts": names,
        "current_instance_type": plan.resources.instance_type,
        "network_interface_name": _LOOPBACK,
    }
    for name, content in (
        ("hyperparameters.json", encoded),
        ("inputdataconfig.json", channels),
        ("resourceconfig.json", resources),
    ):
        path = layout.config / name
        path.touch(0o600)  # A hyperparameter may be a secret.
        path.write_text(json.dumps(content, indent=2), "utf-8")
    layout.plan.write_text(plan.redacted().to_json(), "utf-8")


def _content_type(content_type: str | None) -> dict[str, str]:
    return {"ContentType": content_type} if content_type else {}
