"""Registers the built-in packager."""

from modelyard.core.contracts import Packager
from modelyard.core.hookspecs import hookimpl


@hookimpl
def modelyard_register_packagers() -> tuple[type[Packager], ...]:
    """Return the packager of ``.tar.gz`` archives."""
    # Imported here: every command loads this module, and only those that pack need gzip and tarfile.
    from modelyard.plugins.packagers.tarball import TarballPackager

    return (TarballPackager,)
