"""torchrun on each host: several processes, restarts, and hosts that come and go."""

import re
from typing import ClassVar

import attrs

from modelyard.core.contracts import Command, EntryPoint, Hardware, Host, RankFailure, Resources
from modelyard.core.errors import InvalidPlanError
from modelyard.plugins.launchers import options
from modelyard.plugins.launchers.rank import as_rank, literal, ranks_on

_OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""A store, on a port of its own, for each start of the processes.

In torchrun's, which they use otherwise, restarted ones find the addresses of those before them, and
cannot connect.
"""


def _check_nodes(_launcher: object, attribute: "attrs.Attribute[str]", value: object) -> None:
    found = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", value) if isinstance(value, str) else None
    if not found or int(found[1]) > int(found[2]):
        raise InvalidPlanError(
            f"{attribute.name} must be 'MIN:MAX', the fewest hosts to train on and all of them, not {value!r}"
        )


@attrs.frozen
class TorchrunLauncher:
    """Runs ``torchrun`` on each host, and the entry point as ``processes_per_host`` processes below it.

    ``processes_per_host``: one per accelerator without it, and 1 on CPUs.

    ``max_restarts``: how often all processes are started again when one has failed.

    ``nodes``: ``"MIN:MAX"`` lets the job begin with, and go on with, fewer than all of its hosts.

    ``rendezvous``: how the hosts find each other, ``static`` (a host's rank is its place among the
    hosts) or ``c10d`` (the order in which they arrive). Only ``c10d`` survives failures, and is the
    default with ``nodes`` or ``max_restarts``.

    ``rendezvous_timeout``: seconds to wait for the other hosts; ``last_call_timeout``: seconds to wait
    for more of them once there are the fewest of ``nodes``.

    ``profile``: the variables and arguments that the script expects, as for ``process``.
    """

    name: ClassVar[str] = "torchrun"
    distributions: ClassVar[tuple[str, ...]] = ("torch_distributed", "torchrun")

    processes_per_host: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(options.whole_number(1))
    )
    nodes: str | None = attrs.field(default=None, validator=attrs.validators.optional(_check_nodes))
    max_restarts: int = attrs.field(default=0, validator=options.whole_number(0))
    rendezvous: str = attrs.field(validator=options.one_of("static", "c10d"))
    rendezvous_timeout: int = attrs.field(default=600, validator=options.whole_number(1))
    last_call_timeout: int = attrs.field(default=30, validator=options.whole_number(1))
    profile: str = options.profile()

    @rendezvous.default
    def _default_rendezvous(self) -> str:
        return "c10d" if self._starts_again else "static"

    def __attrs_post_init__(self) -> None:
        if self.rendezvous == "static" and self._starts_again:
            raise InvalidPlanError(
                "rendezvous 'static' knows neither nodes nor max_restarts; leave them out, or use 'c10d'"
            )

    def command(self, entry: EntryPoint, host: Host, hardware: Hardware) -> Command:
        """Return the command of ``torchrun`` on `host`.

        Raises `InvalidPlanError` where ``nodes`` does not go with the number of hosts.
        """
        ranks = self.processes_per_host or ranks_on(hardware)
        argv = (
            # -P: torchrun finds its modules where they are installed, not among the user's files.
            *(entry.interpreter, "-P", "-m", "torch.distributed.run"),
            *("--nnodes", self._nodes(len(host.names))),
            *("--nproc_per_node", str(ranks)),
            *self._meeting(host),
            *("--max_restarts", str(self.max_restarts)),
            *("--no_python", *map(literal, as_rank(entry.argv))),
        )
        return Command(argv, _OWN_STORE if self._starts_again else {}, entry.code_dir, ranks)

    def first_failure(self, stderr: str) -> RankFailure | None:
        """Return what ``torchrun``'s report says; None without one, or where it cannot tell."""
        from modelyard.plugins.launchers.torchrun_report import first_failure

        return first_failure(stderr)

    @property
    def _starts_again(self) -> bool:
        """Whether the processes may be started more than once."""
        return self.nodes is not None or self.max_restarts > 0

    def check(self, resources: Resources) -> None:
        """Raise `InvalidPlanError` where ``nodes`` does not go with the number of hosts."""
        self._nodes(resources.instance_count)

    def _nodes(self, count: int) -> str:
        if self.nodes is None:
            return str(count)
        if int(self.nodes.partition(":")[2]) != count:
            raise InvalidPlanError(
                f"nodes={self.nodes!r} is not for a job of {count} hosts; use instance_count for how many "
                f"there are, and nodes='MIN:{count}' for the fewest to go on with"
            )
        return self.nodes

    def _meeting(self, host: Host) -> tuple[str, ...]:
        """Return where, and how, the hosts find each other."""
        if len(host.names) == 1:
            # On a free port that torchrun itself takes, so that jobs side by side do not meet.
            return ("--standalone", "--local_addr", "127.0.0.1")
        if self.rendezvous == "static":
            return (
                *("--master_addr", host.master_address),
                *("--master_port", str(host.master_port)),
                *("--node_rank", str(host.rank)),
                *("--rdzv_conf", f"timeout={self.rendezvous_timeout}"),
            )
        settings = {
            # Said, not guessed by torchrun from names and addresses: on one machine all are its own.
            "is_host": str(host.is_master).lower(),
            "join_timeout": self.rendezvous_timeout,
            # A host may be there before the master, which has to set itself up as well.
            "read_timeout": self.rendezvous_timeout,
            "last_call_timeout": self.last_call_timeout,
        }
        return (
            *("--rdzv_backend", "c10d"),
            *("--rdzv_endpoint", f"{host.master_address}:{host.master_port}"),
            *("--rdzv_conf", ",".join(f"{key}={value}" for key, value in settings.items())),
            *("--local_addr", host.address),
        )
