import json
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelyard.core.errors import DecodeError, EncodeError, InferenceError, ModelyardError, UserCodeError
from modelyard.core.hookspecs import hookimpl
from modelyard.core.http import Request, Response
from modelyard.hardware.cpu import CpuHardware

ECHO = """
def model_fn(model_dir): return "the model"
def input_fn(body, content_type): return body, content_type
def predict_fn(data, model): return [repr(data[0]), data[1], model]
def output_fn(prediction, accept): return "|".join([*prediction, accept])
"""


def returning(expression):
    return f"""
import json
def model_fn(model_dir): return None
def input_fn(body, content_type): return body
def predict_fn(data, model): return data
def output_fn(prediction, accept): return {expression}
"""


def error(response):
    return response.status, json.loads(response.body)


# -- loading -----------------------------------------------------------------------------------


def test_the_model_folder_is_the_working_directory_and_what_model_fn_is_given(model, ask):
    source = """
    import os
    def model_fn(model_dir): return [model_dir, os.getcwd()]
    def transform_fn(model, body, content_type, accept): return model
    """
    assert json.loads(ask(source).body) == [str(model.path)] * 2


def test_a_relative_model_folder(model, build, monkeypatch):
    monkeypatch.chdir(model.path.parent)
    model.path = Path("model")
    handler = build(
        "def model_fn(d): return d\ndef transform_fn(model, body, content_type, accept): return model"
    )
    assert handler(Request(b"")).body == str(Path.cwd()).encode()


def test_an_archive_that_was_made_from_the_parent_is_unwrapped(model, ask):
    model.script(
        "def model_fn(d): return d\ndef transform_fn(m, b, c, a): return m", "my_model/code/inference.py"
    )
    assert ask(None).body == str(model.path / "my_model").encode()


def test_a_folder_that_holds_only_code_is_not_unwrapped(model, ask):
    assert (
        ask("def model_fn(d): return d\ndef transform_fn(m, b, c, a): return m").body
        == str(model.path).encode()
    )


def test_model_fn_may_ask_for_the_context(model, ask):
    source = """
    def model_fn(model_dir, context): return dict(context.system_properties)
    def transform_fn(model, body, content_type, accept): return model
    """
    properties = json.loads(ask(source).body)
    assert properties["model_dir"] == str(model.path)
    assert properties["gpu_id"] is None
    assert properties["batch_size"] == 1


def test_model_fn_runs_once(build):
    source = """
    calls = []
    def model_fn(model_dir): return calls.append(1)
    def transform_fn(model, body, content_type, accept): return str(len(calls))
    """
    handler = build(source)
    assert [handler(Request(b"")).body for _ in range(3)] == [b"1"] * 3


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "import no_such_module",
            r"ModuleNotFoundError: No module named 'no_such_module' \(inference.py, line 1, in <module>\)",
        ),
        ("x = 1\n\n1 / 0", r"ZeroDivisionError: division by zero \(inference.py, line 3, in <module>\)"),
        ("def f(:", r"SyntaxError: .*\(inference.py, line 1\)$"),
        ("import sys; sys.exit(2)", r"SystemExit: 2 \(inference.py, line 1, in <module>\)"),
        ("import json; json.loads('{')", r"JSONDecodeError: .* \(inference.py, line 1, in <module>\)"),
    ],
)
def test_a_script_that_cannot_be_imported_is_blamed_with_its_line(build, source, said):
    with pytest.raises(UserCodeError, match=rf"^the inference script raised {said}"):
        build(source)


def test_a_module_of_the_script_is_blamed_with_its_line(model, build):
    model.script("\n\nraise OSError('no')", "code/broken_sibling.py")
    with pytest.raises(UserCodeError, match=r"OSError: no \(broken_sibling.py, line 3, in <module>\)"):
        build("import broken_sibling")


def test_model_fn_is_blamed_with_its_line(build):
    with pytest.raises(
        UserCodeError, match=r"^model_fn raised KeyError: 'weights' \(inference.py, line 2, in model_fn\)$"
    ):
        build("def model_fn(model_dir):\n    return {}['weights']")


def test_a_folder_without_a_model_and_without_a_script(model, build):
    pytest.importorskip("torch", reason="the default model_fn is torch's")
    model.write("notes.txt")
    with pytest.raises(UserCodeError, match="must hold model.pt, or else exactly one"):
        build()


