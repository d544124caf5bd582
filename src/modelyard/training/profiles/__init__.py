"""The two contracts by which SageMaker starts a script: its variables and its arguments.

``toolkit``: those of the SageMaker training toolkit 5.1.4, which SDK v2's estimators use;
``drivers``: those of the drivers that SDK v3's ``ModelTrainer`` sends along with a job.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from modelyard.core.errors import InvalidPlanError, did_you_mean
from modelyard.training.environment import TrainingEnvironment
from modelyard.training.profiles import drivers, toolkit


class Profile(Protocol):
    """What a script is told, and how."""

    def arguments(self, hyperparameters: Mapping[str, Any], /) -> tuple[str, ...]:
        """Return the hyperparameters as the script's arguments.

        Raises `InvalidPlanError` for one that an argument cannot hold.
        """
        ...

    def variables(self, env: TrainingEnvironment, /, *, devices: Mapping[str, int]) -> dict[str, str]:
        """Return the script's variables.

        `devices`: how many of each ``device_type`` the host has. Raises `InvalidPlanError` for a
        hyperparameter that a variable cannot hold.
        """
        ...


_PROFILES: Mapping[str, Profile] = {"toolkit": toolkit, "drivers": drivers}


def named(name: str) -> Profile:
    """Return the profile of that name. Raises `InvalidPlanError` for another than the two."""
    if name not in _PROFILES:
        raise InvalidPlanError(f"there is no profile {name!r}{did_you_mean(name, _PROFILES)}")
    return _PROFILES[name]
