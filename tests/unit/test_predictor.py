"""Predictors: encode, invoke, decode."""

import io
import json

import numpy as np
import pytest

from modelyard.core.contracts import Invocation
from modelyard.core.errors import (
    EncodeError,
    EndpointNotFoundError,
    InvalidPlanError,
    InvocationError,
    UnknownProviderError,
    UnsupportedMediaTypeError,
)
from modelyard.core.plans import ProviderRef
from modelyard.deserializers import JSONDeserializer, StringDeserializer
from modelyard.predictor import Predictor
from modelyard.serializers import CSVSerializer, IdentitySerializer, JSONSerializer

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
    with pytest.raises(AttributeError, match="serialiser"):
        predictor(plugins).serialiser = object()


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
    assert subject.handle is handle
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


# -- serializers and deserializers --------------------------------------------------------------


def test_a_serializer_and_a_deserializer_say_what_is_sent_and_asked_for(plugins):
    handle = Echo(b"[1, 2]", JSON)
    subject = predictor(plugins, handle, serializer=CSVSerializer(), deserializer=JSONDeserializer())
    assert subject.predict([3, 4]) == [1, 2]
    assert handle.calls == [(b"3,4", CSV, JSON)]
    subject.serializer, subject.deserializer = JSONSerializer(), StringDeserializer(accept=("a/b", "c/d"))
    assert subject.predict([3, 4]) == "[1, 2]"
    assert handle.calls[-1] == (b"[3,4]", JSON, "a/b, c/d")


def test_what_was_set_wins_over_the_serializers(plugins):
    handle = Echo(b"[]", JSON)
    subject = predictor(plugins, handle, serializer=JSONSerializer(), deserializer=JSONDeserializer())
    subject.content_type, subject.accept = "application/x-mine", ("x/y", "x/z")
    subject.predict([])
    subject.predict([], content_type="a/b", accept="c/d")
    subject.content_type = subject.accept = None
    subject.predict([])
    assert [call[1:] for call in handle.calls] == [
        ("application/x-mine", "x/y, x/z"),
        ("a/b", "c/d"),
        (JSON, JSON),
    ]


def test_functions_will_do_as_with_v1(plugins):
    handle = Echo(b"abc", "text/plain")
    subject = predictor(plugins, handle)
    subject.serializer = lambda data: f"<{data}>"
    subject.deserializer = lambda stream, content_type: (stream.read(), content_type)
    assert subject.predict("x") == (b"abc", "text/plain")
    assert handle.calls == [(b"<x>", NPY, NPY)]


def test_a_function_of_v1_may_say_its_content_type(plugins):
    def serialize(data):
        return data

    serialize.content_type = CSV
    handle = Echo()
    subject = predictor(plugins, handle, serializer=serialize)
    subject.predict(b"1,2")
    assert handle.calls[0][:2] == (b"1,2", CSV)


def test_what_a_serializer_makes_must_be_sendable(plugins):
    with pytest.raises(EncodeError, match="the serializer made a list, where bytes or a text are sent"):
        predictor(plugins, serializer=IdentitySerializer()).predict([1])
    with pytest.raises(InvalidPlanError, match="7 is no serializer: it has no method 'serialize'"):
        predictor(plugins, serializer=7).predict([1])


def test_without_any_the_content_type_decides(plugins):
    subject = predictor(plugins, Echo())
    assert np.array_equal(np.load(io.BytesIO(subject.serializer.serialize([1]))), [1])
    assert subject.deserializer.ACCEPT == NPY
    subject.content_type = subject.accept = JSON
    assert subject.serializer.serialize([1]) == b"[1]"
    assert subject.deserializer.deserialize(io.BytesIO(b"[1]"), JSON) == [1]


# -- more parts of a request --------------------------------------------------------------------


class Versatile(Echo):
    """An endpoint that takes more with a request, and answers in pieces."""

    def invoke(self, body, *, content_type, accept, arguments=None):
        self.calls.append((body, content_type, accept, arguments))
        return Invocation(body, content_type)

    def invoke_stream(self, body, *, content_type, accept, arguments=None):
        self.calls.append((body, content_type, accept, arguments))
        yield from (b"piece", b"meal")


