"""The built-in kinds of hardware."""

import os
from collections.abc import Iterable, Iterator
from pkgutil import resolve_name

from modelyard.core.contracts import Hardware
from modelyard.core.hookspecs import hookimpl
from modelyard.core.plans import Resources

ACCELERATORS = (
    "modelyard.hardware.cuda:CudaHardware",
    "modelyard.hardware.trainium:TrainiumHardware",
)
"""What ``local`` means on a machine that has it; of two, the first."""
OTHERS = (
    "modelyard.hardware.cpu:CpuHardware",
    "modelyard.hardware.elastic_inference:ElasticInferenceHardware",
)


@hookimpl
def modelyard_register_hardware() -> Iterable[type[Hardware]]:
    """Return the built-in hardware classes."""
    return tuple(_classes(OTHERS + ACCELERATORS))


@hookimpl.options(trylast=True)
def modelyard_select_hardware(resources: Resources) -> str | None:
    """Return the accelerator that this machine has, where this machine is what is asked for."""
    if resources.instance_type != "local" or resources.accelerator_type or resources.instance_count > 1:
        return None  # Several hosts on one machine cannot each have its accelerators.
    return next((cls.name for cls in _classes(ACCELERATORS) if _is_here(cls)), None)


def _classes(names: Iterable[str]) -> Iterator[type[Hardware]]:
    # Imported when they are asked for: a job that runs on one kind of hardware need not load the others.
    return map(resolve_name, names)


def _is_here(cls: type[Hardware]) -> bool:
    from modelyard.hardware.detection import CPU_RUNTIME

    # XLA's runtime on the CPU is for who asks for it by name.
    emulated = cls.device_type == "xla" and os.environ.get("PJRT_DEVICE") == CPU_RUNTIME
    return not emulated and cls().device_count() > 0
