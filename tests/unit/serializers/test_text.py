import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.serializers.octet_stream import OctetStreamCodec
from modelyard.serializers.text import TextCodec

TEXT, OCTETS = TextCodec(), OctetStreamCodec()


@given(st.text())
def test_text_comes_back(text):
    assert TEXT.decode(TEXT.encode(text)) == text
    assert TEXT.encode(text) == text.encode("utf-8")


def test_a_byte_order_mark_is_a_character():
    assert TEXT.decode(b"\xef\xbb\xbfa") == "\ufeffa"


@pytest.mark.parametrize("body", [b"\xff", b"a\xc3", "a".encode("utf-16"), b"\xed\xa0\x80", b"\xc0\x80"])
def test_text_that_is_not_utf_8(body):
    with pytest.raises(DecodeError, match="not UTF-8"):
        TEXT.decode(body)


@pytest.mark.parametrize("value", [None, 1, b"a", ["a"], np.array(["a"]), np.zeros(2), object()])
def test_only_strings_are_text(value):
    with pytest.raises(EncodeError, match=f"not for a {type(value).__name__}"):
        TEXT.encode(value)


def test_a_lone_surrogate_has_no_form():
    with pytest.raises(EncodeError, match="no form in UTF-8"):
        TEXT.encode("\ud800")


def test_numpys_strings_are_strings():
    assert TEXT.encode(np.str_("é")) == "é".encode()


@given(st.binary())
def test_bytes_come_back(data):
    for value in (data, bytearray(data), memoryview(data)):
        document = OCTETS.encode(value)
        assert type(document) is bytes
        assert OCTETS.decode(document) == data


@pytest.mark.parametrize("value", [None, 1, "a", [1], np.zeros(2), np.bytes_, object()])
def test_only_bytes_are_octets(value):
    with pytest.raises(EncodeError, match=f"not for a {type(value).__name__}"):
        OCTETS.encode(value)