def test_the_parts_of_a_request(plugins):
    handle = Versatile()
    subject = predictor(plugins, handle, content_type=JSON)
    subject.predict([1])
    subject.predict([1], {"ContentType": "a/b", "Accept": "c/d", "Body": b"x", "EndpointName": "echo"})
    subject.predict([1], None, "model.tar.gz", "variant-2", "id-3", "attributes", "component")
    subject.predict([1], {"TargetVariant": "wins"}, target_variant="loses")
    assert handle.calls == [
        (b"[1]", JSON, NPY, None),
        (b"x", "a/b", "c/d", None),
        (
            b"[1]",
            JSON,
            NPY,
            {
                "TargetModel": "model.tar.gz",
                "TargetVariant": "variant-2",
                "InferenceId": "id-3",
                "CustomAttributes": "attributes",
                "InferenceComponentName": "component",
            },
        ),
        (b"[1]", JSON, NPY, {"TargetVariant": "wins"}),
    ]


def test_an_endpoint_that_takes_no_more_says_so(plugins):
    handle = Echo()
    with pytest.raises(
        InvalidPlanError, match="the endpoint 'echo' takes no TargetVariant: those on SageMaker"
    ):
        predictor(plugins, handle).predict([1], target_variant="a")
    with pytest.raises(InvalidPlanError, match="name another endpoint than 'echo'"):
        predictor(plugins, handle).predict([1], {"EndpointName": "other"})
    with pytest.raises(InvalidPlanError, match="the endpoint 'echo' is not asked for streams here"):
        predictor(plugins, handle).predict_stream([1])
    assert not handle.calls


def test_an_answer_in_pieces(plugins):
    handle = Versatile()
    subject = predictor(plugins, handle, content_type=JSON)
    assert list(subject.predict_stream([1])) == [b"piece", b"meal"]
    assert list(subject.predict_stream([1], target_variant="a")) == [b"piece", b"meal"]
    assert handle.calls == [(b"[1]", JSON, NPY, None), (b"[1]", JSON, NPY, {"TargetVariant": "a"})]


# -- as v1 and v2 have it -----------------------------------------------------------------------


def test_its_name_under_every_name(plugins):
    subject = predictor(plugins)
    assert subject.name == subject.endpoint == subject.endpoint_name == "echo"


def test_the_predictor_of_v1(plugins):
    handle = Echo()
    with pytest.warns(DeprecationWarning, match="since SDK v2"):
        from modelyard.predictor import RealTimePredictor
    with pytest.warns(DeprecationWarning, match="endpoint is called endpoint_name since SDK v2"):
        subject = RealTimePredictor(
            endpoint="echo", serializer=JSONSerializer(), content_type=JSON, handle=handle, plugins=plugins
        )
    assert subject.name == "echo"


def test_everything_of_an_endpoint_can_be_deleted(plugins):
    class WithModel(Echo):
        def delete_model(self):
            self.deleted += 10

    handle = WithModel()
    subject = predictor(plugins, handle)
    subject.delete_model()
    subject.delete_predictor()
    assert handle.deleted == 11
    predictor(plugins, Echo()).delete_model()
    with pytest.raises(InvalidPlanError, match="an endpoint is deleted with its configuration"):
        subject.delete_endpoint(delete_endpoint_config=False)


class Changeable(Echo):
    """An endpoint that notes how it is to change."""

    def update(self, *, wait, **variant):
        self.calls.append((wait, variant))


def test_an_endpoint_is_changed_by_what_is_said_alone(plugins):
    handle = Changeable()
    predictor(plugins, handle).update_endpoint(2, "ml.m5.xlarge")
    predictor(plugins, handle).update_endpoint(accelerator_type="ml.eia2.medium", model_name="m", wait=False)
    assert handle.calls == [
        (True, {"InitialInstanceCount": 2, "InstanceType": "ml.m5.xlarge"}),
        (False, {"AcceleratorType": "ml.eia2.medium", "ModelName": "m"}),
    ]


def test_an_endpoint_that_is_not_to_change_or_cannot(plugins):
    with pytest.raises(InvalidPlanError, match="say what is to change, instance_type='ml.m5.xlarge' say"):
        predictor(plugins, Changeable()).update_endpoint()
    with pytest.raises(InvalidPlanError, match="'echo' cannot be changed, .*: delete it, and deploy"):
        predictor(plugins).update_endpoint(initial_instance_count=2)
    with pytest.raises(TypeError, match="did you mean 'initial_instance_count'"):
        predictor(plugins).update_endpoint(inital_instance_count=2)
