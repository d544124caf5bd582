import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from modelyard.core.contracts import EntryForm
from modelyard.core.errors import InvalidPlanError, PackagingError, StorageError
from modelyard.core.hookspecs import hookimpl
from modelyard.core.manager import PluginManager
from modelyard.core.plans import SourceCode
from modelyard.testing.trees import read_tree, write_tree
from modelyard.training import environment, source

FILES = {"train.py": b"print('new')", "lib/__init__.py": b"", "lib/net.py": b"x = 1"}
FOLDERS = ["checkpoints", "code", "input", "model", "output"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def plugins():
    return PluginManager.builtin()


@pytest.fixture
def env(base):
    """Read the environment of a job that is asked to run a program, with its source somewhere."""

    def make(program="train.py", submit_directory=None):
        asked = {"SAGEMAKER_PROGRAM": program}
        if submit_directory is not None:
            asked["SAGEMAKER_SUBMIT_DIRECTORY"] = str(submit_directory)
        found = environment.read(base.folder, asked)
        found.layout.create()
        return found

    return make


@pytest.fixture
def fetch(env, plugins):
    """Fetch a source; return what the code folder holds then."""

    def call(submit_directory=None, program="train.py"):
        found = env(program, submit_directory)
        source.fetch(found, plugins, plugins.packagers.get("tarball").create)
        return read_tree(found.layout.code)

    return call


@pytest.fixture
def folder(tmp_path):
    return write_tree(tmp_path / "my src", FILES)


@pytest.fixture
def archive(tmp_path, folder, plugins):
    packager = plugins.packagers.get("tarball").create()
    made = packager.pack_source(SourceCode("train.py", str(folder)), tmp_path / "packed").path
    return Path(shutil.copy(made, tmp_path / "my+source%41.tar.gz"))


class Elsewhere:
    """A storage of one archive, one folder and one file, none of them on this machine's paths."""

    name = "elsewhere"
    schemes = ("else",)
    content: Path

    def download(self, uri, into):
        what = self.content / uri.removeprefix("else://")
        if not what.exists():
            raise StorageError(f"nothing at {uri}")
        into.mkdir()
        if what.is_dir():
            shutil.copytree(what, into, dirs_exist_ok=True)
        else:
            shutil.copy(what, into)

    def upload(self, path, uri):
        raise NotImplementedError

    def prepare(self, uri):
        raise NotImplementedError


# -- fetching ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [str, Path.as_uri], ids=["path", "uri"])
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_folder_and_an_archive_become_the_code(request, base, fetch, kind, form):
    assert fetch(form(request.getfixturevalue(kind))) == FILES
    assert names(base.folder / "input") == ["config", "data"]
    assert names(base.folder) == FOLDERS


def test_one_file_is_a_source(fetch, folder):
    assert fetch(folder / "train.py") == {"train.py": FILES["train.py"]}


@pytest.mark.parametrize("place", ["s.tar.gz", "folder", "folder/train.py"])
def test_any_storage_can_hold_it(tmp_path, plugins, fetch, folder, archive, place):
    Elsewhere.content = tmp_path / "content"
    shutil.copytree(folder, Elsewhere.content / "folder")
    shutil.copy(archive, Elsewhere.content / "s.tar.gz")
    plugins.register(SimpleNamespace(modelyard_register_storages=hookimpl(lambda: (Elsewhere,))), "e")
    expected = {"train.py": FILES["train.py"]} if place.endswith(".py") else FILES
    assert fetch(f"else://{place}") == expected


def test_what_was_there_is_set_aside_and_never_lost(base, fetch, folder):
    base.script("print('stale')")
    base.script("print('image')", "own.py")
    assert fetch(folder) == FILES
    (folder / "train.py").write_text("print('newer')")
    assert fetch(folder)["train.py"] == b"print('newer')"
    assert read_tree(base.folder / "code.0") == {"train.py": b"print('stale')", "own.py": b"print('image')"}
    assert read_tree(base.folder / "code.1") == FILES


def test_setting_aside_takes_a_name_that_is_free(tmp_path):
    for name in ("code", "code.1"):
        write_tree(tmp_path / name, {name: b""})
    source._set_aside(tmp_path / "code")
    write_tree(tmp_path / "code", {"again": b""})
    source._set_aside(tmp_path / "code")
    assert read_tree(tmp_path) == {"code.0/code": b"", "code.1/code.1": b"", "code.2/again": b""}


FETCH = """
import sys
from pathlib import Path
from modelyard.core.manager import PluginManager
from modelyard.training import environment, source

base, submitted = sys.argv[1:]
asked = {"SAGEMAKER_PROGRAM": "train.py", "SAGEMAKER_SUBMIT_DIRECTORY": submitted}
env, plugins = environment.read(Path(base), asked), PluginManager.builtin()
env.layout.create()
source.fetch(env, plugins, plugins.packagers.get("tarball").create)
"""
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture
def mounted(tmp_path):
    """Run a shell script in a mount namespace of its own, then fetch a source, then list the base folder."""
    tried = subprocess.run([*NAMESPACE, "true"], check=False) if shutil.which(NAMESPACE[0]) else None
    if not tried or tried.returncode:
        pytest.skip("no mount namespace can be made here")

    def run(script, base, submitted):
        parts = ("set -e", script, '"$0" -c "$1" "$2" "$3" || true', 'cd "$2" && find . -type f')
        argv = (sys.executable, FETCH, str(base), str(submitted))
        return subprocess.run(
            [*NAMESPACE, "sh", "-c", "\n".join(parts), *argv],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_what_is_mounted_as_the_code_is_left_alone(base, mounted, folder, tmp_path):
    users = write_tree(tmp_path / "users", {"precious.py": b"1"})
    done = mounted(f"mount --bind '{users}' '{base.code}'", base.folder, folder)
    assert f"InvalidPlanError: what is mounted at '{base.code}' is in the way" in done.stderr
    assert "mount it elsewhere and name that folder with SAGEMAKER_SUBMIT_DIRECTORY" in done.stderr
    assert done.stdout == "./code/precious.py\n"
    assert read_tree(users) == {"precious.py": b"1"}


IMAGE = """
mkdir over && mount -t tmpfs tmpfs over && mkdir over/upper over/work over/base
folders=lowerdir=image,upperdir=over/upper,workdir=over/work
mount -t overlay overlay -o $folders,userxattr over/base || exit 77
"""


def in_image(mounted, tmp_path, submitted, more=""):
    write_tree(tmp_path / "image/code", {"train.py": b"old", "sub/deep.py": b"old", "users/mine.py": b"old"})
    done = mounted(IMAGE + more, tmp_path / "over" / "base", submitted)
    if done.returncode == 77:
        pytest.skip(f"no overlay can be mounted here: {done.stderr}")
    return done


def test_the_code_of_an_image_is_set_aside_where_its_folders_cannot_be_renamed(mounted, folder, tmp_path):
    done = in_image(mounted, tmp_path, folder)
    assert done.stderr == ""
    assert sorted(done.stdout.split()) == [
        *("./code.0/sub/deep.py", "./code.0/train.py", "./code.0/users/mine.py"),
        *("./code/lib/__init__.py", "./code/lib/net.py", "./code/train.py"),
    ]
    assert read_tree(tmp_path / "image/code")["train.py"] == b"old"


def test_what_is_mounted_in_the_code_of_an_image_loses_nothing(mounted, folder, tmp_path):
    users = write_tree(tmp_path / "users", {"precious.py": b"1"})
    done = in_image(mounted, tmp_path, folder, f"mount --bind '{users}' over/base/code/users")
    assert f"what is mounted at '{tmp_path}/over/base/code/users' is in the way" in done.stderr
    assert "./code/users/precious.py" in done.stdout.split()
    assert read_tree(users) == {"precious.py": b"1"}


@pytest.mark.parametrize("form", ["default", "path", "uri", "link"])
def test_a_source_that_is_the_code_folder_stays_as_it_is(base, fetch, tmp_path, form):
    base.script("print('mine')")
    (tmp_path / "link").symlink_to(base.code)
    forms = {"default": None, "path": f"{base.code}/", "uri": base.code.as_uri(), "link": tmp_path / "link"}
    before = (base.code / "train.py").stat().st_ino
    assert fetch(forms[form]) == {"train.py": b"print('mine')"}
    assert (base.code / "train.py").stat().st_ino == before
    assert names(base.folder) == FOLDERS


@pytest.mark.parametrize("place", ["src", "s.tar.gz"])
def test_a_source_may_lie_in_the_code_folder(base, fetch, folder, archive, place):
    shutil.copytree(folder, base.code / "src")
    shutil.copy(archive, base.code / "s.tar.gz")
    assert fetch(base.code / place) == FILES
    assert (base.folder / "code.0" / "s.tar.gz").is_file()


def test_a_source_with_the_job_in_it_is_refused(base, fetch):
    base.script("print('mine')")
    with pytest.raises(InvalidPlanError, match="has the job's own folder .* in it: name the folder"):
        fetch(base.folder.parent)
    assert read_tree(base.code) == {"train.py": b"print('mine')"}


def test_a_source_that_is_not_there(base, fetch, tmp_path):
    base.script("print('mine')")
    with pytest.raises(InvalidPlanError, match="the source '.*/sorce' does not exist"):
        fetch(tmp_path / "sorce")
    assert read_tree(base.code) == {"train.py": b"print('mine')"}


def test_what_cannot_be_fetched_leaves_the_code_where_it_was(base, fetch, tmp_path):
    base.script("print('mine')")
    (tmp_path / "s.tar.gz").write_bytes(b"no archive")
    with pytest.raises(PackagingError, match="s.tar.gz"):
        fetch(tmp_path / "s.tar.gz")
    with pytest.raises(StorageError, match="unknown scheme 'fil'"):
        fetch("fil:///x.tar.gz")
    assert read_tree(base.folder / "code") == {"train.py": b"print('mine')"}
    assert names(base.folder) == FOLDERS


def test_a_folder_comes_as_a_client_would_pack_it(fetch, folder):
    write_tree(folder, {".git/config": b"", "__pycache__/x.pyc": b""})
    assert fetch(folder) == FILES
    with pytest.raises(PackagingError, match="'trian.py' is not in source_dir .* did you mean 'train.py'"):
        fetch(folder, program="trian.py")


# -- the program ---------------------------------------------------------------------------------


@pytest.fixture
def entry(base, env):
    """Return the entry point of a program in a code folder with these files."""

    def make(program, files):
        write_tree(base.code, files)
        return source.entry_point(env(program), ("--lr", "1"), "/a/python")

    return make


def run(entry):
    entry = attrs.evolve(entry, interpreter=sys.executable)
    done = subprocess.run(entry.argv, cwd=entry.code_dir, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


PACKAGE = {
    "pkg/__init__.py": b"",
    "pkg/deep/__init__.py": b"",
    "pkg/deep/train.py": b"import sys; from ..word import WORD; print(WORD, *sys.argv[1:])",
    "pkg/word.py": b"WORD = 'relative'",
    "train.py": b"print('script')",
    "plain/train.py": b"print('script')",
}


@pytest.mark.parametrize(
    ("program", "form", "said"),
    [
        ("train.py", EntryForm.SCRIPT, "script\n"),
        ("plain/train.py", EntryForm.SCRIPT, "script\n"),
        ("plain\\train.py", EntryForm.SCRIPT, "script\n"),
        ("./plain/../train.py", EntryForm.SCRIPT, "script\n"),
        ("-m pkg.deep.train", EntryForm.MODULE, "relative --lr 1\n"),
        ("  -m\t pkg.deep.train ", EntryForm.MODULE, "relative --lr 1\n"),
    ],
)
def test_python_is_run_as_a_script_or_a_module(entry, program, form, said):
    found = entry(program, PACKAGE)
    assert (found.form, found.interpreter) == (form, "/a/python")
    assert run(found) == said


PROJECT = {"pyproject.toml": b"[project]\nname = 'pkg'"}


@pytest.mark.parametrize("project", [PROJECT, {"setup.py": b""}], ids=str)
def test_a_script_in_a_package_of_a_project_runs_as_its_module(entry, project):
    found = entry("pkg/deep/train.py", {**PACKAGE, **project})
    assert (found.form, found.program) == (EntryForm.MODULE, "pkg.deep.train")
    assert run(found) == "relative --lr 1\n"


def test_without_a_project_a_script_in_a_package_stays_a_script(entry):
    assert entry("pkg/deep/train.py", PACKAGE).form == EntryForm.SCRIPT


@pytest.mark.parametrize("program", ["train.py", "plain/train.py"])
def test_a_script_of_a_project_in_no_package_stays_a_script(entry, program):
    assert entry(program, {**PACKAGE, **PROJECT}).form == EntryForm.SCRIPT


def test_a_package_below_a_folder_that_is_none_starts_there(entry):
    found = entry("src/pkg/train.py", {"src/pkg/__init__.py": b"", "src/pkg/train.py": b"", "setup.py": b""})
    assert found.program == "pkg.train"


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("train.sh", b'echo "$@"', EntryForm.SHELL),
        ("train.sh", b'#!/bin/sh\necho "$@"', EntryForm.EXECUTABLE),
        ("bin/train", b'#!/usr/bin/env sh\necho "$@"', EntryForm.EXECUTABLE),
        ("empty.sh", b"", EntryForm.SHELL),
    ],
)
def test_other_programs_run_by_the_shell_or_by_themselves(base, entry, name, content, form):
    found = entry(name, {name: content})
    assert found.form == form
    assert run(found) == ("--lr 1\n" if content else "")
    executable = bool((base.code / name).stat().st_mode & stat.S_IXUSR)
    assert executable == (form is EntryForm.EXECUTABLE)


@pytest.mark.parametrize("first", ["#!/no/such/python -u", "#! /no/such/python", "#!"])
def test_an_interpreter_that_is_not_there_is_named(entry, first):
    found = entry("run.bin", {"run.bin": f"{first}\n".encode()})
    named = (first.removeprefix("#!").split() or [""])[0]
    with pytest.raises(
        InvalidPlanError, match=f"'run.bin' is to be run by '{named}', as its first line says"
    ):
        source.check_interpreter(found)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run", b"#!/bin/sh -e\n"),
        ("run", b"#! own/sh\n"),
        ("run", b"\x7fELF"),
        ("run.sh", b""),
        ("run.py", b"#!/no/such/python"),
    ],
)
def test_an_interpreter_that_is_there_or_not_needed(entry, name, content):
    files = {name: content, "own/sh": b""}
    found = entry(name, files)
    (found.code_dir / "own/sh").chmod(0o700)
    source.check_interpreter(found)


