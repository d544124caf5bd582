"""The in-job program: ``python -m modelyard.training``, and ``train`` in a container."""

import os
import sys

from modelyard.core import log
from modelyard.core.errors import is_expected, said
from modelyard.core.handover import ROOM, clip, end_with_guard
from modelyard.core.layout import JobLayout, base_dir
from modelyard.core.manager import PluginManager
from modelyard.training import job, supervisor


def main() -> int:
    """Run the job of ``SAGEMAKER_BASE_DIR`` (or ``/opt/ml``) and return the script's exit code."""
    with supervisor.signals() as stop:  # First of all: as PID 1 nothing else takes them.
        end_with_guard()
        log.configure()
        layout = JobLayout(base_dir())
        try:
            if room := os.environ.pop(ROOM, ""):
                from modelyard.core.namespaces import Room, enter

                enter(Room.from_json(room))
            return job.run(layout, os.environ, PluginManager.discover(), stop)
        except Exception as error:  # noqa: BLE001 - all of it is told, without secrets
            _report(error, layout)
            return 128 + error.signal if isinstance(error, job.StoppedError) else 1


def _report(error: Exception, layout: JobLayout) -> None:
    """Record why there is no script whose failure counts, and say it, without the job's secrets."""
    from modelyard.training import failure, masking

    secrets = masking.secrets_of(layout, os.environ)
    text = masking.masked(said(error), secrets)
    lines = [text]
    # The record may be the script's own.
    if (recorded := failure.record(layout.failure, clip(text))) not in (text, clip(text)):
        lines.append(recorded)
    for line in lines:
        sys.stderr.write(f"modelyard: {line}\n")
    if not is_expected(error):
        import traceback

        sys.stderr.write(masking.masked("".join(traceback.format_exception(error)), secrets))


if __name__ == "__main__":
    sys.exit(main())
