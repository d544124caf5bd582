"""Processes that do not outlive their purpose: the operating system's means, in one place.

Linux has all of it. Elsewhere the calls that do not exist are left out, and what remains is the
owner's pipe and the process group.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def become_subreaper() -> None:
    """Make orphaned descendants this process's children, so that it can end and reap them."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(sig: signal.Signals, parent: int) -> None:
    """Have the kernel send `sig` to this process when its parent, whose pid is `parent`, dies.

    The parent may have died before the call: then the signal is sent at once.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), sig)


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9; a number that has no name, such as a real-time signal's, stays one."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def exit_status(code: int) -> int:
    """Return the status by which a shell knows how a process ended, from the code of `subprocess`."""
    return 128 - code if code < 0 else code


def reap_orphans(*children: int) -> bool:
    """Reap what the children's own children left behind, and never one of `children` itself.

    Returns whether this process has any children left.
    """
    if not hasattr(os, "waitid"):  # Older Pythons on macOS, where orphans do not come to this process.
        return bool(children)
    try:
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in children:
                break
            os.waitpid(ended.si_pid, 0)
    except ChildProcessError:
        return False
    return True


def end_descendants(grace: float = 0.0) -> None:
    """End and reap every process below this one: SIGTERM, `grace` seconds, then SIGKILL.

    Reaps all children: for programs whose only purpose is to supervise. Returns within `grace` and
    a few seconds, also if a process is stuck in the kernel.
    """
    if _no_children():
        return
    if grace > 0:
        signal_descendants(signal.SIGTERM)
        _wait_for_children(grace)
    for _ in range(50):
        if _no_children():
            return
        signal_descendants(signal.SIGKILL)
        _wait_for_children(0.1)


def signal_descendants(sig: signal.Signals, *, but_of: int = 0) -> None:
    """Send `sig` to every process below this one, but those of the process group `but_of`."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
            if not but_of or os.getpgid(process.pid) != but_of:
                process.send_signal(sig)


def _no_children() -> bool:
    """Reap the children that have ended; tell whether that were all of them."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            return False


def _wait_for_children(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not _no_children():
        time.sleep(0.01)
