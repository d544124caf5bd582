"""What one worker may take of the machine: cores, memory, and how it gives memory back."""

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import MutableMapping

from modelyard.core.cores import cores

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MIB = 1024 * 1024


def share_cores(workers: int, environ: MutableMapping[str, str] = os.environ) -> None:
    """Have this worker's libraries use its share of the cores, unless the user has said how many.

    To be called before the first import of torch.
    """
    if not any(name in environ for name in _THREAD_VARIABLES):
        threads = str(max(1, cores() // workers))
        environ.update(dict.fromkeys(_THREAD_VARIABLES, threads))


def keep_freed_memory() -> None:
    """Have malloc keep what requests have freed for the next ones, where it is glibc's.

    Left alone it returns the pages of every body above 128 KiB, to fault them in again one by one.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 64 * _MIB)
        libc.mallopt(_M_TRIM_THRESHOLD, 256 * _MIB)


def give_way() -> None:
    """Have this thread wait until the others of its core rest, where the kernel can see to it.

    An event loop that is woken by every piece of a body stops the model for each; so it finds them all
    when the model has come to an end, or after some milliseconds. It is as quick as before where a core
    is free. Threads that it starts are like it.
    """
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):  # A sandbox may forbid it, and nothing depends on it.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def limit_memory(size: int) -> None:
    """Let this process allocate `size` bytes of data at most; 0 for no limit."""
    if size:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
