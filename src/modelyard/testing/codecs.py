"""What a codec promises, as tests."""

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from threading import Barrier
from typing import ClassVar

import numpy as np
import pytest

from modelyard.core.contracts import ArrayCodec, Codec, GuardedCodec
from modelyard.core.errors import DecodeError, EncodeError
from modelyard.core.media_types import fault_of
from modelyard.testing.saying import is_a_name

THREADS = 4
ROUNDS = 10


class CodecContract:
    """The tests of a codec: subclass it, name the class ``Test...``, and set the attributes.

    ::

        from modelyard.serializers.json import JsonCodec  # Yours.
        from modelyard.testing import CodecContract


        class TestJsonCodec(CodecContract):
            codec = JsonCodec()
            values = (*CodecContract.values, {"labels": ["cat", "dog"]}, None)
            documents = ((b'{"a": [1, 2]}', {"a": [1, 2]}),)
            malformed = (b"", b"[1,", b"NaN")
            unencodable = (b"bytes", 1j)

    ``codec``: an instance; ``values``: what must come back equal, as `same` sees it; ``documents``: of
    another program's making, each with what it says; ``malformed``: bodies that must be refused;
    ``unencodable``: values that must be refused; ``can_encode`` and ``can_decode``: whether it does, or
    refuses everything; without the one, ``documents`` are all that is decoded.
    """

    codec: ClassVar[Codec]
    values: ClassVar[tuple[object, ...]] = (
        np.array([[0.1, -2.5, 3e7], [0.0, 1e-7, 16777216.0]], np.float32),
        np.array([[1.5], [-2.25]], np.float64),
        np.array([[1, -2, 2**53]], np.int64),
    )
    documents: ClassVar[tuple[tuple[bytes, object], ...]] = ()
    malformed: ClassVar[tuple[bytes, ...]] = ()
    unencodable: ClassVar[tuple[object, ...]] = ()
    can_encode: ClassVar[bool] = True
    can_decode: ClassVar[bool] = True

    def same(self, value: object, decoded: object) -> bool:
        """Tell whether `decoded` is `value` again; override it where that is not ``==``.

        Where one of them is an array, shape and numbers must agree; the dtype is the format's affair. So it
        is with what dicts, lists and tuples hold.
        """
        if isinstance(value, dict) and isinstance(decoded, dict):
            return value.keys() == decoded.keys() and all(
                self.same(value[key], decoded[key]) for key in value
            )
        if isinstance(value, list | tuple) and type(value) is type(decoded):
            return len(value) == len(decoded) and all(map(self.same, value, decoded))
        if not isinstance(value, np.ndarray) and not isinstance(decoded, np.ndarray):
            return bool(value == decoded)
        try:
            expected = np.asarray(value)
            actual = np.asarray(decoded).astype(expected.dtype)
        except (TypeError, ValueError):
            return False
        return np.array_equal(expected, actual, equal_nan=expected.dtype.kind in "fc")

    # -- what it is ----------------------------------------------------------------------------

    def test_it_has_the_members_of_a_codec(self) -> None:
        """It has a name, media types, `encode` and `decode`."""
        assert isinstance(self.codec, Codec), f"{self.codec!r} lacks a member of modelyard's Codec"
        is_a_name(self.codec.name)

    def test_its_media_types_are_essences(self) -> None:
        """`media_types` is a tuple of ``type/subtype``, lower case, no parameters, no wildcards."""
        declared = self.codec.media_types
        assert isinstance(declared, tuple), f"media_types must be a tuple, not {declared!r}"
        assert declared, "media_types is empty: no request would ever find the codec"
        assert len(set(declared)) == len(declared), f"media_types names one twice: {declared!r}"
        for text in declared:
            fault = fault_of(text)
            assert not fault, f"media_types: {fault}"

    def test_its_suffixes_are_endings(self) -> None:
        """`suffixes`, if there are any, is a tuple of endings of files as ``.csv``, lower case."""
        declared = getattr(self.codec, "suffixes", ())
        assert isinstance(declared, tuple), f"suffixes must be a tuple, not {declared!r}"
        for text in declared:
            ending = isinstance(text, str) and text and PurePath(f"file{text}").suffix == text.lower()
            assert ending, f"suffixes: {text!r} is not the ending of a file, such as '.csv', in lower case"

    def test_it_is_made_without_options(self) -> None:
        """``cls()`` makes one: that is how a request's Content-Type finds its codec."""
        made = self._made()
        assert made.name == self.codec.name, f"{type(made).__qualname__}() is called {made.name!r}"

    def test_it_trusts_nobody_unless_told(self) -> None:
        """A codec whose documents may run code is made without ``trusted``, so that no client finds it."""
        try:
            made: object = self._made()
        except AssertionError as error:
            pytest.skip(str(error))
        trusted = isinstance(made, GuardedCodec) and made.trusted
        assert not trusted, f"{type(made).__qualname__}() is trusted: it would read every client's documents"

    # -- there and back ------------------------------------------------------------------------

    def test_encode_returns_bytes(self) -> None:
        """`encode` returns ``bytes``, for every value."""
        for value in self._encodable():
            document: object = self._encoded(value)
            assert type(document) is bytes, f"encode must return bytes, not {document!r}, for {value!r}"

    def test_values_come_back_equal(self) -> None:
        """`decode` accepts what `encode` wrote, and returns the same."""
        self._decodes()
        for value in self._encodable():
            self._says(self._encoded(value), value, "what encode wrote for")

    def test_documents_are_understood(self) -> None:
        """`decode` returns what the documents of other programs say."""
        self._decodes()
        if not self.documents:
            pytest.skip("documents is empty: no other program's are known")
        for document, value in self.documents:
            self._says(document, value, "a document that says")

    def test_encode_leaves_the_value_alone(self) -> None:
        """`encode` does not change what it is given."""
        for value in self._encodable():
            given = copy.deepcopy(value)
            self.codec.encode(given)
            assert self.same(value, given), f"encode changed {value!r} into {given!r}"

    def test_decode_returns_no_tensor(self) -> None:
        """`decode` returns numpy or plain Python: placing a value on a device is the hardware's part."""
        for document, value in self._decodable():
            for item in _items(self.codec.decode(document)):
                library = type(item).__module__.partition(".")[0]
                assert library != "torch", f"decode must not return a tensor, as for {value!r}"

    def test_decoded_values_share_nothing(self) -> None:
        """Two calls of `decode` return values of which one can be changed without the other."""
        for document, value in self._decodable():
            first, second = self.codec.decode(document), self.codec.decode(document)
            assert not _share(first, second), f"decode returned one mutable value twice, for {value!r}"

    # -- refusals ------------------------------------------------------------------------------

    def test_malformed_bodies_raise_decode_error(self) -> None:
        """`decode` refuses what is in `malformed`, by `DecodeError`; everything, if it cannot decode."""
        refused = self.malformed if self.can_decode else (b"", b"1", *self.malformed)
        for body in refused:
            assert _refuses(self.codec.decode, body), f"decode must raise DecodeError for {body[:80]!r}"

    def test_any_bytes_decode_or_raise_decode_error(self) -> None:
        """`decode` raises nothing but `DecodeError`, whatever the body."""
        for document, _ in self._decodable():
            for body in _damaged(document):
                _refuses(self.codec.decode, body)

    def test_unencodable_values_raise_encode_error(self) -> None:
        """`encode` refuses ``object()``, `unencodable`, and all if it cannot encode, by `EncodeError`."""
        refused = self.unencodable if self.can_encode else (*self.values, *self.unencodable)
        for value in (object(), *refused):
            try:
                document = self.codec.encode(value)
            except EncodeError:
                continue
            except Exception as error:
                raise AssertionError(f"encode must raise EncodeError for {value!r}, not {error!r}") from error
            raise AssertionError(f"encode must raise EncodeError for {value!r}, and wrote {document[:80]!r}")

    # -- threads -------------------------------------------------------------------------------

    def test_threads_do_not_disturb_each_other(self) -> None:
        """One instance serves all requests: what a call returns depends on its argument alone."""
        barrier = Barrier(THREADS)
        given = tuple((value, self._through(value)) for value in self._encodable())
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                reports = list(pool.map(self._work, range(THREADS), [given] * THREADS, [barrier] * THREADS))
            except Exception as error:
                raise AssertionError(f"{THREADS} threads at once, and the codec raised {error!r}") from error
        wrong = [line for report in reports for line in report]
        assert not wrong, f"{THREADS} threads at once, and the codec gave {wrong[0]}"

    def _work(self, thread: int, given: tuple[tuple[object, object], ...], barrier: Barrier) -> list[str]:
        """Return what went otherwise than alone while every thread handles the values, in its own order."""
        barrier.wait()
        start = thread % len(given)
        wrong = []
        for value, alone in (given[start:] + given[:start]) * ROUNDS:
            if not self.same(alone, together := self._through(value)):
                wrong.append(f"{together!r} for {value!r}")
        return wrong

    def _through(self, value: object) -> object:
        """Return what comes out for a value, by another road than the value."""
        document = self._encoded(value)
        return self.codec.decode(document) if self.can_decode else document

    # -- arrays --------------------------------------------------------------------------------

    def test_decode_array_returns_the_dtype_asked_for(self) -> None:
        """An `ArrayCodec` returns an array of the dtype that it is asked for, float32 by default."""
        codec = self._array_codec()
        for document, value in self._decodable():
            if not _is_real(value):
                continue
            arrays = {"float32": codec.decode_array(document)}
            arrays |= {dtype: codec.decode_array(document, dtype) for dtype in ("float32", "float64")}
            for dtype, array in arrays.items():
                assert isinstance(array, np.ndarray), f"decode_array returned {array!r}, not an array"
                assert array.dtype == dtype, f"decode_array returned {array.dtype}, asked for {dtype}"
                expected = np.asarray(value).astype(dtype)
                assert array.shape == expected.shape, f"decode_array: {array.shape} for {expected.shape}"
                assert np.allclose(array, expected, rtol=1e-6, equal_nan=True), (
                    f"decode_array returned {array!r} for {value!r}"
                )

    def test_decode_array_raises_decode_error(self) -> None:
        """`decode_array` refuses what is in `malformed`, and raises nothing but `DecodeError`."""
        codec = self._array_codec()
        for body in self.malformed:
            assert _refuses(codec.decode_array, body), (
                f"decode_array must raise DecodeError for {body[:80]!r}"
            )
        for document, _ in self._decodable():
            for body in _damaged(document):
                _refuses(codec.decode_array, body)

    def _array_codec(self) -> ArrayCodec:
        if not isinstance(self.codec, ArrayCodec):
            pytest.skip(f"{self.codec.name} is not an ArrayCodec: its documents name their dtype")
        return self.codec

    # -- what there is to test with ------------------------------------------------------------

    def _made(self) -> Codec:
        """Return the codec as a table makes it."""
        cls = type(self.codec)
        try:
            return cls()
        except TypeError as error:
            raise AssertionError(f"{cls.__qualname__}() must work without options: {error}") from error

    def _encodable(self) -> tuple[object, ...]:
        """Return the values that it encodes."""
        if not self.can_encode:
            pytest.skip(f"{self.codec.name} only decodes")
        assert self.values, "values is empty: there would be nothing to test with"
        return self.values

    def _decodable(self) -> list[tuple[bytes, object]]:
        """Return documents that it decodes, its own and other programs', each with what it says."""
        self._decodes()
        own = [(self._encoded(value), value) for value in self.values] if self.can_encode else []
        assert own or self.documents, "documents is empty: there would be nothing to test with"
        return [*own, *self.documents]

    def _encoded(self, value: object) -> bytes:
        """Return the document of a value, which stays as it is whatever the codec does."""
        return self.codec.encode(copy.deepcopy(value))

    def _decodes(self) -> None:
        if not self.can_decode:
            pytest.skip(f"{self.codec.name} only encodes")

    def _says(self, document: bytes, value: object, what: str) -> None:
        try:
            decoded = self.codec.decode(document)
        except DecodeError as error:
            raise AssertionError(f"decode refuses {what} {value!r}: {error}") from error
        assert self.same(value, decoded), f"{value!r} came back as {decoded!r}"


