"""Hardware that exists nowhere, for tests of what goes on around a device."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs

from modelyard.core.contracts import Host
from modelyard.core.errors import UserCodeError


@attrs.frozen
class StandInHardware:
    """Devices that exist nowhere: enough to make a command of, and values stay where they are.

    A model is called with what the codec has decoded (a numpy array, mostly); torch is not needed.
    """

    name: ClassVar[str] = "stand-in"
    device_type: ClassVar[str] = "cpu"
    collectives: ClassVar[tuple[str, ...]] = ("gloo",)
    instance_types: ClassVar[tuple[str, ...]] = ()

    devices: int = 2

    def device_count(self) -> int:
        """Return how many devices it stands in for."""
        return self.devices

    def environ(self, host: Host) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    def load(self, model_dir: Path) -> object:
        """Refuse: it knows no format of models."""
        raise UserCodeError("the stand-in hardware loads no model: define model_fn")

    def place(self, value: object, index: int = 0) -> object:
        """Return the value as it is."""
        return value

    def predict(self, model: Any, value: object) -> object:
        """Call the model."""
        return model(value)

    def fetch(self, value: object) -> object:
        """Return the value as it is."""
        return value
