"""The model without a server: decode, model, encode. Its loop is a limit that no server passes.

``python -m benchmarks.serving.bare FOLDER MEDIA_TYPE SECONDS`` prints the calls per second;
SECONDS of 0 has it answer once, say so, and wait for the end of its input.
"""

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import orjson

from benchmarks.serving.workloads import JSON
from modelyard.serializers.npy import NpyCodec


def answerer(folder: Path, media_type: str) -> Callable[[bytes], bytes]:
    """Return the function from a request's body to its answer, with nothing around the model."""
    import torch

    warnings.simplefilter("ignore")  # of tensors over read-only memory: nothing writes to them
    torch.set_num_threads(1)
    model = torch.jit.load(str(folder / "model" / "model.pt")).eval()
    codec = NpyCodec()

    def npy(body: bytes) -> bytes:
        with torch.inference_mode():
            return codec.encode(model(torch.from_numpy(codec.decode(body))).numpy())

    def json(body: bytes) -> bytes:
        with torch.inference_mode():
            rows = torch.tensor(orjson.loads(body), dtype=torch.float32)
            return orjson.dumps(model(rows).numpy(), option=orjson.OPT_SERIALIZE_NUMPY)

    return json if media_type == JSON else npy


def main() -> None:
    """Print the calls per second, after a warm-up."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[3])
    body, answer = (folder / "body").read_bytes(), answerer(folder, sys.argv[2])
    answer(body)
    if not seconds:
        print("ready", flush=True)
        sys.stdin.read()
        return
    _rate(answer, body, seconds / 4)
    print(_rate(answer, body, seconds))


def _rate(answer: Callable[[bytes], bytes], body: bytes, seconds: float) -> float:
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        for _ in range(20):
            answer(body)
        calls += 20
    return calls / elapsed


if __name__ == "__main__":
    main()