def test_plugins_are_told_of_the_model(model, build):
    told = []
    plugin = SimpleNamespace(
        modelyard_model_loaded=hookimpl(lambda model, model_dir: told.append((model, model_dir)))
    )
    build(ECHO, plugin)
    assert told == [("the model", model.path)]


# -- what the user's functions are given -------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/csv", "application/json; charset=utf-8", "Application/JSON"]
)
def test_json_and_csv_are_text(ask, content_type):
    assert (
        ask(ECHO, "ü".encode(), content_type).body.decode()
        == f"'ü'|{content_type}|the model|application/json"
    )


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-npy",
        "text/plain",
        "",
        "nonsense",
    ],
)
def test_everything_else_is_bytes(ask, content_type):
    assert ask(ECHO, b"\xff", content_type).body.decode().startswith(f"b'\\xff'|{content_type}|")


def test_text_that_is_not_utf8_is_a_400(ask):
    status, said = error(ask(ECHO, b"\xff"))
    assert (status, said["code"]) == (400, "malformed_body")
    assert said["error"].startswith("the body is not UTF-8")


@pytest.mark.parametrize("accept", ["", "*/*", " */* "])
def test_a_client_that_does_not_say_gets_the_default(ask, accept):
    response = ask(ECHO, accept=accept, default_accept="text/csv")
    assert response.body.endswith(b"|text/csv")
    assert response.content_type == "text/csv"


def test_output_fn_is_given_accept_as_it_came(ask):
    assert ask(ECHO, accept="text/csv;q=0.5, text/html").body.endswith(b"|text/csv;q=0.5, text/html")


def test_transform_fn_is_given_everything(ask):
    source = """
    def model_fn(model_dir): return "m"
    def transform_fn(model, body, content_type, accept, context):
        return [model, body, content_type, accept, context.get_request_id()]
    """
    response = ask(source, b"x", "text/csv", "application/json")
    assert json.loads(response.body) == ["m", "x", "text/csv", "application/json", "id-1"]


def test_default_arguments_are_the_users(ask):
    source = """
    def model_fn(model_dir): return None
    def input_fn(body, content_type="x", limit=5): return [body, limit]
    def predict_fn(data, model, threshold=0.5): return [*data, threshold]
    def output_fn(prediction, accept, precision=2): return [*prediction, precision]
    """
    assert json.loads(ask(source).body) == ["[1, 2]", 5, 0.5, 2]


# -- what the user's functions return ----------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "body"),
    [
        ("'ü'", "ü".encode()),
        ("b'\\xff'", b"\xff"),
        ("bytearray(b'ab')", b"ab"),
        ("memoryview(b'abcd')[::2]", b"ac"),
        ("''", b""),
        ("{'a': [1, None]}", b'{"a":[1,null]}'),
        ("[1, 2.5]", b"[1,2.5]"),
        ("None", b"null"),
        ("5", b"5"),
    ],
)
def test_what_output_fn_returns_is_the_body(ask, expression, body):
    response = ask(returning(expression))
    assert (response.status, response.content_type, response.body) == (200, "application/json", body)


@pytest.mark.parametrize(
    ("expression", "content_type"),
    [
        ("('x', 'text/html')", "text/html"),
        ("('x', accept)", "text/csv"),
        ("('x', None)", "text/csv"),
        ("('x', 'text/html', 'ignored')", "text/html"),
    ],
)
def test_a_tuple_is_a_body_and_its_type(ask, expression, content_type):
    response = ask(returning(expression), accept="text/csv")
    assert (response.body, response.content_type) == (b"x", content_type)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/csv", "text/csv"),
        ("text/csv;q=0.1, text/html", "text/html"),
        ("text/csv; charset=utf-8", "text/csv"),
        ("application/*", "application/json"),
        ("text/csv;q=0, */*", "application/json"),
        ("nonsense", "application/json"),
    ],
)
def test_a_body_without_a_type_is_taken_to_be_what_was_asked_for(ask, accept, content_type):
    assert ask(returning("'x'"), accept=accept).content_type == content_type


def test_a_tuple_that_is_no_answer_is_the_models_error(ask):
    assert error(ask(returning("('x',)")))[0] == 500


