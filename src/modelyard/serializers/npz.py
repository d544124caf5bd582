"""NPZ: several NPY documents in a ZIP archive."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.serializers._zip import MAX_MEMBERS, members
from modelyard.serializers.npy import NpyCodec

if TYPE_CHECKING:
    import numpy.typing as npt

ONLY = "arr_0"
"""What numpy calls an array that is saved without a name."""

_SUFFIX = ".npy"
_LONGEST_NAME = 255
_BEGINNING_OF_ZIP = (1980, 1, 1, 0, 0, 0)
_SPARSE = {"data.npy", "format.npy", "shape.npy"}
_NPY = NpyCodec()


@attrs.frozen
class NpzCodec:
    """application/x-npz: arrays by name, each as `NpyCodec` reads and writes it. Never a pickle.

    One array alone is called ``arr_0``, as with ``numpy.savez(file, array)``; a document that holds
    nothing else is that array. ``max_bytes``: of all arrays together, uncompressed, in a document
    that is read: deflated zeros take a thousandth of the memory that they fill.
    """

    name: ClassVar[str] = "npz"
    media_types: ClassVar[tuple[str, ...]] = ("application/x-npz",)
    suffixes: ClassVar[tuple[str, ...]] = (".npz",)
    max_bytes: int = attrs.field(default=128 * 1024 * 1024, kw_only=True)

    def encode(self, value: object) -> bytes:
        """Return a dict of arrays, or one array, as NPZ: not compressed, the same bytes for the same value.

        Raises `EncodeError` for what NPY does not hold, and for a name that could not be a file's.
        """
        import zipfile

        arrays = value if isinstance(value, Mapping) else {ONLY: value}
        if len(arrays) > MAX_MEMBERS:
            raise EncodeError(f"NPZ is written for at most {MAX_MEMBERS} arrays, not for {len(arrays)}")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, array in arrays.items():
                if not isinstance(name, str) or _is_odd(name):
                    raise EncodeError(f"{name!r:.100} is not a name for an array in NPZ")
                archive.writestr(zipfile.ZipInfo(name + _SUFFIX, _BEGINNING_OF_ZIP), _NPY.encode(array))
        return buffer.getvalue()

    def decode(self, body: bytes) -> "dict[str, npt.NDArray[Any]] | npt.NDArray[Any]":
        """Return the arrays by name, or the only one where that is ``arr_0``. Raises `DecodeError`.

        Each is what `NpyCodec.decode` makes of it.
        """
        documents = dict(members(body, self.max_bytes))
        if documents.keys() >= _SPARSE:
            raise DecodeError("a sparse matrix is not read from NPZ: send the dense array")
        arrays = {_array_name(name): _read(name, document) for name, document in documents.items()}
        return arrays[ONLY] if arrays.keys() == {ONLY} else arrays


def _read(name: str, document: bytes) -> "npt.NDArray[Any]":
    try:
        return _NPY.decode(document)
    except DecodeError as error:
        raise DecodeError(f"the member {name!r}: {error}") from error


def _array_name(member: str) -> str:
    name = member.removesuffix(_SUFFIX)
    if name == member or _is_odd(name):
        raise DecodeError(f"{member!r:.100} is not a name for an array in NPZ: name.npy is")
    return name


def _is_odd(name: str) -> bool:
    """Tell whether a file of this name could be anywhere but below the folder that it is unpacked to."""
    parts = name.split("/")
    return (
        not name.isprintable()
        or "\\" in name
        or len(name) > _LONGEST_NAME
        or any(part in ("", ".", "..") for part in parts)
    )
