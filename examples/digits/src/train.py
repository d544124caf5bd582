"""Train the digit network on CPUs, GPUs or Trainium: SageMaker's contract, and nothing of modelyard."""

import argparse
import gc
import os

import numpy as np
import torch
import torch.distributed as dist
from network import DigitNetwork
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

# What the processes have to compute with is in the environment.
ON_TRAINIUM = int(os.environ.get("SM_NUM_NEURONS", "0")) > 0
ON_GPUS = int(os.environ.get("SM_NUM_GPUS", "0")) > 0

if ON_TRAINIUM:
    import torch_xla
    import torch_xla.distributed.xla_backend


def join():
    """Return the rank and the world's size: of the process group, if torchrun has started this process."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if ON_TRAINIUM:
        dist.init_process_group("xla", init_method="xla://")
    elif ON_GPUS:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl")
    else:
        dist.init_process_group("gloo")
    # Processes that are a world each would train as many models, and nobody would see it.
    if dist.get_world_size() != int(os.environ["WORLD_SIZE"]):
        raise RuntimeError(f"{os.environ['WORLD_SIZE']} processes are a world of {dist.get_world_size()}")
    return dist.get_rank(), dist.get_world_size()


def choose_device():
    if ON_TRAINIUM:
        return torch_xla.device()
    return torch.device("cuda" if ON_GPUS else "cpu")


def load(folder):
    rows = np.loadtxt(os.path.join(folder, "digits.csv.gz"), delimiter=",", dtype=np.float32)
    return TensorDataset(torch.from_numpy(rows[:, :-1]), torch.from_numpy(rows[:, -1]).long())


def train(model, dataset, device, args, rank, world):
    # Each process has its share of the images, and of each batch.
    shard = DistributedSampler(dataset, world, rank, seed=args.seed)
    batches = DataLoader(dataset, batch_size=max(1, args.batch_size // world), sampler=shard)
    if dist.is_initialized():
        model = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.learning_rate, momentum=0.9)
    loss_of = nn.CrossEntropyLoss()
    model.train()
    for epoch in range(1, args.epochs + 1):
        shard.set_epoch(epoch)
        total = torch.zeros((), device=device)
        for pixels, labels in batches:
            optimizer.zero_grad()
            loss = loss_of(model(pixels.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(labels)
            if ON_TRAINIUM:
                torch_xla.sync()  # Up to here XLA has only taken notes; now it computes.
        if rank == 0:
            print(f"epoch {epoch}: loss {total.item() / len(shard):.4f}")


def save(model, model_dir):
    weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    with open(os.path.join(model_dir, "model.pth"), "wb") as f:
        torch.save(weights, f)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()

    # Hyperparameters arrive as command-line arguments.
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)

    # Data and model directories arrive in the environment.
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--train", type=str, default=os.environ["SM_CHANNEL_TRAIN"])

    args, _ = parser.parse_known_args()

    # On images this small, threads cost more than they bring, and far more on a busy machine.
    torch.set_num_threads(1)
    rank, world = join()
    device = choose_device()
    print(f"rank {rank} of {world} trains on {device}")
    torch.manual_seed(args.seed)
    model = DigitNetwork().to(device)
    train(model, load(args.train), device, args, rank, world)
    if rank == 0:
        save(model, args.model_dir)
    if dist.is_initialized():
        gc.collect()  # A process group must outlive the model that it has trained.
        dist.destroy_process_group()