def _items(value: object) -> Iterator[object]:
    """Yield a value and everything in it."""
    yield value
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _items(item)


def _share(first: object, second: object) -> bool:
    return any(map(_same_memory, _items(first), _items(second)))


def _same_memory(first: object, second: object) -> bool:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.flags.writeable and np.shares_memory(first, second)
    return first is second and isinstance(first, dict | list | set | bytearray)


def _is_real(value: object) -> bool:
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except ValueError:
        return False


def _refuses(decode: Callable[[bytes], object], body: bytes) -> bool:
    """Tell whether `decode` raises `DecodeError`; any other exception breaks a promise."""
    try:
        decode(body)
    except DecodeError:
        return True
    except Exception as error:
        raise AssertionError(f"decode must raise DecodeError for {body[:80]!r}, not {error!r}") from error
    return False


def _damaged(document: bytes) -> Iterator[bytes]:
    """Yield nothing, beginnings of the document, the document with a byte changed, and noise."""
    source = np.random.default_rng(0)
    yield b""
    yield from (document[:end] for end in range(0, len(document), len(document) // 64 + 1))
    for _ in range(64):
        place = int(source.integers(len(document) or 1))
        yield document[:place] + source.bytes(1) + document[place + 1 :]
        yield source.bytes(int(source.integers(1, 64)))
