"""The variables that the processes of a job need to find and not to hinder each other."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from modelyard.core.contracts import Host
from modelyard.hardware import detection

_INFINIBAND = Path("/sys/class/infiniband")
_AMAZON = "0x1d0f"
_FIRST_EFA = 0xEFA0
"""The device that cannot read another host's memory; all after it can."""


def threads(host: Host) -> Mapping[str, str]:
    """Return how many threads each process computes with, where several share the machine."""
    if host.processes == 1:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, detection.cpus().count // host.processes))}


def interface(host: Host, *libraries: str) -> Mapping[str, str]:
    """Return the interface for each of the `libraries`, where there is more than one host."""
    return {f"{name}_SOCKET_IFNAME": host.network_interface for name in libraries if len(host.names) > 1}


def fabric(host: Host, devices: Path = _INFINIBAND) -> Mapping[str, str]:
    """Return what has the hosts talk over AWS's network adapter (EFA), where they have one.

    The adapter is looked for: lists of the instances that have one are out of date as soon as they are
    written, and a job whose hosts do not agree hangs.
    """
    if len(host.names) == 1 or not (found := list(_adapters(devices))):
        return {}
    remote = {"FI_EFA_USE_DEVICE_RDMA": "1"} if min(found) > _FIRST_EFA else {}
    return {"FI_PROVIDER": "efa", "FI_EFA_FORK_SAFE": "1", **remote}


def _adapters(devices: Path) -> Iterator[int]:
    """Yield the kinds of the adapters that this machine has."""
    for device in sorted(devices.glob("*/device")):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "device"))
            if vendor == _AMAZON and int(kind, 16) >= _FIRST_EFA:
                yield int(kind, 16)
        except (OSError, ValueError):  # It has just been taken away, or is of another kind.
            continue
