"""pip runs for real, without a network: from wheels that are made here."""

import json
import os
import signal
import subprocess
import sys
import time
import venv
import zipfile

import psutil
import pytest

from modelyard.core.handover import LISTEN_FD
from modelyard.testing.trees import write_tree

PATIENCE = 60.0
"""Seconds that a wait may take before its test fails: for slow machines, never used up on success."""

SERVER = """
import json, os, sys
from pathlib import Path
from modelyard.core.errors import InstallError
from modelyard.serving.model import folder as model_folder, packages

base = Path(sys.argv[1])
into = base / "environment" if sys.argv[2] == "isolated" else None
folder = model_folder.find(base / "model", None, base)
try:
    packages.provide(folder, into=into, timeout=float(sys.argv[3]))
except InstallError as error:
    sys.exit(f"InstallError: {error}")
try:
    import tiny
except ImportError:
    tiny = None
print("SERVING", json.dumps({
    "pid": os.getpid(),
    "prefix": sys.prefix,
    "argv": sys.argv[1:],
    "flags": sys.flags.safe_path,
    "tiny": tiny and tiny.VERSION,
    "environ": dict(os.environ),
}))
"""

BUILD = """
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path({started!r}).touch()
time.sleep(600)
"""
SLOW = {
    "code/slow/pyproject.toml": (
        b"[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']"
    ),
    "code/requirements.txt": b"./slow",
}


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, version in (("tiny", "1.0"), ("tiny", "2.0"), ("attrs", "20.1.0")):
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", f"VERSION = {version!r}")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def parent(tmp_path):
    """Make a Python environment that sees this one's packages, as a user's or a container's may be."""
    folder = tmp_path / "parent"
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "ours.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in ours))
    return folder


class Server:
    def __init__(self, popen, log):
        self.popen = popen
        self._log = log

    @property
    def said(self):
        return self._log.read_text()

    @property
    def code(self):
        return self.popen.wait(PATIENCE)

    @property
    def serving(self):
        """What the program says of itself once it has its packages."""
        assert self.code == 0, self.said
        (line,) = (line for line in self.said.splitlines() if line.startswith("SERVING "))
        return json.loads(line.removeprefix("SERVING "))


@pytest.fixture
def serve(tmp_path, wheels, parent):
    """Run the start of an endpoint over these files, under a Python environment of a user's."""
    started = []

    def start(files, how="isolated", timeout="600", **environ):
        base = write_tree(tmp_path / "base", {f"model/{name}": content for name, content in files.items()})
        (tmp_path / "server.py").write_text(SERVER)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
        own = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}  # pip leaves files when it is ended.
        argv = [parent / "bin" / "python", "-P", tmp_path / "server.py", base, how, timeout]
        log = tmp_path / "log"
        with log.open("wb") as file:
            popen = subprocess.Popen(argv, env=kept | offline | own | environ, stdout=file, stderr=file)
        started.append(popen)
        return Server(popen, log)

    yield start
    for popen in started:
        if popen.poll() is None:
            popen.kill()
            popen.wait(PATIENCE)


def model(*requirements):
    return {"code/inference.py": b"", "code/requirements.txt": "\n".join(requirements).encode()}


def wait_for(condition, server):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert server.popen.poll() is None, server.said
        assert time.monotonic() < deadline, server.said
        time.sleep(0.02)


# -- what is installed where ---------------------------------------------------------------------


def test_without_requirements_the_program_goes_on(serve, tmp_path):
    serving = serve({"code/inference.py": b""}).serving
    assert (serving["prefix"], serving["tiny"]) == (str(tmp_path / "parent"), None)
    assert not (tmp_path / "base" / "environment").exists()


