"""Plain FastAPI on uvicorn, the model called in the handler: ``fastapi_server PORT``."""

import sys

import torch
import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.serving.peers.plain import decode, encode, load

app = FastAPI()
model = load()


@app.get("/ping")
async def ping() -> dict[str, str]:
    """Say that the server is there."""
    return {"status": "ok"}


@app.post("/invocations")
async def invoke(request: Request) -> Response:
    """Answer NPY with NPY."""
    body = await request.body()
    with torch.inference_mode():
        answer = encode(model(decode(body)))
    return Response(answer, media_type="application/x-npy")


@app.post("/json")
async def invoke_json(rows: list[list[float]]) -> list[list[float]]:
    """Answer JSON with JSON."""
    with torch.inference_mode():
        answer: list[list[float]] = model(torch.tensor(rows)).tolist()
    return answer


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
