"""The training environment of the job, and where its folders are."""

import os
from pathlib import Path
from typing import Any

from modelyard_shim import Environment

from sagemaker_training import _lacking

__all__ = ["Environment"]

input_dir = os.environ.get("SM_INPUT_DIR", "/opt/ml/input")
base_dir = str(Path(input_dir).parent)
code_dir = f"{base_dir}/code"
model_dir = f"{base_dir}/model"
input_config_dir = f"{input_dir}/config"
output_dir = f"{base_dir}/output"
output_data_dir = f"{output_dir}/data"
output_intermediate_dir = f"{output_dir}/intermediate"

__getattr__ = _lacking.attribute_of(__name__)


def channel_path(channel: str) -> str:
    """Return the folder of a channel."""
    return f"{input_dir}/data/{channel}"


def read_hyperparameters() -> dict[str, Any]:
    """Return the user's hyperparameters and the framework's ``sagemaker_*`` ones, decoded."""
    env = Environment()
    return {**env.get("additional_framework_parameters", {}), **env.hyperparameters}


def read_resource_config() -> dict[str, Any]:
    """Return what ``resourceconfig.json`` says of the hosts."""
    return dict(Environment().resource_config)


def read_input_data_config() -> dict[str, Any]:
    """Return what ``inputdataconfig.json`` says of the channels."""
    return dict(Environment().input_data_config)


def num_gpus() -> int:
    """Return how many GPUs the host has."""
    return int(Environment().num_gpus)


def num_cpus() -> int:
    """Return how many processors the host has."""
    return int(Environment().num_cpus)
