"""How the hosts of an MPI job find each other: by TCP and the job's key, or by ssh or an agent."""

import shlex
import socket
import subprocess
import sys
import time

from modelyard.plugins.launchers.mpi_wire import (
    MODULE,
    PATIENCE,
    READY,
    Channel,
    Cluster,
    HostError,
    introduce,
    reason,
    say,
)


def listen(cluster: Cluster) -> socket.socket:
    """Return the socket at which the other hosts reach this one. Raises `HostError`."""
    address, port = cluster.address(cluster.name)
    place = f"port {port} of {address}" if cluster.key else cluster.socket_name(cluster.name)[1:]
    try:
        if not cluster.key:
            return _listening(socket.AF_UNIX, cluster.socket_name(cluster.name))
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        return _listening(family, (address, port))
    except OSError as error:
        raise HostError(
            f"{cluster.name} cannot listen at {place}: {error.strerror}; the port after MASTER_PORT is for "
            "this job alone"
        ) from error


def _listening(family: socket.AddressFamily, address: tuple[str, int] | str) -> socket.socket:
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def connect(cluster: Cluster, name: str, deadline: float) -> Channel:
    """Return a channel to the worker `name`, once it listens; until `deadline` of the monotonic clock.

    Raises `HostError` where it does not in time, or does not know the key.
    """
    once, pause, said = (_by_key if cluster.key else _by_agent), 0.02, time.monotonic()
    while True:
        try:
            return once(cluster, name)
        except (OSError, EOFError) as error:
            if (now := time.monotonic()) > deadline:
                raise HostError(f"{name} cannot be reached: {reason(error)}") from error
            if now > said + 30:
                say(f"waiting for {name} ({reason(error)})")
                said = now
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def _by_key(cluster: Cluster, name: str) -> Channel:
    sock = socket.create_connection(cluster.address(name), timeout=PATIENCE)
    channel = Channel(sock)
    channel.wait(PATIENCE)
    try:
        introduce(channel, cluster.key, name)
        keep_alive(sock)
        return _greeted(channel)
    except BaseException:
        channel.close()
        raise


def _by_agent(cluster: Cluster, name: str) -> Channel:
    """Have the agent run `join` on the host, with a socket in place of a terminal."""
    ours, theirs = socket.socketpair()
    command = shlex.join([sys.executable, "-m", MODULE, "join", cluster.socket_name(name)[1:]])
    agent = [*(cluster.agent or ["ssh", "-o", "BatchMode=yes"]), name, command]
    with theirs:
        process = subprocess.Popen(agent, stdin=theirs.fileno(), stdout=theirs.fileno())
    channel = Channel(ours, process)
    channel.wait(PATIENCE)
    try:
        return _greeted(channel)
    except BaseException:
        channel.close()
        raise


def _greeted(channel: Channel) -> Channel:
    if channel.receive() != (READY, b""):
        raise HostError("what answered is no host of the job")
    channel.wait(None)
    return channel


def keep_alive(sock: socket.socket) -> None:
    """Notice within half a minute that a host has vanished without a word."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
