"""The contract catches each way of breaking it."""

import threading

import numpy as np
import pytest
from tests.unit.testing.broken import breaks, failing, promises

from modelyard.core.contracts import ArrayCodec
from modelyard.core.errors import DecodeError, EncodeError
from modelyard.serializers.json import JsonCodec
from modelyard.serializers.npy import NpyCodec
from modelyard.serializers.pickle import PickleCodec
from modelyard.testing.codecs import THREADS, CodecContract


class Nameless(JsonCodec):
    name = ""


class Shouting(JsonCodec):
    name = "JSON"


class Spaced(JsonCodec):
    name = "my codec"


class Numbered(JsonCodec):
    name = 7


class BareType(JsonCodec):
    media_types = "application/json"


class NoTypes(JsonCodec):
    media_types = ()


class TypeWithParameter(JsonCodec):
    media_types = ("application/json; charset=utf-8",)


class UpperCaseType(JsonCodec):
    media_types = ("Application/JSON",)


class WildcardType(JsonCodec):
    media_types = ("application/*",)


class NoType(JsonCodec):
    media_types = ("json",)


class TypeTwice(JsonCodec):
    media_types = ("application/json", "application/json")


class BareSuffix(JsonCodec):
    suffixes = ".json"


class NoSuffix(JsonCodec):
    suffixes = ("json",)


class EmptySuffix(JsonCodec):
    suffixes = ("",)


class UpperCaseSuffix(JsonCodec):
    suffixes = (".JSON",)


class TwoSuffixes(JsonCodec):
    suffixes = (".json.gz",)


class NeedsAnOption(JsonCodec):
    def __init__(self, indent):
        super().__init__()


class Renamable(JsonCodec):
    def __init__(self, name="json"):
        object.__setattr__(self, "name", name)


class WritesText(JsonCodec):
    def encode(self, value):
        return super().encode(value).decode()


class WritesMemory(JsonCodec):
    def encode(self, value):
        return bytearray(super().encode(value))


class Rounds(NpyCodec):
    def decode(self, body):
        return super().decode(body).round()


class Transposes(NpyCodec):
    def decode(self, body):
        return super().decode(body).T


class ReturnsNothing(JsonCodec):
    def decode(self, body):
        super().decode(body)


class RefusesItsOwn(JsonCodec):
    def decode(self, body):
        raise DecodeError("not today")


class Normalises(NpyCodec):
    def encode(self, value):
        if not isinstance(value, np.ndarray):
            return super().encode(value)
        value /= 2
        return super().encode(value * 2)


class MakesTensors(JsonCodec):
    def decode(self, body):
        value = super().decode(body)
        if not isinstance(value, dict):
            return value
        return {name: Tensor(item) if isinstance(item, list) else item for name, item in value.items()}


class Tensor(list):
    __module__ = "torch.nn.parameter"


class RemembersDocuments(JsonCodec):
    def decode(self, body):
        return DOCUMENTS.setdefault(body, super().decode(body))


DOCUMENTS = {}


class SharesItsBuffer(NpyCodec):
    buffer = np.zeros((2, 3), np.float32)

    def decode(self, body):
        self.buffer[:] = super().decode(body)
        return self.buffer


class Lenient(JsonCodec):
    def decode(self, body):
        return super().decode(body or b"null")


class RaisesWhatItsParserRaises(JsonCodec):
    def decode(self, body):
        return __import__("json").loads(body)

    decode_array = decode


class Trusting(NpyCodec):
    def decode(self, body):
        return np.frombuffer(body[128:], np.float32).reshape(2, 3)


class WritesAnything(JsonCodec):
    def encode(self, value):
        return super().encode(None if type(value) is object else value)


class RaisesTypeError(JsonCodec):
    def encode(self, value):
        try:
            return super().encode(value)
        except EncodeError as error:
            raise TypeError("no") from error


class KeepsState(JsonCodec):
    """What it encodes lies on the instance meanwhile; threads meet at the worst moment."""

    latest = None
    barrier = threading.Barrier(THREADS)

    def encode(self, value):
        KeepsState.latest = value
        if threading.current_thread() is not threading.main_thread():
            self.barrier.wait()
        return super().encode(self.latest)


class FailsInThreads(JsonCodec):
    def encode(self, value):
        if threading.current_thread() is not threading.main_thread():
            raise LookupError("no context in this thread")
        return super().encode(value)


class TrustsEverybody(PickleCodec):
    def __init__(self, *, trusted=True):
        super().__init__(trusted=True)


class AlwaysDoubles(JsonCodec):
    def decode_array(self, body, dtype="float64"):
        return super().decode_array(body, "float64")


class ListsForArrays(JsonCodec):
    def decode_array(self, body, dtype="float32"):
        return self.decode(body)


class FlatArrays(JsonCodec):
    def decode_array(self, body, dtype="float32"):
        return super().decode_array(body, dtype).ravel()


