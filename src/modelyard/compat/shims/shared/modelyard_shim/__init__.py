"""What the stand-ins share: the job's variables, formats, and what is said of that which they lack.

It runs in the script's process and needs nothing but the standard library; its arrays are numpy's.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

_INSTALL = "add {} to requirements.txt for the real package"


class Environment(Mapping[str, Any]):
    """The training environment as ``SM_TRAINING_ENV`` gives it, by attribute and by key.

    The names are those of the toolkit's ``Environment``: ``hosts``, ``current_host``,
    ``channel_input_dirs``, ``hyperparameters``, ``model_dir``, ``num_gpus`` and so on.
    """

    def __init__(self) -> None:
        text = os.environ.get("SM_TRAINING_ENV")
        if not text:
            raise RuntimeError("there is no training job here: its variable SM_TRAINING_ENV is not set")
        self._properties: dict[str, Any] = json.loads(text)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._properties[name]
        except KeyError:
            raise AttributeError(
                f"modelyard's stand-in for the training environment has no {name!r}; it has "
                f"{', '.join(sorted(self))}: {_INSTALL.format('sagemaker-training')}"
            ) from None

    def __getitem__(self, name: str) -> Any:
        return self._properties[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._properties)

    def __len__(self) -> int:
        return len(self._properties)

    def __repr__(self) -> str:
        return repr(self._properties)

    def properties(self) -> list[str]:
        """Return the names of what the environment has."""
        return list(self)

    def to_cmd_args(self) -> list[str]:
        """Return the arguments that the script was started with."""
        args: list[str] = json.loads(os.environ.get("SM_USER_ARGS", "[]"))
        return args

    def to_env_vars(self) -> dict[str, str]:
        """Return the ``SM_*`` variables."""
        return {name: value for name, value in os.environ.items() if name.startswith("SM_")}


class Lacking:
    """Says of every module that a stand-in lacks what there is and what to do.

    It is the last on `sys.meta_path`, and so only asked for what nothing else has found.
    """

    def __init__(self, package: str, has: Sequence[str], install: str) -> None:
        self.package, self.has, self.install = package, tuple(has), install
        sys.meta_path.append(self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Raise `ModuleNotFoundError` for the package's modules; leave all others to nobody."""
        if name.startswith(f"{self.package}."):
            # Not the module's own name: `from package import module` would replace what is said.
            raise ModuleNotFoundError(self.message(name), name=self.package)
        return None

    def attribute_of(self, module: str) -> Callable[[str], Any]:
        """Return a ``__getattr__`` for one of the package's modules."""

        def lacking(name: str) -> Any:
            raise AttributeError(self.message(f"{module}.{name}"))

        return lacking

    def message(self, name: str) -> str:
        """Return what to say of a module or an attribute that is not there."""
        return (
            f"modelyard's stand-in for {self.package} has no {name}; it has {', '.join(self.has)}: "
            f"{_INSTALL.format(self.install)}"
        )
