"""Stand-ins for SageMaker's own packages, on the path of a training script that imports them."""

import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

_SHIMS = Path(__file__).parent / "shims"
_FOLDERS = {"sagemaker_training": "training", "sagemaker_containers": "containers"}
"""Each has a folder of its own: one that is installed is not to be hidden by the other's stand-in."""


def shim_path(interpreter: str = sys.executable) -> tuple[str, ...]:
    """Return what to add at the end of ``PYTHONPATH`` for scripts of `interpreter`.

    These are the folders of the stand-ins for ``sagemaker_training`` and ``sagemaker_containers`` and of
    what they share; nothing for a package that is really installed, here or in the environment of
    `interpreter`. Neither package is imported.
    """
    path = [*sys.path, *_packages_of(interpreter)]
    missing = [folder for package, folder in _FOLDERS.items() if not _is_installed(package, path)]
    return tuple(str(_SHIMS / folder) for folder in (*missing, "shared")) if missing else ()


def _packages_of(interpreter: str) -> Iterator[str]:
    """Yield where an environment that was made from this Python has its packages."""
    if interpreter != sys.executable:
        import sysconfig

        base = str(Path(interpreter).parent.parent)
        yield sysconfig.get_path("purelib", "venv", {"base": base})


def _is_installed(package: str, path: Sequence[str]) -> bool:
    spec = PathFinder.find_spec(package, path)
    # A folder that happens to have the name has no origin.
    return spec is not None and spec.origin is not None
