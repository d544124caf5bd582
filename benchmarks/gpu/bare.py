"""The model on a GPU without a server: from an array in the host's memory to one, in a loop.

``python -m benchmarks.gpu.bare MODEL`` reads lines of an NPY file and of seconds, and prints the calls per
second for each, after as long a warm-up.
"""

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np


def main() -> None:
    """Answer each line."""
    import torch

    warnings.simplefilter("ignore")  # TorchScript is on its way out of torch.
    model = torch.jit.load(sys.argv[1]).to("cuda").eval()
    for line in sys.stdin:
        path, seconds = line.rsplit(maxsplit=1)
        array = np.load(Path(path))

        def call(array: object = array) -> None:
            with torch.inference_mode():
                model(torch.from_numpy(array).to("cuda")).cpu().numpy()

        _rate(call, float(seconds))
        print(_rate(call, float(seconds)), flush=True)


def _rate(call: Callable[[], None], seconds: float) -> float:
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        call()
        calls += 1
    return calls / elapsed


if __name__ == "__main__":
    main()
