"""The page of an endpoint in a real browser: what a person sees who tries the model."""

import asyncio
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from modelyard.serving.pages.openapi import EndpointFacts, document
from modelyard.serving.pages.page import page as docs_page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

expect = sync_api.expect
expect.set_options(timeout=30_000)

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FACTS = EndpointFacts(
    name="digits",
    version="1.0",
    reads=["application/json", "text/csv", "application/x-npy", "application/jsonlines", "application/x-npz"],
    writes=["application/json", "text/csv", "application/x-npy", "application/octet-stream"],
    max_body=10_000,
)
DOUBLE = """
def model_fn(model_dir): return 2
def input_fn(body, content_type):
    import io, numpy
    from modelyard.core.errors import UnsupportedMediaTypeError
    if content_type != "application/x-npy":
        raise UnsupportedMediaTypeError(content_type)
    return numpy.load(io.BytesIO(body))
def predict_fn(data, model): return data * model
"""

pytestmark = pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"there is no {CHROMIUM}")


class Endpoint:
    """An endpoint of these tests: it answers what it was told, and keeps what it was asked."""

    def __init__(self):
        self.ready = True
        self.asked = []
        self.answer = (200, "application/json", [b"[]"])
        self.going_on = asyncio.Event()

    async def __call__(self, scope, receive, send):
        path, headers = scope["path"], dict(scope["headers"])
        if path == "/docs":
            said = docs_page()
            own = [(key.encode(), value.encode()) for key, value in said.headers.items()]
            await self._send(send, 200, said.content_type, [said.body], own)
        elif path == "/openapi.json" and self.ready:
            await self._send(send, 200, "application/json", [json.dumps(document(FACTS)).encode()])
        elif path == "/ping" and self.ready:
            await self._send(send, 200, "text/plain", [b""])
        elif path == "/invocations":
            self.asked.append((headers, await self._body(receive)))
            await self._send(send, *self.answer)
        else:
            error = {"error": "the model is being loaded", "code": "not_ready", "request_id": "r-1"}
            await self._send(send, 503, "application/json", [json.dumps(error).encode()])

    async def _body(self, receive):
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body")
        return b"".join(parts)

    async def _send(self, send, status, content_type, parts, headers=()):
        raw = [(b"content-type", content_type.encode()), (b"x-request-id", b"r-1"), *headers]
        if len(parts) == 1:
            raw.append((b"content-length", b"%d" % len(parts[0])))
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for part in parts:
            if part is None:  # until the test says so
                await self.going_on.wait()
            else:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def go_on(self):
        self.loop.call_soon_threadsafe(self.going_on.set)


@pytest.fixture
def endpoint():
    application = Endpoint()
    config = uvicorn.Config(application, log_config=None, lifespan="off", loop="asyncio")
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    application.url = f"http://127.0.0.1:{listening.getsockname()[1]}/docs"

    async def serve():
        application.loop = asyncio.get_running_loop()
        await server.serve(sockets=[listening])

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    yield application
    application.go_on()
    server.should_exit = server.force_exit = True
    thread.join(20)
    listening.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(CHROMIUM), headless=True, args=list(FLAGS), chromium_sandbox=False
        )
        yield started
        started.close()


