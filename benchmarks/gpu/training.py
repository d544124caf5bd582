"""What running under `fit` costs the steps of a script on a GPU: nothing, but for its output."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.serving.report import aim_line
from modelyard import PyTorch

RUNS = 3
AIM = 0.98
STEPS = 1000

TRAIN = f"""
import time, torch
torch.manual_seed(0)
layers = torch.nn.Linear(1024, 4096), torch.nn.ReLU(), torch.nn.Linear(4096, 10)
model = torch.nn.Sequential(*layers).to("cuda")
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
batch, labels = torch.randn(1024, 1024, device="cuda"), torch.randint(10, (1024,), device="cuda")

def train(steps):
    for step in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch), labels)
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {{step}} loss={{loss.item():.4f}}", flush=True)
    torch.cuda.synchronize()

train({STEPS} // 10)
start = time.perf_counter()
train({STEPS})
print("steps per second", {STEPS} / (time.perf_counter() - start))
"""


def main(folder: Path) -> None:
    """Print the steps per second under `fit`, as a ratio to those of the same script by hand."""
    script = folder / "train.py"
    script.write_text(TRAIN)
    os.environ["MODELYARD_HOME"] = str(folder / "home")
    turns = [(_under_fit(script), _by_hand(script)) for _ in range(RUNS)]
    ratio = median(ours / bare for ours, bare in turns)
    bare = median(bare for _, bare in turns)
    label = f"steps under fit, of those by hand ({bare:,.0f}/s)"
    print(aim_line(label, f"{ratio:.3f}", f"{AIM:g}", met=ratio >= AIM), flush=True)


def _by_hand(script: Path) -> float:
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    return _steps_per_second(done.stdout)


def _under_fit(script: Path) -> float:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        PyTorch(script, instance_type="local_gpu").fit()
    return _steps_per_second(said.getvalue())


def _steps_per_second(text: str) -> float:
    return float(next(line for line in text.splitlines() if "steps per second" in line).split()[-1])