@pytest.mark.skipif(sys.platform != "linux", reason="ELF is Linux's")
def test_a_binary_runs_by_itself(entry):
    found = entry("echo", {"echo": Path(shutil.which("echo")).read_bytes()})
    assert found.form is EntryForm.EXECUTABLE
    assert run(found) == "--lr 1\n"


def test_only_the_owner_is_given_the_right_to_run_it(base, entry):
    path = base.code / "run"
    path.write_bytes(b"#!/bin/sh\n")
    path.chmod(0o640)
    entry("run", {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o740


def refused(entry, program, files=PACKAGE):
    with pytest.raises(InvalidPlanError) as caught:
        entry(program, files)
    return str(caught.value)


def test_a_program_that_cannot_be_run_is_told_how(entry):
    said = refused(entry, "train.txt", {"train.txt": b"hello"})
    assert said.startswith("cannot tell how to run 'train.txt': name a file that ends in .py or .sh")


@pytest.mark.parametrize("content", [b"#!/bin/sh\r\necho\r\n", b"echo\r\n"])
def test_the_line_ends_of_windows_are_named(entry, content):
    assert "end as on Windows" in refused(entry, "train.sh", {"train.sh": content})


def test_a_program_that_is_not_there(entry):
    files = {**PACKAGE, ".git/trian.py": b"", "__pycache__/trian.py": b""}
    said = refused(entry, "plain/trian.py", files)
    assert "the program 'plain/trian.py' is not in " in said
    assert "did you mean 'plain/train.py'? Known: " in said
    assert "__pycache__" not in said
    assert ".git" not in said


def test_a_folder_is_no_program(entry):
    assert "'pkg' is a folder: name a script in it" in refused(entry, "pkg")


@pytest.mark.parametrize("program", ["../train.py", "/etc/passwd", "pkg/../../train.py", "..\\train.py"])
def test_a_program_outside_of_the_code_folder_is_refused(entry, program):
    assert "is outside source_dir" in refused(entry, program)


def test_an_absolute_path_in_the_code_folder_is_taken(base, entry):
    assert entry(str(base.code / "plain/train.py"), PACKAGE).program == "plain/train.py"


def test_a_module_that_is_not_there(entry):
    said = refused(entry, "-m pkg.deep.trian")
    assert said.startswith("module 'pkg.deep.trian' is not in the source; did you mean 'pkg.deep.train'?")


def test_a_module_that_is_installed_needs_no_source(entry):
    assert entry("-m json.tool", {}).program == "json.tool"


def test_a_module_may_come_with_what_pip_installs(entry):
    assert entry("-m their.training", {"requirements.txt": b"their"}).form is EntryForm.MODULE


def test_a_package_that_is_here_is_looked_into_whatever_pip_installs(entry):
    files = {**PACKAGE, "requirements.txt": b"x"}
    assert "did you mean 'pkg.word'" in refused(entry, "-m pkg.wrod", files)