def test_the_context_sets_status_headers_and_type(ask):
    source = """
    def model_fn(model_dir): return None
    def transform_fn(model, body, content_type, accept, context):
        context.set_response_status(202, "Accepted!")
        context.set_response_header(0, "X-Seen", context.get_request_header(0, "X-Sent"))
        context.set_response_content_type(0, "text/html")
        assert context.get_response_status(0) == (202, "Accepted!")
        assert context.get_response_headers(0)["x-seen"] == "yes"
        assert context.get_response_content_type(0) == "text/html"
        return "done", "text/csv"
    """
    response = ask(source, headers={"x-sent": "yes"})
    assert (response.status, response.content_type, response.headers) == (202, "text/html", {"x-seen": "yes"})


def test_the_context_also_serves_the_default_output(ask):
    source = """
    def model_fn(model_dir): return None
    def input_fn(body, content_type): return body
    def predict_fn(data, model, context):
        context.set_response_header(0, "x-a", "b")
        return {"a": 1}
    """
    response = ask(source)
    assert (response.body, response.headers) == (b'{"a":1}', {"x-a": "b"})


def test_each_request_has_a_context_of_its_own(build):
    source = """
    import threading
    both = threading.Barrier(8, timeout=20)
    def model_fn(model_dir): return None
    def transform_fn(model, body, content_type, accept, context):
        context.system_properties["mine"] = body
        context.set_response_header(0, "x-mine", body)
        both.wait()
        mine = context.system_properties["mine"]
        return [context.get_request_id(), mine, context.get_request_header(0, "n")]
    """
    handler = build(source)

    def send(number):
        text = str(number)
        response = handler(Request(text.encode(), "text/csv", "", {"n": text}, text))
        return json.loads(response.body), response.headers

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(send, range(8))) == [([str(n)] * 3, {"x-mine": str(n)}) for n in range(8)]


def test_one_requests_context_leaves_nothing_to_the_next(build):
    source = """
    def model_fn(model_dir): return None
    def transform_fn(model, body, content_type, accept, context):
        seen = "mark" in context.system_properties
        context.system_properties["mark"] = 1
        context.set_response_status(201 if not seen else 500)
        return "x"
    """
    handler = build(source)
    assert [handler(Request(b"")).status for _ in range(2)] == [201, 201]


# -- errors ------------------------------------------------------------------------------------

DEFAULTS = """
def model_fn(model_dir): return None
def predict_fn(data, model): return {"a": 1}
"""
WITH_INPUT = DEFAULTS + "def input_fn(body, content_type): return body\n"


def test_an_accept_that_nobody_writes_is_a_406(ask):
    status, said = error(ask(WITH_INPUT, accept="image/png"))
    assert (status, said["code"], said["request_id"]) == (406, "not_acceptable", "id-1")
    assert "image/png" in said["error"]
    assert "application/json" in said["error"]


def test_a_prediction_that_does_not_fit_the_format_is_a_406(ask):
    status, said = error(ask(WITH_INPUT, accept="application/x-npy"))
    assert (status, said["code"]) == (406, "not_encodable")


