"""The version, in a file of its own so that the build and the package read one source."""

__version__ = "0.1.0.dev0"