class WrongArrays(JsonCodec):
    def decode_array(self, body, dtype="float32"):
        return super().decode_array(body, dtype) + 1


class ArrayOfNothing(JsonCodec):
    def decode_array(self, body, dtype="float32"):
        return super().decode_array(body or b"[]", dtype)


def contract(codec, **attributes):
    return type("Contract", (CodecContract,), {"codec": codec, **attributes})()


FLOATS = (np.array([[0.5, 1.25, 2], [3, 4, 5]], np.float32),)
SOME = {"values": ([0.5], {"a": [1]}, ["b"], [None])}
EMPTY = {"malformed": (b"",)}
MEMBERS, TYPES = "test_it_has_the_members_of_a_codec", "test_its_media_types_are_essences"
SUFFIXES = "test_its_suffixes_are_endings"
MADE, BYTES = "test_it_is_made_without_options", "test_encode_returns_bytes"
TRUST, UNDERSTOOD = "test_it_trusts_nobody_unless_told", "test_documents_are_understood"
EQUAL, ALONE = "test_values_come_back_equal", "test_encode_leaves_the_value_alone"
TENSORS, SHARED = "test_decode_returns_no_tensor", "test_decoded_values_share_nothing"
MALFORMED, ANY = "test_malformed_bodies_raise_decode_error", "test_any_bytes_decode_or_raise_decode_error"
UNENCODABLE, THREAD = "test_unencodable_values_raise_encode_error", "test_threads_do_not_disturb_each_other"
DTYPE, REFUSED = "test_decode_array_returns_the_dtype_asked_for", "test_decode_array_raises_decode_error"


CASES = (
    (object(), {}, MEMBERS, "lacks a member"),
    (Nameless(), {}, MEMBERS, "plain lower-case word: ''"),
    (Shouting(), {}, MEMBERS, "plain lower-case word: 'JSON'"),
    (Spaced(), {}, MEMBERS, "plain lower-case word: 'my codec'"),
    (Numbered(), {}, MEMBERS, "the name must be text, not 7"),
    (BareType(), {}, TYPES, "must be a tuple, not 'application/json'"),
    (NoTypes(), {}, TYPES, "media_types is empty"),
    (TypeWithParameter(), {}, TYPES, "must be written 'application/json'"),
    (UpperCaseType(), {}, TYPES, "must be written 'application/json'"),
    (WildcardType(), {}, TYPES, "'application/*' is a range"),
    (NoType(), {}, TYPES, "'json' is not a media type"),
    (TypeTwice(), {}, TYPES, "names one twice"),
    (BareSuffix(), {}, SUFFIXES, "suffixes must be a tuple, not '.json'"),
    (NoSuffix(), {}, SUFFIXES, "'json' is not the ending of a file"),
    (EmptySuffix(), {}, SUFFIXES, "'' is not the ending of a file"),
    (UpperCaseSuffix(), {}, SUFFIXES, "'.JSON' is not the ending of a file"),
    (TwoSuffixes(), {}, SUFFIXES, "'.json.gz' is not the ending of a file"),
    (NeedsAnOption(indent=2), {}, MADE, "NeedsAnOption() must work without options"),
    (Renamable("other"), {}, MADE, "Renamable() is called 'json'"),
    (TrustsEverybody(trusted=True), SOME, TRUST, "TrustsEverybody() is trusted"),
    (JsonCodec(), {"values": ()}, BYTES, "values is empty: there would be nothing"),
    (JsonCodec(), {"can_encode": False}, TENSORS, "documents is empty: there would be nothing"),
    (WritesText(), SOME, BYTES, "encode must return bytes, not '[0.5]', for [0.5]"),
    (WritesMemory(), SOME, BYTES, "encode must return bytes, not bytearray"),
    (Rounds(), {"values": FLOATS}, EQUAL, "came back as array"),
    (Transposes(), {"values": FLOATS}, EQUAL, "came back as array"),
    (ReturnsNothing(), SOME, EQUAL, "[0.5] came back as None"),
    (ReturnsNothing(), {"values": FLOATS}, EQUAL, "came back as None"),
    (RefusesItsOwn(), SOME, EQUAL, "decode refuses what encode wrote for [0.5]: not today"),
    (JsonCodec(), {"documents": ((b'["1"]', ["2"]),)}, UNDERSTOOD, "['2'] came back as ['1']"),
    (JsonCodec(), {"documents": ((b"[1", [1]),)}, UNDERSTOOD, "refuses a document that says [1]:"),
    (Normalises(), {"values": FLOATS}, ALONE, "encode changed array"),
    (MakesTensors(), {"values": ({"tensor": [1]},)}, TENSORS, "must not return a tensor, as for {'tensor'"),
    (RemembersDocuments(), SOME, SHARED, "one mutable value twice, for [0.5]"),
    (SharesItsBuffer(), {"values": FLOATS}, SHARED, "one mutable value twice, for array"),
    (Lenient(), EMPTY, MALFORMED, "decode must raise DecodeError for b''"),
    (RaisesWhatItsParserRaises(), EMPTY, MALFORMED, "for b'', not JSONDecodeError"),
    (RaisesWhatItsParserRaises(), SOME, ANY, "for b'', not JSONDecodeError"),
    (Trusting(), {"values": FLOATS}, ANY, "not ValueError"),
    (WritesAnything(), SOME, UNENCODABLE, "and wrote b'null'"),
    (RaisesTypeError(), SOME, UNENCODABLE, "not TypeError('no')"),
    (
        JsonCodec(),
        {"unencodable": ("text",)},
        UNENCODABLE,
        "EncodeError for 'text', and wrote b'\"text\"'",
    ),
    (JsonCodec(), {"can_decode": False}, MALFORMED, "decode must raise DecodeError for b'1'"),
    (JsonCodec(), {"can_encode": False, "values": (1,)}, UNENCODABLE, "EncodeError for 1, and wrote b'1'"),
    (KeepsState(), SOME, THREAD, "4 threads at once, and the codec gave"),
    (FailsInThreads(), SOME, THREAD, "4 threads at once, and the codec raised LookupError"),
    (AlwaysDoubles(), {"values": FLOATS}, DTYPE, "returned float64, asked for float32"),
    (
        ListsForArrays(),
        {"values": FLOATS},
        DTYPE,
        "returned [[0.5, 1.25, 2.0], [3.0, 4.0, 5.0]], not an array",
    ),
    (FlatArrays(), {"values": FLOATS}, DTYPE, "decode_array: (6,) for (2, 3)"),
    (WrongArrays(), {"values": FLOATS}, DTYPE, "decode_array returned array"),
    (ArrayOfNothing(), EMPTY, REFUSED, "decode_array must raise DecodeError for b''"),
    (RaisesWhatItsParserRaises(), EMPTY, REFUSED, "for b'', not JSONDecodeError"),
    (RaisesWhatItsParserRaises(), SOME, REFUSED, "for b'', not JSONDecodeError"),
)


