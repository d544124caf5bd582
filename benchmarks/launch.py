"""What the in-job program adds between its start and the first line of the user's script.

The peer is the SageMaker training toolkit, the program of AWS's own images, where it is installed
(``pip install sagemaker-training``); the limit is Python itself, running the script by hand.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.tarball import TarballPackager

RUNS = 15
AIM_MS = 81
"""What the quickest of the incumbents' programs was measured at, on a machine where Python took 7."""

AIM_RATIO = AIM_MS / 7
SCRIPT = "import time; print('first line at', time.monotonic(), flush=True)\n"


def _job(folder: Path, *, archived: bool) -> Path:
    """Lay out a job whose code is there already, or in an archive that has to be unpacked first."""
    config, code = folder / "input" / "config", folder / "code"
    config.mkdir(parents=True)
    code.mkdir()
    told = {"sagemaker_program": '"train.py"'}
    if archived:
        (folder / "train.py").write_text(SCRIPT)
        bundle = TarballPackager().pack_source(SourceCode(str(folder / "train.py")), folder)
        told["sagemaker_submit_directory"] = json.dumps(str(bundle.path))
    else:
        (code / "train.py").write_text(SCRIPT)
    (config / "hyperparameters.json").write_text(json.dumps(told))
    hosts = {"current_host": "localhost", "hosts": ["localhost"]}
    (config / "resourceconfig.json").write_text(json.dumps(hosts))
    (config / "inputdataconfig.json").write_text("{}")
    return folder


def _milliseconds(argv: list[str], base: Path, cwd: Path) -> float:
    """Return the time from the program's start to the script's first line."""
    start = time.monotonic()
    environ = {**os.environ, "SAGEMAKER_BASE_DIR": str(base)}
    done = subprocess.run(argv, env=environ, cwd=cwd, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if "first line at" in line)
    return (float(line.split()[-1]) - start) * 1000


def main() -> None:
    """Print medians over interleaved runs, and the ratio to the bare script."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, packed = _job(folder / "plain", archived=False), _job(folder / "packed", archived=True)
        script = str(plain / "code" / "train.py")
        ours = [sys.executable, "-P", "-m", "modelyard.training"]
        programs = {
            "python train.py": ([sys.executable, script], plain),
            "modelyard, code in its folder": (ours, plain),
            "modelyard, code in an archive": (ours, packed),
        }
        if importlib.util.find_spec("sagemaker_training"):
            train = "from sagemaker_training.cli.train import main; main()"
            programs["sagemaker-training"] = ([sys.executable, "-c", train], plain)
        times: dict[str, list[float]] = {label: [] for label in programs}
        for _ in range(RUNS):
            for label, (argv, base) in programs.items():
                times[label].append(_milliseconds(argv, base, folder))
    bare = median(times["python train.py"])
    print(f"{'from the start to the first line of the script':<48}{'ms':>8}{'aim':>6}{'ratio':>8}{'aim':>6}")
    for label, measured in times.items():
        figure = median(measured)
        if "modelyard" not in label:
            print(f"{label:<48}{figure:>8.1f}{'':>6}{figure / bare:>8.1f}")
            continue
        met = "met" if figure < AIM_MS else "met as a ratio" if figure / bare < AIM_RATIO else "MISSED"
        print(f"{label:<48}{figure:>8.1f}{AIM_MS:>6}{figure / bare:>8.1f}{AIM_RATIO:>6.1f}  {met}")


if __name__ == "__main__":
    main()
