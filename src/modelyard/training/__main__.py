"""The in-job program: ``python -m modelyard.training``, and ``train`` in a container."""

import os
import sys

from modelyard.core import log
from modelyard.core.errors import ModelyardError
from modelyard.core.handover import ROOM, clip, end_with_guard
from modelyard.core.layout import JobLayout, base_dir
from modelyard.core.manager import PluginManager
from modelyard.training import job, supervisor


def main() -> int:
    """Run the job of ``SAGEMAKER_BASE_DIR`` (or ``/opt/ml``) and return the script's exit code."""
    with supervisor.signals() as stop:  # First of all: as PID 1 nothing else takes them.
        end_with_guard()
        log.configure()
        base = base_dir()
        try:
            if room := os.environ.pop(ROOM, ""):
                from modelyard.core.namespaces import Room, enter

                enter(Room.from_json(room))
            return job.run(base, os.environ, PluginManager.discover(), stop)
        except Exception as error:
            from modelyard.training import failure

            output = JobLayout(base).output
            output.mkdir(parents=True, exist_ok=True)
            expected = isinstance(error, (ModelyardError, OSError))
            text = str(error) if expected else f"{type(error).__name__}: {error}"
            said = failure.record(JobLayout(base).failure, clip(text))
            sys.stderr.write(f"modelyard: {said}\n")
            if not expected:
                raise
            return 1


if __name__ == "__main__":
    sys.exit(main())
