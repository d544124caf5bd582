"""SDK v2's serializers: what is sent, and what is refused."""

import io
import json
from collections import UserList

import numpy as np
import pytest

from modelyard.core.errors import EncodeError
from modelyard.serializers import (
    BaseSerializer,
    CodecSerializer,
    CSVSerializer,
    DataSerializer,
    IdentitySerializer,
    JSONLinesSerializer,
    JSONSerializer,
    LibSVMSerializer,
    NumpySerializer,
    SimpleBaseSerializer,
    SparseMatrixSerializer,
    StringSerializer,
    TorchTensorSerializer,
)

pytestmark = pytest.mark.usefixtures("plugins")


@pytest.mark.parametrize(
    ("cls", "content_type"),
    [
        (CSVSerializer, "text/csv"),
        (DataSerializer, "file-path/raw-bytes"),
        (IdentitySerializer, "application/octet-stream"),
        (JSONLinesSerializer, "application/jsonlines"),
        (JSONSerializer, "application/json"),
        (LibSVMSerializer, "text/libsvm"),
        (NumpySerializer, "application/x-npy"),
        (SimpleBaseSerializer, "application/json"),
        (SparseMatrixSerializer, "application/x-npz"),
        (StringSerializer, "text/plain"),
        (TorchTensorSerializer, "tensor/pt"),
    ],
)
def test_content_types(cls, content_type):
    assert (cls().CONTENT_TYPE, cls().content_type) == (content_type, content_type)
    assert cls(content_type="x/y").CONTENT_TYPE == "x/y"


@pytest.mark.parametrize(
    "cls", [CSVSerializer, JSONLinesSerializer, JSONSerializer, NumpySerializer, LibSVMSerializer]
)
def test_what_can_be_read_is_read_and_sent_as_it_is(cls):
    assert cls().serialize(io.BytesIO(b"\x00raw")) == b"\x00raw"
    assert cls().serialize(io.StringIO("1,2")) == "1,2"


def test_a_serializer_is_called_as_v1_does():
    assert json.loads(JSONSerializer()([1, 2])) == [1, 2]


# -- NPY ---------------------------------------------------------------------------------------


def loaded(body):
    return np.load(io.BytesIO(body), allow_pickle=False)


@pytest.mark.parametrize("data", [np.eye(2, dtype=np.float32), [[1, 2], [3, 4]], (1.5, 2.5), 7, True])
def test_numpy_writes_arrays_and_what_makes_one(data):
    array = loaded(NumpySerializer().serialize(data))
    assert np.array_equal(array, data)
    assert array.dtype == np.asarray(data).dtype


def test_numpy_converts_lists_and_leaves_arrays_their_dtype():
    assert loaded(NumpySerializer(dtype="float32").serialize([1, 2])).dtype == np.float32
    assert loaded(NumpySerializer(dtype="float32").serialize(np.array([1, 2]))).dtype == np.int64


@pytest.mark.parametrize("data", [[], np.array([]), np.zeros((0, 3))])
def test_numpy_refuses_what_is_empty(data):
    with pytest.raises(ValueError, match=r"Cannot serialize empty array\."):
        NumpySerializer().serialize(data)


@pytest.mark.parametrize("data", [np.array([object()]), [[1], [2, 3]], {"a": 1}])
def test_numpy_never_writes_a_pickle(data):
    with pytest.raises(EncodeError):
        NumpySerializer().serialize(data)


# -- JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"a": np.array([1, 2]), "b": "x"}, {"a": [1, 2], "b": "x"}),
        ({"a": {"b": np.float32(0.5)}}, {"a": {"b": 0.5}}),
        (np.array([[1.5], [2.5]]), [[1.5], [2.5]]),
        ([1, None, True, "ü"], [1, None, True, "ü"]),
        ("text", "text"),
    ],
)
def test_json_writes_plain_python_and_arrays_anywhere(data, said):
    written = JSONSerializer().serialize(data)
    assert isinstance(written, str)
    assert json.loads(written) == said


@pytest.mark.parametrize("data", [{"a": object()}, [float("nan")], {1, 2}])
def test_json_refuses_what_it_has_no_form_for(data):
    with pytest.raises(EncodeError):
        JSONSerializer().serialize(data)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ([{"a": 1}, [2]], ['{"a":1}', "[2]"]),
        (({"a": n} for n in range(2)), ['{"a":0}', '{"a":1}']),
        (np.array([[1, 2], [3, 4]]), ["[1,2]", "[3,4]"]),
        ("ready\nmade", ["ready", "made"]),
    ],
)
def test_json_lines(data, lines):
    assert JSONLinesSerializer().serialize(data).split("\n") == lines


