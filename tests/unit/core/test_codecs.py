import pytest

from modelyard.core.codecs import CodecTable
from modelyard.core.errors import (
    NotAcceptableError,
    PluginError,
    ProviderConflictError,
    UnsupportedMediaTypeError,
)
from modelyard.core.registry import Provider, Registry


class JsonCodec:
    name = "json"
    media_types = ("application/json", "application/jsonlines")


class CsvCodec:
    name = "csv"
    media_types = ("text/csv",)


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
