"""``modelyard predict``: what is sent, what is printed, and what is refused."""

import io
import os
import pty
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from modelyard.cli import main

PLUGIN = """
from modelyard import hookimpl
from modelyard.core.contracts import Invocation
from modelyard.core.errors import InvocationError


class Echo:
    name = "echo"

    def invoke(self, body, *, content_type, accept):
        if body == b"bad":
            raise InvocationError(self.name, 415, "no codec", "Request 17; the log is /log.txt")
        return Invocation(f"{content_type} {accept} ".encode() + body, accept)


class EchoBackend:
    name = "echoing"
    instance_types = ("echo",)

    def endpoint(self, name):
        return Echo()

    submit = deploy = job = None


class TabCodec:
    name = "tab"
    media_types = ("text/tab-separated-values", "text/x-tab")
    suffixes = (".tab", ".csv", ".png", "")

    encode = decode = None


@hookimpl
def modelyard_register_backends():
    return [EchoBackend]


@hookimpl
def modelyard_register_codecs():
    return [TabCodec]
"""
BINARY = b"\x93NUMPY\x00"


@pytest.fixture
def echo(installed, tmp_path, capfdbinary):
    """Ask an endpoint that answers with what it was sent; return the status, and both outputs."""
    installed("echo-party", PLUGIN)

    def ask(name, body, *arguments):
        (tmp_path / name).write_bytes(body)
        status = main(["predict", "echo", str(tmp_path / name), "--backend", "echoing", *arguments])
        return status, *capfdbinary.readouterr()

    return ask


class Handler(BaseHTTPRequestHandler):
    """Answers by what it was sent: an error, or the path, the headers and the body."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        refused = body == b"[]"
        answer = b'{"error": "nothing to predict", "code": "refused"}'
        if not refused:
            answer = f"{self.path} {self.headers['Content-Type']} {self.headers['Accept']} ".encode() + body
        self.send_response(422 if refused else 503 if body == b"{}" else 200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("X-Request-Id", "abc123")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """A server's address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("rows.csv", "text/csv"),
        ("rows.JSON", "application/json"),
        ("rows.jsonl", "application/jsonlines"),
        ("rows.npy", "application/x-npy"),
        ("rows.npz", "application/x-npz"),
        ("words.txt", "text/plain"),
        ("rows.safetensors", "application/x-torch"),
        ("rows.ndjson", "application/jsonlines"),
        ("rows.TAB", "text/tab-separated-values"),
        ("cat.jpg", "image/jpeg"),
        ("cat.png", "image/png"),
    ],
)
def test_the_content_type_is_that_of_the_files_ending(echo, name, content_type):
    assert echo(name, b"1") == (0, f"{content_type} application/json 1".encode(), b"")


def test_what_is_said_wins_and_bytes_arrive_and_leave_as_they_are(echo):
    body = bytes(range(256))
    status, out, err = echo("rows.csv", body, "--content-type", "a/b; c=d", "--accept", "e/f")
    assert (status, out, err) == (0, b"a/b; c=d e/f " + body, b"")


@pytest.mark.parametrize("name", ["rows", "rows.xyz", "rows.csv.gz"])
def test_a_file_of_an_unknown_type_says_which_option_tells_it(echo, name, capfdbinary):
    with pytest.raises(SystemExit) as raised:
        echo(name, b"1")
    assert raised.value.code == 2
    said = capfdbinary.readouterr().err.decode()
    assert f"the content type of '{name}' is not known: say it, as --content-type text/csv" in said


def test_two_codecs_of_one_ending_are_named_and_the_option_is(echo, installed, capfdbinary):
    installed("other-party", PLUGIN.replace('"tab"', '"other"').replace("echoing", "other"))
    with pytest.raises(SystemExit) as raised:
        echo("rows.tab", b"1")
    assert raised.value.code == 2
    said = " ".join(capfdbinary.readouterr().err.decode().split())
    assert "'.tab' (suffixes of a codec) is provided by" in said
    assert "; or say the file's --content-type" in said
    assert echo("rows.tab", b"1", "--content-type", "a/b")[:2] == (0, b"a/b application/json 1")


def test_an_answer_may_go_to_a_file(echo, tmp_path):
    output = tmp_path / "answer.json"
    status, out, err = echo("rows.csv", b"1", "--output", str(output))
    assert (status, err) == (0, b"")
    assert out.decode() == f"{output}: 27 bytes of application/json\n"
    assert output.read_bytes() == b"text/csv application/json 1"


