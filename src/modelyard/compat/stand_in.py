"""The stand-in for the package ``sagemaker``, which `modelyard.compat.sagemaker` installs."""

import importlib
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_NAME = "sagemaker"
_SETTING = "MODELYARD_COMPAT_SAGEMAKER"
_VERSION = "2.257.7+modelyard"
"""Of the SDK whose names these are: programs compare it."""

MODULES: Mapping[str, str] = {
    "base_deserializers": "modelyard.deserializers",
    "base_predictor": "modelyard.predictor",
    "base_serializers": "modelyard.serializers",
    "debugger": "modelyard.debugger",
    "deserializers": "modelyard.deserializers",
    "estimator": "modelyard.estimator",
    "inputs": "modelyard.inputs",
    "local": "modelyard.local",
    "local.local_session": "modelyard.local.local_session",
    "model": "modelyard.model",
    "predictor": "modelyard.predictor",
    "pytorch": "modelyard.pytorch",
    "pytorch.estimator": "modelyard.pytorch.estimator",
    "pytorch.model": "modelyard.pytorch.model",
    "serializers": "modelyard.serializers",
    "session": "modelyard.session",
}
"""The modules of SDK v2 that there are, and which modules they are."""


class _Loader(Loader):
    """Puts a module of modelyard's under the name of one of the SDK's."""

    def __init__(self, target: str) -> None:
        self._target = target

    def exec_module(self, module: ModuleType) -> None:
        # The import system takes what is found here afterwards.
        sys.modules[module.__name__] = importlib.import_module(self._target)


class _TopLoader(Loader):
    """Makes the package itself: modelyard's public names, and the version of the SDK."""

    def exec_module(self, module: ModuleType) -> None:
        module.__path__ = []
        module.__version__ = _VERSION  # type: ignore[attr-defined]
        module.__getattr__ = _top_name  # type: ignore[method-assign]


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, below = fullname.partition(".")
        if top != _NAME:
            return None
        if not below:
            return ModuleSpec(fullname, _TopLoader(), is_package=True)
        if below in MODULES:
            return ModuleSpec(fullname, _Loader(MODULES[below]))
        raise ModuleNotFoundError(
            f"{fullname} has no stand-in in modelyard, which has {', '.join(sorted(MODULES))}", name=fullname
        )


def _top_name(name: str) -> object:
    """Return a submodule, as the SDK imports its own, or a public name of modelyard's."""
    if name in MODULES:
        return importlib.import_module(f"{_NAME}.{name}")
    if name.startswith("__"):
        raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
    return getattr(importlib.import_module("modelyard"), name)


def install() -> None:
    """Make ``import sagemaker`` mean modelyard in this process; once is enough, twice does no harm.

    Raises ``ImportError`` where the real package is installed or imported, and is not to be hidden.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    if real := _real():
        if os.environ.get(_SETTING) != "replace":
            raise ImportError(
                f"the real package sagemaker is here, at {real}: uninstall it, or set {_SETTING}=replace to "
                "have modelyard in its place in this process",
                name=_NAME,
            )
        warnings.warn(
            f"import sagemaker is modelyard now, instead of {real}, since {_SETTING}=replace",
            RuntimeWarning,
            stacklevel=3,
        )
        for module in [name for name in sys.modules if name == _NAME or name.startswith(f"{_NAME}.")]:
            del sys.modules[module]
    sys.meta_path.insert(0, _Finder())


def _real() -> str:
    """Return where the real package is; empty where there is none."""
    loaded = sys.modules.get(_NAME)
    if loaded is not None:
        return getattr(loaded, "__file__", None) or "an unknown place"
    spec = PathFinder.find_spec(_NAME, sys.path)
    # A folder that happens to have the name has no origin.
    return (spec.origin or "") if spec else ""
