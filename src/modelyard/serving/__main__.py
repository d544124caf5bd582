"""The in-endpoint program: ``python -m modelyard.serving``, and ``serve`` in a container."""

import contextlib
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

import attrs

from modelyard.core import log
from modelyard.core.errors import is_expected, said
from modelyard.core.handover import ISOLATED_PACKAGES, LISTEN_FD, clip, end_with_guard
from modelyard.core.layout import JobLayout, base_dir
from modelyard.core.plans import EndpointPlan
from modelyard.serving.program import Deployment, serve
from modelyard.serving.settings import PREFIX, ServerSettings


def main() -> int:
    """Serve the model of ``SAGEMAKER_BASE_DIR`` (or ``/opt/ml``) until SIGTERM."""
    end_with_guard()
    log.configure(level=_level(os.environ.get("SAGEMAKER_CONTAINER_LOG_LEVEL", "")))
    base = base_dir()
    # Until the server takes it: as the first process of a container it would be ignored.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        serve(_deployment(base), _inherited())
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001 - printed, and recorded
        if not is_expected(error):
            traceback.print_exc()
        sys.stderr.write(f"modelyard: {said(error)}\n")
        _record_failure(base, said(error))
        return 1
    return 0


def in_container() -> int:
    """Serve as a container must, which SageMaker reaches from outside: on all interfaces."""
    os.environ.setdefault(f"{PREFIX}HOST", "0.0.0.0")  # noqa: S104 - see above
    return main()


def _deployment(base: Path) -> Deployment:
    deployment = Deployment(
        base / "model",
        base / "endpoint",
        ServerSettings.from_environ(),
        isolated=ISOLATED_PACKAGES in os.environ,
    )
    plan_file = base / "modelyard.json"
    if not plan_file.is_file():
        return deployment
    plan = EndpointPlan.from_json(plan_file.read_bytes())
    return attrs.evolve(deployment, name=plan.endpoint_name, hardware=plan.hardware)


def _inherited() -> socket.socket | None:
    """Return the socket that was passed on, if one was."""
    descriptor = int(os.environ.get(LISTEN_FD, "-1"))
    return socket.socket(fileno=descriptor) if descriptor >= 0 else None


def _level(text: str) -> str | int:
    """Return the level of the log: a number, or a name, of the standard library's."""
    return int(text) if text.isdecimal() else text.upper() or log.LEVEL


def _record_failure(base: Path, text: str) -> None:
    """Leave the reason where a backend looks for it; SageMaker has no such folder in an endpoint."""
    path = JobLayout(base).failure
    with contextlib.suppress(OSError):
        path.write_text(clip(text), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
