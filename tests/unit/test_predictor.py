"""Predictors: encode, invoke, decode."""

import json

import numpy as np
import pytest

from modelyard.core.contracts import Invocation
from modelyard.core.errors import (
    EncodeError,
    EndpointNotFoundError,
    InvocationError,
    UnknownProviderError,
    UnsupportedMediaTypeError,
)
from modelyard.core.plans import ProviderRef
from modelyard.predictor import Predictor

NPY, JSON, CSV = "application/x-npy", "application/json", "text/csv"


class Echo:
    """An endpoint that answers what it was sent, or what it is told to."""

    name = "echo"

    def __init__(self, body=None, content_type=None):
        self.answer = body, content_type
        self.calls = []
        self.deleted = 0

    def invoke(self, body, *, content_type, accept):
        self.calls.append((body, content_type, accept))
        answer, answer_type = self.answer
        return Invocation(body if answer is None else answer, answer_type or content_type)

    def delete(self):
        self.deleted += 1


def predictor(plugins, handle=None, **options):
    return Predictor("echo", handle=handle or Echo(), plugins=plugins, **options)


def test_an_array_goes_out_and_comes_back_as_npy(plugins):
    handle = Echo()
    array = np.array([[1.5, 2.5]], np.float32)
    answer = predictor(plugins, handle).predict(array)
    assert isinstance(answer, np.ndarray)
    assert answer.dtype == np.float32
    assert np.array_equal(answer, array)
    body, content_type, accept = handle.calls[0]
    assert body.startswith(b"\x93NUMPY")
    assert (content_type, accept) == (NPY, NPY)


def test_a_call_says_otherwise(plugins):
    handle = Echo()
    answer = predictor(plugins, handle).predict({"a": [1, 2]}, content_type=JSON, accept=CSV)
    assert answer == {"a": [1, 2]}
    body, content_type, accept = handle.calls[0]
    assert json.loads(body) == {"a": [1, 2]}
    assert (content_type, accept) == (JSON, CSV)


def test_the_defaults_can_be_given_and_set(plugins):
    handle = Echo()
    subject = predictor(plugins, handle, content_type=JSON, accept=JSON)
    subject.predict([1])
    subject.content_type, subject.accept = CSV, NPY
    subject.predict([1])
    assert [call[1:] for call in handle.calls] == [(JSON, JSON), (CSV, NPY)]


def test_the_answer_is_read_by_what_it_says_it_is(plugins):
    answer = predictor(plugins, Echo(b'{"label": 7}', "application/json; charset=utf-8")).predict(np.zeros(1))
    assert answer == {"label": 7}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_sent_as_they_are(plugins, kind):
    handle = Echo(b"[]", JSON)
    predictor(plugins, handle).predict(kind(b"\x00raw"), content_type="image/png")
    assert handle.calls[0][:2] == (b"\x00raw", "image/png")
    assert type(handle.calls[0][0]) is bytes


def test_data_that_the_format_cannot_hold(plugins):
    handle = Echo()
    with pytest.raises(EncodeError, match="cannot send the data as application/json: "):
        predictor(plugins, handle).predict({"a": object()}, content_type=JSON)
    assert not handle.calls


def test_a_content_type_that_nobody_writes(plugins):
    with pytest.raises(UnsupportedMediaTypeError, match="image/png.*supported: .*application/json"):
        predictor(plugins).predict([1], content_type="image/png")


def test_an_answer_that_nobody_reads(plugins):
    assert predictor(plugins, Echo(b"png", "image/png")).predict([1], content_type=JSON) == b"png"


def test_a_setting_of_another_name_is_an_error(plugins):
    with pytest.raises(AttributeError, match="serializer"):
        predictor(plugins).serializer = object()


def test_a_text_is_a_document_already(plugins):
    handle = Echo()
    predictor(plugins, handle).predict("1,2\n3,4", content_type="text/csv")
    predictor(plugins, handle).predict("1,2", content_type=JSON)
    assert [call[0] for call in handle.calls] == [b"1,2\n3,4", b'"1,2"']


def test_the_endpoints_error_is_passed_on(plugins):
    class Failing(Echo):
        def invoke(self, body, *, content_type, accept):
            raise InvocationError(self.name, 400, "the body is empty")

    with pytest.raises(InvocationError, match="answered 400: the body is empty"):
        predictor(plugins, Failing()).predict(b"")


def test_the_endpoint_is_deleted_on_request(plugins):
    handle = Echo()
    subject = predictor(plugins, handle)
    assert subject.endpoint is handle
    subject.delete_endpoint()
    assert handle.deleted == 1


def test_as_a_context_manager_it_deletes_the_endpoint(plugins):
    handle = Echo()
    with predictor(plugins, handle) as subject:
        assert subject.predict([1], content_type=JSON) == [1]
        assert handle.deleted == 0
    assert handle.deleted == 1


def test_the_endpoint_is_deleted_after_an_error_too(plugins):
    handle = Echo()
    with pytest.raises(ZeroDivisionError), predictor(plugins, handle):
        raise ZeroDivisionError
    assert handle.deleted == 1


def test_an_endpoint_is_found_by_its_name(plugins, modelyard_home):
    with pytest.raises(EndpointNotFoundError, match="no live endpoint is called 'echo'"):
        Predictor("echo", plugins=plugins)
    elsewhere = ProviderRef("local", {"home": str(modelyard_home.parent / "elsewhere")})
    with pytest.raises(EndpointNotFoundError, match="in /.*/elsewhere"):
        Predictor("echo", backend=elsewhere, plugins=plugins)
    assert not modelyard_home.exists()


def test_a_backend_that_is_not_there(plugins):
    with pytest.raises(UnknownProviderError, match="no backend is called 'locl'; did you mean 'local'"):
        Predictor("echo", backend="locl", plugins=plugins)


def test_typos_are_errors(plugins):
    with pytest.raises(TypeError, match="Predictor.. has no keyword 'acept'; did you mean 'accept'"):
        Predictor("echo", acept=JSON)
    with pytest.raises(TypeError, match="has no keyword 'content_typ'; did you mean 'content_type'"):
        predictor(plugins).predict([1], content_typ=JSON)


def test_its_name_is_shown(plugins):
    assert repr(predictor(plugins)) == "Predictor('echo')"
