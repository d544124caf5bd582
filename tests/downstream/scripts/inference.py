"""Load the plane; all else is left to the server."""

from pathlib import Path

import torch


def model_fn(model_dir):
    model = torch.nn.Linear(3, 1)
    model.load_state_dict(torch.load(Path(model_dir, "model.pth"), weights_only=True))
    return model