@pytest.mark.parametrize("content_type", ["image/png", "", "nonsense", "application/json, text/csv"])
def test_a_content_type_that_nobody_reads_is_a_415(ask, content_type):
    status, said = error(ask(DEFAULTS, content_type=content_type))
    assert (status, said["code"]) == (415, "unsupported_media_type")
    assert "application/json" in said["error"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[[1], [1, 2]]", b'{"instances": [1]}', b'["a"]', b"\xff", b"[" * 100_000]
)
def test_a_malformed_body_is_a_400(ask, body):
    pytest.importorskip("torch", reason="the default input_fn makes tensors")
    status, said = error(ask(DEFAULTS, body))
    assert (status, said["code"]) == (400, "malformed_body")


@pytest.mark.parametrize("step", ["input_fn", "predict_fn", "output_fn", "transform_fn"])
@pytest.mark.parametrize(
    "raised", ["ValueError('secret in /some/path')", "SystemExit('secret in /some/path')"]
)
def test_what_the_user_raises_is_a_500_that_tells_nothing_and_a_log_that_tells_all(ask, caplog, step, raised):
    slots = "model, body, content_type, accept" if step == "transform_fn" else "a, b"
    source = f"def model_fn(model_dir): return None\ndef {step}({slots}):\n    raise {raised}\n"
    if step not in ("input_fn", "transform_fn"):
        source += "def input_fn(body, content_type): return body\n"
    if step in ("input_fn", "output_fn"):
        source += "def predict_fn(data, model): return data\n"
    with caplog.at_level(logging.ERROR, "modelyard"):
        response = ask(source, b"1")
    kind = raised.partition("(")[0]
    assert error(response) == (
        500,
        {
            "error": f"the model raised {kind}; the endpoint's log has the traceback",
            "code": "model_error",
            "request_id": "id-1",
        },
    )
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("request failed request_id='id-1'\nTraceback")
    assert f"line 3, in {step}" in message
    assert "secret in /some/path" in message


def test_the_user_may_refuse_a_body(ask):
    source = """
    from modelyard.core.errors import DecodeError
    def model_fn(model_dir): return None
    def transform_fn(model, body, content_type, accept): raise DecodeError("no instances")
    """
    assert error(ask(source)) == (
        400,
        {"error": "no instances", "code": "malformed_body", "request_id": "id-1"},
    )


def test_no_answer_to_a_client_error_names_a_path(model, ask):
    responses = [
        ask(DEFAULTS, b"{", "image/png"),
        ask(WITH_INPUT, accept="image/png"),
        ask(WITH_INPUT, b"\xff"),
    ]
    for response in responses:
        assert b"Traceback" not in response.body
        assert str(model.path.parent).encode() not in response.body


def test_the_hardware_is_told_of_what_fails_unless_the_client_is_to_blame(build, caplog):
    told = []

    class Told(CpuHardware):
        def recover(self, error):
            told.append(repr(error))
            return True

    source = """
    from modelyard.core.errors import InferenceError
    def model_fn(model_dir): return None
    def transform_fn(model, body, content_type, accept):
        raise InferenceError("no") if body == b"no" else ValueError("broken")
    """
    handler = build(source, hardware=Told())
    assert [handler(Request(body)).status for body in (b"no", b"yes")] == [422, 500]
    assert told == ["ValueError('broken')"]


# -- middleware --------------------------------------------------------------------------------


def middleware(wrap):
    return SimpleNamespace(modelyard_wrap_handler=hookimpl(lambda handler: wrap(handler)))


# -- what the model is told, and what it tells -------------------------------------------------


def test_what_is_before_and_after_model_fn(model, ask):
    source = """
    calls = []
    def pre_model_fn(model_dir): calls.append(("before", model_dir))
    def model_fn(model_dir): calls.append("load"); return "model"
    def model_warmup_fn(model_dir, model, context): calls.append(("after", model, context.get_request_id()))
    def transform_fn(model, body, content_type, accept): return calls
    """
    assert json.loads(ask(source).body) == [["before", str(model.path)], "load", ["after", "model", ""]]


@pytest.mark.parametrize("name", ["pre_model_fn", "model_warmup_fn"])
def test_what_is_around_model_fn_is_blamed_too(build, name):
    source = f"""
    def {name}(*a): raise OSError("no")
    def model_fn(model_dir): return 1
    def transform_fn(*a): return 1
    """
    with pytest.raises(UserCodeError, match=rf"^{name} raised OSError: no .inference.py, line 2"):
        build(source)


OWN_ERRORS = {
    "InferenceError('no such\\ncity')": (422, "refused", "no such city"),
    "InferenceError('gone', 410)": (410, "refused", "gone"),
    "Toolkit(418, 'teapot', 'phrase')": (418, "refused", "teapot"),
    "TorchServe('busy', 503)": (503, "model_error", "busy"),
    "Upstream()": (500, "model_error", "the model raised HTTPError"),
    "Odd('x', True)": (500, "model_error", "the model raised Odd"),
    "Odd('x', 200)": (500, "model_error", "the model raised Odd"),
    "MemoryError()": (507, "out_of_memory", "ran out of memory"),
    "RuntimeError('CUDA out of memory. Tried to allocate')": (507, "out_of_memory", "ran out of memory"),
    "RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED')": (507, "out_of_memory", "ran out of memory"),
}


@pytest.mark.parametrize("raised", OWN_ERRORS)
def test_the_users_own_errors_choose_their_status(ask, raised):
    source = f"""
    from modelyard.core.errors import InferenceError

    class Toolkit(Exception):
        def __init__(self, status_code, message, phrase):
            self.status_code, self.message, self.phrase = status_code, message, phrase

    class TorchServe(Exception):
        def __init__(self, message, error_code):
            self.message, self.error_code = message, error_code

    class Odd(Exception):
        def __init__(self, message, status_code):
            self.status_code = status_code

    def Upstream():
        # As the clients of other services raise them: what it says is not for ours.
        from urllib.error import HTTPError
        error = HTTPError("http://secret", 401, "key sk-1", None, None)
        error.status_code = 401
        return error

    def model_fn(model_dir): return None
    def transform_fn(model, body, content_type, accept): raise {raised}
    """
    status, code, said = OWN_ERRORS[raised]
    answer = ask(source)
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)
    assert said in json.loads(answer.body)["error"]