def test_an_error_goes_to_stderr_with_what_is_known_about_it(echo):
    assert echo("rows.csv", b"bad") == (
        1,
        b"",
        b"modelyard: endpoint 'echo' answered 415: no codec\nRequest 17; the log is /log.txt\n",
    )


def test_files_that_cannot_be_read_or_written_are_named(echo, tmp_path, capfdbinary):
    assert main(["predict", "echo", "gone.csv", "--backend", "echoing"]) == 1
    said = capfdbinary.readouterr().err
    assert said == b"modelyard: cannot read 'gone.csv': No such file or directory\n"
    status, _, err = echo("rows.csv", b"1", "--output", str(tmp_path))
    assert (status, err.decode()) == (1, f"modelyard: cannot write '{tmp_path}': Is a directory\n")


def test_standard_input(installed, capfdbinary, monkeypatch):
    installed("echo-party", PLUGIN)
    arguments = ["predict", "echo", "-", "--backend", "echoing"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\x00")))
    assert main([*arguments, "--content-type", "a/b"]) == 0
    assert capfdbinary.readouterr().out == b"a/b application/json \xff\x00"
    with pytest.raises(SystemExit):
        main(arguments)
    assert b"the content type of standard input is not known" in capfdbinary.readouterr().err


# -- a server's address ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "path"), [("", "/invocations"), ("/", "/invocations"), ("/endpoints/a/invocations", None)]
)
def test_an_address_is_asked_for_invocations(server, tmp_path, capfdbinary, end, path):
    (tmp_path / "a.json").write_bytes(b"[1]")
    assert main(["predict", server + end, str(tmp_path / "a.json"), "--accept", "text/csv"]) == 0
    assert capfdbinary.readouterr().out == f"{path or end} application/json text/csv [1]".encode()


@pytest.mark.parametrize(
    ("body", "said"), [(b"[]", "422: nothing to predict"), (b"{}", "503: /invocations ")]
)
def test_a_servers_error_is_told_with_the_number_of_the_request(server, tmp_path, capfdbinary, body, said):
    (tmp_path / "a.json").write_bytes(body)
    assert main(["predict", server, str(tmp_path / "a.json")]) == 1
    out, err = capfdbinary.readouterr()
    first, second = err.decode().splitlines()
    assert first.startswith(f"modelyard: endpoint '{server}/invocations' answered {said}")
    assert second == "This was request abc123; the server's output has more about it"
    assert not out


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1/invocations cannot be reached: "),
        ("ftp://localhost", "'ftp://localhost' is no address of a server: use http://HOST:PORT"),
        ("http://", "'http://' is no address of a server: use http://HOST:PORT"),
        ("http://[", "http://[ cannot be reached: "),
    ],
)
def test_an_address_that_leads_nowhere_is_named(tmp_path, capfdbinary, address, said):
    (tmp_path / "a.json").write_bytes(b"[1]")
    assert main(["predict", address, str(tmp_path / "a.json")]) == 1
    assert capfdbinary.readouterr().err.decode().startswith(f"modelyard: {said}")


# -- a terminal --------------------------------------------------------------------------------


@pytest.fixture
def on_a_terminal(server, tmp_path):
    """Ask the server with a terminal as standard output; return the status, and both outputs."""

    def ask(body):
        (tmp_path / "body").write_bytes(body)
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "modelyard", "predict", server, str(tmp_path / "body")]
        with os.fdopen(ours, "rb", buffering=0) as screen:
            done = subprocess.run(
                [*command, "--content-type", "a/b"], stdout=theirs, stderr=subprocess.PIPE, check=False
            )
            os.close(theirs)
            shown = b""
            try:
                while more := screen.read(4096):
                    shown += more
            except OSError:  # Linux says the end of a terminal like this.
                pass
        return done.returncode, shown, done.stderr.decode()

    return ask


def test_text_on_a_terminal_ends_its_line(on_a_terminal):
    expected = "/invocations a/b application/json grüße\r\n".encode()
    assert on_a_terminal("grüße".encode()) == (0, expected, "")
    assert on_a_terminal("grüße\n".encode()) == (0, expected, "")


@pytest.mark.parametrize("body", [BINARY, b"\xff", b"\x1b[2J", "\x9b2J".encode()], ids=repr)
def test_what_is_no_text_is_kept_from_a_terminal(on_a_terminal, body):
    status, shown, err = on_a_terminal(body)
    assert (status, shown) == (1, b"")
    assert err == (
        "modelyard: the answer is text/plain, which a terminal does not show: use --output FILE, or > FILE, "
        "or --accept application/json\n"
    )
