"""Elastic Inference's contract: TorchScript on the CPU, and on its accelerator where there still is one.

AWS has ended the service. Its two generations were variants of torch: 1.3.1, whose
``torch.jit.optimized_execution`` takes the accelerator, and 1.5.1, with the package ``torcheia``. On any
other torch the model is served by the CPU. Source: the default handlers of SageMaker's PyTorch inference
toolkit (``default_pytorch_inference_handler.py``) and the documentation of ``attach_eia``.
"""

import contextlib
import importlib
import importlib.util
import inspect
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import attrs

from modelyard.core.errors import UserCodeError
from modelyard.core.handover import ACCELERATOR_PRESENT
from modelyard.hardware import detection, modules
from modelyard.hardware.cpu import CpuHardware

_ACCELERATOR = "eia:0"


@attrs.frozen
class ElasticInferenceHardware(CpuHardware):
    """The CPU with an accelerator that was attached to it over the network: ``accelerator_type``."""

    name: ClassVar[str] = "elastic_inference"
    collectives: ClassVar[tuple[str, ...]] = ("gloo",)
    instance_types: ClassVar[tuple[str, ...]] = ()
    accelerator_types: ClassVar[tuple[str, ...]] = ("ml.eia*",)

    def describe(self) -> str:
        """Return what serves the model: the accelerator, or the CPU and why."""
        if _has_torcheia():
            return "an Elastic Inference accelerator, by torcheia"
        return f"{detection.cpus().said}; AWS has ended Elastic Inference: the model is served by the CPU"

    def worker_environ(self, index: int) -> Mapping[str, str]:
        """Return the variable by which scripts ask for the accelerator."""
        return {ACCELERATOR_PRESENT: os.environ.get(ACCELERATOR_PRESENT, "true")}

    def load(self, model_dir: Path) -> object:
        """Load ``model.pt``, which ``torch.jit.save`` wrote. Raises `UserCodeError`."""
        path = model_dir / "model.pt"
        if not path.is_file():
            raise UserCodeError(
                "Elastic Inference serves model.pt, a TorchScript model, and there is none: save it with "
                "torch.jit.save as model.pt, or define model_fn(model_dir) in the inference script"
            )
        model: Any = modules.torchscript(path, "cpu")
        if not _has_torcheia():
            return model
        return importlib.import_module("torcheia").jit.attach_eia(model.eval(), 0)

    def predict(self, model: Any, value: object) -> object:
        """Call the model without gradients, on the accelerator if there is one."""
        import torch

        with torch.no_grad(), _execution(torch):
            return model(value)


@cache
def _has_torcheia() -> bool:
    return importlib.util.find_spec("torcheia") is not None


def _execution(torch: Any) -> AbstractContextManager[object]:
    """Return what a model is called in, so that it runs on the accelerator of this generation of torch."""
    optimized = torch.jit.optimized_execution
    if _has_torcheia():
        torch._C._jit_set_profiling_executor(False)  # noqa: SLF001, FBT003 - it is how AWS has it done
        return optimized(True)  # type: ignore[no-any-return]  # noqa: FBT003
    if _takes_a_device(optimized):
        return optimized(True, {"target_device": _ACCELERATOR})  # type: ignore[no-any-return]  # noqa: FBT003
    return contextlib.nullcontext()


@cache
def _takes_a_device(optimized_execution: Callable[..., Any]) -> bool:
    return len(inspect.signature(optimized_execution).parameters) > 1
