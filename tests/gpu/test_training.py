"""The digits example on GPUs: trained over NCCL by a process for each of them, then served."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.hardware import detection

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(400)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits" / "run.py"


def test_the_digits_are_learnt_over_nccl_and_served(modelyard_home):
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--hardware", "cuda"],
        # Has NCCL say that it is there; and the user's own value is the one that counts.
        env={**os.environ, "NCCL_DEBUG": "VERSION"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = detection.gpus()
    ranks = re.findall(r"rank (\d+) of (\d+) trains on cuda", done.stdout)
    assert sorted((int(rank), int(world)) for rank, world in ranks) == [
        (rank, found.count) for rank in range(found.count)
    ]
    assert f"hardware cuda: {found.said}" in done.stdout
    assert "NCCL version" in done.stdout + done.stderr
    (accuracy,) = re.findall(r"accuracy (\d\.\d+)", done.stdout)
    assert float(accuracy) >= 0.95