@pytest.fixture
def shown(browser, endpoint):
    """The page as it is once it has read what the endpoint says; it must break none of its own rules."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    complaints, foreign = [], []
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    origin = endpoint.url.removesuffix("/docs")
    tab.on(
        "request", lambda request: foreign.append(request.url) if is_foreign(request.url, origin) else None
    )
    tab.goto(endpoint.url)
    expect(tab.locator("#name")).to_have_text("digits")
    yield tab
    context.close()
    # The browser itself logs an answer that is an error.
    assert not [text for text in complaints if "Failed to load resource" not in text]
    assert not foreign


def is_foreign(url, origin):
    return not url.startswith((origin, "data:", "blob:"))


def send(shown, endpoint, status=200, content_type="application/json", *parts):
    endpoint.answer = (status, content_type, list(parts))
    shown.get_by_role("button", name="Send").click()
    return shown.locator("#panel")


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture
def server(tmp_path):
    """The program itself, with a model that doubles; its page's address."""
    script = tmp_path / "model" / "code" / "inference.py"
    script.parent.mkdir(parents=True)
    script.write_text(DOUBLE)
    environ = {"SAGEMAKER_BASE_DIR": str(tmp_path), "SAGEMAKER_BIND_TO_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "modelyard.serving"],
        env={**os.environ, **environ, "MODELYARD_SERVE_WORKERS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    said = [next(line for line in process.stderr if word in line) for word in ("listening", "worker ready")]
    yield f"http://127.0.0.1:{re.search(r'port=([0-9]+)', said[0])[1]}/docs"
    process.terminate()
    process.communicate(timeout=40)


def test_the_page_of_a_real_server(browser, server):
    tab = browser.new_page()
    complaints = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(server)
    expect(tab.locator("#ready")).to_have_text("Ready")
    tab.locator("#content-type").select_option("application/x-npy")
    tab.locator("#accept").select_option("text/csv")
    tab.locator("#body").fill("[[1, 2.5], [3, -4]]")
    tab.get_by_role("button", name="Send").click()
    expect(tab.locator("#said")).to_have_text("200 OK")
    expect(tab.locator("#panel td")).to_have_text(["2.0", "5.0", "6.0", "-8.0"])  # Its body comes later.
    tab.locator("#content-type").select_option("other…")
    tab.locator("#content-type-other").fill("a/b")
    tab.get_by_role("button", name="Send").click()
    expect(tab.locator("#said")).to_have_text("415 Unsupported Media Type")
    expect(tab.locator("#wrong")).to_contain_text("unsupported_media_type in request")
    tab.close()
    assert not [text for text in complaints if "Failed to load resource" not in text]


# -- the request -------------------------------------------------------------------------------


def test_the_first_thing_that_is_sent_is_the_example(shown, endpoint):
    expect(shown.locator("#ready")).to_have_text("Ready")
    expect(shown.locator("#content-type option")).to_have_text([*FACTS.reads, "other…"])
    panel = send(shown, endpoint, 200, "application/json", b'{"a": 12345678901234567890.10, "b": [1,2]}')
    # As the number was written, which JavaScript's own would not be.
    expect(panel).to_have_text('{"a": 12345678901234567890.10, "b": [1, 2]}')
    expect(shown.locator("#said")).to_have_text("200 OK")
    headers, body = endpoint.asked[0]
    assert json.loads(body) == [[0.1, 0.2, 0.3, 0.4]]
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"accept"] == b"application/json"


def test_what_is_typed_is_what_is_sent(shown, endpoint):
    shown.locator("#content-type").select_option("text/csv")
    shown.locator("#accept").select_option("other…")
    shown.locator("#accept-other").fill("application/*;q=0.5")
    shown.locator("#body").fill("1,2\n'é'\n")
    shown.get_by_text("SageMaker's headers").click()
    shown.get_by_label("Custom attributes").fill("trace=1")
    endpoint.answer = (200, "text/plain", [b"fine"])
    shown.locator("#body").press("Control+Enter")
    expect(shown.locator("#panel")).to_have_text("fine")
    headers, body = endpoint.asked[0]
    assert body.decode() == "1,2\n'é'\n"
    assert headers[b"content-type"] == b"text/csv"
    assert headers[b"accept"] == b"application/*;q=0.5"
    assert headers[b"x-amzn-sagemaker-custom-attributes"] == b"trace=1"


@pytest.mark.parametrize(
    ("text", "dtype", "array"),
    [
        ("[[1, 2.5], [3, -4]]", "float32", np.array([[1, 2.5], [3, -4]], "<f4")),
        ("[1, 2, 3]", "int64", np.array([1, 2, 3], "<i8")),
        ("5", "float64", np.array(5.0)),
        ("[[[1], [0]], [[255], [7]]]", "uint8", np.array([[[1], [0]], [[255], [7]]], "u1")),
    ],
)
def test_numbers_are_sent_as_npy(shown, endpoint, text, dtype, array):
    shown.locator("#content-type").select_option("application/x-npy")
    shown.locator("#dtype").select_option(dtype)
    shown.locator("#body").fill(text)
    send(shown, endpoint, 200, "text/plain", b"fine")
    expect(shown.locator("#panel")).to_have_text("fine")
    sent = np.load(io.BytesIO(endpoint.asked[0][1]))
    assert sent.dtype == array.dtype
    np.testing.assert_array_equal(sent, array)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[1, 2], [3]]", "The rows have different lengths."),
        ("[1, [2]]", "The rows have different lengths."),
        ('["a"]', "Only numbers can be sent as NPY."),
        ("1, 2", "An NPY body is typed as numbers in JSON, such as [[1, 2], [3, 4]]."),
    ],
)
def test_what_is_no_array_is_not_sent(shown, endpoint, text, said):
    shown.locator("#content-type").select_option("application/x-npy")
    shown.locator("#body").fill(text)
    shown.get_by_role("button", name="Send").click()
    expect(shown.locator("#trouble")).to_have_text(said)
    assert not endpoint.asked


