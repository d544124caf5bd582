"""NVIDIA's GPUs, with NCCL between them."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from modelyard.core.contracts import Host
from modelyard.core.errors import InvalidPlanError, UserCodeError
from modelyard.core.log import get_logger
from modelyard.core.plans import Resources
from modelyard.hardware import detection, modules, options, process_group
from modelyard.hardware.torch import StackedInputs, TorchHardware

if TYPE_CHECKING:
    import torch

_PRECISIONS = ("", "float16", "bfloat16")
_MODES = ("", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_RECORDED_AS = {"default": "reduce-overhead", "max-autotune-no-cudagraphs": "max-autotune"}
"""Modes without recordings, and the same with."""
_RECORDING = ("reduce-overhead", "max-autotune")
_PINNED_FROM = 64 * 1024
"""Bytes: below, the driver copies a tensor at once, and to lock memory for it takes longer."""

_log = get_logger(__name__)


def _check_choice(_hardware: object, attribute: "attrs.Attribute[str]", value: object) -> None:
    choices = _PRECISIONS if attribute.name == "autocast" else _MODES
    if value not in choices:
        raise InvalidPlanError(f"{attribute.name} is one of {', '.join(map(repr, choices))}, not {value!r}")


@attrs.frozen
class CudaHardware(TorchHardware, StackedInputs):
    """NVIDIA's GPUs, each for one process.

    ``autocast``: the precision in which a model computes what can be (``float16``, ``bfloat16``); its
    inputs and its weights stay as they are, and its last operation decides what it gives.

    ``compile``: the mode in which ``torch.compile`` compiles a placed model at its first call
    (``default``, ``reduce-overhead``, ``max-autotune``, ``max-autotune-no-cudagraphs``).

    ``cuda_graphs``: whether the GPU's work for a shape of input is recorded once and then repeated. It
    needs no compiler; with ``compile`` what is compiled is recorded.
    """

    name: ClassVar[str] = "cuda"
    device_type: ClassVar[str] = "cuda"
    collectives: ClassVar[tuple[str, ...]] = ("nccl", "gloo")
    instance_types: ClassVar[tuple[str, ...]] = ("local_gpu", "ml.p*", "ml.g*")

    autocast: str = attrs.field(default="", validator=_check_choice)
    compile: str = attrs.field(default="", validator=_check_choice)
    cuda_graphs: bool = options.switch()

    def device_count(self) -> int:
        """Return how many GPUs ``CUDA_VISIBLE_DEVICES`` leaves of those that the driver lists."""
        return detection.gpus().count

    def describe(self) -> str:
        """Return which GPUs there are, or why there is none."""
        return detection.gpus().said

    def check(self, resources: Resources) -> None:
        """Raise `InvalidPlanError` where this machine is meant and has no GPU for each host."""
        if not resources.instance_type.startswith("local"):
            return
        found = detection.gpus()
        if not found.count:
            raise InvalidPlanError(f"{found.said}; leave hardware and instance_type='local_gpu' out")
        if resources.instance_count > 1:
            raise InvalidPlanError(
                f"{resources.instance_count} hosts on this machine would share its GPUs, which NCCL "
                "refuses: use instance_count=1, with distribution={'torchrun': {}} for a process per GPU"
            )

    def environ(self, host: Host) -> Mapping[str, str]:
        """Return what NCCL needs, and gloo beside it, on `host`; and each process's share of the CPUs."""
        return {
            "NCCL_DEBUG": "WARN",
            **process_group.interface(host, "NCCL", "GLOO"),
            **process_group.fabric(host),
            **process_group.threads(host),
        }

    def device(self, index: int) -> "torch.device":
        """Return a GPU, which becomes the thread's current one."""
        import torch

        device = super().device(index)
        torch.cuda.set_device(device)
        return device

    def move(self, device: "torch.device", tensor: "torch.Tensor") -> "torch.Tensor":
        """Return the tensor on a GPU; a large one goes through locked memory, so that nobody waits."""
        import torch

        if tensor.is_cpu and tensor.layout is torch.strided and tensor.nbytes >= _PINNED_FROM:
            tensor = tensor.pin_memory()
        return tensor.to(device, non_blocking=True)

    def move_module(self, device: "torch.device", module: "torch.nn.Module") -> "torch.nn.Module":
        """Return the module on a GPU, compiled if the options say so.

        Raises `UserCodeError` for one that cannot be compiled.
        """
        import torch

        module = super().move_module(device, module)
        if not (self.compile or self.cuda_graphs):
            return module
        if isinstance(module, torch.jit.ScriptModule):
            raise UserCodeError(
                "compile and cuda_graphs are for models of Python, and this is TorchScript: save the model "
                "with torch.export, return it from model_fn, or leave the options out"
            )
        mode = _RECORDED_AS.get(self.compile, self.compile) if self.cuda_graphs else self.compile
        how = {"mode": mode} if mode else {"backend": "cudagraphs"}
        compiled: Any = torch.compile(modules.evaluating(module), **how)
        if mode in _RECORDING or not mode:
            compiled.register_forward_hook(_kept)
        return compiled

    def predict(self, model: Any, value: object) -> object:
        """Call the model in inference mode, in the precision of ``autocast``."""
        import torch

        if not self.autocast:
            return super().predict(model, value)
        dtype = torch.float16 if self.autocast == "float16" else torch.bfloat16
        with torch.inference_mode(), torch.autocast("cuda", dtype=dtype):
            return model(value)

    def recover(self, error: BaseException) -> bool:
        """Give back the memory of a call that had too little; tell whether the GPU works for this process.

        A kernel's failed assertion is the end of CUDA for its process, and any later call may be the one
        that says so. So the GPU is asked, whatever the error is.
        """
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return True
        try:
            if isinstance(error, torch.OutOfMemoryError):
                # The frames of the failed call hold what it had got.
                import traceback  # For a failure alone.

                traceback.clear_frames(error.__traceback__)
                torch.cuda.empty_cache()
            torch.cuda.synchronize()
        except RuntimeError as failure:
            _log.error("the GPU fails", reason=str(failure).partition("\n")[0])
            return False
        return True


def _kept(_module: object, _inputs: object, prediction: object) -> object:
    """Return a prediction that stays: a recording writes each into the same memory."""
    import torch
    from torch.utils import _pytree

    return _pytree.tree_map_only(torch.Tensor, torch.clone, prediction)
