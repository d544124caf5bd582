"""Load the digit network for an endpoint; the default input_fn, predict_fn and output_fn do the rest."""

import os

import torch
from network import DigitNetwork


def model_fn(model_dir):
    model = DigitNetwork()
    with open(os.path.join(model_dir, "model.pth"), "rb") as f:
        model.load_state_dict(torch.load(f, map_location="cpu", weights_only=True))
    return model.eval()
