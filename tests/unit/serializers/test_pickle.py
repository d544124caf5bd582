import contextlib
import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.serializers import _plain_pickles as ours
from modelyard.serializers.npy import DTYPES
from modelyard.serializers.pickle import PickleCodec

CODEC = PickleCodec(trusted=True)
WHOLE = PickleCodec(trusted=True, unrestricted=True)
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

hashables = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False)
plain = st.recursive(
    hashables | st.complex_numbers(allow_nan=False) | st.sets(hashables) | st.frozensets(hashables),
    lambda inner: st.lists(inner) | st.dictionaries(hashables, inner) | st.tuples(inner, inner),
    max_leaves=10,
)
arrays = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda code: st.sampled_from("<>").flatmap(
        lambda order: hnp.arrays(
            np.dtype(order + code), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
        )
    )
)


# -- trust -------------------------------------------------------------------------------------


def test_nothing_is_read_or_written_without_trust():
    with pytest.raises(DecodeError, match="trusted=True"):
        PickleCodec().decode(pickle.dumps([1]))
    with pytest.raises(EncodeError, match="trusted=True"):
        PickleCodec().encode([1])
    with pytest.raises(DecodeError, match="trusted=True"):
        PickleCodec(unrestricted=True).decode(pickle.dumps([1]))


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def gadgets(path):
    """Yield pickles that make a folder at `path`, in several ways."""
    for protocol in PROTOCOLS:
        yield pickle.dumps(Canary(path), protocol)
        yield pickle.dumps({"a": [Canary(path)]}, protocol)
    name = str(path).encode()
    yield b"(S'" + name + b"'\nios\nmkdir\n."  # INST
    yield b"(cos\nmkdir\nS'" + name + b"'\no."  # OBJ
    yield b"\x80\x04c__builtin__\neval\n(V__import__('os').mkdir('" + name + b"')\ntR."
    yield b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93."
    yield b"cnumpy.core.multiarray\n_reconstruct.__globals__\n."
    buffer = io.BytesIO()
    np.save(buffer, np.array([Canary(path)], dtype=object), allow_pickle=True)
    yield buffer.getvalue()[128:]


def test_code_is_never_run(tmp_path):
    path = tmp_path / "canary"
    for codec in (PickleCodec(), CODEC):
        for body in gadgets(path):
            with pytest.raises(DecodeError):
                codec.decode(body)
            assert not path.exists()


def test_code_is_run_where_all_is_allowed(tmp_path):
    path = tmp_path / "canary"
    assert WHOLE.decode(pickle.dumps(Canary(path))) is None
    assert path.is_dir()


def test_other_classes_are_refused_by_name_or_made_where_all_is_allowed():
    body = pickle.dumps(Path("a"))
    with pytest.raises(DecodeError, match="pathlib.*Path.*not plain data"):
        CODEC.decode(body)
    assert WHOLE.decode(body) == Path("a")


def test_a_damaged_pickle_is_not_tried_again_with_everything_allowed(monkeypatch):
    monkeypatch.setattr(pickle, "loads", lambda _: pytest.fail("loaded"))
    for body in (b"\x80\x04]", b"\x80\x04K\x01.x", b"nonsense", b""):
        with pytest.raises(DecodeError):
            WHOLE.decode(body)


# -- plain data --------------------------------------------------------------------------------


@given(plain, st.sampled_from(PROTOCOLS))
def test_plain_python_is_read(value, protocol):
    assert CODEC.decode(pickle.dumps(value, protocol)) == value


@given(plain)
def test_plain_python_comes_back(value):
    assert CODEC.decode(CODEC.encode(value)) == value


@given(arrays, st.sampled_from(PROTOCOLS))
def test_arrays_are_read(array, protocol):
    decoded = CODEC.decode(pickle.dumps(array, protocol))
    assert type(decoded) is np.ndarray
    assert decoded.dtype == array.dtype.newbyteorder("=")
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, array)


@given(arrays)
def test_arrays_come_back_wherever_they_are(array):
    decoded = CODEC.decode(CODEC.encode({"a": [array, (array, 1)], "b": OrderedDict(c=array)}))
    for item in (decoded["a"][0], decoded["a"][1][0], decoded["b"]["c"]):
        np.testing.assert_array_equal(item, array)
    assert decoded["a"][0] is decoded["b"]["c"]


