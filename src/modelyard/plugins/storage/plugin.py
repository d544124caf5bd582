"""Registers the built-in storage."""

from modelyard.core.contracts import Storage
from modelyard.core.hookspecs import hookimpl


@hookimpl
def modelyard_register_storages() -> tuple[type[Storage], ...]:
    """Return the storages of ``file://`` and ``s3://`` URIs."""
    # Imported here: every command loads this module, and only those that move files need shutil.
    from modelyard.plugins.storage.file import FileStorage
    from modelyard.plugins.storage.s3 import S3Storage

    return (FileStorage, S3Storage)
