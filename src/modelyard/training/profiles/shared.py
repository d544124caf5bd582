"""What both profiles say, and what no variable and no argument of a process can say."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from modelyard.core.errors import InvalidPlanError
from modelyard.training.environment import TrainingEnvironment

_LONGEST = 32 * os.sysconf("SC_PAGE_SIZE") - 1
"""Bytes of one variable or one argument: Linux's MAX_ARG_STRLEN, without the NUL at the end."""


def facts(env: TrainingEnvironment, devices: Mapping[str, int]) -> dict[str, Any]:
    """Return what has the same name and meaning in both profiles: ``SM_<NAME>``."""
    layout, cluster = env.layout, env.cluster
    return {
        "current_host": cluster.current_host,
        "current_instance_type": cluster.instance_type,
        "network_interface_name": cluster.network_interface,
        "resource_config": dict(cluster.resources),
        "input_data_config": dict(env.channels),
        "hps": dict(env.hyperparameters),
        "log_level": env.log_level,
        "num_cpus": os.cpu_count() or 1,
        "num_gpus": devices.get("cuda", 0),
        "num_neurons": devices.get("xla", 0),
        "model_dir": str(layout.model),
        "input_dir": str(layout.input),
        "input_config_dir": str(layout.config),
        "output_dir": str(layout.output),
        "output_data_dir": str(layout.output_data),
    }


def unprefixed(env: TrainingEnvironment) -> dict[str, str]:
    """Return the variables that are no ``SM_*``: the job's identity, and where a process group meets."""
    return {
        "CURRENT_HOST": env.cluster.current_host,
        "SAGEMAKER_JOB_NAME": str(env.settings.get("sagemaker_job_name") or ""),
        "SAGEMAKER_REGION": env.region,
        "MASTER_ADDR": env.master_address,
        "MASTER_PORT": str(env.cluster.master_port),
    }


def channel_folders(env: TrainingEnvironment) -> dict[str, str]:
    """Return the folder of each channel, whether it is there or not."""
    return {name: str(env.layout.channel(name)) for name in env.channels}


def channels(env: TrainingEnvironment) -> dict[str, str]:
    """Return ``SM_CHANNEL_<NAME>``. Raises `InvalidPlanError` for a name that cannot be one."""
    return _family("channel", channel_folders(env), "SM_CHANNEL_{}", str.upper)


def hyperparameters(texts: Mapping[str, str], spelt: Callable[[str], str] = str.upper) -> dict[str, str]:
    """Return ``SM_HP_<NAME>``, the name as `spelt` makes it.

    Raises `InvalidPlanError` for a name or a text that a variable cannot hold.
    """
    return _family("hyperparameter", texts, "SM_HP_{}", spelt)


def held(variables: dict[str, str]) -> dict[str, str]:
    """Return the variables, all of which must fit. Raises `InvalidPlanError` for one that is too long."""
    for name, text in variables.items():
        if _is_long(f"{name}={text}"):
            raise InvalidPlanError(
                f"{name} is longer than the {_LONGEST:,} bytes that a variable can hold: pass what is large "
                "among the hyperparameters in a file of a channel"
            )
    return variables


def argument(name: str, flag: str, text: str) -> tuple[str, str]:
    """Return a hyperparameter's two arguments. Raises `InvalidPlanError` for what these cannot hold."""
    _check("hyperparameter", name, flag + text)
    _check_length("hyperparameter", name, text)
    return (flag, text)


def _family(what: str, texts: Mapping[str, str], pattern: str, spelt: Callable[[str], str]) -> dict[str, str]:
    for name, text in texts.items():
        _check(what, name, name + text)
        if "=" in name:
            raise InvalidPlanError(f"{what} {name!r} cannot be a variable: rename it, without the '='")
        _check_length(what, name, f"{pattern.format(spelt(name))}={text}")
    return {pattern.format(spelt(name)): text for name, text in texts.items()}


def _check_length(what: str, name: str, text: str) -> None:
    if _is_long(text):
        raise InvalidPlanError(
            f"{what} {name!r} is longer than the {_LONGEST:,} bytes that a variable or an argument of a "
            "program can hold: pass it in a file of a channel"
        )


def _is_long(text: str) -> bool:
    return len(text.encode("utf-8", "surrogatepass")) > _LONGEST


def _check(what: str, name: str, text: str) -> None:
    """Refuse what the operating system refuses; the value is not shown, it may be a secret."""
    try:
        possible = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise InvalidPlanError(
            f"{what} {name!r} holds a character that no variable and no argument of a program can hold "
            "(NUL, or half of a surrogate pair): leave it out, or encode the value, for example as base64"
        )