def test_a_file_is_sent_as_it_is(shown, endpoint, tmp_path):
    content = npy(np.arange(6.0).reshape(2, 3))
    (tmp_path / "it's x.npy").write_bytes(content)
    shown.locator("#file").set_input_files(tmp_path / "it's x.npy")
    expect(shown.locator("#content-type")).to_have_value("application/x-npy")
    expect(shown.locator("#curl")).to_contain_text("""--data-binary '@it'\\''s x.npy'""")
    send(shown, endpoint, 200, "text/plain", b"fine")
    expect(shown.locator("#panel")).to_have_text("fine")
    assert endpoint.asked[0][1] == content


def test_a_body_that_is_too_large_is_said_to_be(shown):
    shown.locator("#body").fill("x" * 10_001)
    expect(shown.locator("#size")).to_have_text("9.8 KiB, more than the 9.8 KiB that the endpoint takes")


def test_the_command_is_safe_to_paste(shown, endpoint):
    shown.locator("#body").fill("@/etc/passwd'; rm -rf $HOME `id`")
    expect(shown.locator("#curl")).to_have_text(
        f"curl -sS '{endpoint.url.removesuffix('/docs')}/invocations' \\\n"
        "  -H 'Content-Type: application/json' \\\n  -H 'Accept: application/json' \\\n"
        "  --data-raw '@/etc/passwd'\\''; rm -rf $HOME `id`'"
    )


# -- the answer --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "heads", "rows", "caption"),
    [
        (
            np.array([[1, 2.5], [0.1, np.nan]], "f4"),
            ["0", "1"],
            [["1", "2.5"], ["0.1", "NaN"]],
            "float32, shape (2, 2)",
        ),
        (np.array([1, -(2**63)], ">i8"), ["value"], [["1"], [str(-(2**63))]], "int64, shape (2,)"),
        (
            np.asfortranarray(np.arange(4, dtype="u1").reshape(2, 2)),
            ["0", "1"],
            [["0", "1"], ["2", "3"]],
            "uint8, shape (2, 2)",
        ),
        (
            np.arange(8, dtype="f2").reshape(2, 2, 2) / 2,
            ["0", "1"],
            [["0", "0.5"], ["1", "1.5"]],
            "float16, shape (2, 2, 2), [0, :, :] of it",
        ),
        (np.array([True, False]), ["value"], [["True"], ["False"]], "bool, shape (2,)"),
    ],
)
def test_npy_is_a_table(shown, endpoint, array, heads, rows, caption):
    panel = send(shown, endpoint, 200, "application/x-npy", npy(array))
    expect(panel.locator("caption")).to_have_text(caption)
    assert panel.locator("thead th").all_text_contents()[1:] == heads
    found = [row.locator("td").all_text_contents() for row in panel.locator("tbody tr").all()]
    assert found == rows