@pytest.mark.parametrize("code", sorted(DTYPES))
def test_scalars_come_back(code):
    scalar = np.ones((), code)[()]
    decoded = CODEC.decode(CODEC.encode([scalar]))[0]
    assert type(decoded) is type(scalar)
    assert decoded == scalar


def test_fortran_order_views_and_dtypes():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for view in (array.T, array[::-1, ::2], np.asfortranarray(array[0])):
        for protocol in PROTOCOLS:
            np.testing.assert_array_equal(CODEC.decode(pickle.dumps(view, protocol)), view)
    assert CODEC.decode(pickle.dumps(np.dtype(">f4"))) == np.dtype(">f4")


def test_the_arrays_of_python_2_are_read():
    """Their bytes are text of one character each."""
    body = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02U\x01bq\x03"
        b"\x87q\x04Rq\x05(K\x01K\x02\x85q\x06cnumpy\ndtype\nq\x07U\x02f4q\x08K\x00K\x01\x87q\tRq\n(K\x03U\x01<"
        b"q\x0bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0cb\x89U\x08\x00\x00\xc0?\x00\x00\x00\xc0q\rtq\x0eb."
    )
    decoded = CODEC.decode(body)
    assert decoded.dtype == np.float32
    assert decoded.tolist() == [1.5, -2.0]


def test_lists_that_hold_themselves_and_shared_tuples():
    itself = [np.arange(2)]
    itself.append(itself)
    decoded = CODEC.decode(pickle.dumps(itself))
    assert decoded[1] is decoded
    assert decoded[0].tolist() == [0, 1]
    doubled = (np.arange(2),)
    for _ in range(200):  # 2**200 of them, if each were looked at by itself
        doubled = (doubled, doubled)
    decoded = CODEC.decode(pickle.dumps(doubled))
    assert decoded[0] is decoded[1]


class Unstable:
    def __reduce__(self):
        raise RuntimeError("no pickle today")


class List(list):
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "not of a object"),
        (Unstable(), "not of a Unstable"),
        (print, "not of a builtin_function_or_method"),
        (Path("a"), "Path"),
        (List(), "not of a List"),
        ({"a": [np.array([None])]}, "not of a ndarray"),
        (np.array(["a"]), "not of a ndarray"),
        (np.zeros(2).view(np.recarray), "not of a recarray"),
        (np.str_("a"), "not of a str_"),
        (np.datetime64("2020"), "not of a datetime64"),
        (np.dtype("O"), "not of a ObjectDType"),
        (eval("[" * 90 + "]" * 90), None),
    ],
)
def test_unencodable(value, message):
    if message is None:
        for _ in range(sys.getrecursionlimit()):
            value = [value]
        message = "cannot be pickled"
    with pytest.raises(EncodeError, match=message):
        CODEC.encode(value)


# -- damage ------------------------------------------------------------------------------------


def array_state(**changes):
    """Return the pickle of an array of two floats with one opcode's argument replaced."""
    return pickle.dumps(np.array([1.5, -2.0], np.float32), 2).replace(
        changes["old"], changes["new"], changes.get("count", 1)
    )


BAD = {
    "empty": b"",
    "noise": b"hello world",
    "no end": b"\x80\x04]",
    "something behind it": b"\x80\x04K\x01.K\x02.",
    "an unknown protocol": b"\x80\x63K\x01.",
    "nothing on the stack": b"\x80\x04.",
    "a persistent object": b"P1\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "a number of 5,000 digits": b"I" + b"9" * 5000 + b"\n.",
    "a length without bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
    "a bytearray without bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "a frame without content": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"K\x01.",
    "an object of number 2**32-1": b"\x80\x04Kr\xff\xff\xff\xff.",
    "an object of number 10**9": b"I1\np1000000000\n.",
    "a bytearray of a length": b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x7f\x85R.",
    "a bytearray of True": b"\x80\x02c__builtin__\nbytearray\n\x88\x85R.",
    "another encoding": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
    "an array without content": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.",
    "an array of objects": array_state(old=b"f4", new=b"O8"),
    "an array of texts": array_state(old=b"f4", new=b"U1"),
    "an array of half the size": array_state(old=b"f4", new=b"f2"),
    "an array of another shape": array_state(old=b"K\x02\x85", new=b"K\x03\x85"),
    "an array of negative size": array_state(old=b"K\x02\x85", new=b"J\xff\xff\xff\xff\x85"),
    "an array of a petabyte": array_state(old=b"K\x02\x85", new=b"\x8a\x07\0\0\0\0\0\0\x01\x85"),
    "an array whose shape is text": array_state(old=b"K\x02\x85", new=b"X\x01\0\0\0a\x85"),
    "a dtype without an order": array_state(old=b"X\x01\0\0\0<", new=b"X\x01\0\0\0x"),
    "bytes of a length": b"\x80\x02c__builtin__\nbytes\nJ\x00\x00\x00\x7f\x85R.",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_bad_documents(body):
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError) as caught:
            CODEC.decode(body)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 300


