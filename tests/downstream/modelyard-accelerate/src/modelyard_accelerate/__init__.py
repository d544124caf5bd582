"""A launcher for modelyard: Hugging Face's ``accelerate launch``."""

from collections.abc import Iterable
from typing import ClassVar

import attrs

from modelyard import hookimpl
from modelyard.core.contracts import Command, EntryPoint, Hardware, Host, Launcher, RankFailure
from modelyard.plugins.launchers.rank import as_rank, literal
from modelyard.plugins.launchers.torchrun_report import first_failure

MODELYARD_CONTRACT = "1.0"

_count = attrs.validators.optional([attrs.validators.instance_of(int), attrs.validators.ge(1)])


@attrs.frozen
class AccelerateLauncher:
    """Runs ``accelerate launch`` on each host, and the entry point as its processes.

    ``processes_per_host``: one per device of the hardware without it; ``mixed_precision``: what
    `accelerate.Accelerator` computes in (``no``, ``fp16``, ``bf16``, ``fp8``).
    """

    name: ClassVar[str] = "accelerate"
    distributions: ClassVar[tuple[str, ...]] = ("accelerate",)
    processes_per_host: int | None = attrs.field(default=None, validator=_count)
    mixed_precision: str = attrs.field(
        default="no", validator=attrs.validators.in_(("no", "fp16", "bf16", "fp8"))
    )

    def command(self, entry: EntryPoint, host: Host, hardware: Hardware) -> Command:
        """Return the command of ``accelerate launch`` on `host`."""
        each = self.processes_per_host or max(1, hardware.device_count())
        hosts = len(host.names)
        several = each * hosts > 1
        argv = (
            *(entry.interpreter, "-P", "-m", "accelerate.commands.launch"),
            *("--num_processes", str(each * hosts), "--num_machines", str(hosts)),
            # What accelerate calls several processes below torch's own agent, on the CPU as well.
            *(["--multi_gpu"] if several else []),
            *("--machine_rank", str(host.rank), "--main_process_ip", host.master_address),
            # 0: a free port, so that jobs of one host do not meet.
            *("--main_process_port", str(host.master_port if hosts > 1 else 0)),
            *("--mixed_precision", self.mixed_precision, "--dynamo_backend", "no", "--no_python"),
            *(map(literal, as_rank(entry.argv)) if several else as_rank(entry.argv)),
        )
        # Without it the scripts' Accelerator looks for a GPU.
        environ = {"ACCELERATE_USE_CPU": "true"} if hardware.device_type == "cpu" else {}
        return Command(argv, environ, entry.code_dir, each)

    def first_failure(self, stderr: str) -> RankFailure | None:
        """Return what the report of torch's agent says; None without one."""
        return first_failure(stderr)


@hookimpl
def modelyard_register_launchers() -> Iterable[type[Launcher]]:
    """Return the launcher."""
    return (AccelerateLauncher,)
