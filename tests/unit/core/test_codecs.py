import attrs
import pytest

from modelyard.core.codecs import CodecTable
from modelyard.core.errors import (
    DecodeError,
    InvalidPlanError,
    NotAcceptableError,
    PluginError,
    ProviderConflictError,
    UnknownProviderError,
    UnsupportedMediaTypeError,
)
from modelyard.core.registry import Provider, Registry


class JsonCodec:
    name = "json"
    media_types = ("application/json", "application/jsonlines")


class CsvCodec:
    name = "csv"
    media_types = ("text/csv",)


@attrs.frozen
class OptionCodec:
    name = "optional"
    media_types = ("application/x-optional",)
    strict: str = attrs.field(default="", validator=attrs.validators.in_(("", "1")))
    limit: int = 5


@attrs.frozen
class CodeCodec:
    name = "code"
    media_types = ("application/x-code",)
    trusted: bool = False


class TableCodec:
    name = "table"
    media_types = ("application/x-table",)

    def decode_array(self, body, dtype="float32"):
        return body


class RivalCodec:
    name = "rival"
    media_types = ("text/csv",)


def table(*classes, **options):
    providers = tuple(Provider("codec", cls, f"plugin-{i}") for i, cls in enumerate(classes))
    return CodecTable.of(Registry("codec", providers), **options)


@pytest.fixture
def codecs():
    return table(JsonCodec, CsvCodec)


def test_a_codec_is_found_by_content_type(codecs):
    assert isinstance(codecs.reading("Text/CSV; charset=utf-8"), CsvCodec)


@pytest.mark.parametrize("content_type", ["image/png", "nonsense", "*/*"])
def test_another_content_type_is_an_error_that_says_what_there_is(codecs, content_type):
    with pytest.raises(UnsupportedMediaTypeError) as caught:
        codecs.reading(content_type)
    assert str(caught.value) == (
        f"{content_type!r} is not supported; supported: application/json, application/jsonlines, text/csv"
    )


def test_a_content_type_is_needed(codecs):
    with pytest.raises(
        UnsupportedMediaTypeError, match="Content-Type is missing; supported: application/json"
    ):
        codecs.reading(" ")


def test_a_codec_is_chosen_by_accept(codecs):
    media_type, codec = codecs.writing("text/*, application/json;q=0.1")
    assert (media_type, type(codec)) == ("text/csv", CsvCodec)
    with pytest.raises(
        NotAcceptableError, match="cannot answer with 'image/png'; possible: application/json"
    ):
        codecs.writing("image/png")


def test_the_default_comes_first_for_who_takes_any():
    assert table(JsonCodec, CsvCodec, default_accept="text/csv").writing("*/*")[0] == "text/csv"


def test_a_conflict_matters_only_for_its_media_type():
    codecs = table(JsonCodec, CsvCodec, RivalCodec)
    assert isinstance(codecs.reading("application/json"), JsonCodec)
    with pytest.raises(ProviderConflictError, match="plugin-1.*plugin-2"):
        codecs.reading("text/csv")
    with pytest.raises(ProviderConflictError):
        codecs.writing("text/csv")


def test_a_codec_that_cannot_be_made_matters_only_for_its_media_type():
    class NeedyCodec:
        name = "needy"
        media_types = ("application/x-needy",)

        def __init__(self):
            raise ModuleNotFoundError("No module named 'needed'")

    codecs = table(CsvCodec, NeedyCodec)
    assert isinstance(codecs.reading("text/csv"), CsvCodec)
    with pytest.raises(
        PluginError, match="application/x-needy cannot be made: ModuleNotFoundError.*'needed'"
    ):
        codecs.reading("application/x-needy")


def test_an_error_that_is_raised_again_does_not_grow():
    codecs = table(CsvCodec, RivalCodec)
    depths = set()
    for _ in range(3):
        with pytest.raises(ProviderConflictError) as caught:
            codecs.reading("text/csv")
        depths.add(len(caught.traceback))
    assert len(depths) == 1


def test_a_header_of_a_megabyte_makes_a_short_error(codecs):
    long = "text/" + "x" * 1_000_000
    for ask, kind in ((codecs.reading, UnsupportedMediaTypeError), (codecs.writing, NotAcceptableError)):
        with pytest.raises(kind) as caught:
            ask(long)
        assert "text/xxx" in str(caught.value)
        assert len(str(caught.value)) < 300


# -- options -----------------------------------------------------------------------------------


def test_strict_is_for_the_codecs_that_have_it():
    codecs = table(OptionCodec, CsvCodec, strict="1")
    assert codecs.reading("application/x-optional").strict == "1"
    assert isinstance(codecs.reading("text/csv"), CsvCodec)
    assert not table(OptionCodec).reading("application/x-optional").strict


