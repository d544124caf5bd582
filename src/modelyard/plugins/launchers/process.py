"""One process per host: what runs where no ``distribution`` is asked for."""

import sys
from typing import ClassVar

import attrs

from modelyard.core.contracts import Command, EntryPoint, Hardware, Host


@attrs.frozen
class ProcessLauncher:
    """Runs the script once on each host, with the Python that runs the job.

    A script that wants a process group starts it itself, from ``SM_HOSTS``, ``SM_CURRENT_HOST``,
    ``MASTER_ADDR`` and ``MASTER_PORT``.
    """

    name: ClassVar[str] = "process"
    distributions: ClassVar[tuple[str, ...]] = ()

    def command(self, entry: EntryPoint, host: Host, hardware: Hardware) -> Command:
        """Return ``python SCRIPT ARGUMENTS``, or ``sh SCRIPT ARGUMENTS`` for a ``.sh`` file."""
        interpreter = "/bin/sh" if entry.program.endswith(".sh") else sys.executable
        return Command((interpreter, entry.program, *entry.arguments), {}, entry.code_dir)
