"""Documents that were damaged on the way, or by someone: an answer, or `DecodeError`, in little memory."""

import importlib
import io
import tracemalloc
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.contracts import ArrayCodec
from modelyard.core.errors import DecodeError
from modelyard.serializers.csv import CsvCodec
from modelyard.serializers.json import JsonCodec
from modelyard.serializers.jsonlines import JsonLinesCodec
from modelyard.serializers.npy import NpyCodec
from modelyard.serializers.npz import NpzCodec
from modelyard.serializers.octet_stream import OctetStreamCodec
from modelyard.serializers.pickle import PickleCodec
from modelyard.serializers.text import TextCodec
from modelyard.serializers.torch import TorchCodec

ARRAY = np.array([[0.1, -2.5, 3e7], [0.0, 1e-7, 16777216.0]], np.float32)
NAMED = {"a": ARRAY, "b": np.arange(3), "c": np.ones((), bool)}
CASES = {
    "npy": (NpyCodec(), ARRAY),
    "json": (JsonCodec(), {"a": [1.5, None, "text", [True]], "b": {}}),
    "strict json": (JsonCodec(strict="2.0.25"), [1.5, float("nan"), [2**70]]),
    "csv": (CsvCodec(), ARRAY),
    "strict csv": (CsvCodec(strict="2.0.25"), ARRAY),
    "jsonlines": (JsonLinesCodec(), [{"a": 1}, [1.5, "text"], None]),
    "text": (TextCodec(), "a text with \u00e9 and \U0001f600"),
    "octet-stream": (OctetStreamCodec(), b"bytes"),
    "npz": (NpzCodec(max_bytes=2**20), NAMED),
    "torch": (TorchCodec(), NAMED),
    "pickle": (PickleCodec(trusted=True), {"a": [ARRAY, (1.5, 2**70, "text", b"b")], "b": {1, 2}, "c": 1j}),
}
TELLING = [b"\xff" * 8, bytes(8), b"9" * 30, b"r\xff\xff\xff\x7f", b"[" * 3000, b'"', b"\n"]
# Without ZIP's: as a pickle that is torch's, whose import takes more memory. See test_pickle.py.
BEGINNINGS = [b"\x80\x04", b"\x93NUMPY\x01\x00", b"\x10" + bytes(7), b'{"', b"[[", b"\xef\xbb\xbf", b"1,2\n"]
LARGEST = 2 * 2**20  # bytes, of documents that have a few hundred


def deflated():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **NAMED)
    return buffer.getvalue()


@st.composite
def damaged(draw, document):
    """Return the document with bytes changed, cut out, repeated or put in, and perhaps cut short."""
    body = bytearray(document)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        length = draw(st.integers(0, 8))
        match draw(st.sampled_from(["change", "cut", "repeat", "insert", "end"])):
            case "change":
                body[at : at + length] = draw(st.binary(min_size=length, max_size=length))
            case "cut":
                del body[at : at + length]
            case "repeat":
                body[at:at] = body[at : at + length] * draw(st.integers(1, 20))
            case "insert":
                body[at:at] = draw(st.binary(max_size=8) | st.sampled_from(TELLING))
            case "end":
                del body[at:]
    return bytes(body)


@pytest.fixture(autouse=True, scope="module")
def _torch_is_imported():
    """Import what a pickle with torch's magic number makes the codec import, and counts for no document."""
    if find_spec("torch"):
        importlib.import_module("torch")


def read(codec, body):
    """Read the body in all ways that the codec has, and look at what that took."""
    for decode in (codec.decode, *([codec.decode_array] if isinstance(codec, ArrayCodec) else [])):
        tracemalloc.start()
        try:
            decode(body)
        except DecodeError:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < LARGEST


every_codec = pytest.mark.parametrize(
    ("codec", "value"),
    [
        pytest.param(
            *case,
            id=name,
            marks=pytest.mark.skipif(
                name == "torch" and find_spec("safetensors") is None, reason="safetensors is not installed"
            ),
        )
        for name, case in CASES.items()
    ],
)


@every_codec
@given(data=st.data())
def test_damaged_documents(codec, value, data):
    read(codec, data.draw(damaged(codec.encode(value))))


@given(damaged(deflated()))
def test_damaged_deflated_documents(body):
    read(CASES["npz"][0], body)


@every_codec
@given(body=st.binary(max_size=300))
def test_noise(codec, value, body):
    read(codec, body)


@every_codec
@given(noise=st.binary(max_size=100), beginning=st.sampled_from(BEGINNINGS))
def test_noise_that_begins_well(codec, value, noise, beginning):
    read(codec, beginning + noise)
