"""Hosts of their own on one machine: a network namespace each, on a bridge that is in a third.

A host has its own ``eth0``, its own host name and its own ``/etc/hosts``. Nothing leads out, and nothing
is in the machine's own namespace. What the hosts run sees the machine's files.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.integration.conftest import until

NET = "10.77.0"

# Runs what it is given, argument by argument, as the process that it is itself.
ON = """
#!/bin/sh
# on HOST PROGRAM ARGUMENT...
name=$1; shift
exec nsenter --net=/run/netns/{prefix}$name unshare --uts --mount /bin/sh -c '
    echo "$0" > /proc/sys/kernel/hostname
    mount --bind {hosts} /etc/hosts
    # Nobody answers here: better no name server than to wait for one of the machine.
    [ ! -e /etc/resolv.conf ] || mount --bind /dev/null /etc/resolv.conf
    exec "$@"
' "$name" "$@"
"""

# Takes its arguments as ssh does, and like ssh leaves the command's words to a shell.
AGENT = """
#!/bin/sh
# agent [OPTION...] HOST COMMAND...
while :; do
    case $1 in
        -[bcDeEFiIJlLmoOpQRSwW]) shift 2;;
        -*) shift;;
        *) break;;
    esac
done
name=$1; shift
exec {on} "$name" /bin/sh -c "$*"
"""


SSHD = """
    HostKey {folder}/host_key
    AuthorizedKeysFile {folder}/user_key.pub
    StrictModes no
    UsePAM no
    PasswordAuthentication no
    PermitRootLogin yes
    PidFile none
"""

SSH = """
    IdentityFile {folder}/user_key
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    BatchMode yes
    LogLevel ERROR
"""


class Network:
    """Hosts ``algo-1`` and so on; made and removed by the `network` fixture."""

    def __init__(self, folder, count=2):
        self._prefix = f"modelyard-{os.getpid()}-"
        self.names = tuple(f"algo-{number}" for number in range(1, count + 1))
        self.addresses = tuple(f"{NET}.{10 + number}" for number in range(1, count + 1))
        entries = [("localhost", "127.0.0.1"), *zip(self.names, self.addresses, strict=True)]
        hosts = folder / "hosts"
        hosts.write_text("".join(f"{address} {name}\n" for name, address in entries))
        self.on = _script(folder / "on", ON.format(prefix=self._prefix, hosts=hosts))
        self.agent = _script(folder / "agent", AGENT.format(on=self.on))

    def up(self):
        """Make the namespaces. Raises `CalledProcessError` where they cannot be made."""
        switch = self._add("switch")
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for name, address in zip(self.names, self.addresses, strict=True):
            host = self._add(name)
            peer = ("peer", "name", name, "netns", switch)
            _ip("link", "add", "eth0", "netns", host, "type", "veth", *peer)
            _ip("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")
            _ip("-n", switch, "link", "set", name, "master", "bridge", "up")

    def down(self):
        """End what still runs on the hosts, and remove the namespaces."""
        self.kill()
        for name in (*self.names, "switch"):
            if Path("/run/netns", self._prefix + name).exists():
                _ip("netns", "delete", self._prefix + name)

    def kill(self):
        """End whatever runs on the hosts; what has just been forked as well."""
        until(lambda: not _kill([pid for name in self.names for pid in self.pids(name)]))

    def start(self, name, *argv, **options):
        """Start a program on a host; the process is the program's own."""
        return subprocess.Popen([self.on, name, *map(str, argv)], **options)

    def pids(self, name):
        """Return the processes that run on a host."""
        asked = subprocess.run(
            ["ip", "netns", "pids", self._prefix + name], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in asked.stdout.split()]

    def _add(self, name):
        _ip("netns", "add", self._prefix + name)
        _ip("-n", self._prefix + name, "link", "set", "lo", "up")
        return self._prefix + name


@pytest.fixture
def network(tmp_path):
    """Two hosts, and no process of theirs left behind."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("network namespaces are Linux's, and root's to make")
    if missing := [tool for tool in ("ip", "nsenter", "unshare") if not shutil.which(tool)]:
        pytest.skip(f"not installed: {', '.join(missing)} (iproute2, util-linux)")
    made = Network(tmp_path)
    try:
        made.up()
        yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    finally:
        made.down()


@pytest.fixture
def ssh(network, tmp_path):
    """The command of ssh that logs in to the hosts, each with an sshd of its own."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if not sshd or not shutil.which("ssh"):
        pytest.skip("not installed: openssh-server and openssh-client")
    for name in ("host_key", "user_key"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name]
        subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
    server, client = tmp_path / "sshd_config", tmp_path / "ssh_config"
    server.write_text(textwrap.dedent(SSHD).format(folder=tmp_path))
    client.write_text(textwrap.dedent(SSH).format(folder=tmp_path))
    # sshd wants a folder below /run, which is to be the host's own then.
    own_run = 'mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec "$@"'
    started = [
        network.start(
            name, "/bin/sh", "-c", own_run, "sh", sshd, "-D", "-f", server, "-E", tmp_path / f"{name}.sshd"
        )
        for name in network.names
    ]
    login = f"ssh -F {client}"
    for name in network.names:
        until(lambda name=name: network.start(network.names[0], *login.split(), name, "true").wait(60) == 0)
    yield login
    network.kill()
    for process in started:
        process.wait(60)


def _kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _script(path, text):
    path.write_text(textwrap.dedent(text).lstrip())
    path.chmod(0o755)
    return str(path)