# -- functions that wait, and answers in pieces ------------------------------------------------


def test_async_functions_are_awaited(ask):
    source = """
    import asyncio
    async def model_fn(model_dir): await asyncio.sleep(0); return 2
    async def input_fn(body, content_type): return int(body)
    async def predict_fn(value, model): await asyncio.sleep(0); return value * model
    async def output_fn(prediction, accept, context):
        context.set_response_status(201)
        return str(prediction), "text/plain"
    """
    answer = ask(source, b"21")
    assert (answer.status, answer.body, answer.content_type) == (201, b"42", "text/plain")


def chunks(answer):
    assert answer.body == b""
    return list(answer.chunks)


STREAM = """
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept):
    yield "one"
    yield b"two"
    yield {"n": 3}
"""


def test_a_generator_is_sent_as_it_is_made(ask):
    answer = ask(STREAM, accept="text/plain")
    assert (answer.content_type, chunks(answer)) == ("text/plain", [b"one", b"two", b'{"n":3}'])


def test_a_generator_becomes_events_where_they_are_asked_for(ask):
    answer = ask(STREAM, accept="text/event-stream")
    assert answer.content_type == "text/event-stream"
    assert chunks(answer) == [b"data: one\n\n", b"two", b'data: {"n":3}\n\n']


def test_an_async_generator_is_sent_as_it_is_made(ask):
    source = STREAM.replace("def transform_fn", "async def transform_fn")
    assert chunks(ask(source, accept="text/plain")) == [b"one", b"two", b'{"n":3}']


def test_a_generator_with_its_content_type(ask):
    source = """
    def model_fn(model_dir): return None
    def output_fn(prediction, accept): return (word for word in ("a", "b\\nc")), "text/event-stream"
    def predict_fn(value, model): return value
    def input_fn(body, content_type): return body
    """
    assert chunks(ask(source)) == [b"data: a\n\n", b"data: b\ndata: c\n\n"]


@pytest.mark.parametrize(
    ("accept", "content_type", "pieces"),
    [
        ("", "application/jsonlines", [b"[1.0]\n", b'"two"\n']),
        ("application/json", "application/jsonlines", [b"[1.0]\n", b'"two"\n']),
        ("text/event-stream", "text/event-stream", [b"data: [1.0]\n\n", b'data: "two"\n\n']),
    ],
)
def test_what_predict_fn_yields_is_written_one_by_one(ask, accept, content_type, pieces):
    source = """
    def model_fn(model_dir): return None
    def input_fn(body, content_type): return body
    def predict_fn(value, model):
        yield [1.0]
        yield "two"
    """
    answer = ask(source, accept=accept)
    assert (answer.content_type, chunks(answer)) == (content_type, pieces)


def test_what_predict_fn_yields_is_not_written_as_anything_else(ask):
    source = """
    def model_fn(model_dir): return None
    def input_fn(body, content_type): return body
    def predict_fn(value, model): yield 1
    """
    answer = ask(source, accept="application/x-npy")
    assert (answer.status, json.loads(answer.body)["code"]) == (406, "not_acceptable")


def test_a_generator_that_fails_at_once_is_a_500(ask):
    answer = ask(STREAM.replace('yield "one"', "raise OSError"))
    assert (answer.status, answer.chunks) == (500, None)


def test_a_generator_without_anything(ask):
    answer = ask("def model_fn(d): return 1\ndef transform_fn(*a):\n    if False: yield 1")
    assert b"".join(chunks(answer)) == b""


