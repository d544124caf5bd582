import subprocess
import sys

import pytest

from modelyard.core.codecs import CodecTable
from modelyard.core.errors import InvalidPlanError, NotAcceptableError, UnsupportedMediaTypeError
from modelyard.core.manager import PluginManager
from modelyard.serializers.csv import CsvCodec
from modelyard.serializers.npy import NpyCodec
from modelyard.serializers.pickle import PickleCodec


def test_the_codecs_are_found_by_name_and_media_type():
    registry = PluginManager.builtin().codecs
    assert set(registry.names()) == {
        "csv",
        "json",
        "jsonlines",
        "npy",
        "npz",
        "octet-stream",
        "pickle",
        "text",
        "torch",
    }
    codecs = CodecTable.of(registry)
    assert isinstance(codecs.reading("text/csv; charset=utf-8"), CsvCodec)
    media_type, codec = codecs.writing("application/x-npy, */*;q=0.1")
    assert media_type == "application/x-npy"
    assert isinstance(codec, NpyCodec)


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/*", "text/csv"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("application/python-pickle, */*;q=0.1", "application/json"),
        ("Application/X-NPZ;q=0.5, image/png", "application/x-npz"),
    ],
)
def test_what_a_client_gets_that_does_not_mind(accept, answered):
    codecs = CodecTable.of(PluginManager.builtin().codecs, default_accept="application/json")
    assert codecs.writing(accept)[0] == answered


def test_no_client_can_choose_pickles():
    registry = PluginManager.builtin().codecs
    codecs = CodecTable.of(registry, default_accept="application/python-pickle")
    for content_type in ("application/python-pickle", "Application/Python-Pickle; trusted=True"):
        with pytest.raises(UnsupportedMediaTypeError, match="not supported"):
            codecs.reading(content_type)
    with pytest.raises(NotAcceptableError):
        codecs.writing("application/python-pickle")
    assert not any(isinstance(codec, PickleCodec) for codec in codecs.usable())
    trusting = CodecTable.of(registry, options={"pickle": {"trusted": True}})
    assert trusting.reading("application/python-pickle") == PickleCodec(trusted=True)


def test_strict_reaches_the_codecs_that_know_it():
    codecs = CodecTable.of(PluginManager.builtin().codecs, strict="2.0.25")
    strict = {name for name, codec in codecs.by_type.items() if getattr(codec, "strict", "") == "2.0.25"}
    assert {"application/json", "application/x-npy", "application/jsonlines", "text/csv"} <= strict
    assert not strict & {"text/plain", "application/x-npz"}
    with pytest.raises(InvalidPlanError, match=r"2\.0\.25"):
        CodecTable.of(PluginManager.builtin().codecs, strict="2.0")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv; charset=utf-16", "1,2".encode("utf-16")),
        ("application/json; charset=utf-16-le", "[[1,2]]".encode("utf-16-le")),
        ("Application/JSON;Charset=ISO-8859-1", b"[[1,2]]"),
        ("application/x-ndjson; charset=utf-32", "[1,2]".encode("utf-32")),
    ],
)
def test_numbers_in_another_charset(content_type, body):
    codecs = CodecTable.of(PluginManager.builtin().codecs)
    codec = codecs.reading(content_type)
    assert codec.decode_array(codecs.utf8(content_type, body)).tolist() == [[1, 2]]


def test_loading_the_plugin_does_not_import_numpy():
    program = "import sys, modelyard.serializers.plugin; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_codecs_do_without_torch():
    """Where it is not installed, every codec can be made, and all but one can be used."""
    program = """
import sys
sys.modules["torch"] = None
from modelyard.core.codecs import CodecTable
from modelyard.core.manager import PluginManager
codecs = CodecTable.of(PluginManager.builtin().codecs, options={"pickle": {"trusted": True}})
for name, codec in codecs.by_type.items():
    value = {"text/plain": "a", "application/octet-stream": b"a"}.get(name, [[1.5]])
    try:
        codec.decode(codec.encode(value))
    except Exception as error:
        assert name == "application/x-torch" and "modelyard[torch]" in str(error), (name, error)
assert len(codecs.by_type) == 12, sorted(codecs.by_type)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
