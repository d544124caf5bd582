import json
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard.core.errors import DecodeError, EncodeError, NotAcceptableError, UnsupportedMediaTypeError
from modelyard.serializers._arrays import NUMBERS
from modelyard.serializers.torch import MAX_HEADER, TorchCodec

pytest.importorskip("safetensors", reason="safetensors is not installed")

CODEC = TorchCodec()

arrays = st.sampled_from(sorted(NUMBERS)).flatmap(
    lambda code: st.sampled_from("<>").flatmap(
        lambda order: hnp.arrays(
            np.dtype(order + code), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
        )
    )
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
    lambda name: name not in ("tensor", "__metadata__")
)


def document(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(2,), end=8, start=0):
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}}


@given(st.dictionaries(names, arrays, max_size=3))
def test_tensors_come_back_by_name(value):
    decoded = CODEC.decode(CODEC.encode(value))
    assert decoded.keys() == value.keys()
    for name, array in value.items():
        assert decoded[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(decoded[name], array)


@given(arrays)
def test_one_tensor_comes_back_as_itself(array):
    decoded = CODEC.decode(CODEC.encode(array))
    assert decoded.dtype == array.dtype.newbyteorder("=")
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, array)


def test_layouts_are_kept_as_numbers():
    for array in (np.arange(6.0).reshape(2, 3).T, np.arange(6)[::-2], np.asfortranarray([[1, 2], [3, 4]])):
        np.testing.assert_array_equal(CODEC.decode(CODEC.encode(array)), array)


def test_bfloat16_is_read_as_float32():
    body = document(tensor("BF16", (2, 2)), struct.pack("<4H", 0x3F80, 0xC000, 0x7F80, 0x0001))
    decoded = CODEC.decode(body)["x"]
    assert decoded.dtype == np.float32
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, [[1.0, -2.0], [np.inf, np.float32(2.0**-133)]])


def test_any_byte_but_zero_is_true():
    decoded = CODEC.decode(document(tensor("BOOL", (3,), 3), b"\x00\x01\x7f"))["x"]
    assert decoded.view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.torch
def test_torch_reads_what_is_written_and_the_other_way_round():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from safetensors.torch import load, save

    loaded = load(CODEC.encode({"a": np.arange(6, dtype=np.float32).reshape(2, 3)}))
    assert torch.equal(loaded["a"], torch.arange(6, dtype=torch.float32).reshape(2, 3))
    decoded = CODEC.decode(save({"tensor": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}))
    assert decoded.tolist() == [1.5, -2.0]


BAD = {
    "empty": b"",
    "short": b"\x01",
    "no header": bytes(8),
    "noise": b"\xff" * 20,
    "a header beyond the end": struct.pack("<Q", 500) + b"{}",
    "a header that is no JSON": document(b"hello"),
    "a header that is not UTF-8": document(b"\xff\xff"),
    "a list": document([1]),
    "deep": document(b'{"x":' * 100_000),
    "more than there is": document(tensor(end=8), bytes(4)),
    "less than there is": document(tensor(end=8), bytes(12)),
    "a size that is not the shape's": document(tensor(shape=(3,)), bytes(8)),
    "a petabyte": document(tensor(shape=(2**48,), end=2**50)),
    "a product that overflows": document(tensor(shape=(2**32, 2**32), end=0)),
    "a negative length": document(tensor(shape=(-2,)), bytes(8)),
    "backwards": document(tensor(start=8, end=0), bytes(8)),
    "an unknown dtype": document(tensor("O"), bytes(8)),
    "8-bit floats": document(tensor("F8_E4M3", (8,)), bytes(8)),
    "complex numbers": document(tensor("C64", (1,)), bytes(8)),
    "two tensors in one place": document(
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"}, bytes(8)
    ),
    "a hole": document(tensor(start=8, end=16), bytes(16)),
    "a pickle": b"\x80\x04]\x94.",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_bad_documents(body):
    with pytest.raises(DecodeError) as caught:
        CODEC.decode(body)
    assert len(str(caught.value)) < 300


def test_a_header_is_not_read_beyond_its_limit():
    body = document(b" " * (MAX_HEADER + 1))
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="at most 1048576 are read"):
            CODEC.decode(body)
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "NoneType makes an array of object"),
        ({"a": "text"}, "str makes an array of <U4"),
        (1j, "an array of complex128"),
        ([[1], [2, 3]], "a list is not an array"),
        ({1: [1]}, "1 is not a name"),
        ({"__metadata__": [1]}, "'__metadata__' is not a name"),
        ({"\ud800": [1]}, "does not write"),
    ],
)
def test_unencodable(value, message):
    with pytest.raises(EncodeError) as caught:
        CODEC.encode(value)
    assert message in str(caught.value)


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch):
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    body = document(tensor(), bytes(8))
    with pytest.raises(UnsupportedMediaTypeError, match=r"safetensors: pip install 'modelyard\[torch\]'"):
        CODEC.decode(body)
    with pytest.raises(NotAcceptableError, match=r"safetensors: pip install 'modelyard\[torch\]'"):
        CODEC.encode([1])


def test_torch_is_not_imported():
    program = (
        "import sys; from modelyard.serializers.torch import TorchCodec; codec = TorchCodec(); "
        "codec.decode(codec.encode([1.5])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
