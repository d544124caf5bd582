"""Registers the built-in codecs."""

from modelyard.core.contracts import Codec
from modelyard.core.hookspecs import hookimpl


@hookimpl
def modelyard_register_codecs() -> tuple[type[Codec], ...]:
    """Return the codecs of arrays, tensors, tables, JSON, text, bytes and pickles."""
    # Imported here: every command loads this module, and only those that ask for a codec need numpy.
    from modelyard.serializers.csv import CsvCodec
    from modelyard.serializers.json import JsonCodec
    from modelyard.serializers.jsonlines import JsonLinesCodec
    from modelyard.serializers.npy import NpyCodec
    from modelyard.serializers.npz import NpzCodec
    from modelyard.serializers.octet_stream import OctetStreamCodec
    from modelyard.serializers.pickle import PickleCodec
    from modelyard.serializers.text import TextCodec
    from modelyard.serializers.torch import TorchCodec

    return (
        NpyCodec,
        JsonCodec,
        CsvCodec,
        NpzCodec,
        JsonLinesCodec,
        TextCodec,
        OctetStreamCodec,
        TorchCodec,
        PickleCodec,
    )
