"""The in-job program: ``python -m modelyard.training``."""

import os
import sys

from modelyard.core import log
from modelyard.core.errors import ModelyardError
from modelyard.core.handover import clip, end_with_guard
from modelyard.core.layout import JobLayout, base_dir
from modelyard.core.manager import PluginManager
from modelyard.training import failure, job


def main() -> int:
    """Run the job of ``SAGEMAKER_BASE_DIR`` (or ``/opt/ml``) and return the script's exit code."""
    end_with_guard()
    log.configure()
    base = base_dir()
    try:
        return job.run(base, os.environ, PluginManager.discover())
    except Exception as error:
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
