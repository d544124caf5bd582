"""The profile ``drivers``: what the drivers of SageMaker's Python SDK v3 tell a script.

Their ``container_drivers/scripts/environment.py`` says which variables there are,
``hyperparameters_to_cli_args`` of ``common/utils.py`` what the arguments look like. Two of their
faults stay behind: a quote in a hyperparameter breaks nothing here, and a string is an argument as it
is, where they decode it a second time (``"1.10"`` to ``1.1``). The source is where this job has it.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from modelyard.core.errors import InvalidPlanError
from modelyard.training.environment import TrainingEnvironment
from modelyard.training.profiles import shared

_TRAINING_ENV = (
    "channel_input_dirs",
    "current_host",
    "current_instance_type",
    "hosts",
    "master_addr",
    "master_port",
    "hyperparameters",
    "input_data_config",
    "input_config_dir",
    "input_data_dir",
    "input_dir",
    "job_name",
    "log_level",
    "model_dir",
    "network_interface_name",
    "num_cpus",
    "num_gpus",
    "num_neurons",
    "output_data_dir",
    "resource_config",
)


def arguments(hyperparameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the hyperparameters as the script's arguments.

    In the order in which they were given; always ``--name value``, the value a token of its own: a
    string as it is, everything else as JSON.

    >>> arguments({"epochs": 5, "b": True, "layers": [1, 2]})
    ('--epochs', '5', '--b', 'true', '--layers', '[1, 2]')
    """
    tokens: list[str] = []
    for name, value in hyperparameters.items():
        tokens += shared.argument(name, f"--{name}", _text(value))
    return tuple(tokens)


def variables(env: TrainingEnvironment, *, devices: Mapping[str, int]) -> dict[str, str]:
    """Return the ``SM_*`` variables and the process group's address for the script.

    Raises `InvalidPlanError` for two hyperparameters that differ in ``-`` and ``_`` only.
    """
    _check_names(env.hyperparameters)
    values = shared.facts(env, devices) | _whereabouts(env) | _distribution(env)
    properties = values | {
        "channel_input_dirs": shared.channel_folders(env),
        "hyperparameters": values["hps"],
        "job_name": env.job_name,
    }
    values["training_env"] = {name: properties[name] for name in _TRAINING_ENV}
    texts = {name: _text(value) for name, value in env.hyperparameters.items()}
    told = {
        **{f"SM_{name.upper()}": _text(value) for name, value in values.items()},
        **shared.channels(env),
        **shared.hyperparameters(texts, lambda name: _plain(name).upper()),
        **shared.unprefixed(env),
    }
    return shared.held(told)


def _whereabouts(env: TrainingEnvironment) -> dict[str, Any]:
    """Return what only this profile says: who meets, where, and what is where."""
    hosts = sorted(env.cluster.hosts)
    return {
        "hosts": hosts,
        "host_count": len(hosts),
        "current_host_rank": hosts.index(env.cluster.current_host),
        "master_addr": env.master_address,
        "master_port": env.cluster.master_port,
        "source_dir": str(env.layout.code),
        "entry_script": env.program,
        "channels": list(env.channels),
        "input_data_dir": str(env.layout.data),
        "output_failure": str(env.layout.failure),
    }


def _distribution(env: TrainingEnvironment) -> dict[str, Any]:
    """Return what there is only where SDK v3 asked for a distribution."""
    if not env.distribution:
        return {}
    folder = env.layout.channel("sm_drivers") / "distributed_drivers"
    return {"distributed_driver_dir": str(folder), "distributed_config": dict(env.distribution)}


def _plain(name: str) -> str:
    """Return a hyperparameter's name as it is in a variable's, but for the case."""
    return name.replace("-", "_")


def _check_names(names: Iterable[str]) -> None:
    """Refuse two names that argparse, too, would take for one; names that differ in case it would not."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_plain(name), name)
        if other != name:
            raise InvalidPlanError(
                f"the hyperparameters {other!r} and {name!r} are both SM_HP_{_plain(name).upper()}: "
                "rename one of them"
            )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
