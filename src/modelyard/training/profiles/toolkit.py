"""The profile ``toolkit``: what the SageMaker training toolkit 5.1.4 tells a script.

The functions are its ``to_cmd_args`` and ``to_env_vars`` (``mapping.py``), the values its
``Environment`` (``environment.py``).
"""

import json
from collections.abc import Mapping
from typing import Any

from modelyard.training.environment import TrainingEnvironment
from modelyard.training.profiles import shared


def arguments(hyperparameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the hyperparameters as the script's arguments.

    Sorted by name; ``--name value`` (``-n value`` for a name of one letter), the value a token of
    its own: None is empty, a dict ``k=v,k2=v2``, everything else ``str()`` of the Python value.

    >>> arguments({"epochs": 5, "b": True, "layers": [1, 2]})
    ('-b', 'True', '--epochs', '5', '--layers', '[1, 2]')
    """
    tokens: list[str] = []
    for name in sorted(hyperparameters):
        tokens += shared.argument(name, _flag(name), _token(hyperparameters[name]))
    return tuple(tokens)


def variables(env: TrainingEnvironment, *, devices: Mapping[str, int]) -> dict[str, str]:
    """Return the ``SM_*`` variables and the process group's address for the script.

    Names are upper-cased and nothing else, so that of two that differ in case the later one stays.
    """
    facts = shared.facts(env, devices) | _facts(env)
    values = facts | {
        "channels": sorted(env.channels),
        "user_args": list(arguments(env.hyperparameters)),
        "training_env": _training_env(env, facts),
    }
    if env.cluster.topology:
        values["topology"] = env.cluster.topology
    told = {
        **{f"SM_{name.upper()}": _text(value) for name, value in values.items()},
        **shared.channels(env),
        **shared.hyperparameters({name: _text(value) for name, value in env.hyperparameters.items()}),
        **shared.unprefixed(env),
    }
    return shared.held(told)


def _facts(env: TrainingEnvironment) -> dict[str, Any]:
    """Return what only this profile says."""
    cluster, groups = env.cluster, env.cluster.groups
    return {
        "hosts": list(cluster.hosts),
        "user_entry_point": env.program,
        "module_name": env.program.removeprefix("-m ").removesuffix(".py"),
        "module_dir": env.submit_directory,
        "framework_module": env.framework_module,
        "framework_params": env.framework_parameters,
        "output_intermediate_dir": str(env.layout.intermediate),
        "current_instance_group": cluster.group,
        "current_instance_group_hosts": groups.get(cluster.group, {"hosts": []})["hosts"],
        "instance_groups": list(groups),
        "instance_groups_dict": groups,
        "distribution_instance_groups": list(cluster.distribution_groups),
        "is_hetero": len(groups) > 1,
    }


def _training_env(env: TrainingEnvironment, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``SM_TRAINING_ENV``: the facts by the toolkit's property names, and those with no variable."""
    renamed = {"hps": "hyperparameters", "framework_params": "additional_framework_parameters"}
    cluster = env.cluster
    return {renamed.get(name, name): value for name, value in facts.items()} | {
        "channel_input_dirs": shared.channel_folders(env),
        "distribution_hosts": list(cluster.distribution_hosts),
        "is_master": cluster.current_host == cluster.master,
        "master_hostname": cluster.master,
        "job_name": env.job_name,
        "topology": cluster.topology,
        # As the toolkit has it: null without the variable, which is no boolean.
        "is_modelparallel_enabled": env.mp_parameters and env.mp_parameters != "{}",
        "is_smddprun_installed": "smddprun" in env.launch_tools,
        "is_smddpmprun_installed": "smddpmprun" in env.launch_tools,
    }


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
