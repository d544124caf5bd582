"""Registers the built-in codecs."""

from modelyard.core.contracts import Codec
from modelyard.core.hookspecs import hookimpl


@hookimpl
def modelyard_register_codecs() -> tuple[type[Codec], ...]:
    """Return the codecs of NPY, JSON and CSV."""
    # Imported here: every command loads this module, and only those that ask for a codec need numpy.
    from modelyard.serializers.csv import CsvCodec
    from modelyard.serializers.json import JsonCodec
    from modelyard.serializers.npy import NpyCodec

    return (NpyCodec, JsonCodec, CsvCodec)
