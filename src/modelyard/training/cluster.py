"""The hosts of a job, in their groups: ``resourceconfig.json``, checked.

The rules are those of ``Environment`` in the SageMaker training toolkit 5.1.4. SM_HOSTS keeps the
order of the file and every host of it; `Cluster.host` is what a launcher sees: the hosts over which
the job is distributed, the master first.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from modelyard.core.contracts import Host
from modelyard.core.errors import InvalidPlanError, did_you_mean
from modelyard.core.handover import HOST_ADDRESSES

MASTER_PORT = 7777
GROUPS = "sagemaker_distribution_instance_groups"

_ENABLING = (
    "sagemaker_mpi_enabled",
    "sagemaker_parameter_server_enabled",
    "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_pytorch_xla_multi_worker_enabled",
    "sagemaker_multi_worker_mirrored_strategy_enabled",
    "sagemaker_torch_distributed_enabled",
)


@attrs.frozen
class Cluster:
    """The hosts of a job, as one of them sees them.

    ``resources``: the content of ``resourceconfig.json``; ``settings``: the job's own
    hyperparameters, of which some are about the distribution; ``addresses``: where each host is
    reached, empty where the names are resolved; ``master_port``: where a process group meets;
    ``meeting``: the address at which it does, where the process was told one.
    """

    resources: Mapping[str, Any]
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    addresses: Mapping[str, str] = attrs.field(factory=dict)
    master_port: int = MASTER_PORT
    meeting: str = ""

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of all hosts, of all groups, in the order of the file."""
        return tuple(self.resources["hosts"])

    @property
    def current_host(self) -> str:
        """The name of this host."""
        return str(self.resources["current_host"])

    @property
    def network_interface(self) -> str:
        """The interface on which the hosts reach each other."""
        return str(self.resources.get("network_interface_name", "eth0"))

    @property
    def instance_type(self) -> str:
        """The machine's type; ``local`` where nothing says."""
        return str(self.resources.get("current_instance_type", "local"))

    @property
    def group(self) -> str:
        """The name of this host's instance group."""
        return str(self.resources.get("current_group_name", "homogeneousCluster"))

    @property
    def groups(self) -> dict[str, Mapping[str, Any]]:
        """The instance groups by their names, in the order of the file."""
        return {group["instance_group_name"]: group for group in self.resources.get("instance_groups", ())}

    @property
    def topology(self) -> Any:
        """Which capacity unit each host is in, as the file has it; empty but on an ultraserver."""
        return self.resources.get("topology", [])

    @property
    def distribution_groups(self) -> tuple[str, ...]:
        """The groups that were chosen, else this host's own if a distribution is switched on."""
        if GROUPS in self.settings:
            return tuple(self.settings[GROUPS])
        return (self.group,) if any(self.settings.get(name) for name in _ENABLING) else ()

    @property
    def distribution_hosts(self) -> tuple[str, ...]:
        """The hosts of the distribution's groups; all hosts where there are no groups."""
        if not self.groups:
            return self.hosts
        chosen = (group for name, group in self.groups.items() if name in self.distribution_groups)
        return tuple(host for group in chosen for host in group["hosts"])

    @property
    def master(self) -> str:
        """The name of the host that coordinates: the first of the distribution, if there is one."""
        return (self.distribution_hosts or self.hosts)[0]

    @property
    def host(self) -> Host:
        """Itself among those that it works with: alone where it is outside of the distribution."""
        members = self.distribution_hosts or self.hosts
        names = members if self.current_host in members else (self.current_host,)
        return Host(
            name=self.current_host,
            names=names,
            network_interface=self.network_interface,
            addresses=tuple(self.addresses[name] for name in names) if self.addresses else (),
            master_port=self.master_port,
            # That of the distribution; who is alone outside of it meets nobody.
            master_address=self.meeting if self.current_host in members else "",
        )

    @property
    def master_address(self) -> str:
        """Where a process group meets, as also a host outside of the distribution is told."""
        return self.meeting or self.addresses.get(self.master, self.master)


def described(
    resources: Mapping[str, Any], where: object, settings: Mapping[str, Any], environ: Mapping[str, str]
) -> Cluster:
    """Return the cluster that the file `where`, whose content is `resources`, describes.

    `settings`: the job's own hyperparameters, of which some choose instance groups. Raises
    `InvalidPlanError` for a file that makes no sense, for addresses or a port in `environ` that do
    not fit it, and for a group that is not there.
    """
    _check_hosts(resources, where)
    _check_groups(resources, where)
    _check_distribution(resources, where, settings)
    return Cluster(
        resources,
        settings,
        _addresses(resources["hosts"], environ.get(HOST_ADDRESSES), where),
        _port(environ.get("MASTER_PORT") or str(MASTER_PORT)),
        environ.get("MASTER_ADDR", ""),
    )


def _check_hosts(resources: Mapping[str, Any], where: object) -> None:
    hosts, current = resources.get("hosts"), resources.get("current_host")
    if not _are_names(hosts) or not hosts or len(set(hosts)) < len(hosts) or current not in hosts:
        raise InvalidPlanError(
            f"{where} must name the hosts of the job, each once, and the current_host among them, as in "
            f'{{"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]}}; it has hosts {hosts!r} and '
            f"current_host {current!r}"
        )
    for name in ("network_interface_name", "current_instance_type", "current_group_name"):
        if not isinstance(resources.get(name, ""), str):
            raise InvalidPlanError(
                f"{where}: {name} must be a string, not {resources[name]!r}; or leave it out"
            )


def _check_groups(resources: Mapping[str, Any], where: object) -> None:
    groups = resources.get("instance_groups", [])
    if not isinstance(groups, list) or not all(_is_group(group, resources["hosts"]) for group in groups):
        raise InvalidPlanError(
            f"{where}: instance_groups must be a list of groups of its hosts, as in "
            f'[{{"instance_group_name": "gpu", "instance_type": "ml.g5.xlarge", "hosts": ["algo-1"]}}], '
            f"not {groups!r}"
        )


def _check_distribution(resources: Mapping[str, Any], where: object, settings: Mapping[str, Any]) -> None:
    chosen, known = settings.get(GROUPS, []), Cluster(resources).groups
    if not _are_names(chosen):
        raise InvalidPlanError(f"{GROUPS} must be a list of the names of instance groups, not {chosen!r}")
    for name in chosen:
        if known and name not in known:
            raise InvalidPlanError(
                f"{GROUPS}: no instance group in {where} is called {name!r}{did_you_mean(name, known)}"
            )


def _is_group(group: object, hosts: list[str]) -> bool:
    if not isinstance(group, dict) or not isinstance(group.get("instance_group_name"), str):
        return False
    return _are_names(group.get("hosts")) and set(group["hosts"]) <= set(hosts)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _addresses(hosts: list[str], told: str | None, where: object) -> dict[str, str]:
    addresses = [address.strip() for address in told.split(",")] if told else []
    if addresses and (len(addresses) != len(hosts) or not all(addresses)):
        raise InvalidPlanError(
            f"{HOST_ADDRESSES}={told!r} must give one address for each of the {len(hosts)} hosts in {where}, "
            "in their order and separated by commas"
        )
    return dict(zip(hosts, addresses, strict=False))


def _port(text: str) -> int:
    # The port after it is the launcher's own.
    if not text.isdecimal() or not 1 <= int(text) <= 65534:
        raise InvalidPlanError(f"MASTER_PORT must be a port from 1 to 65534, not {text!r}")
    return int(text)
