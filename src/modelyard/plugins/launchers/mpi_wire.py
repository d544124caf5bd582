"""How the hosts of an MPI job speak with each other: who is trusted, and what is said.

A channel is a socket between the master and one worker. Where the hosts share a key (`HOST_KEY`) it
is a TCP connection on which each side proves that it knows the key before anything else is read.
Otherwise ssh, or the agent that stands for it, reaches the worker and vouches for the caller.
"""

import contextlib
import json
import os
import socket
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from modelyard.core.handover import HOST_KEY

if TYPE_CHECKING:
    import subprocess

MODULE = "modelyard.plugins.launchers.mpi_hosts"

# What a frame is about.
READY, LEAD, RUN, SIGNAL, OUTPUT, EXIT = b"h", b"l", b"r", b"s", b"o", b"x"

_MAGIC = b"modelyard-mpi-2\n"
_NONCE = 32
_DIGEST = "sha256"
_HEADER = struct.Struct(">cI")
_MAX_FRAME = 1024 * 1024
PATIENCE = 10.0
"""Seconds for what takes a peer that means well some milliseconds."""
WAIT_SECONDS = 0.5
"""How long the main thread, where handlers of signals run, waits at a time."""


class HostError(Exception):
    """A host cannot be reached, or is not what it should be."""


class Cluster(NamedTuple):
    """The hosts of a job, for programs that must start fast: no attrs here.

    ``name``: this host's; ``names``: of all, the master first; ``addresses``: where they are reached;
    ``port``: at which workers listen; ``timeout``: seconds that the hosts wait for each other;
    ``agent``: the command that stands for ssh, or nothing.
    """

    name: str
    names: list[str]
    addresses: list[str]
    port: int
    timeout: float
    agent: list[str]

    def to_json(self) -> str:
        """Return it as one token of a command."""
        return json.dumps(self._asdict(), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))

    @property
    def master(self) -> str:
        """The name of the host that runs mpirun."""
        return self.names[0]

    @property
    def workers(self) -> list[str]:
        """The names of the others."""
        return self.names[1:]

    @property
    def key(self) -> bytes:
        """The secret of the job, by which TCP connections are trusted; empty where an agent is to be used."""
        return b"" if self.agent else os.environ.get(HOST_KEY, "").encode()

    def address(self, name: str) -> tuple[str, int]:
        """Return where a host listens."""
        return self.addresses[self.names.index(name)], self.port

    def socket_name(self, name: str) -> str:
        """Return the abstract Unix socket of a host that is reached by an agent."""
        return f"\0modelyard-mpi/{name}/{self.port}"


class Channel:
    """Frames over a socket: a kind of one byte, and up to 1 MiB.

    `receive` raises `HostError` for what is no frame, and it and `read` raise OSError as the socket does.
    """

    def __init__(self, sock: socket.socket, agent: "subprocess.Popen[bytes] | None" = None) -> None:
        self._socket = sock
        self._agent = agent
        self._deadline: float | None = None
        self._sending = threading.RLock()  # A signal may arrive while its handler's thread sends.

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send one frame. Raises OSError where the other side has gone."""
        with self._sending:
            self._socket.sendall(_HEADER.pack(kind, len(payload)) + payload)

    def write(self, data: bytes) -> None:
        """Send bytes that are no frame."""
        self._socket.sendall(data)

    def receive(self) -> tuple[bytes, bytes]:
        """Return the next frame's kind and payload. Raises EOFError where the other side has gone."""
        kind, length = _HEADER.unpack(self.read(_HEADER.size))
        if length > _MAX_FRAME:
            raise HostError(f"a frame of {length} bytes; {_MAX_FRAME} are the most")
        return kind, self.read(length)

    def read(self, size: int) -> bytes:
        """Return `size` bytes. Raises EOFError where there are fewer."""
        data = bytearray()
        while len(data) < size:
            if self._deadline is not None:
                self._socket.settimeout(_left(self._deadline))
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)

    def wait(self, seconds: float | None) -> None:
        """Set how long all that is read from now on may take together, and one write; None for ever."""
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._socket.settimeout(seconds)

    def has_hung_up(self) -> bool:
        """Tell whether the other side has gone, without a wait."""
        try:
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def check_user(self) -> None:
        """Refuse a peer on a Unix socket that is another user, root excepted. Raises `HostError`."""
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, user, _ = struct.unpack("3i", credentials)
        if user not in {0, os.getuid()}:
            raise HostError(f"the other side is the user {user}, not {os.getuid()}")

    def close(self) -> None:
        """Close the socket; what waits for it wakes up. End the agent, if there is one."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._agent:
            # It ends by itself, once it has passed on what was sent last.
            import subprocess

            with contextlib.suppress(subprocess.TimeoutExpired):
                self._agent.wait(PATIENCE)
            self._agent.terminate()
            self._agent.wait()


def _left(deadline: float) -> float:
    if (left := deadline - time.monotonic()) <= 0:
        raise TimeoutError("timed out")
    return left


# -- trust -------------------------------------------------------------------------------------


def prepare_to_admit() -> None:
    """Load what `admit` takes, while there are descriptors to load it with."""
    _proof(b"", b"", "", b"")


def admit(channel: Channel, key: bytes, name: str) -> None:
    """Let a peer prove that it knows the key, and prove it to the peer. Raises `HostError`."""
    import hmac  # It loads OpenSSL, which a job of one host does without.

    if not key:
        channel.check_user()
        return
    hello = channel.read(len(_MAGIC) + _NONCE)
    if not hello.startswith(_MAGIC):
        raise HostError("it speaks another language")
    theirs, ours = hello[len(_MAGIC) :], os.urandom(_NONCE)
    channel.write(ours + _proof(key, b"worker", name, theirs + ours))
    answer = channel.read(len(_proof(key, b"", "", b"")))
    if not hmac.compare_digest(answer, _proof(key, b"master", name, theirs + ours)):
        raise HostError("it does not know the job's key")


def introduce(channel: Channel, key: bytes, name: str) -> None:
    """Have the host `name` prove that it knows the key, then prove it to the host. Raises `HostError`."""
    import hmac  # It loads OpenSSL, which a job of one host does without.

    ours = os.urandom(_NONCE)
    channel.write(_MAGIC + ours)
    theirs = channel.read(_NONCE)
    answer = channel.read(len(_proof(key, b"", "", b"")))
    if not hmac.compare_digest(answer, _proof(key, b"worker", name, ours + theirs)):
        raise HostError(f"what listens at {name} does not know the job's key: is it of another job?")
    channel.write(_proof(key, b"master", name, ours + theirs))


def _proof(key: bytes, role: bytes, name: str, nonces: bytes) -> bytes:
    """Return the proof; role and name keep one from being used against another host, or sent back."""
    import hmac  # It loads OpenSSL, which a job of one host does without.

    return hmac.digest(key, b"\0".join((role, name.encode(), nonces)), _DIGEST)


def reason(error: Exception) -> str:
    """Return what an error says; of a peer that has gone, that it has."""
    return str(error) or "it hung up"


def say(text: str) -> None:
    """Write a line of the log."""
    sys.stderr.write(f"modelyard: {text}\n")
    sys.stderr.flush()
