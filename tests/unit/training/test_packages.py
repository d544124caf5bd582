"""pip runs for real, without a network: from wheels that are made here."""

import os
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

from modelyard.core.layout import JobLayout
from modelyard.testing.trees import write_tree
from modelyard.training import packages, supervisor

DRIVER = """
import json, os, sys
from pathlib import Path
from modelyard.core.errors import InstallError
from modelyard.core.layout import JobLayout
from modelyard.training import packages, supervisor

layout = JobLayout(Path(sys.argv[1]))
try:
    said = packages.install(layout, os.environ, supervisor.run, isolated=sys.argv[2] == "isolated")
except InstallError as error:
    said = f"InstallError: {error}"
(layout.base / "said").write_text(said)
"""

BACKEND = """
import time, zipfile
from pathlib import Path

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    {body}
    info = "mine-1.0.dist-info"
    with zipfile.ZipFile(Path(wheel_directory, "mine-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("mine/__init__.py", "WORD = 'mine'")
        wheel.writestr(f"{{info}}/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 1.0\\n")
        wheel.writestr(f"{{info}}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{{info}}/RECORD", "")
    return "mine-1.0-py3-none-any.whl"
"""
PYPROJECT = b"[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']"


def tiny(version):
    """Return the files of an installed distribution of one module."""
    info = f"tiny-{version}.dist-info"
    return {
        "tiny.py": f"VERSION = {version!r}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as wheel:
            for name, content in tiny(version).items():
                wheel.writestr(name, content)
    return folder


@pytest.fixture
def parent(tmp_path):
    """Make a Python environment that has modelyard, pip and an old package, as a user's may."""
    folder = tmp_path / "parent"
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "ours.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in ours))
    write_tree(site, {name: content.encode() for name, content in tiny("1.0").items()})
    return folder


def listing(folder):
    return sorted(
        (str(path), path.stat().st_mtime_ns)
        for path in Path(folder).rglob("*")
        if "__pycache__" not in path.parts
    )


class Installation:
    def __init__(self, process, base):
        self.process = process
        self.layout = JobLayout(base)

    @property
    def said(self):
        assert self.process.popen.wait(90) == 0, self.process.stderr
        return (self.layout.base / "said").read_text()

    def script(self, source):
        """Return what Python source prints under the interpreter that the installation named."""
        done = subprocess.run([self.said, "-c", source], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def install(base, start, tmp_path, wheels):
    """Install what a source asks for, in a process of its own under some environment's Python."""

    def call(files, *, how="isolated", prefix=sys.prefix, **environ):
        write_tree(base.code, files)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
        own = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}  # pip leaves files when it is ended.
        python = str(Path(prefix, "bin", "python"))
        argv = (python, "-c", DRIVER, str(base.folder), how)
        become = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
        process = start("-c", become, *argv, env=kept | offline | own | environ)
        return Installation(process, base.folder)

    return call


def requirements(*lines):
    return {"requirements.txt": "\n".join(lines).encode()}


def project(body="pass"):
    return {"pyproject.toml": PYPROJECT, "backend.py": BACKEND.format(body=body).encode()}


# -- what is installed where ---------------------------------------------------------------------


NOTHING = {
    "no file": {},
    "no requirement": {"requirements.txt": b"\n# torch\n  \n"},
    "settings of tools": {"pyproject.toml": b"[tool.ruff]\nline-length = 100"},
}


@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize("files", NOTHING.values(), ids=NOTHING)
def test_nothing_to_install_costs_nothing(base, files, isolated):
    layout = JobLayout(base.folder)
    write_tree(base.code, files)
    before = listing(base.folder)
    assert packages.install(layout, os.environ, supervisor.run, isolated=isolated) == sys.executable
    assert listing(base.folder) == before


def test_what_is_newer_is_installed_beside_the_users_environment_and_goes_first(install, parent):
    before = listing(parent)
    done = install(requirements("tiny>=2"), prefix=parent)
    assert done.said == str(done.layout.environment / "bin" / "python")
    assert listing(parent) == before
    assert "Successfully installed tiny-2.0" in done.process.stdout
    assert done.script("import tiny; print(tiny.VERSION)") == "2.0"


def test_what_the_user_has_is_not_installed_again(install, parent):
    done = install(requirements("tiny", "attrs"), prefix=parent)
    place = done.script("import tiny, attrs; print(tiny.VERSION, tiny.__file__)")
    assert place == f"1.0 {next(parent.glob('lib/*/site-packages'))}/tiny.py"
    assert "Requirement already satisfied: attrs" in done.process.stdout
    assert list(done.layout.environment.glob("lib/*/site-packages/*.dist-info")) == []


def test_the_script_sees_all_that_the_user_has_editable_installs_too(install):
    done = install(requirements("tiny"))
    ours = "import modelyard, numpy; print(modelyard.__file__, numpy.__file__)"
    assert done.script(ours) == subprocess.check_output([sys.executable, "-c", ours], text=True).strip()


def test_a_job_that_starts_again_finds_its_packages(install):
    install(requirements("tiny")).script("import tiny")
    again = install(requirements("tiny"))
    again.script("import tiny")
    assert "Requirement already satisfied: tiny" in again.process.stdout


def test_in_a_container_packages_go_where_pip_puts_them(install, parent):
    names = ("pip.py", "platform.py", "typing.py")
    not_for_pip = dict.fromkeys(names, b"raise SystemExit('the user has modules of these names')")
    done = install({**not_for_pip, **requirements("tiny>=2")}, how="container", prefix=parent)
    assert done.said == str(parent / "bin" / "python")
    assert done.script("import tiny; print(tiny.VERSION)") == "2.0"
    assert not done.layout.environment.exists()


def test_an_isolated_installation_is_not_led_elsewhere(install, tmp_path):
    elsewhere = dict.fromkeys(("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"), str(tmp_path / "elsewhere"))
    done = install(requirements("tiny"), **elsewhere, PIP_USER="1")
    done.script("import tiny")
    assert not (tmp_path / "elsewhere").exists()


def test_nor_by_a_configuration_file_whose_other_settings_count(install, wheels, tmp_path):
    elsewhere = "\n".join(f"{option} = {tmp_path}/elsewhere" for option in ("target", "prefix", "root"))
    settings = f"[global]\nno-index = true\nfind-links = {wheels}\n[install]\nuser = true\n{elsewhere}\n"
    (tmp_path / "pip.conf").write_text(settings)
    own = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}
    done = install(requirements("tiny"), **own)
    place = done.script("import tiny; print(tiny.__file__)")
    assert place.startswith(f"{done.layout.environment}/")
    assert not (tmp_path / "elsewhere").exists()