# -- the toolkit's quirks ----------------------------------------------------------------------


def test_strict_keeps_the_type_that_the_script_names(ask):
    source = """
    def model_fn(model_dir): return None
    def transform_fn(model, body, content_type, accept): return b"png", "image/png"
    """
    assert ask(source, accept="application/json, image/png", strict="2.0.25").content_type == "image/png"


def test_strict_answers_with_the_accept_header_as_content_type(ask):
    source = """
    def model_fn(model_dir): return None
    def input_fn(body, content_type): return [1, 2]
    def predict_fn(value, model): return value
    """
    for strict, content_type in (("", "text/csv"), ("2.0.25", "text/csv, application/json")):
        answer = ask(source, accept="text/csv, application/json", strict=strict)
        assert (answer.content_type, answer.body) == (content_type, b"1\n2\n")


def test_middleware_sees_every_response_errors_included(build):
    seen = []

    def wrap(handler):
        def outer(request):
            response = handler(request)
            seen.append((request.request_id, response.status))
            response.headers = {**response.headers, "x-seen": "yes"}
            return response

        return outer

    handler = build(WITH_INPUT, middleware(wrap))
    responses = [handler(Request(b"1", "", accept, {}, accept)) for accept in ("", "image/png")]
    assert seen == [("", 200), ("image/png", 406)]
    assert [response.headers for response in responses] == [{"x-seen": "yes"}] * 2


def test_middleware_may_answer_by_itself(build):
    handler = build(
        WITH_INPUT, middleware(lambda handler: lambda request: Response(b"no", "text/plain", 403))
    )
    assert handler(Request(b"1")).status == 403


def test_middleware_that_raises_is_a_500(build, caplog):
    def wrap(handler):
        def outer(request):
            raise RuntimeError("secret")

        return outer

    with caplog.at_level(logging.ERROR, "modelyard"):
        response = build(WITH_INPUT, middleware(wrap))(Request(b"1", request_id="id-1"))
    said = "a plugin's middleware raised RuntimeError; the endpoint's log has the traceback"
    assert error(response) == (500, {"error": said, "code": "plugin_error", "request_id": "id-1"})
    assert "secret" in caplog.text


def test_middleware_that_is_not_available_is_not_the_model(build):
    def wrap(handler):
        def outer(request):
            raise InferenceError("no token to be had", 503)

        return outer

    status, said = error(build(WITH_INPUT, middleware(wrap))(Request(b"1")))
    assert (status, said["code"], said["error"]) == (503, "plugin_error", "no token to be had")


def test_middleware_may_refuse_with_an_error_of_ours(build):
    def wrap(handler):
        def outer(request):
            raise DecodeError("refused")

        return outer

    assert build(WITH_INPUT, middleware(wrap))(Request(b"1")).status == 400


def test_a_plugin_whose_hook_raises_is_left_out(build):
    def wrap(handler):
        raise RuntimeError("broken")

    assert build(WITH_INPUT, middleware(wrap))(Request(b"1")).status == 200


# -- codecs ------------------------------------------------------------------------------------


def codec(name, media_type):
    class Fake:
        media_types = (media_type,)

        def encode(self, value):
            return f"{name}: {value}".encode()

        def decode(self, body):
            return f"{name} read {len(body)}"

    Fake.name = name
    return SimpleNamespace(modelyard_register_codecs=hookimpl(lambda: [Fake]))


def test_a_codec_of_a_plugin_is_used(ask):
    response = ask(WITH_INPUT, accept="application/x-third", plugins=[codec("third", "application/x-third")])
    assert (response.body, response.content_type) == (b"third: {'a': 1}", "application/x-third")


def test_a_conflict_matters_only_for_its_own_type(build, caplog):
    handler = build(WITH_INPUT, codec("one", "application/x-same"), codec("two", "application/x-same"))
    assert handler(Request(b"1")).status == 200
    with caplog.at_level(logging.ERROR, "modelyard"):
        status, said = error(handler(Request(b"1", accept="application/x-same")))
    assert (status, said["code"]) == (500, "plugin_error")
    assert said["error"] == "a plugin that this takes cannot be used; the endpoint's log says why"
    assert "'application/x-same' (media_types of a codec) is provided by" in caplog.text
    assert handler(Request(b"1", accept="application/json, application/x-same")).status == 200


