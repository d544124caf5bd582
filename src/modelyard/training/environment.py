"""The training environment: the job's folder and its process environment, read once.

Files, names and encodings are those of the SageMaker training toolkit 5.1.4. What the script sees of
it is a matter of `modelyard.training.profiles`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from modelyard.core.contracts import Host
from modelyard.core.errors import InvalidPlanError
from modelyard.core.layout import JobLayout
from modelyard.training import cluster
from modelyard.training.cluster import Cluster

RESERVED = frozenset(
    {
        "sagemaker_program",
        "sagemaker_submit_directory",
        "sagemaker_enable_cloudwatch_metrics",
        "sagemaker_region",
        "sagemaker_container_log_level",
        "sagemaker_job_name",
        "default_user_module_name",
        "_tuning_objective_metric",
        "sagemaker_s3_output",
    }
)
"""The hyperparameters that are neither the user's nor a framework's."""

_ALONE = {"current_host": "algo-1", "hosts": ["algo-1"]}
_REGION = ("SAGEMAKER_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
_LAUNCH_TOOLS = ("smddprun", "smddpmprun")


@attrs.frozen
class TrainingEnvironment:
    """What the job's folder and its process environment say.

    ``hyperparameters``: the user's, decoded, in the order of the file; ``settings``: the
    ``sagemaker_*`` and the reserved ones, decoded; ``channels``: the content of
    ``inputdataconfig.json``; ``distribution``: that of the ``distributed.json`` of SDK v3, empty
    without one; ``program``: what to run; ``submit_directory``: where its source is;
    ``master_address``: where a process group meets; ``job_name``: the platform's name for the job;
    ``framework_module``: ``SAGEMAKER_TRAINING_MODULE``; ``mp_parameters``: ``SM_HP_MP_PARAMETERS`` of
    the process; ``launch_tools``: which of SageMaker's own launch tools are on the PATH.
    """

    layout: JobLayout
    cluster: Cluster
    hyperparameters: Mapping[str, Any]
    settings: Mapping[str, Any]
    channels: Mapping[str, Any]
    distribution: Mapping[str, Any]
    program: str
    submit_directory: str
    master_address: str
    region: str = ""
    job_name: str | None = None
    framework_module: str | None = None
    mp_parameters: str | None = None
    launch_tools: frozenset[str] = frozenset()

    @property
    def host(self) -> Host:
        """The host of this process, among those that it works with."""
        return self.cluster.host

    @property
    def instance_type(self) -> str:
        """The machine's type; ``local`` where nothing says."""
        return self.cluster.instance_type

    @property
    def log_level(self) -> Any:
        """The number of the log level that the client asked for; that of INFO where it did not."""
        return self.settings.get("sagemaker_container_log_level", 20)

    @property
    def framework_parameters(self) -> dict[str, Any]:
        """The settings that are meant for a framework: its distribution, mostly."""
        return {name: value for name, value in self.settings.items() if name not in RESERVED}


def read(base: Path, environ: Mapping[str, str] = os.environ) -> TrainingEnvironment:
    """Return the environment of the job below `base`. Changes nothing.

    ``SAGEMAKER_PROGRAM`` and ``SAGEMAKER_SUBMIT_DIRECTORY`` of `environ` win over the
    hyperparameters of the same meaning. Raises `InvalidPlanError` where no program is named or a
    file is not JSON or lacks what a job needs.
    """
    layout = JobLayout(base.absolute())
    resources = layout.config / "resourceconfig.json"
    decoded = hyperparameters(layout)
    settings = {k: v for k, v in decoded.items() if k in RESERVED or k.startswith("sagemaker_")}
    found = cluster.described(_load(resources, _ALONE), resources, settings, environ)
    return TrainingEnvironment(
        layout=layout,
        cluster=found,
        hyperparameters={k: v for k, v in decoded.items() if k not in settings},
        settings=settings,
        channels=channels(layout),
        distribution=_load(layout.channel("sm_drivers") / "distributed.json", {}),
        program=_program(layout, settings, environ),
        submit_directory=str(
            environ.get("SAGEMAKER_SUBMIT_DIRECTORY")
            or settings.get("sagemaker_submit_directory")
            or layout.code
        ),
        master_address=found.master_address,
        region=str(settings.get("sagemaker_region") or _first(environ, _REGION)),
        job_name=environ.get("TRAINING_JOB_NAME"),
        framework_module=environ.get("SAGEMAKER_TRAINING_MODULE"),
        mp_parameters=environ.get("SM_HP_MP_PARAMETERS"),
        launch_tools=frozenset(tool for tool in _LAUNCH_TOOLS if _is_installed(tool, environ)),
    )


def hyperparameters(layout: JobLayout) -> dict[str, Any]:
    """Return the hyperparameters, decoded, the platform's own among them. Raises `InvalidPlanError`."""
    return {k: _decode(v) for k, v in _load(layout.config / "hyperparameters.json", {}).items()}


def channels(layout: JobLayout) -> Mapping[str, Any]:
    """Return the content of ``inputdataconfig.json``. Raises `InvalidPlanError`."""
    return _load(layout.config / "inputdataconfig.json", {})


def _program(layout: JobLayout, settings: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    program = environ.get("SAGEMAKER_PROGRAM") or settings.get("sagemaker_program")
    if not program:
        raise InvalidPlanError(
            "no program to run: set the hyperparameter sagemaker_program in "
            f"{layout.config}/hyperparameters.json, or the environment variable SAGEMAKER_PROGRAM"
        )
    return str(program)


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    """Return the value of the first of the variables that says something."""
    return next(filter(None, map(environ.get, names)), "")


def _is_installed(tool: str, environ: Mapping[str, str]) -> bool:
    # Not `shutil.which`: importing shutil takes longer than the rest of `read`.
    folders = environ.get("PATH", "").split(os.pathsep)
    return any(os.access(Path(folder, tool), os.X_OK) for folder in folders if folder)


def _load(path: Path, default: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return default
    except (ValueError, RecursionError) as error:
        raise InvalidPlanError(f"{path} is not JSON: {error}; write a JSON object, or remove it") from error
    if not isinstance(content, dict):
        raise InvalidPlanError(
            f"{path} must hold a JSON object, not a {type(content).__name__}; {{}} is one that says nothing"
        )
    return content


def _decode(text: object) -> object:
    """Return a hyperparameter's value: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)  # type: ignore[arg-type]
    except (ValueError, TypeError, RecursionError):
        return text
