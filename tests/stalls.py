"""Run a command whose processes stand still now and then, as on a machine that has far too much to do.

``python tests/stalls.py COMMAND...``: one descendant of the command stops for a moment, or the whole
tree for longer, and goes on. A test that takes an order of events for granted fails, one run in many.
What has left the tree, as a guard does whose client ended, is let alone.
"""

import contextlib
import random
import subprocess
import sys
import time

import psutil

BETWEEN = 0.02, 0.4
ONE = 0.05, 0.6
ALL = 0.2, 1.5
"""Seconds, at least and at most."""
SHARE_OF_ALL = 0.15
LET_ALONE = {"mpirun", "orterun", "prterun"}
"""Open MPI sends SIGCONT on to hosts, and gives up where it has not reached one yet."""


def main(command):
    """Return the command's exit status."""
    stalls = 0
    with subprocess.Popen(command) as child:
        while child.poll() is None:
            time.sleep(random.uniform(*BETWEEN))
            stalls += stall(tree(child.pid))
    sys.stderr.write(f"{stalls} stalls\n")
    return child.returncode


def tree(pid):
    """Return the processes below and with `pid` that a stall can be seen in."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [process for process in (root, *root.children(recursive=True)) if can_stop(process)]
    return []


def can_stop(process):
    """Tell whether a process runs and may be stopped: what a test has stopped itself is the test's."""
    with contextlib.suppress(psutil.NoSuchProcess):
        over = process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
        return not over and process.name() not in LET_ALONE
    return False


def stall(processes):
    """Stop all of them or one, and have them go on in any order; tell whether there was one."""
    if not processes:
        return False
    everyone = random.random() < SHARE_OF_ALL
    chosen = random.sample(processes, len(processes) if everyone else 1)
    try:
        for process in chosen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        time.sleep(random.uniform(*(ALL if everyone else ONE)))
    finally:
        for process in random.sample(chosen, len(chosen)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
