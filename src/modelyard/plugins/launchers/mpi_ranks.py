"""The ranks below an MPI program: told to end without mpirun, and reported to it."""

import contextlib
import os
import threading

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""What Open MPI and MPICH tell a process that is a rank, and none of their own."""


class RankSignal:
    """Passes the first signal that asks for the end of the job to the ranks below this process.

    Not by mpirun, which for SIGTERM gives its ranks half a second (Open MPI 5) or two (Open MPI 4)
    before it kills them: too little to save a checkpoint.
    """

    def __init__(self) -> None:
        self._sent = False
        self._sending = threading.Lock()

    def send(self, number: int) -> bool:
        """Send the signal, unless one was sent or is being sent; tell whether a rank has had one."""
        # A handler may be called while it runs, and in another thread's stead.
        if not self._sending.acquire(blocking=False):
            return True
        try:
            if not self._sent:
                self._sent = signal_ranks(number)
        finally:
            self._sending.release()
        return self._sent


def signal_ranks(number: int) -> bool:
    """Send a signal to each rank below this process, not to its children; tell if there are any."""
    import psutil  # Seldom needed: a job that ends by itself starts sooner without it.

    found = False
    below = psutil.Process().children()
    while below:
        process = below.pop()
        with contextlib.suppress(psutil.Error):
            if any(name in process.environ() for name in RANK_VARIABLES):
                process.send_signal(number)
                found = True
            else:
                below += process.children()
    return found


def abort(status: int) -> int:
    """Tell MPICH to end all ranks, as ``MPI_Abort`` does, from below the process that it started.

    By the line that ``MPI_Abort`` sends on the descriptor ``PMI_FD`` (PMI 1). Returns `status`, with
    which the caller is to exit.
    """
    with contextlib.suppress(KeyError, ValueError, OSError):
        os.write(int(os.environ["PMI_FD"]), b"cmd=abort exitcode=%d\n" % status)
    return status