BROKEN_PROMISES = {test for _, _, test, _ in CASES}


@pytest.mark.parametrize(("codec", "attributes", "test", "message"), CASES)
def test_a_wrong_codec_is_caught(codec, attributes, test, message):
    assert message in breaks(getattr(contract(codec, **attributes), test))


@pytest.mark.parametrize("promise", sorted(promises(CodecContract)))
def test_one_wrong_codec_breaks_this_promise_alone(promise):
    wrong = [contract(codec, **attributes) for codec, attributes, test, _ in CASES if test == promise]
    assert {promise} in [failing(codec, {}) for codec in wrong]


class Reversing:
    """A third party's codec, of text, in its shortest form."""

    name = "reversed"
    media_types = ("text/x-reversed",)

    def encode(self, value):
        if not isinstance(value, str):
            raise EncodeError("not text")
        return value[::-1].encode()

    def decode(self, body):
        try:
            return body.decode()[::-1]
        except UnicodeDecodeError as error:
            raise DecodeError("not UTF-8") from error


class TestReversing(CodecContract):
    codec = Reversing()
    values = ("abc", "", "née")
    malformed = (b"\xff",)
    unencodable = (1, None)

    def test_it_is_no_array_codec(self):
        assert not isinstance(self.codec, ArrayCodec)
        with pytest.raises(pytest.skip.Exception, match="reversed is not an ArrayCodec"):
            self.test_decode_array_raises_decode_error()


def test_same_can_be_overridden():
    class Approximate(CodecContract):
        codec = JsonCodec()
        values = ((1, 2),)

        def same(self, value, decoded):
            return list(value) == decoded

    Approximate().test_values_come_back_equal()
    with pytest.raises(AssertionError, match=r"\(1, 2\) came back as \[1, 2\]"):
        contract(JsonCodec(), values=((1, 2),)).test_values_come_back_equal()


class OnlyReverses(Reversing):
    def decode(self, body):
        raise DecodeError("it is only written")


class TestOnlyReverses(CodecContract):
    codec = OnlyReverses()
    values = ("abc", "")
    unencodable = (1, None)
    can_decode = False


class OnlyReversed(Reversing):
    def encode(self, value):
        raise EncodeError("it is only read")


class TestOnlyReversed(CodecContract):
    codec = OnlyReversed()
    documents = ((b"cba", "abc"), (b"", ""))
    malformed = (b"\xff",)
    can_encode = False


@pytest.mark.parametrize(
    ("attributes", "test", "reason"),
    [
        ({}, UNDERSTOOD, "documents is empty: no other program's are known"),
        ({"can_encode": False}, BYTES, "json only decodes"),
        ({"can_decode": False}, EQUAL, "json only encodes"),
        ({"can_decode": False}, ANY, "json only encodes"),
    ],
)
def test_what_a_codec_need_not_do_is_skipped(attributes, test, reason):
    with pytest.raises(pytest.skip.Exception, match=reason):
        getattr(contract(JsonCodec(), **attributes), test)()
