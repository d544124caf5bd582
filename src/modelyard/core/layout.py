"""Where things are in a job and in an endpoint: SageMaker's ``/opt/ml``, below any base folder."""

import os
from collections.abc import Mapping
from pathlib import Path

import attrs

BASE_DIR = "SAGEMAKER_BASE_DIR"


def base_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that stands for ``/opt/ml``: ``SAGEMAKER_BASE_DIR``, or ``/opt/ml``."""
    return Path(environ.get(BASE_DIR) or "/opt/ml")


def log_beside(failure: Path) -> Path:
    """Return where all is kept of which a failure file has only the end."""
    return failure.with_name(f"{failure.name}.log")


@attrs.frozen
class JobLayout:
    """The folders and files of one host of a training job, below ``base``."""

    base: Path

    @property
    def code(self) -> Path:
        """The user's source, and the script's working directory."""
        return self.base / "code"

    @property
    def input(self) -> Path:
        """What the job is given."""
        return self.base / "input"

    @property
    def config(self) -> Path:
        """The JSON files that describe the job."""
        return self.input / "config"

    @property
    def plan(self) -> Path:
        """modelyard's own description of the job; absent where another client started it."""
        return self.config / "modelyard.json"

    @property
    def data(self) -> Path:
        """One folder per channel."""
        return self.input / "data"

    @property
    def environment(self) -> Path:
        """The Python environment of a job whose requirements must not change that of its host."""
        return self.base / "environment"

    def channel(self, name: str) -> Path:
        """Return the folder of a channel."""
        return self.data / name

    @property
    def model(self) -> Path:
        """What the script saves here becomes ``model.tar.gz``."""
        return self.base / "model"

    @property
    def output(self) -> Path:
        """What the job leaves besides the model."""
        return self.base / "output"

    @property
    def output_data(self) -> Path:
        """What the script saves here becomes ``output.tar.gz``."""
        return self.output / "data"

    @property
    def intermediate(self) -> Path:
        """Output that is meant to be seen while the job runs."""
        return self.output / "intermediate"

    @property
    def failure(self) -> Path:
        """The reason of a failure, its first 1,024 bytes shown to the client."""
        return self.output / "failure"

    @property
    def failure_log(self) -> Path:
        """What the failing processes had to say, whole: the failure file has only its end."""
        return log_beside(self.failure)

    @property
    def metrics(self) -> Path:
        """The values of the plan's metrics, one JSON object a line, as they were seen in the log."""
        return self.output / "metrics.jsonl"

    @property
    def success(self) -> Path:
        """An empty file, written when the script succeeded."""
        return self.output / "success"

    @property
    def checkpoints(self) -> Path:
        """What a restarted job finds again."""
        return self.base / "checkpoints"

    def create(self) -> None:
        """Make the folders that a script may rely on."""
        folders = (self.code, self.config, self.data, self.model, self.output_data, self.checkpoints)
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
