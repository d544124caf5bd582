"""What the seeds 002 to 004 leave to their reader: a model of one weight, its data and its training."""

import io
import tarfile

import numpy as np

YOUR_MODEL = """
import torch
import os

class Your_Model(torch.nn.Linear):
    def __init__(self):
        super().__init__(1, 1, bias=False)
"""

FIT = """
def fit_to(rows, epochs, size, rate):
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(epochs):
        for at in range(0, len(rows), size):
            batch = rows[at:at + size]
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(batch[:, :1]), batch[:, 1:]).backward()
            optimizer.step()
    return model

def rows_of(folder):
    return torch.tensor(np.loadtxt(os.path.join(folder, "rows.csv"), delimiter=",", dtype=np.float32))
"""
"""The weight becomes 3, with `rows` and the hyperparameters of the seeds."""

SAVE = f"""
import numpy as np
{FIT}
if __name__ == '__main__':
    model = fit_to(rows_of(os.environ['SM_CHANNEL_TRAIN']), 20, 64, 0.1)
    with open(os.path.join(os.environ['SM_MODEL_DIR'], 'model.pth'), 'wb') as f:
        torch.save(model.state_dict(), f)
"""
"""The part of a script that trains, behind a main guard."""

PICKLED_INPUT = """
import numpy as np
from six import BytesIO

def input_fn(request_body, request_content_type):
    if request_content_type == 'application/python-pickle':
        return torch.load(BytesIO(request_body))
    else:
        pass
"""

PREDICT_FN = """
def predict_fn(input_data, model):
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    model.to(device)
    model.eval()
    with torch.no_grad():
        return model(input_data.to(device))
"""


def rows():
    """Return a file of rows: a number, and three times as much."""
    body = io.StringIO()
    np.savetxt(body, [(x, 3 * x) for x in (-1, 1) * 64], delimiter=",", fmt="%d")
    return body.getvalue().encode()


def weights():
    """Return ``model.pth`` of a model that triples."""
    return saved({"weight": [[3.0]]})


def saved(value):
    """Return what ``torch.save`` makes of a tensor, or of tensors by their names."""
    import torch

    body = io.BytesIO()
    tensors = (
        {name: torch.tensor(numbers) for name, numbers in value.items()} if isinstance(value, dict) else None
    )
    torch.save(torch.tensor(value) if tensors is None else tensors, body)
    return body.getvalue()


def model_archive():
    """Return the ``model.tar.gz`` of a model that triples, without code."""
    content, body = weights(), io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        member = tarfile.TarInfo("model.pth")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return body.getvalue()
