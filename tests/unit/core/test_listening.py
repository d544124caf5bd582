"""Where an endpoint listens, and whether it is ready."""

import os
import socket
import threading

import pytest

from modelyard.core import listening as module
from modelyard.core.errors import InvalidPlanError
from modelyard.core.listening import free_port, is_ready, listen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_socket_that_listens(host):
    with listen(host, 0) as listening:
        assert listening.getsockname()[0] == host
        socket.create_connection(listening.getsockname()[:2], timeout=10).close()


def refusal(host, port):
    with pytest.raises(InvalidPlanError) as raised:
        listen(host, port)
    return str(raised.value)


def test_a_port_that_is_taken():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert refusal("127.0.0.1", port) == (
            f"port {port} of 127.0.0.1 is taken: use port 0 for any free port"
        )


@pytest.mark.parametrize("port", [-1, 65536, 10**20])
def test_a_number_that_no_port_has(port):
    assert refusal("127.0.0.1", port) == f"there is no port {port}: use port 0 for any free port"


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine(host):
    assert refusal(host, 0) == (
        f"{host!r} is no address of this machine: use 127.0.0.1, or 0.0.0.0 for all interfaces"
    )


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (13, "port 80 is not for this user: use port 8080, or port 0 for any free port"),
        (24, f"cannot listen on 127.0.0.1:80: {os.strerror(24)}"),
    ],
)
def test_what_the_system_refuses(monkeypatch, number, said):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "create_server", refuse)
    assert refusal("127.0.0.1", 80) == said


def test_a_free_port_is_none_that_the_system_gives_out_meanwhile(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_GIVEN_OUT", tmp_path / "range")
    (tmp_path / "range").write_text("20000\t60999\n")
    port = free_port(count=2)
    assert 10_000 <= port < port + 1 < 20_000
    with listen("", port), listen("", port + 1):
        assert free_port() not in (port, port + 1)


def test_where_the_system_gives_out_all_ports_a_free_one_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_GIVEN_OUT", tmp_path / "range")
    (tmp_path / "range").write_text("1024\t65535\n")
    listen("", free_port(count=2)).close()


def test_ports_whose_neighbours_are_taken_are_not_free(monkeypatch):
    with listen("", 0) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(module, "_first_given_out", lambda: 0)
        monkeypatch.setattr(module, "_any_port", lambda: port - 1)
        with pytest.raises(InvalidPlanError, match="no port is free on this machine with the 1 after it"):
            free_port(count=2)


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 503 Not yet\r\nContent-Length: 0\r\n\r\n", False),
        (b"220 mail\r\n", False),
        (b"", False),
    ],
)
def test_a_server_is_ready_that_says_so(answer, ready):
    def serve():
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(1024).startswith(b"GET /ping HTTP/1.1\r\n")
            connection.sendall(answer)

    with listen("127.0.0.1", 0) as listening:
        server = threading.Thread(target=serve)
        server.start()
        assert is_ready(listening.getsockname(), 10) is ready
        server.join()


def test_a_server_that_says_nothing_or_is_not_there_is_not_ready():
    with listen("127.0.0.1", 0) as listening:
        address = listening.getsockname()
        assert not is_ready(address, 0.01)
    assert not is_ready(address, 10)