def test_the_program_starts_anew_in_an_environment_of_its_own(serve, parent, tmp_path):
    before = sorted(parent.rglob("*.py"))
    server = serve(model("tiny"), **{LISTEN_FD: "7", "MINE": "kept"})
    serving = server.serving
    environment = str(tmp_path / "base" / "environment")
    assert (serving["prefix"], serving["tiny"]) == (environment, "2.0")
    # The same process, as its guard and its socket need it, and the same command.
    assert serving["pid"] == server.popen.pid
    assert serving["argv"] == [str(tmp_path / "base"), "isolated", "600"]
    assert serving["flags"] is True
    environ = serving["environ"]
    assert (environ[LISTEN_FD], environ["MINE"], environ["VIRTUAL_ENV"]) == ("7", "kept", environment)
    assert environ["PATH"].startswith(f"{environment}/bin:")
    assert "MODELYARD_SERVE_PACKAGES_INSTALLED" not in environ
    assert sorted(parent.rglob("*.py")) == before
    assert "Successfully installed tiny-2.0" in server.said


def test_in_a_container_packages_go_where_pip_puts_them(serve, parent, tmp_path):
    serving = serve(model("tiny<2"), "container").serving
    assert (serving["prefix"], serving["tiny"]) == (str(parent), "1.0")
    assert list(parent.glob("lib/*/site-packages/tiny.py"))
    assert not (tmp_path / "base" / "environment").exists()


def test_requirements_may_name_files_of_the_code(serve, wheels):
    wheel = "tiny-1.0-py3-none-any.whl"
    files = {**model(f"./{wheel}"), f"code/{wheel}": (wheels / wheel).read_bytes()}
    assert serve(files).serving["tiny"] == "1.0"


def test_a_constraint_of_the_users_counts_beside_ours(serve, tmp_path):
    (tmp_path / "mine.txt").write_text("tiny<2")
    serving = serve(model("tiny"), PIP_CONSTRAINT=str(tmp_path / "mine.txt")).serving
    assert serving["tiny"] == "1.0"


# -- what goes wrong -----------------------------------------------------------------------------


def test_a_failure_names_the_requirement_and_pips_reason(serve):
    server = serve(model("tiny==9"))
    assert server.code == 1
    (said,) = (line for line in server.said.splitlines() if line.startswith("InstallError: "))
    assert said.startswith("InstallError: the packages that the model's code asks for were not installed: ")
    assert "'pip install -r requirements.txt' failed with exit code 1: " in said
    assert said.endswith("ERROR: No matching distribution found for tiny==9")


@pytest.mark.parametrize("how", ["isolated", "container"])
def test_what_the_server_itself_needs_is_not_replaced_by_less(serve, how):
    server = serve(model("attrs==20.1.0"), how)
    assert server.code == 1
    (said,) = (line for line in server.said.splitlines() if line.startswith("InstallError: "))
    assert "Cannot install attrs==20.1.0 because these package versions have conflicting" in said
    assert ". The model server needs attrs>=" in said
    assert len(said.removeprefix("InstallError: ").encode()) <= 1024


def slow(tmp_path):
    """Return a model whose requirement never gets built, and the file by which its build shows itself."""
    started = tmp_path / "building"
    source = BUILD.format(started=str(started)).encode()
    return {**SLOW, "code/inference.py": b"", "code/slow/backend.py": source}, started


def left_behind(tmp_path):
    """Return the processes that pip or its build have left running."""
    return [
        process
        for process in psutil.process_iter(["environ", "status"])
        if (process.info["environ"] or {}).get("HOME") == str(tmp_path)
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def test_pip_is_ended_where_it_takes_too_long(serve, tmp_path):
    files, _ = slow(tmp_path)
    server = serve(files, timeout="3")
    assert server.code == 1
    assert "InstallError: the packages that the model's code asks for were not installed" in server.said
    assert ": pip had not finished after 3 s, the time that the model has to start" in server.said
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_pip_and_the_program_in_good_order(serve, tmp_path, sig):
    files, started = slow(tmp_path)
    server = serve(files)
    wait_for(started.exists, server)
    server.popen.send_signal(sig)
    assert server.code == 0
    assert left_behind(tmp_path) == []
    assert "Traceback" not in server.said
    assert list(tmp_path.glob("constraints-*")) == []


def test_a_build_that_fails_is_named_and_says_why(serve):
    files = {**SLOW, "code/inference.py": b"", "code/slow/backend.py": b"raise RuntimeError('no compiler')"}
    server = serve(files)
    assert server.code == 1
    said = server.said.rpartition("InstallError: ")[2]
    assert "(it ended at 'Processing ./slow'): 'pip install" in said
    assert "RuntimeError: no compiler" in said
