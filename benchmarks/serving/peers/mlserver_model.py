"""MLServer's runtime for the model, by its custom handlers: its own protocol has no NPY."""

import torch
from fastapi import Request, Response
from mlserver import MLModel
from mlserver.handlers import custom_handler

from benchmarks.serving.peers.plain import decode, encode, load


class Runtime(MLModel):
    """Answers in the main process (``parallel_workers`` 0): its fastest way on one core."""

    async def load(self) -> bool:
        """Load the model."""
        self.model = load()
        return True

    @custom_handler(rest_path="/invocations")
    async def invoke(self, request: Request) -> Response:
        """Answer NPY with NPY."""
        body = await request.body()
        with torch.inference_mode():
            answer = encode(self.model(decode(body)))
        return Response(answer, media_type="application/x-npy")

    @custom_handler(rest_path="/json")
    async def invoke_json(self, rows: list[list[float]]) -> list[list[float]]:
        """Answer JSON with JSON."""
        with torch.inference_mode():
            answer: list[list[float]] = self.model(torch.tensor(rows)).tolist()
        return answer
