"""SDK v2's deserializers: what an answer becomes, and what is refused."""

import io
import pickle

import numpy as np
import pytest

from modelyard.core.errors import DecodeError, InvalidPlanError
from modelyard.deserializers import (
    BaseDeserializer,
    BytesDeserializer,
    CSVDeserializer,
    JSONDeserializer,
    JSONLinesDeserializer,
    NumpyDeserializer,
    PandasDeserializer,
    SimpleBaseDeserializer,
    StreamDeserializer,
    StringDeserializer,
    TorchTensorDeserializer,
)

pytestmark = pytest.mark.usefixtures("plugins")

NPY, NPZ, JSON, CSV = "application/x-npy", "application/x-npz", "application/json", "text/csv"


def npy(value, **options):
    buffer = io.BytesIO()
    np.save(buffer, value, **options)
    return buffer.getvalue()


def read(deserializer, body, content_type):
    stream = io.BytesIO(body)
    value = deserializer.deserialize(stream, content_type)
    assert stream.closed
    return value


@pytest.mark.parametrize(
    ("cls", "accept"),
    [
        (BytesDeserializer, ("*/*",)),
        (CSVDeserializer, (CSV,)),
        (JSONDeserializer, (JSON,)),
        (JSONLinesDeserializer, ("application/jsonlines",)),
        (NumpyDeserializer, (NPY,)),
        (PandasDeserializer, (CSV, JSON)),
        (SimpleBaseDeserializer, ("*/*",)),
        (StreamDeserializer, ("*/*",)),
        (StringDeserializer, (JSON,)),
        (TorchTensorDeserializer, ("tensor/pt",)),
    ],
)
def test_what_is_asked_for(cls, accept):
    assert cls().accept in (accept, accept[0])
    assert accept == cls().ACCEPT
    assert cls(accept="x/y").ACCEPT == ("x/y",)
    assert cls(accept=("x/y", "x/z")).ACCEPT == ("x/y", "x/z")


def test_bytes_texts_and_rows():
    assert read(BytesDeserializer(), b"\x00", "x/y") == b"\x00"
    assert read(StringDeserializer(), "ü".encode(), "x/y") == "ü"
    assert read(StringDeserializer(encoding="latin-1"), "ü".encode("latin-1"), "x/y") == "ü"
    assert read(CSVDeserializer(), b'1,"a,b"\n\n2,\n', CSV) == [["1", "a,b"], [], ["2", ""]]
    assert read(JSONDeserializer(), b'{"a": [1]}', JSON) == {"a": [1]}
    assert read(JSONLinesDeserializer(), b'{"a": 1}\n[2]\n', "application/jsonlines") == [{"a": 1}, [2]]


def test_a_stream_is_left_to_its_reader():
    stream = io.BytesIO(b"abc")
    assert StreamDeserializer().deserialize(stream, "x/y") == (stream, "x/y")
    assert stream.read() == b"abc"


def test_a_deserializer_is_called_as_v1_does():
    assert JSONDeserializer()(io.BytesIO(b"[1]"), JSON) == [1]


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (npy([[1.5]]), NPY, [[1.5]]),
        (b"[[1, 2]]", f"{JSON}; charset=utf-8", [[1, 2]]),
        (b"1,2\n3,4\n", CSV, [[1, 2], [3, 4]]),
        (b"1,2,3\n", CSV, [1, 2, 3]),
        (b"1\n2\n", CSV, [1, 2]),
    ],
)
def test_arrays_from_every_format(body, content_type, expected):
    array = read(NumpyDeserializer(), body, content_type)
    assert isinstance(array, np.ndarray)
    assert array.tolist() == expected


def test_an_array_is_its_owners_to_change():
    array = read(NumpyDeserializer(), npy(np.zeros(2)), NPY)
    array[0] = 1
    assert array.tolist() == [1, 0]


def test_the_dtype_is_that_of_texts():
    assert read(NumpyDeserializer(dtype="int8"), b"[1, 2]", JSON).dtype == np.int8
    assert read(NumpyDeserializer(dtype="float32"), b"1,2", CSV).dtype == np.float32
    assert read(NumpyDeserializer(dtype="float32"), npy(np.array([1])), NPY).dtype == np.int64


def test_several_arrays_by_name():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([1]), b=np.array([2]))
    arrays = read(NumpyDeserializer(), buffer.getvalue(), NPZ)
    assert {name: array.tolist() for name, array in arrays.items()} == {"a": [1], "b": [2]}


def test_another_content_type_is_named():
    with pytest.raises(ValueError, match=r"NumpyDeserializer cannot read content type image/png\."):
        read(NumpyDeserializer(), b"", "image/png")


@pytest.mark.parametrize("body", [npy(np.array([{"a": 1}]), allow_pickle=True), pickle.dumps(np.zeros(1))])
def test_a_pickle_is_never_loaded(body):
    with pytest.raises(DecodeError):
        read(NumpyDeserializer(), body, NPY)
    with pytest.raises(InvalidPlanError, match="an answer is never unpickled"):
        NumpyDeserializer(allow_pickle=True)


@pytest.mark.parametrize(
    ("deserializer", "body", "content_type"),
    [
        (JSONDeserializer(), b"{", JSON),
        (NumpyDeserializer(), b"[1, [2]]", JSON),
        (NumpyDeserializer(), b"\x93NUMPY", NPY),
        (StringDeserializer(), b"\xff", JSON),
        (CSVDeserializer(), b"\xff", CSV),
    ],
)
def test_a_damaged_answer_is_a_value_error_and_closed(deserializer, body, content_type):
    stream = io.BytesIO(body)
    with pytest.raises(ValueError, match="."):
        deserializer.deserialize(stream, content_type)
    assert stream.closed


def test_a_data_frame():
    pytest.importorskip("pandas", reason="pandas is not installed")
    assert read(PandasDeserializer(), b"a,b\n1,2\n", CSV).to_dict("list") == {"a": [1], "b": [2]}
    assert read(PandasDeserializer(), b'{"a": [1, 2]}', JSON)["a"].tolist() == [1, 2]
    with pytest.raises(DecodeError, match="PandasDeserializer cannot read content type x/y"):
        PandasDeserializer().deserialize(io.BytesIO(), "x/y")


def test_a_tensor():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = read(TorchTensorDeserializer(), npy(np.eye(2)), "tensor/pt")
    assert torch.equal(tensor, torch.eye(2, dtype=torch.float64))
    tensor += 1  # It shares its memory with nothing that must not change.


def test_one_of_ones_own():
    class Reversed(BaseDeserializer):
        ACCEPT = ("text/reversed",)

        def deserialize(self, stream, content_type):
            return stream.read()[::-1]

    assert Reversed()(io.BytesIO(b"abc"), "x") == b"cba"
    with pytest.raises(NotImplementedError):
        BaseDeserializer().deserialize(io.BytesIO(), "x")