# -- CSV ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([1, 2.5, 3], "1,2.5,3"),
        ((1, 2), "1,2"),
        (np.array([1, 2]), "1,2"),
        ([[1, 2], [3, 4]], "1,2\n3,4"),
        (((1, 2), (3, 4)), "1,2\n3,4"),
        (np.array([[1.5, 2], [3, 4]]), "1.5,2.0\n3.0,4.0"),
        (np.arange(8).reshape(2, 2, 2), "0,1,2,3\n4,5,6,7"),
        ([[1, 2], [3]], "1,2\n3"),
        ([np.array([1, 2]), [3]], "1,2\n3"),
        ("1,2\n3,4", "1,2\n3,4"),
        (["1,2", "3,4"], "1,2\n3,4"),
        (["a", "b"], "a\nb"),
        ([["a,b", 'say "x"', None]], '"a,b","say ""x""",'),
        (UserList([[1], [2]]), "1\n2"),
    ],
)
def test_csv_rows(data, text):
    assert CSVSerializer().serialize(data) == text


@pytest.mark.parametrize("data", [[], [[]], [[1], []], np.array([])])
def test_csv_refuses_what_is_empty(data):
    with pytest.raises(ValueError, match=r"Cannot serialize empty array\."):
        CSVSerializer().serialize(data)


@pytest.mark.parametrize("data", [7, object()])
def test_csv_refuses_what_is_no_row(data):
    with pytest.raises(EncodeError, match="a row of CSV is"):
        CSVSerializer().serialize(data)


# -- the others --------------------------------------------------------------------------------


def test_identity():
    thing = object()
    assert IdentitySerializer().serialize(thing) is thing


def test_a_text_as_utf8():
    assert StringSerializer().serialize("ü") == "ü".encode()
    with pytest.raises(EncodeError, match="a text is expected, not a int"):
        StringSerializer().serialize(1)


def test_libsvm_is_a_text_already():
    assert LibSVMSerializer().serialize("1 1:0.5") == "1 1:0.5"
    with pytest.raises(EncodeError, match="not a list"):
        LibSVMSerializer().serialize([1])


def test_data_are_a_files_content_or_bytes(tmp_path):
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    assert DataSerializer().serialize(str(tmp_path / "image.png")) == b"\x89PNG"
    assert DataSerializer().serialize(tmp_path / "image.png") == b"\x89PNG"
    assert DataSerializer().serialize(b"raw") == b"raw"
    with pytest.raises(EncodeError, match="cannot read '/absent': No such file"):
        DataSerializer().serialize("/absent")
    with pytest.raises(EncodeError, match="not a list"):
        DataSerializer().serialize([1])


def test_a_tensor_as_npy():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = torch.tensor([[1.5]], requires_grad=True)
    assert loaded(TorchTensorSerializer().serialize(tensor)) == [[1.5]]


def test_what_is_no_tensor_is_refused():
    with pytest.raises(EncodeError, match="a tensor of torch is expected, not a list"):
        TorchTensorSerializer().serialize([1])


def test_a_sparse_matrix_as_npz():
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    matrix = sparse.csr_matrix(np.eye(3))
    read = sparse.load_npz(io.BytesIO(SparseMatrixSerializer().serialize(matrix)))
    assert (read != matrix).nnz == 0
    with pytest.raises(EncodeError, match="a sparse matrix of SciPy is expected, not a ndarray"):
        SparseMatrixSerializer().serialize(np.eye(3))


def test_any_content_type_by_its_codec():
    assert CodecSerializer("application/json").serialize({"a": 1}) == b'{"a":1}'
    assert CodecSerializer("image/png").serialize(b"\x89") == b"\x89"


def test_one_of_ones_own():
    class Reversed(BaseSerializer):
        CONTENT_TYPE = "text/reversed"

        def serialize(self, data):
            return data[::-1]

    assert Reversed()("abc") == "cba"
    with pytest.raises(NotImplementedError):
        BaseSerializer().serialize(1)


def test_the_package_of_codecs_shows_them():
    import modelyard.serializers

    assert set(modelyard.serializers.__all__) <= set(dir(modelyard.serializers))
    for name in modelyard.serializers.__all__:
        assert getattr(modelyard.serializers, name).__name__ == name
    with pytest.raises(
        AttributeError, match="module 'modelyard.serializers' has no attribute 'XMLSerializer'"
    ):
        modelyard.serializers.XMLSerializer  # noqa: B018 - the access is what is tested
