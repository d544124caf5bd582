"""The training environment: the job's folder, read once, and what the script sees of it.

Files, names and encodings are those of the SageMaker training toolkit 5.1.4: ``to_env_vars`` and
``to_cmd_args`` of its ``mapping.py``, ``Environment`` of its ``environment.py``.
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

MASTER_PORT = 7777

_RESERVED = frozenset(
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


@attrs.frozen
class TrainingEnvironment:
    """What the job's folder and its process environment say.

    ``hyperparameters``: the user's, decoded; ``settings``: the ``sagemaker_*`` ones, decoded;
    ``resources`` and ``channels``: the content of ``resourceconfig.json`` and
    ``inputdataconfig.json``; ``master``: address and port at which a process group meets.
    """

    layout: JobLayout
    hyperparameters: Mapping[str, Any]
    settings: Mapping[str, Any]
    resources: Mapping[str, Any]
    channels: Mapping[str, Any]
    program: str
    submit_directory: str
    job_name: str
    framework_module: str = ""
    master: tuple[str, str] = ("", "")

    @property
    def host(self) -> Host:
        """The host of this process, among the hosts of the job."""
        return Host(
            name=self.resources["current_host"],
            names=tuple(self.resources["hosts"]),
            network_interface=self.resources.get("network_interface_name", "eth0"),
        )

    @property
    def instance_type(self) -> str:
        """The machine's type; ``local`` where nothing says."""
        kind: str = self.resources.get("current_instance_type", "local")
        return kind


def read(base: Path, environ: Mapping[str, str] = os.environ) -> TrainingEnvironment:
    """Return the environment of the job below `base`.

    ``SAGEMAKER_PROGRAM`` and ``SAGEMAKER_SUBMIT_DIRECTORY`` of `environ` win over the
    hyperparameters of the same meaning. Raises `InvalidPlanError` where no program is named or a
    file is not JSON or lacks what a job needs.
    """
    layout = JobLayout(base.absolute())
    decoded = {k: _decode(v) for k, v in _load(layout.config / "hyperparameters.json", {}).items()}
    settings = {k: v for k, v in decoded.items() if k in _RESERVED or k.startswith("sagemaker_")}
    program = environ.get("SAGEMAKER_PROGRAM") or settings.get("sagemaker_program")
    if not program:
        raise InvalidPlanError(
            "no program to run: set the hyperparameter sagemaker_program in "
            f"{layout.config}/hyperparameters.json, or the environment variable SAGEMAKER_PROGRAM"
        )
    resources = _resources(layout.config / "resourceconfig.json")
    return TrainingEnvironment(
        layout=layout,
        hyperparameters={k: v for k, v in decoded.items() if k not in settings},
        settings=settings,
        resources=resources,
        channels=_load(layout.config / "inputdataconfig.json", {}),
        program=str(program),
        submit_directory=str(
            environ.get("SAGEMAKER_SUBMIT_DIRECTORY")
            or settings.get("sagemaker_submit_directory")
            or layout.code
        ),
        job_name=str(settings.get("sagemaker_job_name") or environ.get("TRAINING_JOB_NAME") or ""),
        framework_module=environ.get("SAGEMAKER_TRAINING_MODULE", ""),
        master=(
            environ.get("MASTER_ADDR") or resources["hosts"][0],
            environ.get("MASTER_PORT") or str(MASTER_PORT),
        ),
    )


