"""How many cores this process may use."""

import os

import pytest

from modelyard.core.cores import cores


def test_the_cores_are_those_that_the_process_may_use(tmp_path):
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert cores(tmp_path) == allowed


@pytest.mark.parametrize(
    ("files", "number"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "99999900000 100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
    ],
)
def test_a_containers_quota_counts(tmp_path, files, number):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores(tmp_path) == (number or cores(tmp_path / "nowhere"))
