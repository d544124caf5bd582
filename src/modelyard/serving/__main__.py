"""The in-endpoint program: ``python -m modelyard.serving``."""

import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modelyard.core import log
from modelyard.core.errors import ModelyardError
from modelyard.core.handover import LISTEN_FD, clip, end_with_guard
from modelyard.core.http import Handler
from modelyard.core.layout import JobLayout, base_dir
from modelyard.core.manager import PluginManager
from modelyard.core.plans import EndpointPlan, Resources
from modelyard.serving.app import DEFAULT_MAX_BODY, Application
from modelyard.serving.handler import build_handler
from modelyard.serving.steps import JSON

_GRACEFUL_SECONDS = 25
# Not `__name__`, which is "__main__" here: no logger of ours.
_log = log.get_logger("modelyard.serving")


def main() -> int:
    """Serve the model of ``SAGEMAKER_BASE_DIR`` (or ``/opt/ml``) until SIGTERM."""
    end_with_guard()
    log.configure()
    base = base_dir()
    # One thread for the model's whole life: it is loaded and called on the same one.
    with ThreadPoolExecutor(1, "model") as executor:
        try:
            handler = executor.submit(_load, base, os.environ).result()
            _serve(Application(handler, executor, max_body=_max_body(os.environ)), os.environ)
        except Exception as error:  # noqa: BLE001 - printed, and recorded
            traceback.print_exc()
            expected = isinstance(error, (ModelyardError, OSError))
            _record_failure(base, str(error) if expected else f"{type(error).__name__}: {error}")
            return 1
    return 0


def _load(base: Path, environ: Mapping[str, str]) -> Handler:
    plugins = PluginManager.discover(environ)
    plan_file = base / "modelyard.json"
    if plan_file.is_file():
        hardware = EndpointPlan.from_json(plan_file.read_bytes()).hardware
    else:
        hardware = plugins.select_hardware(Resources())
    return build_handler(
        base / "model",
        plugins,
        plugins.hardware.create(hardware),
        program=environ.get("SAGEMAKER_PROGRAM") or None,
        default_accept=environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or JSON,
    )


def _serve(application: Application, environ: Mapping[str, str]) -> None:
    import uvicorn

    config = uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal that ended it once more: to be told to stop is no failure.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, server.handle_exit)
    with _socket(environ) as listening:
        host, port = listening.getsockname()[:2]
        _log.info("model loaded, serving", host=host, port=port)
        server.run(sockets=[listening])


def _socket(environ: Mapping[str, str]) -> socket.socket:
    """Return the socket that was passed on, or one on ``SAGEMAKER_BIND_TO_PORT`` (8080)."""
    inherited = int(environ.get(LISTEN_FD, "-1"))
    if inherited >= 0:
        return socket.socket(fileno=inherited)
    return socket.create_server(
        ("127.0.0.1", int(environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))), backlog=2048
    )


def _max_body(environ: Mapping[str, str]) -> int:
    megabytes = environ.get("SAGEMAKER_MAX_PAYLOAD_IN_MB")
    return int(megabytes) * 1024 * 1024 if megabytes else DEFAULT_MAX_BODY


def _record_failure(base: Path, text: str) -> None:
    """Leave the reason where a backend looks for it; SageMaker has no such folder in an endpoint."""
    path = JobLayout(base).failure
    with contextlib.suppress(OSError):
        path.write_text(clip(text), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
