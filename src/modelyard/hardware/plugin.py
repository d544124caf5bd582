"""The built-in kinds of hardware."""

from collections.abc import Iterable

from modelyard.core.contracts import Hardware
from modelyard.core.hookspecs import hookimpl


@hookimpl
def modelyard_register_hardware() -> Iterable[type[Hardware]]:
    """Return the built-in hardware classes."""
    # Imported here: a job that runs on one kind of hardware need not load the others.
    from modelyard.hardware.cpu import CpuHardware

    return (CpuHardware,)
