"""mpirun over all hosts of a job: Open MPI 4, Open MPI 5 or MPICH, whichever is installed.

What makes its commands is imported with the first of them: the launcher is registered in every job.
"""

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs

from modelyard.core.contracts import Command, EntryPoint, Hardware, Host, RankFailure
from modelyard.core.errors import InvalidPlanError
from modelyard.plugins.launchers import options
from modelyard.plugins.launchers.rank import as_rank, ranks_on

_CODE_DIR = "MODELYARD_MPI_CODE_DIR"
_INTERPRETER = "MODELYARD_MPI_INTERPRETER"


_NUMBER = {"-n", "-np", "--n", "--np", "-c", "--c"}
"""What Open MPI and MPICH call the number of all processes: one would be ignored beside ours, or ours."""


def _words(name: str, *validators: options.Validator) -> Any:
    """Return the field of an option: a text, split into words as a shell does, a list of words, or None."""

    def split(value: object) -> tuple[str, ...]:
        if value is None:
            return ()
        try:
            if isinstance(value, str):
                import shlex

                return tuple(shlex.split(value))
            if isinstance(value, Sequence) and all(isinstance(word, str) for word in value):
                return tuple(value)
        except ValueError as error:
            raise InvalidPlanError(f"{name} cannot be split into words: {error}: {value!r}") from error
        raise InvalidPlanError(f"{name} must be a string or a list of strings, not {value!r}")

    return attrs.field(default=(), converter=split, validator=validators)


def _check_custom(_launcher: object, attribute: "attrs.Attribute[Any]", value: tuple[str, ...]) -> None:
    for word in value:
        if word.partition("=")[0] in _NUMBER:
            raise InvalidPlanError(
                f"{attribute.name} has {word!r}; how many processes there are is said by processes_per_host"
            )
    if value[-1:] == ("--NCCL_DEBUG",):
        raise InvalidPlanError(f"{attribute.name} ends with '--NCCL_DEBUG'; add the level, as 'WARN'")


@attrs.frozen
class MpirunLauncher:
    """Runs ``mpirun`` on the master, and on each other host what lets mpirun reach it.

    ``processes_per_host``: one per accelerator without it, and 1 on CPUs.

    ``custom_mpi_options``: options for ``mpirun``, one string or a list. They replace ours; ``--NCCL_DEBUG``
    is understood as SageMaker does, and the number of processes is not for them.

    ``agent``: the command that stands for ssh, one string or a list, which is given a host's name and
    a command for its shell. Without it the hosts trust each other by the key that the backend gave
    the job, and by ssh where it gave none.

    ``mpirun``: its name or path; without it that beside the job's Python, or that on the ``PATH``.

    ``start_timeout``: seconds that the hosts wait for each other.

    ``profile``: the variables and arguments that the script expects, as for ``process``.
    """

    name: ClassVar[str] = "mpirun"
    distributions: ClassVar[tuple[str, ...]] = ("pytorchddp", "smdistributed.dataparallel", "mpi", "mpirun")

    processes_per_host: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(options.whole_number(1))
    )
    custom_mpi_options: tuple[str, ...] = _words("custom_mpi_options", _check_custom)
    agent: tuple[str, ...] = _words("agent")
    mpirun: str = ""
    start_timeout: int = attrs.field(default=600, validator=options.whole_number(1))
    profile: str = options.profile()

    def command(self, entry: EntryPoint, host: Host, hardware: Hardware) -> Command:
        """Return ``mpirun`` for the master, below a program that tells the other hosts how it ended.

        Raises `InvalidPlanError` where no ``mpirun`` is found, or one of an unknown kind.
        """
        from modelyard.plugins.launchers import mpi_dialects
        from modelyard.plugins.launchers.mpi_wire import MODULE, Cluster

        ranks = mpi_dialects.Ranks(
            hosts=host.names,
            each=self.processes_per_host or ranks_on(hardware),
            interface=host.network_interface,
            argv=_rank(entry, here=len(host.names) == 1),
        )
        cluster = Cluster(
            name=host.name,
            names=list(host.names),
            addresses=[host.address_of(name) for name in host.names],
            port=host.master_port + 1,
            timeout=self.start_timeout,
            agent=list(self.agent),
        )
        environ = {_CODE_DIR: str(entry.code_dir), _INTERPRETER: entry.interpreter} if ranks.many else {}
        # -P: its modules are those that are installed, not the user's files of the same names.
        argv: tuple[str, ...] = (sys.executable, "-P", "-m", MODULE)
        if not host.is_master:
            return Command((*argv, "serve", cluster.to_json()), environ, entry.code_dir, ranks.each)
        mpirun = mpi_dialects.find(self.mpirun, (entry.interpreter, sys.executable))
        dialect = mpi_dialects.dialect_of(mpirun)
        custom = self.custom_mpi_options
        argv += ("lead", cluster.to_json(), "--", *dialect.argv(str(mpirun), ranks, custom))
        return Command(argv, {**environ, **dialect.environ(ranks, custom)}, entry.code_dir, ranks.each)

    def first_failure(self, stderr: str) -> RankFailure | None:
        """Return the rank that ``mpirun`` says failed first; None without its report."""
        from modelyard.plugins.launchers.mpi_dialects import first_failure

        return first_failure(stderr)


def _rank(entry: EntryPoint, *, here: bool) -> tuple[str, ...]:
    """Return the command of a rank: of this host, or of each host by what its environment says.

    mpirun starts the same words everywhere, and hosts may differ in where code and Python are.
    """
    if here:
        return as_rank(entry.argv)
    program = f'"${_INTERPRETER}"' if entry.argv[0] == entry.interpreter else '"$0"'
    return as_rank(("/bin/sh", "-c", f'cd "${_CODE_DIR}" && exec {program} "$@"', *entry.argv))
