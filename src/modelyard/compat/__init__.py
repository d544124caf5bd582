"""Stand-ins for SageMaker's own packages, on the path of a script that imports them."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

_SHIMS = Path(__file__).parent / "shims"
_FOR_TRAINING = {"sagemaker_training": "training", "sagemaker_containers": "containers"}
_FOR_SERVING = {"sagemaker_inference": "serving", "sagemaker_containers": "containers"}
"""Each has a folder of its own: one that is installed is not to be hidden by the other's stand-in."""


def shim_path(interpreter: str = sys.executable) -> tuple[str, ...]:
    """Return what to add at the end of ``PYTHONPATH`` for scripts of `interpreter`.

    These are the folders of the stand-ins for ``sagemaker_training`` and ``sagemaker_containers`` and of
    what they share; nothing for a package that is really installed, here or in the environment of
    `interpreter`. Neither package is imported.
    """
    return _missing(_FOR_TRAINING, [*sys.path, *_packages_of(interpreter)])


def add_serving_shims() -> None:
    """Put the stand-ins for ``sagemaker_inference`` and ``sagemaker_containers`` on this process's path.

    At its end, and none for a package that is really installed; once is enough, twice does no harm.
    """
    sys.path.extend(_missing(_FOR_SERVING, sys.path))


def _missing(folders: Mapping[str, str], path: Sequence[str]) -> tuple[str, ...]:
    """Return the folders of the stand-ins for packages that are not on `path`."""
    missing = [folder for package, folder in folders.items() if not _is_installed(package, path)]
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
