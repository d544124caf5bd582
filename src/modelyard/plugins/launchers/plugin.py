"""The built-in launchers."""

from collections.abc import Iterable

from modelyard.core.contracts import Launcher
from modelyard.core.hookspecs import hookimpl


@hookimpl
def modelyard_register_launchers() -> Iterable[type[Launcher]]:
    """Return the built-in launcher classes."""
    # Imported here: a job needs one of them, and starts sooner without the others.
    from modelyard.plugins.launchers.mpirun import MpirunLauncher
    from modelyard.plugins.launchers.process import ProcessLauncher
    from modelyard.plugins.launchers.torchrun import TorchrunLauncher

    return (ProcessLauncher, TorchrunLauncher, MpirunLauncher)