class Broken:
    """A codec that breaks its promise to raise errors of modelyard's alone."""

    name, media_types = "broken", ("application/x-broken",)
    raised: Exception = KeyError("secret")

    def encode(self, value):
        raise self.raised

    def decode(self, body):
        raise self.raised


WITHOUT_INPUT = "def model_fn(model_dir): return None\ndef predict_fn(value, model): return value\n"
BROKEN = "application/x-broken"


BY_CODEC = pytest.mark.parametrize(
    ("source", "content_type", "accept"),
    [(WITHOUT_INPUT, BROKEN, ""), (WITH_INPUT, "application/json", BROKEN)],
    ids=["reading", "writing"],
)


@BY_CODEC
def test_a_codec_that_fails_is_named_and_not_the_model(build, caplog, source, content_type, accept):
    plugin = SimpleNamespace(modelyard_register_codecs=hookimpl(lambda: [Broken]))
    handler = build(source, plugin)
    with caplog.at_level(logging.ERROR, "modelyard"):
        response = handler(Request(b"1", content_type, accept, request_id="id-1"))
    said = "the codec 'broken' raised KeyError; the endpoint's log has the traceback"
    assert error(response) == (500, {"error": said, "code": "plugin_error", "request_id": "id-1"})
    assert "KeyError: 'secret'" in caplog.text


RAISED_BY_CODECS = (
    (DecodeError("cut short"), 400, "cut short"),
    (EncodeError("too wide"), 406, "too wide"),
    (InferenceError("at most 10 rows", 413), 413, "at most 10 rows"),
    (MemoryError(), 507, "the codec 'broken' ran out of memory; send less at once"),
    (RuntimeError("CUDA out of memory"), 507, "the codec 'broken' ran out of memory; send less at once"),
)


@BY_CODEC
@pytest.mark.parametrize("case", RAISED_BY_CODECS, ids=lambda case: f"{case[0]!r}")
def test_what_a_codec_may_raise_is_answered_as_such(build, source, content_type, accept, case):
    raised, *expected = case
    codec = type("Raising", (Broken,), {"raised": raised})
    plugin = SimpleNamespace(modelyard_register_codecs=hookimpl(lambda: [codec]))
    status, said = error(build(source, plugin)(Request(b"1", content_type, accept)))
    assert [status, said["error"]] == expected


def test_the_default_accept_decides_what_any_type_is(ask):
    assert ask(WITH_INPUT.replace('{"a": 1}', "[1]"), accept="*/*", default_accept="text/csv").body == b"1\n"


WITHOUT_TORCH = """
import sys
from pathlib import Path
sys.modules["torch"] = None  # As if it were not installed: an import of it is an ImportError.
from modelyard.core.http import Request
from modelyard.core.manager import PluginManager
from modelyard.serving.model import folder as model_folder
from modelyard.serving.model.handler import build_handler
plugins = PluginManager.builtin()
folder = model_folder.find(Path(sys.argv[1]), None, Path("unused"))
handler = build_handler(folder, plugins, plugins.hardware.create("cpu"))
print(handler(Request(b"1")).body.decode())
"""


def test_a_model_that_is_not_torchs_needs_no_torch(model):
    model.script(WITH_INPUT)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(model.path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ('{"a":1}\n', "")


# -- torch -------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="tensors are torch's")


@pytest.mark.parametrize(
    ("content_type", "body", "dtype", "shape"),
    [
        ("application/json", b"[[1, 2], [3, 4]]", "torch.float32", [2, 2]),
        ("application/json", b"5", "torch.float32", []),
        ("application/json; charset=utf-8", b"[1, 2]", "torch.float32", [2]),
        ("APPLICATION/JSON", b"[true]", "torch.float32", [1]),
        ("text/csv", b"1,2,3\n", "torch.float32", [1, 3]),
    ],
)
def test_text_becomes_float32(torch, ask, content_type, body, dtype, shape):
    source = """
    def model_fn(model_dir): return None
    def predict_fn(data, model): return [str(data.dtype), list(data.shape)]
    """
    assert json.loads(ask(source, body, content_type).body) == [dtype, shape]


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int64", "uint8", "bool", ">f4", "complex64"]
)
@pytest.mark.parametrize("writing", ["C", "F"])
def test_an_array_keeps_its_dtype_both_ways(torch, ask, dtype, writing):
    import io

    import numpy as np

    array = np.asarray(np.arange(6).reshape(2, 3), dtype, order=writing)
    file = io.BytesIO()
    np.save(file, array)
    source = "def model_fn(d): return None\ndef predict_fn(data, model): return data.clone()"
    response = ask(source, file.getvalue(), "application/x-npy", "application/x-npy")
    assert response.status == 200, response.body
    found = np.load(io.BytesIO(response.body))
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert (found == array).all()