def arguments(hyperparameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the hyperparameters as the script's arguments.

    Sorted by name; ``--name value`` (``-n value`` for a name of one letter), the value a token of
    its own: None is empty, a dict ``k=v,k2=v2``, everything else ``str()`` of the Python value.

    >>> arguments({"epochs": 5, "b": True, "layers": [1, 2]})
    ('-b', 'True', '--epochs', '5', '--layers', '[1, 2]')
    """
    tokens: list[str] = []
    for name, value in sorted(hyperparameters.items()):
        tokens += [_flag(name), _token(value)]
    return tuple(tokens)


def variables(environment: TrainingEnvironment, *, accelerators: Mapping[str, int]) -> dict[str, str]:
    """Return the ``SM_*`` variables and the process group's address for the script.

    ``accelerators``: how many devices of each ``device_type`` the host has.
    """
    env, layout, host = environment, environment.layout, environment.host
    channels = {name: str(layout.channel(name)) for name in env.channels}
    groups = env.resources.get("instance_groups", ())
    group = env.resources.get("current_group_name", "homogeneousCluster")
    by_name = {item["instance_group_name"]: item for item in groups}
    values: dict[str, Any] = {
        "hosts": list(host.names),
        "current_host": host.name,
        "network_interface_name": host.network_interface,
        "hps": dict(env.hyperparameters),
        "user_entry_point": env.program,
        "module_name": env.program.removesuffix(".py"),
        "module_dir": env.submit_directory,
        "framework_module": env.framework_module,
        "framework_params": {k: v for k, v in env.settings.items() if k not in _RESERVED},
        "resource_config": dict(env.resources),
        "input_data_config": dict(env.channels),
        "channels": sorted(channels),
        "input_dir": str(layout.input),
        "input_config_dir": str(layout.config),
        "output_dir": str(layout.output),
        "output_data_dir": str(layout.output_data),
        "output_intermediate_dir": str(layout.intermediate),
        "model_dir": str(layout.model),
        "log_level": env.settings.get("sagemaker_container_log_level", 20),
        "num_cpus": os.cpu_count() or 1,
        "num_gpus": accelerators.get("cuda", 0),
        "num_neurons": accelerators.get("xla", 0),
        "current_instance_type": env.instance_type,
        "current_instance_group": group,
        "current_instance_group_hosts": list(by_name.get(group, {"hosts": host.names})["hosts"]),
        "instance_groups": sorted(by_name),
        "instance_groups_dict": by_name,
        "distribution_instance_groups": list(env.settings.get("sagemaker_distribution_instance_groups", ())),
        "is_hetero": len(by_name) > 1,
        "user_args": list(arguments(env.hyperparameters)),
    }
    values["training_env"] = _training_env(env, values, channels)
    values |= {f"channel_{name}": path for name, path in channels.items()}
    values |= {f"hp_{name}": value for name, value in env.hyperparameters.items()}
    return {f"SM_{name.upper()}": _text(value) for name, value in values.items()} | {
        "CURRENT_HOST": host.name,
        "SAGEMAKER_JOB_NAME": env.job_name,
        "MASTER_ADDR": env.master[0],
        "MASTER_PORT": env.master[1],
    }


def _training_env(
    env: TrainingEnvironment, values: Mapping[str, Any], channels: Mapping[str, str]
) -> dict[str, Any]:
    """Return ``SM_TRAINING_ENV``: the other variables by the toolkit's property names."""
    renamed = {"hps": "hyperparameters", "framework_params": "additional_framework_parameters"}
    left_out = ("channels", "user_args")
    properties = {renamed.get(k, k): v for k, v in values.items() if k not in left_out}
    return properties | {
        "channel_input_dirs": dict(channels),
        "distribution_hosts": list(env.host.names),
        "is_master": env.host.name == env.host.master,
        "master_hostname": env.host.master,
        "job_name": env.job_name,
    }


def _load(path: Path, default: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return default
    except ValueError as error:
        raise InvalidPlanError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidPlanError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content


def _resources(path: Path) -> Mapping[str, Any]:
    content = _load(path, {"current_host": "algo-1", "hosts": ["algo-1"]})
    hosts = content.get("hosts")
    if not isinstance(hosts, list) or content.get("current_host") not in hosts:
        raise InvalidPlanError(f"{path} must name the hosts of the job, and the current_host among them")
    return content


def _decode(text: object) -> object:
    """Return a hyperparameter's value: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return text


def _flag(name: str) -> str:
    return name and (f"--{name}" if len(name) > 1 else f"-{name}")


def _token(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ",".join(f"{key}={item}" for key, item in sorted(value.items()))
    return str(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
