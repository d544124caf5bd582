"""What a local job is shown besides the machine: itself at ``/opt/ml``, its hosts' names, data in place."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from modelyard.core.layout import JobLayout
from modelyard.core.namespaces import Mount, Room
from modelyard.core.namespaces import unavailable as cannot_enter
from modelyard.plugins.backends.local.home import HOME

OPT_ML = "/opt/ml"
HOSTS = "/etc/hosts"


def unavailable(home: Path) -> str:
    """Return why the jobs kept in `home` cannot be shown at ``/opt/ml`` here; empty where they can."""
    if home.resolve().is_relative_to(OPT_ML):
        return f"'{home}' is itself below {OPT_ML}, and would be covered; set {HOME} to another folder"
    return cannot_enter(Room((Mount(tempfile.gettempdir(), OPT_ML, read_only=True),)))


def furnished(
    layout: JobLayout, *, opt_ml: bool, hosts: Path | None = None, data: Mapping[Path, Path] | None = None
) -> Room:
    """Return the room of one host of a job.

    ``opt_ml``: whether the host's folder is at ``/opt/ml`` as well; ``hosts``: a file to see as
    ``/etc/hosts``, where there are several: the machine has this host's name then, as mpirun wants;
    ``data``: what lies where, to be read there and never written, by the path in the job at which it
    is seen; that path should exist.
    """
    mounts = [Mount(str(source), str(target), read_only=True) for target, source in (data or {}).items()]
    if hosts:
        mounts.append(Mount(str(hosts), HOSTS, read_only=True))
    if opt_ml:
        mounts.append(Mount(str(layout.base), OPT_ML))
    return Room(tuple(mounts), layout.base.name if hosts else "")


def hosts_file(addresses: Mapping[str, str], original: str) -> str:
    r"""Return the text of a hosts file with `addresses`, by the hosts' names, above the `original`.

    A line of the original loses the names that are given an address here.

    >>> hosts_file({"algo-1": "127.3.7.1"}, "127.0.0.1 localhost algo-1\n")
    '127.3.7.1 algo-1\n127.0.0.1 localhost\n'
    """
    ours = [f"{address} {name}" for name, address in addresses.items()]
    others = [_without(addresses, line) for line in original.splitlines()]
    return "".join(f"{line}\n" for line in (*ours, *filter(None, others)))


def _without(names: Mapping[str, str], line: str) -> str:
    entry, mark, comment = line.partition("#")
    words = entry.split()
    if not any(name in words[1:] for name in names):
        return line
    left = [word for word in words if word not in names]
    return " ".join(left) + (f" {mark}{comment}" if mark else "") if len(left) > 1 else ""
