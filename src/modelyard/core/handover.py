"""What a platform hands to the programs that it starts, and what they hand back.

Besides the folder these are variables of modelyard's own, and the failure file.
"""

import os
import signal

GUARD_PID = "MODELYARD_GUARD_PID"
"""The process with which the program is to end."""

LISTEN_FD = "MODELYARD_LISTEN_FD"
"""The descriptor of the socket that an endpoint serves; it listens already."""

OUTPUT_URI = "MODELYARD_OUTPUT_URI"
"""Where the archives of a job that has ended go."""

STOP_SECONDS = "MODELYARD_STOP_SECONDS"
"""How long a script may take to end after SIGTERM, before SIGKILL; 30 as on SageMaker."""

HOST_ADDRESSES = "MODELYARD_HOST_ADDRESSES"
"""Where the hosts of a job reach each other, in the order of ``hosts``, separated by commas.

Without it the names of the hosts are resolved, as on SageMaker.
"""

ACCELERATOR_PRESENT = "SAGEMAKER_INFERENCE_ACCELERATOR_PRESENT"
"""``true`` where SageMaker has attached an Elastic Inference accelerator to an endpoint."""

HOST_KEY = "MODELYARD_HOST_KEY"
"""A secret that the hosts of one job share, by which their in-job programs trust each other."""

ISOLATED_PACKAGES = "MODELYARD_ISOLATED_PACKAGES"
"""Set where ``requirements.txt`` must not change the Python environment that runs the job."""

ROOM = "MODELYARD_ROOM"
"""What the program is to see besides the machine, a `modelyard.core.namespaces.Room` as JSON."""

STREAMS = "MODELYARD_STREAMS"
"""A folder of named pipes: a process of the job may write to ``<local rank>.out`` and ``.err``.

What a launcher's tool starts can so be told apart, line by line, whatever the tool does to output.
"""

HANDED_OVER = (
    GUARD_PID,
    HOST_ADDRESSES,
    HOST_KEY,
    ISOLATED_PACKAGES,
    LISTEN_FD,
    OUTPUT_URI,
    ROOM,
    STOP_SECONDS,
    STREAMS,
)
"""All of them: they are about one program, and no matter of what it starts for itself."""

FOR_LAUNCHERS = (HOST_ADDRESSES, HOST_KEY)
"""Those that the in-job program passes on: the tools of a launcher run on every host of the job."""

FAILURE_BYTES = 1024
"""What SageMaker shows of a failure file."""


def end_with_guard() -> None:
    """Have the kernel send SIGTERM to this process when its guard dies, if it has one."""
    # Taken out: a program that this one starts has another parent.
    if parent := int(os.environ.pop(GUARD_PID, "0")):
        from modelyard.core.processes import die_with_parent  # The names alone are asked for more often.

        die_with_parent(signal.SIGTERM, parent)


def clip(text: str) -> str:
    """Return `text` cut to `FAILURE_BYTES` of UTF-8, at a character's end."""
    return text.encode("utf-8", "replace")[:FAILURE_BYTES].decode("utf-8", "ignore")
