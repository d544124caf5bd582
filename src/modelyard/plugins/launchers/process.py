"""One process per host: what runs where no ``distribution`` is asked for."""

from typing import ClassVar

import attrs

from modelyard.core.contracts import Command, EntryPoint, Hardware, Host
from modelyard.plugins.launchers import options


@attrs.frozen
class ProcessLauncher:
    """Runs the entry point once on each host.

    A script that wants a process group starts it itself, from ``SM_HOSTS``, ``SM_CURRENT_HOST``,
    ``MASTER_ADDR`` and ``MASTER_PORT``. ``profile``: the variables and arguments that it expects,
    those of SageMaker's training toolkit (``toolkit``) or of SDK v3's drivers (``drivers``).
    """

    name: ClassVar[str] = "process"
    distributions: ClassVar[tuple[str, ...]] = ()

    profile: str = options.profile()

    def command(self, entry: EntryPoint, host: Host, hardware: Hardware) -> Command:
        """Return the entry point's own command: nothing comes between it and the job."""
        return Command(entry.argv, {}, entry.code_dir)
