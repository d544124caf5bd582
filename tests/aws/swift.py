"""OpenStack Swift, all of it on this machine, as a second server that speaks S3's protocol.

Unlike moto it checks signatures, and it has neither KMS nor writes on condition. It is looked for in the
folder ``MODELYARD_TEST_SWIFT`` and on the ``PATH``: `pip install swift`, in an environment of its own.
"""

import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import attrs

from modelyard.core.listening import free_port

FOLDER = "MODELYARD_TEST_SWIFT"
ACCESS_KEY = "test:tester"
SECRET_KEY = "testing"
_PATIENCE = 30.0

_COMMON = """
[swift-hash]
swift_hash_path_suffix = x
swift_hash_path_prefix = y
[storage-policy:0]
name = p0
default = yes
"""

_STORE = """
[DEFAULT]
swift_dir = {etc}
devices = {devices}
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
log_address = /dev/null
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
allow_open_expired = true
"""

_PIPELINE = (
    "catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth copy slo dlo proxy-server"
)

_PROXY = """
[DEFAULT]
swift_dir = {etc}
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
log_address = /dev/null
[pipeline:main]
pipeline = {pipeline}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
s3_acl = no
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


def programs() -> Path | None:
    """Return the folder of Swift's programs, None where it is not installed."""
    found = shutil.which("swift-proxy-server", path=os.environ.get(FOLDER) or os.environ.get("PATH"))
    return Path(found).parent if found else None


@attrs.frozen
class Swift:
    """A proxy server and the three servers behind it, used as a context manager."""

    folder: Path
    programs: Path
    _started: list[subprocess.Popen] = attrs.field(factory=list, init=False)
    _port: int = attrs.field(factory=free_port, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self):
        (self.folder / "devices" / "sdb1").mkdir(parents=True)
        (self.folder / "swift.conf").write_text(_COMMON)
        try:
            for kind in ("object", "container", "account"):
                port = free_port()
                self._make_ring(kind, port)
                self._start(kind, _STORE, port)
            self._start("proxy", _PROXY, self._port)
            self._await()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        for process in self._started:
            process.kill()
            process.wait()

    def _make_ring(self, kind, port):
        for arguments in (
            ["create", "8", "1", "0"],
            ["add", f"r1z1-127.0.0.1:{port}/sdb1", "1"],
            ["rebalance"],
        ):
            command = [self.programs / "swift-ring-builder", f"{kind}.builder", *arguments]
            subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def _start(self, kind, template, port):
        user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
        values = {
            "etc": self.folder,
            "devices": self.folder / "devices",
            "port": port,
            "kind": kind,
            "user": user,
            "pipeline": _PIPELINE,
        }
        config = self.folder / f"{kind}-server.conf"
        config.write_text(template.format(**values))
        with (self.folder / f"{kind}.log").open("w") as log:
            process = subprocess.Popen(
                [self.programs / f"swift-{kind}-server", config],
                env={**os.environ, "SWIFT_DIR": str(self.folder), "PYTHONWARNINGS": "ignore"},
                stdout=log,
                stderr=log,
            )
        self._started.append(process)

    def _await(self):
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/healthcheck", timeout=1.0):
                    return
            except OSError as error:
                if time.monotonic() > deadline or any(process.poll() for process in self._started):
                    logs = "".join(path.read_text() for path in self.folder.glob("*.log"))
                    raise RuntimeError(f"Swift does not start: {logs}") from error
                time.sleep(0.1)
