"""What ``modelyard plugins new`` writes is installed, and passes its tests, without an edit."""

import email
import os
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from modelyard.cli.plugins.new import facts_of, skeleton, write

PATIENCE = 110
KINDS = {
    "codec": "yaml",
    "hardware": "gaudi",
    "launcher": "my_launcher",
    "packager": "small",
    "storage": "nas",
    "middleware": "timing",
}


@pytest.fixture
def new(tmp_path):
    """Write a skeleton, and install it as pip would: from its pyproject.toml, without a network."""

    def make(kind, name):
        folder = tmp_path / "new"
        write(dict(skeleton(kind, facts_of(kind, name))), folder)
        install(folder, tmp_path / "site")
        return folder

    return make


def install(folder, site):
    """Leave behind what an editable installation does: a path, and the distribution's metadata."""
    about = tomllib.loads((folder / "pyproject.toml").read_text())
    project = about["project"]
    (package,) = about["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert (folder / package / "plugin.py").is_file()
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    metadata = email.message.Message()
    metadata["Metadata-Version"], metadata["Name"] = "2.1", project["name"]
    metadata["Version"] = project["version"]
    (info / "METADATA").write_text(str(metadata))
    points = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["modelyard"].items())
    (info / "entry_points.txt").write_text(f"[modelyard]\n{points}")


def run(folder, *command):
    """Run a program where the skeleton is installed; return what it says."""
    path = os.pathsep.join((str(folder / "src"), str(folder.parent / "site"), *filter(None, sys.path)))
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_its_tests(new, kind):
    folder = new(kind, KINDS[kind])
    summary = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider").splitlines()[-1]
    assert "passed" in summary


def test_a_new_backend_passes_its_tests(new):
    folder = new("backend", "yard")
    # A job and an endpoint of each: the rest is what local's own contract shows.
    some = "TestPlugin or limit or well_formed or has_a_name or job_completes or endpoint_answers"
    summary = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", some).splitlines()[-1]
    assert "passed" in summary


def test_a_new_plugin_is_found_and_keeps_its_promises(new):
    folder = new("codec", "yaml")
    listed = [line.split() for line in run(folder, "-m", "modelyard", "plugins", "list").splitlines()]
    assert ["codec", "yaml", "modelyard-yaml", "0.1.0", "active", "application/x-yaml"] in listed
    shown = run(folder, "-m", "modelyard", "plugins", "show", "yaml")
    assert "    sort_keys: bool = False" in shown.splitlines()
    checked = run(folder, "-m", "modelyard", "plugins", "check", "yaml").splitlines()
    assert [line.partition(":")[0] for line in checked if not line.startswith(" ")] == [
        *("plugin yaml", "plugin yaml", "codec yaml", "codec yaml")
    ]


@pytest.mark.parametrize("kind", [*KINDS, "backend"])
def test_new_code_is_clean(tmp_path, kind):
    if find_spec("ruff") is None:
        pytest.skip("ruff is not installed")
    folder = tmp_path / "new"
    write(dict(skeleton(kind, facts_of(kind, "some_name"))), folder)
    ruff = (sys.executable, "-m", "ruff")
    rules = "--select=ALL", "--ignore=ANN401,ARG002,COM812,CPY,D,EM,INP001,PLC0415,PLR2004,S101,TRY003"
    for check in (("check", "--isolated", *rules), ("format", "--isolated", "--diff")):
        done = subprocess.run([*ruff, *check, "."], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_its_files_are_those_of_a_distribution(new):
    folder = new("codec", "yaml")
    about = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert about["entry-points"] == {"modelyard": {"yaml": "modelyard_yaml.plugin"}}
    assert about["optional-dependencies"]["test"] == ["modelyard[test]"]
    assert Path(folder, about["readme"]).read_text().startswith("# modelyard-yaml\n")
