"""TorchServe's handler for the model, a module with ``handle(data, context)`` as its documentation has it."""

import json
from typing import Any

import torch

from benchmarks.serving.peers.plain import decode, encode, load

model = load()


def handle(data: list[Any] | None, context: Any) -> list[bytes] | None:
    """Answer a batch: NPY with NPY, JSON with JSON."""
    if data is None:  # TorchServe's first call
        return None
    media_type = context.get_request_header(0, "Content-Type")
    read, write = (_read_json, _write_json) if media_type == "application/json" else (decode, encode)
    with torch.inference_mode():
        inputs = [read(item["body"]) for item in data]
        outputs = model(torch.cat(inputs)).split([len(each) for each in inputs])
    for index in range(len(data)):
        context.set_response_content_type(index, media_type)
    return [write(output) for output in outputs]


def _read_json(body: Any) -> Any:
    return torch.tensor(body if isinstance(body, list) else json.loads(body))


def _write_json(tensor: Any) -> bytes:
    return json.dumps(tensor.tolist()).encode()
