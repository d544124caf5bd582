"""Fit a plane to points, of which each process has its share."""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def fit(rank, size, steps):
    """Return the plane and how far it is from this process's points."""
    torch.manual_seed(0)
    points = torch.randn(64, 3)[rank::size]
    heights = points @ torch.tensor([[1.0], [-2.0], [3.0]]) + 0.5
    model = DistributedDataParallel(torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(points), heights)
        loss.backward()
        optimizer.step()
    return model.module, loss.item()


def main():
    """Train in one of several processes; the first one saves the model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="gloo")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--title", default="plane")
    parser.add_argument("--failing-rank", type=int, default=-1)
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    args = parser.parse_args()

    dist.init_process_group(args.backend)
    rank, size = dist.get_rank(), dist.get_world_size()
    if rank == args.failing_rank:
        raise ValueError("this share of the points is empty")
    # What holds on to the group ends with `fit`: gloo's threads must not outlive the interpreter.
    plane, loss = fit(rank, size, args.steps)
    print(f"{args.title}: process {rank} of {size} by {dist.get_backend()}, loss {loss:.4f}", flush=True)  # noqa: T201
    if rank == 0:
        torch.save(plane.state_dict(), Path(args.model_dir, "model.pth"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
