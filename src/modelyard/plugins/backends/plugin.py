"""The built-in backends."""

from collections.abc import Iterable

from modelyard.core.contracts import Backend
from modelyard.core.hookspecs import hookimpl


@hookimpl
def modelyard_register_backends() -> Iterable[type[Backend]]:
    """Return the built-in backend classes."""
    # Imported here: the in-job and the in-endpoint program have no use for a backend.
    from modelyard.plugins.backends.local.backend import LocalBackend
    from modelyard.plugins.backends.sagemaker.backend import SageMakerBackend

    return (LocalBackend, SageMakerBackend)
