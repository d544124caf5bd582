"""The parent of a rank below MPICH's mpirun, in the shells that may be /bin/sh."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.plugins.launchers import mpi_dialects

SCRIPT = Path(mpi_dialects.__file__).with_name("mpich_rank.sh")
SHELLS = [path for path in map(shutil.which, ("dash", "bash", "sh")) if path]
SECONDS = 60
SAVES = """
import signal, sys, time
def save(number, frame):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.mark.parametrize("shell", SHELLS, ids=lambda path: Path(path).name)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_asks_for_the_end_reaches_the_rank(shell, number):
    process = subprocess.Popen(
        [shell, str(SCRIPT), sys.executable, sys.executable, "-c", SAVES],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=SECONDS)[0] == "saved\n"
        assert process.returncode == 0
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.wait()


COUNTS = """
import pathlib, signal, time
told = []
def hear(number, frame):
    told.append(number)
    pathlib.Path("told").touch()
signal.signal(signal.SIGTERM, hear)
pathlib.Path("ready").touch()
while not told:
    time.sleep(0.1)
time.sleep(0.3)
print("told", len(told))
"""


@pytest.mark.parametrize("shell", SHELLS, ids=lambda path: Path(path).name)
def test_a_signal_that_comes_when_the_rank_is_just_known_is_passed_on_once(shell, tmp_path):
    known = "rank=$!\n"
    before, _, after = SCRIPT.read_text().partition(known)
    ready, told = (f"until [ -e {name} ]; do sleep 0.02; done\n" for name in ("ready", "told"))
    (tmp_path / "rank.sh").write_text(f"{before}{known}{ready}kill -TERM $$\n{told}{after}")
    ended = subprocess.run(
        [shell, "rank.sh", sys.executable, sys.executable, "-c", COUNTS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert ended.stdout == "told 1\n"
