"""Trains a small model with DDP over gloo, however it is launched, and says what became of it.

Each rank leaves ``rank-<rank>.json``: its rank, the world's size, and the parameters before and after.
Without ``RANK`` in the environment a host is one rank, as SageMaker's documentation has it.
"""
# ruff: noqa: T201 - printing is how a training script reports

import argparse
import fcntl
import gc
import json
import os
import signal
import stat
import sys
import termios
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--fail-rank", type=int)
    parser.add_argument("--fail-step", type=int, default=1)
    parser.add_argument("--fail-with", default="bad batch 17")
    parser.add_argument("--kill-rank", type=int, help="dies by SIGKILL at --fail-step, but only once")
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds after each step")
    parser.add_argument("--checkpoint-dir", type=Path)
    parser.add_argument(
        "--model-dir", type=Path, default=os.environ.get("SM_MODEL_DIR") or os.environ.get("OUT")
    )
    return parser.parse_args()


def join():
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    else:
        hosts = json.loads(os.environ["SM_HOSTS"])
        os.environ["WORLD_SIZE"] = str(len(hosts))
        dist.init_process_group("gloo", rank=hosts.index(os.environ["SM_CURRENT_HOST"]))
    return dist.get_rank(), dist.get_world_size()


def parameters(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).tolist()


def restore(path, model, optimizer):
    """Return how many steps are done already."""
    if path is None or not path.is_file():
        return 0
    saved = torch.load(path, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return saved["step"]


def save(path, step, model, optimizer):
    part = path.with_suffix(".part")
    torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, part)
    part.replace(path)


def fail(args, rank):
    if rank == args.fail_rank:
        raise ValueError(args.fail_with)
    if rank == args.kill_rank and not (killed := args.model_dir / "killed").exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def train(args, rank, world):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    before = parameters(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    checkpoint = args.checkpoint_dir and args.checkpoint_dir / "last.pt"
    first = restore(checkpoint, model, optimizer)
    # Nobody reads a checkpoint of this run as that of the last one.
    dist.barrier()
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    print(f"rank {rank} of {world} starts at step {first}, restarts {restarts}", flush=True)
    parallel = DistributedDataParallel(model)
    for step in range(first, args.steps):
        if step == args.fail_step:
            dist.barrier()  # What the steps before have left is there.
            fail(args, rank)
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(1000 * step + rank))
        loss = (parallel(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"rank {rank} step {step} loss {loss.item():.4f}", flush=True)
        if checkpoint and rank == 0:
            save(checkpoint, step + 1, model, optimizer)
        time.sleep(args.sleep)
    return {"rank": rank, "world": world, "before": before, "after": parameters(model)}


def wait_until_read(fd):
    """Wait until a pipe is empty: what is in it has been read then, and the moment noted."""
    deadline = time.monotonic() + 30  # Its reader may have gone.
    while stat.S_ISFIFO(os.fstat(fd).st_mode) and time.monotonic() < deadline:
        if not any(fcntl.ioctl(fd, termios.FIONREAD, bytes(4))):
            return
        time.sleep(0.01)


def main():
    args = options()
    torch.set_num_threads(1)
    rank, world = join()
    try:
        result = train(args, rank, world)
    except Exception:  # noqa: BLE001 - as the interpreter
        sys.excepthook(*sys.exc_info())
        wait_until_read(2)
        # The others find out now, and fail later than this one. Nor does gloo abort, as it may at exit.
        os._exit(1)
    # torch's gloo may abort at exit where a DDP model outlives its process group.
    gc.collect()
    dist.destroy_process_group()
    (args.model_dir / f"rank-{rank}.json").write_text(json.dumps(result), "utf-8")
    print(f"rank {rank} of {world} ends", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