def test_a_large_array_is_shown_in_part(shown, endpoint):
    panel = send(shown, endpoint, 200, "application/x-npy", npy(np.zeros((1000, 1000), "u1")))
    expect(shown.locator("#cut")).to_have_text("The first 10000 of 1000000 values are shown.")
    assert panel.locator("tbody tr").count() == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }",
        npy(np.zeros(9))[:-1],
        npy(np.array(["text"])),
        npy(np.array([1 + 2j])),
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999,), }\n",
    ],
)
def test_npy_that_cannot_be_shown_is_bytes(shown, endpoint, body):
    panel = send(shown, endpoint, 200, "application/x-npy", body)
    expect(panel.locator("pre.hex")).to_contain_text("NUMPY" if body else "no bytes")


def test_csv_is_a_table(shown, endpoint):
    panel = send(
        shown, endpoint, 200, "text/csv; charset=utf-8", b'a,"b ""c"", d"\r\n1.5,\r\n"two\nlines",x\n'
    )
    expect(panel.locator("caption")).to_have_text("2 rows, 2 columns")
    assert panel.locator("thead th").all_text_contents()[1:] == ["a", 'b "c", d']
    found = [row.locator("td").all_text_contents() for row in panel.locator("tbody tr").all()]
    assert found == [["1.5", ""], ["two\nlines", "x"]]


def test_csv_without_a_header(shown, endpoint):
    panel = send(shown, endpoint, 200, "text/csv", b"1,2,3\n4,5\n\n")
    expect(panel.locator("caption")).to_have_text("3 rows, 3 columns")
    assert panel.locator("thead th").all_text_contents()[1:] == ["0", "1", "2"]
    found = [row.locator("td").all_text_contents() for row in panel.locator("tbody tr").all()]
    assert found == [["1", "2", "3"], ["4", "5"], [""]]


@pytest.mark.parametrize(
    ("body", "shown_as"),
    [
        (b'{"a":[1,2],"b":{"c":null}}', '{"a": [1, 2], "b": {"c": null}}'),
        (b"[NaN, -Infinity, true]", "[NaN, -Infinity, true]"),
        (b"[1, 2", "[1, 2"),
        (b"<b>no</b>", "<b>no</b>"),
        (b"[" * 100_000, "[" * 100_000),
        (b'{"a": "\\" <i>,: {"}', '{"a": "\\" <i>,: {"}'),
    ],
    ids=["laid out", "numbers of Python", "broken", "markup", "deep", "odd text"],
)
def test_json_is_laid_out_and_anything_else_is_shown_as_it_is(shown, endpoint, body, shown_as):
    panel = send(shown, endpoint, 200, "application/json", body)
    expect(panel).to_have_text(shown_as)
    assert panel.locator("b, i").count() == 0


def test_other_bytes_are_shown_in_hexadecimal(shown, endpoint):
    panel = send(shown, endpoint, 200, "application/octet-stream", bytes(range(20)) + b"<script>")
    expect(panel).to_contain_text("000010  10 11 12 13 3c 73 63 72 69 70 74 3e")


def test_nothing_that_a_model_answers_is_markup(shown, endpoint):
    hostile = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    for content_type in ("text/html", "text/csv", "application/json", "text/event-stream", "image/svg+xml"):
        send(shown, endpoint, 200, content_type, hostile.encode(), b"")
        expect(shown.locator("#facts")).to_contain_text(content_type)
        expect(shown.locator("#busy")).to_be_hidden()
    error = json.dumps({"error": hostile, "code": hostile, "request_id": hostile}).encode()
    send(shown, endpoint, 400, "application/json", error)
    expect(shown.locator("#wrong-said")).to_have_text(hostile)
    assert shown.title() == "digits: try the model"


def test_an_error_is_said_in_words(shown, endpoint):
    error = {"error": "nothing reads 'a/b'", "code": "unsupported_media_type", "request_id": "r-7"}
    send(shown, endpoint, 415, "application/json", json.dumps(error).encode())
    expect(shown.locator("#said")).to_have_text("415 Unsupported Media Type")
    expect(shown.locator("#wrong")).to_contain_text("nothing reads 'a/b'")
    expect(shown.locator("#wrong")).to_contain_text("unsupported_media_type in request r-7")


