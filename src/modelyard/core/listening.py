"""Where programs listen: an endpoint's socket, ports at which hosts meet, whether a server is ready."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.core.errors import InvalidPlanError

if TYPE_CHECKING:
    import socket

_BACKLOG = 2048
_LAST_PORT = 65535
_ANY_PORT = "use port 0 for any free port"
_GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_GIVEN_OUT = 32768
_FIRST_TAKEN = 10000
_TRIES = 100
_TOO_FEW = 100
"""Ports to choose from."""


def listen(host: str, port: int) -> "socket.socket":
    """Return a socket that listens there. Raises `InvalidPlanError`, with what helps."""
    import socket

    if not 0 <= port <= _LAST_PORT:
        raise InvalidPlanError(f"there is no port {port}: {_ANY_PORT}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InvalidPlanError(_advice(host, port, error)) from error


def free_port(*, count: int = 1) -> int:
    """Return a port for a program to listen at later: free, as are the `count` - 1 after it.

    None of those that the system gives to clients, and to whoever asks for any port: these may be gone
    before the program has come. Raises `InvalidPlanError`.
    """
    import secrets

    ports = range(_FIRST_TAKEN, max(_FIRST_TAKEN, _first_given_out() - count))
    for _ in range(_TRIES):
        port = ports[secrets.randbelow(len(ports))] if len(ports) >= _TOO_FEW else _any_port()
        if _are_free(range(port, port + count)):
            return port
    raise InvalidPlanError(f"no port is free on this machine with the {count - 1} after it")


def _first_given_out() -> int:
    try:
        return int(_GIVEN_OUT.read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _FIRST_GIVEN_OUT


def _any_port() -> int:
    import socket

    with socket.create_server(("", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def _are_free(ports: range) -> bool:
    import socket

    with ExitStack() as stack:
        try:
            for port in ports:
                stack.enter_context(socket.create_server(("", port)))
        except (OSError, OverflowError):
            return False
    return True


def _advice(host: str, port: int, error: OSError) -> str:
    import errno

    number = error.errno or 0
    # Below 0 are those of the resolver: there is no such name.
    if number < 0 or number == errno.EADDRNOTAVAIL:
        return f"{host!r} is no address of this machine: use 127.0.0.1, or 0.0.0.0 for all interfaces"
    if number == errno.EADDRINUSE:
        return f"port {port} of {host} is taken: {_ANY_PORT}"
    if number == errno.EACCES:
        return f"port {port} is not for this user: use port 8080, or port 0 for any free port"
    return f"cannot listen on {host}:{port}: {error.strerror}"


def is_ready(address: tuple[str, int], timeout: float) -> bool:
    """Tell whether a server answers ``GET /ping`` with 200, in `timeout` seconds for each of its steps."""
    import http.client

    connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
