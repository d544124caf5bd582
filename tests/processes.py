"""What tests ask of processes that others have started and may reap at any moment."""

import time

import psutil


def has_ended(process):
    """Tell whether a process is gone, or a zombie."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # It was reaped between the two.
        return True


def ends(pid, seconds=30.0):
    """Tell whether the process of that number ends in time."""
    deadline = time.monotonic() + seconds
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return True
    while not has_ended(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