def test_pips_own_variables_count(install, tmp_path):
    (tmp_path / "constraints.txt").write_text("tiny<2")
    done = install(requirements("tiny"), PIP_CONSTRAINT=str(tmp_path / "constraints.txt"))
    assert done.script("import tiny; print(tiny.VERSION)") == "1.0"


def test_a_project_is_installed_with_its_requirements(install):
    done = install({**project(), **requirements("tiny"), "pip.py": b"raise SystemExit('not pip')"})
    assert done.script("import mine, tiny; print(mine.WORD, tiny.VERSION)") == "mine 2.0"


def test_requirements_may_name_files_of_the_source(install, wheels, base):
    files = {"vendored/tiny-1.0-py3-none-any.whl": (wheels / "tiny-1.0-py3-none-any.whl").read_bytes()}
    done = install({**files, **requirements("./vendored/tiny-1.0-py3-none-any.whl")})
    assert done.script("import tiny; print(tiny.VERSION)") == "1.0"


# -- what goes wrong -----------------------------------------------------------------------------


def test_a_failure_says_what_pip_says(install):
    said = install(requirements("tiny==9")).said
    assert said.startswith(
        "InstallError: 'pip install -r requirements.txt' failed with exit code 1: "
        "ERROR: Could not find a version that satisfies the requirement tiny==9"
    )
    assert said.endswith("ERROR: No matching distribution found for tiny==9")


def test_a_build_that_fails_says_why(install):
    said = install(project("raise RuntimeError('no compiler')")).said
    assert said.startswith("InstallError: 'pip install .' failed with exit code 1: error: subprocess-exited")
    assert "RuntimeError: no compiler" in said


def test_a_failure_fits_into_a_failure_file(install):
    said = install(requirements(f"tiny=={'9' * 3000}")).said
    assert "No matching distribution" in said
    assert len(said.removeprefix("InstallError: ").encode()) <= 1024


def test_pip_that_is_missing_is_named_with_the_way_out(install, tmp_path):
    venv.create(tmp_path / "bare")
    (site,) = (tmp_path / "bare").glob("lib/python*/site-packages")
    copied = ("attr", "attrs", "pluggy", "psutil", "structlog")
    for name in copied:
        (site / name).symlink_to(Path(__import__(name).__file__).parent)
    (site / "modelyard").symlink_to(Path(packages.__file__).parents[1])
    said = install(requirements("tiny"), prefix=tmp_path / "bare").said
    assert f"environment '{tmp_path}/bare' has no pip" in said
    assert "python -m ensurepip" in said


def test_a_stop_ends_pip(install, base, tmp_path):
    started = tmp_path / "building"
    done = install(project(f"Path({str(started)!r}).touch(); time.sleep(600)"))
    _wait_for(started.exists, done)
    done.process.terminate()
    assert done.said.startswith("InstallError: 'pip install .' failed with exit code ")


def _wait_for(condition, done):
    deadline = time.monotonic() + 90
    while not condition():
        assert done.process.popen.poll() is None, done.process.stderr
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("files", "project"),
    [
        ({"setup.py": b""}, True),
        ({"pyproject.toml": b"[project]\nname = 'x'"}, True),
        ({"pyproject.toml": b"[build-system]\nrequires = []"}, True),
        ({"pyproject.toml": b"not toml"}, True),
        ({"pyproject.toml": b"[tool.black]"}, False),
        ({"setup.cfg": b""}, False),
    ],
)
def test_what_is_a_project(base, files, project):
    write_tree(base.code, files)
    assert packages.is_project(base.code) == project


# -- activation ----------------------------------------------------------------------------------


def test_shell_scripts_find_the_interpreter_of_the_job_first(install):
    done = install(requirements("tiny"))
    environ = os.environ | packages.activation(done.said, os.environ)
    asked = ["sh", "-c", "python -c 'import sys, tiny; print(sys.prefix)'; echo $VIRTUAL_ENV"]
    found = subprocess.run(asked, env=environ, capture_output=True, text=True, check=True).stdout
    assert found.split() == [str(done.layout.environment)] * 2


def test_without_an_environment_of_its_own_the_path_has_this_python_first():
    assert packages.activation(sys.executable, {"PATH": "/bin"}) == {
        "PATH": f"{Path(sys.executable).parent}:/bin"
    }
    assert packages.activation(sys.executable, {}) == {"PATH": str(Path(sys.executable).parent)}
