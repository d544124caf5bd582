"""Train the digit network: SageMaker's contract, and nothing of modelyard."""

import argparse
import os

import numpy as np
import torch
from network import DigitNetwork
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def load(folder):
    rows = np.loadtxt(os.path.join(folder, "digits.csv.gz"), delimiter=",", dtype=np.float32)
    return TensorDataset(torch.from_numpy(rows[:, :-1]), torch.from_numpy(rows[:, -1]).long())


def train(model, dataset, *, epochs, batch_size, learning_rate):
    batches = DataLoader(dataset, batch_size=batch_size, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    loss_of = nn.CrossEntropyLoss()
    model.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for pixels, labels in batches:
            optimizer.zero_grad()
            loss = loss_of(model(pixels), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        print(f"epoch {epoch}: loss {total / len(dataset):.4f}")


def save(model, model_dir):
    with open(os.path.join(model_dir, "model.pth"), "wb") as f:
        torch.save(model.state_dict(), f)


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

    torch.manual_seed(args.seed)
    # On images this small, threads cost more than they bring, and far more on a busy machine.
    torch.set_num_threads(1)
    model = DigitNetwork()
    train(
        model,
        load(args.train),
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
    )
    save(model, args.model_dir)