def test_options_are_by_the_codecs_names():
    made = table(OptionCodec, strict="1", options={"optional": {"limit": 7}})
    assert made.reading("application/x-optional") == OptionCodec("1", 7)
    own = table(OptionCodec, strict="1", options={"optional": {"strict": ""}})
    assert own.reading("application/x-optional") == OptionCodec("", 5)


def test_options_that_nothing_takes_are_errors():
    with pytest.raises(UnknownProviderError, match="optionl.*did you mean 'optional'"):
        table(OptionCodec, options={"optionl": {}})
    with pytest.raises(InvalidPlanError, match="no option 'limt'; did you mean 'limit'"):
        table(OptionCodec, options={"optional": {"limt": 7}})


def test_a_codec_that_fails_by_itself_matters_only_for_its_media_type():
    class Failing:
        name = "failing"
        media_types = ("application/x-failing",)

        def __init__(self, strict=""):
            raise InvalidPlanError("no plan")

    codecs = table(CsvCodec, Failing)
    assert isinstance(codecs.reading("text/csv"), CsvCodec)
    with pytest.raises(InvalidPlanError, match="no plan"):
        codecs.reading("application/x-failing")
    with pytest.raises(InvalidPlanError, match="no plan"):
        table(CsvCodec, Failing, strict="1")


# -- trust -------------------------------------------------------------------------------------


def test_a_codec_that_may_run_code_is_there_only_if_trusted():
    codecs = table(CodeCodec, CsvCodec, default_accept="application/x-code")
    with pytest.raises(UnsupportedMediaTypeError, match="supported: text/csv$"):
        codecs.reading("application/x-code")
    with pytest.raises(NotAcceptableError, match="possible: text/csv$"):
        codecs.writing("application/x-code")
    assert codecs.writing("application/*, text/*;q=0.1")[0] == "text/csv"
    assert [type(codec) for codec in codecs.usable()] == [CsvCodec]
    trusting = table(CodeCodec, CsvCodec, options={"code": {"trusted": True}})
    assert trusting.reading("application/x-code") == CodeCodec(trusted=True)
    assert trusting.writing("application/x-code") == ("application/x-code", CodeCodec(trusted=True))


# -- charsets ----------------------------------------------------------------------------------

TEXT = "é,1\n"


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "utf8", '"utf-8"', "U8", "UTF_8"])
def test_utf_8_is_left_as_it_is(codecs, charset):
    for body in (TEXT.encode(), b"\xff not checked"):
        assert codecs.utf8(f"text/csv; charset={charset}", body) is body


@pytest.mark.parametrize(
    "content_type", ["text/csv", "text/csv;", "text/csv; header=present", "nonsense; a", ""]
)
def test_a_body_without_a_charset_is_left_as_it_is(codecs, content_type):
    body = TEXT.encode("latin-1")
    assert codecs.utf8(content_type, body) is body


@pytest.mark.parametrize(
    "charset",
    [
        "latin-1",
        "ISO-8859-1",
        "iso8859_15",
        "windows-1252",
        "utf-16",
        "UTF-16LE",
        "utf-32",
        "cp500",
        "utf-8-sig",
    ],
)
@pytest.mark.parametrize("media_type", ["text/csv", "Text/Plain", "text/x-anything", "application/x-table"])
def test_text_in_another_charset_becomes_utf_8(media_type, charset):
    codecs = table(CsvCodec, TableCodec)
    assert codecs.utf8(f"{media_type}; Charset={charset}", TEXT.encode(charset)) == TEXT.encode()


def test_a_charset_means_nothing_where_there_is_no_text(codecs):
    body = b"\xff\x00"
    for media_type in ("application/x-npy", "image/png", "application/json"):  # which here is no ArrayCodec
        assert codecs.utf8(f"{media_type}; charset=utf-16", body) is body
        assert codecs.utf8(f"{media_type}; charset=nonsense", body) is body


def test_bytes_that_are_not_of_their_charset(codecs):
    for charset, body in (("us-ascii", "é".encode()), ("utf-16", b"\x00"), ("utf-7", b"+2AA-")):
        with pytest.raises(DecodeError, match="the body is not "):
            codecs.utf8(f"text/csv; charset={charset}", body)


def test_a_charset_that_is_not_known(codecs):
    with pytest.raises(UnsupportedMediaTypeError, match="the charset 'klingon' is not known; send UTF-8"):
        codecs.utf8("text/csv; charset=klingon", b"")
