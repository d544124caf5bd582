"""How many cores this process may use."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cores(cgroup: Path = _CGROUP) -> int:
    """Return how many cores this process may use: those of its affinity, or of its container's quota."""
    # macOS has no affinity.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(allowed, int(quota))) if quota else allowed


def _quota(cgroup: Path) -> float:
    """Return the cores that the container may use together, 0 if that is not limited."""
    try:
        if (file := cgroup / "cpu.max").is_file():
            quota, period = file.read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return max(0.0, float(quota) / float(period))
    except (OSError, ValueError):  # There is no such file, or it says "max".
        return 0.0