def test_bfloat16_is_written_as_float32(torch, ask):
    source = """
    import torch
    def model_fn(model_dir): return None
    def predict_fn(data, model): return {"a": [data.to(torch.bfloat16), (data.to(torch.bfloat16),)]}
    """
    assert json.loads(ask(source, b"[1, 2.5]").body) == {"a": [[1.0, 2.5], [[1.0, 2.5]]]}


@pytest.mark.parametrize(
    "expression",
    [
        "data.clone().requires_grad_()",
        "torch.nn.Parameter(data)",
        "data.to(torch.complex64).conj().real",
        "data[:2]",
    ],
)
def test_any_kind_of_tensor_is_written(torch, ask, expression):
    source = f"import torch\ndef model_fn(d): return None\ndef predict_fn(data, model): return {expression}"
    assert json.loads(ask(source, b"[1, 2]").body) == [1.0, 2.0]


@pytest.fixture
def scripted(torch):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = torch.nn.Dropout(0.5)

        def forward(self, x):
            return self.dropout(x) * 2

    return torch.jit.script(Net())


ignoring_deprecation = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@ignoring_deprecation
@pytest.mark.parametrize("name", ["model.pt", "net.pth", "net.pt"])
def test_the_default_model_fn_loads_torchscript_in_evaluation_mode(model, ask, scripted, name):
    scripted.save(str(model.path / name))
    response = ask(None, b"[[1, 2, 3]]")
    assert (response.body, response.content_type) == (b"[[2.0,4.0,6.0]]", "application/json")


@ignoring_deprecation
def test_of_many_files_model_pt_is_the_model(model, ask, scripted):
    scripted.save(str(model.path / "model.pt"))
    model.write("other.pth")
    assert ask(None, b"[1]").body == b"[2.0]"


def test_of_many_files_none_is_the_model(torch, model, build):
    model.write("a.pt")
    model.write("b.pth")
    with pytest.raises(UserCodeError, match=r"it holds a.pt, b.pth. Define model_fn"):
        build()


@ignoring_deprecation
@pytest.mark.parametrize("legacy", [False, True])
def test_weights_without_a_model_fn_are_an_error_with_advice(torch, model, build, legacy):
    weights = torch.nn.Linear(2, 2).state_dict()
    torch.save(weights, model.path / "model.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        UserCodeError, match=r"model.pth is not a TorchScript model, .* define model_fn\(model_dir\)"
    ):
        build()


@ignoring_deprecation
@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04"])
def test_a_file_that_is_no_model_is_an_error_with_advice(torch, model, build, content):
    (model.path / "model.pt").write_bytes(content)
    with pytest.raises(ModelyardError, match=r"model.pt is not a TorchScript model"):
        build()


def test_model_fn_and_otherwise_defaults(torch, model, ask):
    torch.save({"weight": torch.ones(1, 3), "bias": torch.zeros(1)}, model.path / "model.pth")
    source = """
    import torch
    def model_fn(model_dir):
        net = torch.nn.Linear(3, 1)
        net.load_state_dict(torch.load(model_dir + "/model.pth", weights_only=True))
        return net
    """
    assert ask(source, b"[[1, 2, 3]]").body == b"[[6.0]]"


def test_no_gradients_are_recorded(torch, ask):
    source = """
    import torch
    def model_fn(model_dir): return lambda x: [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
    """
    assert json.loads(ask(source, b"[1]").body) == [False, True]


def test_the_model_is_called_on_the_thread_that_calls_the_handler(torch, ask):
    source = "import threading\ndef model_fn(d): return lambda x: threading.get_ident()"
    assert json.loads(ask(source, b"[1]").body) == threading.get_ident()