def test_the_changed_arrays_would_be_read_unchanged():
    assert CODEC.decode(array_state(old=b"f4", new=b"i4")).dtype == np.int32
    assert CODEC.decode(array_state(old=b"K\x02\x85", new=b"K\x01K\x02\x86")).shape == (1, 2)


def test_deep_lists_are_refused():
    depth = 100_000
    with pytest.raises(DecodeError):
        CODEC.decode(b"]" * depth + b"a" * (depth - 1) + b".")


def test_what_a_pickle_sets_stays_in_it():
    """BUILD sets attributes of whatever is on the stack; of our own functions, if they were there."""
    good = pickle.dumps(np.arange(3))
    for name in (b"function", b"__call__", b"__setstate__", b"__class__", b"__code__"):
        for target in (b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n"):
            text = b"X" + struct.pack("<I", len(name)) + name
            body = b"\x80\x02" + target + b"N}" + text + b"K\x05s\x86b."
            assert [opcode.name for opcode, *_ in pickletools.genops(body)][-2:] == ["BUILD", "STOP"]
            with contextlib.suppress(DecodeError):
                CODEC.decode(body)
            assert CODEC.decode(good).tolist() == [0, 1, 2]


# -- torch -------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def saved(torch, value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_read_as_arrays(torch, zipped):
    value = {
        "weights": torch.tensor([[1.5, 2.0]], dtype=torch.bfloat16),
        "more": [torch.nn.Parameter(torch.ones(2)), (torch.tensor(3), "a")],
    }
    decoded = CODEC.decode(saved(torch, value, _use_new_zipfile_serialization=zipped))
    assert decoded["weights"].dtype == np.float32
    assert decoded["weights"].tolist() == [[1.5, 2.0]]
    assert decoded["more"][0].tolist() == [1.0, 1.0]
    assert decoded["more"][1][0].item() == 3
    assert decoded["more"][1][1] == "a"


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_runs_no_code(torch, tmp_path, zipped):
    path = tmp_path / "canary"
    body = saved(torch, Canary(path), _use_new_zipfile_serialization=zipped)
    with pytest.raises(DecodeError, match="weights_only=True"):
        CODEC.decode(body)
    assert not path.exists()
    WHOLE.decode(body)
    assert path.is_dir()


@pytest.mark.torch
def test_a_tensor_is_not_larger_than_its_document(torch):
    body = saved(torch, torch.ones(1).expand(10**9))
    with pytest.raises(DecodeError, match="larger than the document"):
        CODEC.decode(body)


@pytest.mark.torch
def test_damaged_files_of_torch(torch):
    with pytest.raises(DecodeError):
        CODEC.decode(b"PK\x03\x04")
    for zipped in (True, False):
        body = saved(torch, [torch.ones(2)], _use_new_zipfile_serialization=zipped)
        for end in range(20, len(body) - 1, len(body) // 20):
            with pytest.raises(DecodeError):
                CODEC.decode(body[:end])


def test_without_torch_its_files_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DecodeError, match="torch, which is not installed"):
        CODEC.decode(b"PK\x03\x04")


def test_torch_of_known_faults_is_warned_of(monkeypatch):
    said = []
    monkeypatch.setattr(ours._log, "warning", lambda *args, **_: said.append(args))
    for version in ("2.9.1+cpu", "2.10.0", "3.0"):
        ours._warn_of.cache_clear()
        ours._warn_of(version)
    ours._warn_of.cache_clear()
    assert len(said) == 1


def test_torch_is_not_imported_for_plain_pickles():
    program = (
        "import sys; from modelyard.serializers.pickle import PickleCodec; "
        "codec = PickleCodec(trusted=True); codec.decode(codec.encode([1.5])); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
