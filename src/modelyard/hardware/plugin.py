"""The built-in kinds of hardware."""

import os
from collections.abc import Iterable

from modelyard.core.contracts import Hardware
from modelyard.core.hookspecs import hookimpl
from modelyard.core.plans import Resources


@hookimpl
def modelyard_register_hardware() -> Iterable[type[Hardware]]:
    """Return the built-in hardware classes."""
    # Imported here: a job that runs on one kind of hardware need not load the others.
    from modelyard.hardware.cpu import CpuHardware
    from modelyard.hardware.cuda import CudaHardware
    from modelyard.hardware.elastic_inference import ElasticInferenceHardware
    from modelyard.hardware.trainium import TrainiumHardware

    return CpuHardware, CudaHardware, ElasticInferenceHardware, TrainiumHardware


@hookimpl.options(trylast=True)
def modelyard_select_hardware(resources: Resources) -> str | None:
    """Return the accelerator that this machine has, where this machine is what is asked for."""
    from modelyard.hardware.cuda import CudaHardware
    from modelyard.hardware.detection import CPU_RUNTIME
    from modelyard.hardware.trainium import TrainiumHardware

    if resources.instance_type != "local" or resources.accelerator_type or resources.instance_count > 1:
        return None  # Several hosts on one machine cannot each have its accelerators.
    if CudaHardware().device_count():
        return CudaHardware.name
    # XLA's runtime on the CPU is for who asks for it by name.
    there = os.environ.get("PJRT_DEVICE") != CPU_RUNTIME and TrainiumHardware().device_count()
    return TrainiumHardware.name if there else None