def test_the_headers_and_the_raw_body(shown, endpoint):
    panel = send(shown, endpoint, 200, "application/json", b'{"a":1}')
    expect(panel).to_have_text('{"a": 1}')
    shown.get_by_role("tab", name="Formatted").press("ArrowRight")
    expect(panel).to_have_text('{"a":1}')
    shown.get_by_role("tab", name="Raw").press("ArrowRight")
    expect(panel.get_by_role("row", name="x-request-id")).to_contain_text("r-1")
    expect(shown.get_by_role("tab", name="Headers")).to_be_focused()


def test_an_answer_in_parts_is_shown_as_it_comes(shown, endpoint):
    first = "data: [0.1]\n\nü".encode()
    panel = send(shown, endpoint, 200, "text/event-stream", first[:-1], None, first[-1:], b"data: [0.2]\n\n")
    expect(panel).to_have_text("data: [0.1]")
    expect(shown.get_by_role("button", name="Cancel")).to_be_visible()
    endpoint.go_on()
    expect(panel).to_have_text("data: [0.1]\n\nüdata: [0.2]\n\n")
    expect(shown.locator("#facts")).to_contain_text("parts")
    expect(shown.get_by_role("button", name="Cancel")).to_be_hidden()


def test_an_answer_can_be_cancelled(shown, endpoint):
    panel = send(shown, endpoint, 200, "text/event-stream", b"data: 1\n\n", None)
    expect(panel).to_have_text("data: 1")
    shown.get_by_role("button", name="Cancel").click()
    expect(shown.locator("#wrong")).to_have_text("You cancelled before its end.")
    expect(panel).to_have_text("data: 1")
    expect(shown.get_by_role("button", name="Send")).to_be_enabled()


def test_an_endpoint_that_is_gone_is_said_to_be(shown, endpoint):
    shown.context.set_offline(True)
    send(shown, endpoint)
    expect(shown.locator("#said")).to_contain_text("No answer")
    shown.context.set_offline(False)


def test_an_endpoint_that_is_not_ready_says_why(shown, endpoint):
    endpoint.ready = False
    shown.reload()
    expect(shown.locator("#ready")).to_have_text("Not ready: the model is being loaded")
    expect(shown.locator("#name")).to_have_text("Try the model")
    expect(shown.locator("#trouble")).to_be_hidden()
    endpoint.ready = True
    shown.evaluate("ping()")
    expect(shown.locator("#ready")).to_have_text("Ready")
    expect(shown.locator("#name")).to_have_text("digits")
    expect(shown.locator("#content-type option")).to_have_text([*FACTS.reads, "other…"])


def test_light_and_dark(shown):
    def colour():
        return shown.evaluate("getComputedStyle(document.body).backgroundColor")

    shown.emulate_media(color_scheme="dark")
    dark = colour()
    shown.emulate_media(color_scheme="light")
    light = colour()
    assert dark != light
    button = shown.get_by_role("button", name="Theme: auto")
    button.click()
    shown.get_by_role("button", name="Theme: light").click()
    expect(shown.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert colour() == dark
    shown.reload()
    expect(shown.get_by_role("button", name="Theme: dark")).to_be_visible()


def test_everything_has_a_name_and_fits_a_narrow_screen(shown, endpoint):
    send(shown, endpoint, 200, "text/csv", b"1,2\n")
    expect(shown.locator("#panel table")).to_be_visible()
    nameless = shown.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, a")]
            .filter((e) => !(e.ariaLabel || e.textContent.trim() || (e.labels && e.labels.length)
                             || e.getAttribute("aria-labelledby")))
            .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    shown.set_viewport_size({"width": 340, "height": 700})
    shown.wait_for_function("innerWidth === 340")
    assert shown.evaluate("document.documentElement.scrollWidth") <= 340
