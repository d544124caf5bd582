"""LitServe with one worker: ``litserve_server PORT MEDIA_TYPE BATCH_SIZE [ACCELERATOR]``.

A handler for NPY takes the body as bytes, by the type of ``decode_request``'s argument, which saves
LitServe the multipart form that its documentation wraps files in. Batches wait for nothing longer
than LitServe's smallest step.
"""

import sys
from typing import Annotated, Any

import litserve
import torch
from fastapi import Body, Response

from benchmarks.serving.peers.plain import decode, encode, load


class Npy(litserve.LitAPI):
    """Answers NPY with NPY."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.device, self.model = device, load().to(device)

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/x-npy")]) -> Any:
        """Return the input of one request."""
        return decode(request)

    def batch(self, inputs: list[Any]) -> Any:
        """Return several inputs as one."""
        return torch.cat(inputs)

    def unbatch(self, output: Any) -> Any:
        """Return one output as several."""
        return output.split(1)

    def predict(self, x: Any) -> Any:
        """Call the model."""
        with torch.inference_mode():
            return self.model(x.to(self.device))

    def encode_response(self, output: Any) -> Response:
        """Return the answer to one request."""
        return Response(encode(output.cpu()), media_type="application/x-npy")


class Json(litserve.LitAPI):
    """Answers JSON with JSON."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.model = load()

    def decode_request(self, request: list[list[float]]) -> Any:
        """Return the input of one request."""
        return torch.tensor(request)

    def predict(self, x: Any) -> Any:
        """Call the model."""
        with torch.inference_mode():
            return self.model(x)

    def encode_response(self, output: Any) -> Any:
        """Return the answer to one request."""
        return output.tolist()


if __name__ == "__main__":
    port, media_type, batch_size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    kind = Json if media_type == "application/json" else Npy
    api = kind(max_batch_size=batch_size, api_path="/invocations")
    accelerator = sys.argv[4] if len(sys.argv) > 4 else "cpu"
    server = litserve.LitServer(api, accelerator=accelerator, devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="warning"
    )
