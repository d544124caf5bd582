import gzip
import hashlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidPlanError, PackagingError, UnsafeArchiveError
from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.canonical_tar import _header
from modelyard.plugins.packagers.entries import Entry, EntryKind
from modelyard.plugins.packagers.ignoring import EXCLUDES
from modelyard.plugins.packagers.manifest import entries_of
from modelyard.plugins.packagers.plugin import modelyard_register_packagers
from modelyard.plugins.packagers.tarball import TarballPackager
from modelyard.testing.trees import names_in, new_folder, read_tree, write_tree

FILES = {"train.py": b"1\n", "lib/__init__.py": b"", "lib/net.py": b"2\n"}
MODEL = {"model.pth": b"w" * 5000, "code/inference.py": b"old", "code/helper.py": b"old"}


@pytest.fixture
def packager():
    return TarballPackager()


@pytest.fixture
def src(tmp_path):
    return write_tree(tmp_path / "src", FILES)


@pytest.fixture
def out(tmp_path):
    return new_folder(tmp_path / "out")


@pytest.fixture
def refuse(packager, out):
    """Check that a source is refused and nothing is left of the attempt; return the message."""

    def call(*arguments):
        with pytest.raises(PackagingError) as caught:
            packager.pack_source(SourceCode(*arguments), out)
        assert names_in(out) == []
        return str(caught.value)

    return call


def packed(bundle):
    """Return the content of each file of an archive by its name, in order."""
    with tarfile.open(bundle.path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}


def test_hook_registers_it():
    assert modelyard_register_packagers() == (TarballPackager,)


def test_plugin_is_loaded_without_the_packager():
    program = (
        "import sys, modelyard.plugins.packagers.plugin\n"
        "assert 'modelyard.plugins.packagers.tarball' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "options",
    [
        {"compression_level": 10},
        {"compression_level": True},
        {"max_entries": 0},
        {"max_ratio": "200"},
        {"max_unpacked_bytes": -1},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(InvalidPlanError, match=next(iter(options))):
        TarballPackager(**options)


# -- sources -------------------------------------------------------------------------------------


def test_source_archive_holds_the_content_of_the_folder(packager, src, out):
    bundle = packager.pack_source(SourceCode("train.py", str(src)), out)
    assert bundle.path == out / "sourcedir.tar.gz"
    assert packed(bundle) == FILES
    assert (bundle.files, bundle.size) == (3, bundle.path.stat().st_size)


def test_names_are_sorted(packager, src, out):
    bundle = packager.pack_source(SourceCode("train.py", str(src)), out)
    assert list(packed(bundle)) == sorted(FILES)


def test_headers_say_nothing_but_name_size_and_x_bit(packager, src, out):
    (src / "train.py").chmod(0o4711)
    (src / "lib/net.py").chmod(0o600)
    with tarfile.open(packager.pack_source(SourceCode("train.py", str(src)), out).path) as tar:
        members = list(tar)
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 0)}
    assert [m.mode for m in members] == [0o644, 0o644, 0o755]


def test_gzip_header_has_neither_time_nor_name(packager, src, out):
    data = packager.pack_source(SourceCode("train.py", str(src)), out).path.read_bytes()
    assert data[:8] == b"\x1f\x8b\x08\x00\0\0\0\0"
    assert data[9] == 3


def test_digest_is_of_the_tar(packager, src, out):
    bundle = packager.pack_source(SourceCode("train.py", str(src)), out)
    assert bundle.digest == hashlib.sha256(gzip.decompress(bundle.path.read_bytes())).hexdigest()


def test_digest_does_not_depend_on_the_compression(src, tmp_path):
    bundles = [
        TarballPackager(compression_level=level).pack_source(
            SourceCode("train.py", str(src)), tmp_path / str(level)
        )
        for level in (0, 1, 9)
    ]
    assert len({bundle.digest for bundle in bundles}) == 1
    assert len({bundle.size for bundle in bundles}) > 1


def test_same_content_gives_the_same_bytes(packager, src, tmp_path):
    copy = write_tree(tmp_path / "copy", dict(reversed(FILES.items())), mtime=1)
    one = packager.pack_source(SourceCode("train.py", str(src)), tmp_path / "1")
    other = packager.pack_source(SourceCode("train.py", str(copy)), tmp_path / "2")
    assert one.path.read_bytes() == other.path.read_bytes()


def test_x_bit_is_content(packager, src, tmp_path):
    one = packager.pack_source(SourceCode("train.py", str(src)), tmp_path / "1")
    (src / "train.py").chmod(0o755)
    assert one.digest != packager.pack_source(SourceCode("train.py", str(src)), tmp_path / "2").digest


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar on this machine")
def test_tar_lists_it(packager, src, out):
    write_tree(src, {"n" * 120 + "/" + "é" * 60: b"long"})
    bundle = packager.pack_source(SourceCode("train.py", str(src)), out)
    listing = subprocess.run(["tar", "tzf", bundle.path], capture_output=True, check=True, text=True)
    assert listing.stderr == ""
    assert len(listing.stdout.splitlines()) == 4
    assert listing.stdout.splitlines()[0] == "lib/__init__.py"


def test_excludes_at_every_level(packager, src, out):
    left_out = [
        ".git/config", ".hg/x", ".svn/x", "__pycache__/a.pyc", "lib/__pycache__/b.pyc", "c.pyc", ".venv/x",
        "venv/x", ".env", ".env.local", "lib/.env", ".aws/credentials", ".ssh/id_rsa", "node_modules/x",
        ".ipynb_checkpoints/x", ".DS_Store", "lib/.DS_Store", "a.egg-info/PKG-INFO",
    ]  # fmt: skip
    write_tree(src, dict.fromkeys(left_out, b"secret"))
    write_tree(src, {".gitignore": b"kept", "environment.py": b"kept"})
    bundle = packager.pack_source(SourceCode("train.py", str(src)), out)
    assert set(packed(bundle)) == {*FILES, ".gitignore", "environment.py"}


def test_every_exclude_is_tested():
    import inspect

    text = inspect.getsource(test_excludes_at_every_level)
    assert [pattern for pattern in EXCLUDES if pattern.strip("*") not in text] == []


def test_empty_folder_is_kept(packager, src, out, tmp_path):
    (src / "checkpoints").mkdir()
    bundle = packager.pack_source(SourceCode("train.py", str(src)), out)
    packager.unpack(bundle.path, tmp_path / "into")
    assert (tmp_path / "into/checkpoints").is_dir()
    assert bundle.files == 3


@pytest.mark.parametrize("entry_point", ["lib/net.py", "./lib/net.py", "lib/../lib/net.py"])
def test_entry_point_below_the_folder(packager, src, out, entry_point):
    assert packed(packager.pack_source(SourceCode(entry_point, str(src)), out)) == FILES


def test_entry_point_with_the_separators_of_windows(packager, src, out):
    assert packed(packager.pack_source(SourceCode("lib\\net.py", str(src)), out)) == FILES


def test_module_as_entry_point(packager, src, out, tmp_path):
    assert packed(packager.pack_source(SourceCode("-m lib.net", str(src)), out)) == FILES
    write_tree(tmp_path / "common", {"run.py": b"3"})
    beside = SourceCode("-m common.run", str(src), (str(tmp_path / "common"),))
    assert packed(packager.pack_source(beside, out)) == {**FILES, "common/run.py": b"3"}


@pytest.mark.parametrize(
    ("source_dir", "said"),
    [
        ("src", "module 'lib.nett' is not in the source; did you mean 'lib.net'?"),
        (None, "entry point '-m lib.nett' is a module: pass the folder"),
    ],
)
def test_module_that_is_not_there(packager, src, out, source_dir, said):
    with pytest.raises(InvalidPlanError, match=re.escape(said)):
        packager.pack_source(SourceCode("-m lib.nett", source_dir and str(src)), out)
    assert names_in(out) == []


def test_entry_point_alone_may_be_a_uri(packager, src, out):
    (src / "my net.py").write_bytes(b"3")
    source = SourceCode((src / "my net.py").as_uri())
    assert list(packed(packager.pack_source(source, out))) == [source.program]


def test_absolute_entry_point_in_the_folder(packager, src, out):
    assert packed(packager.pack_source(SourceCode(str(src / "train.py"), str(src)), out)) == FILES


def test_source_dir_may_be_a_link(packager, src, out, tmp_path):
    (tmp_path / "link").symlink_to(src)
    for entry_point in ("train.py", str(tmp_path / "link/train.py"), str(src / "train.py")):
        assert packed(packager.pack_source(SourceCode(entry_point, str(tmp_path / "link")), out)) == FILES


def test_relative_paths_are_of_the_current_folder(packager, src, out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path, {"common/a.py": b"3"})
    bundle = packager.pack_source(SourceCode("train.py", "src", ("common/",)), out)
    assert packed(bundle) == {**FILES, "common/a.py": b"3"}


def test_file_uris(packager, src, out, tmp_path):
    folder = shutil.copytree(src, tmp_path / "wïth space")
    assert packed(packager.pack_source(SourceCode("train.py", folder.as_uri()), out)) == FILES


def test_entry_point_alone(packager, src, out):
    assert packed(packager.pack_source(SourceCode(str(src / "lib/net.py")), out)) == {"net.py": b"2\n"}


def test_archive_as_source_has_the_digest_of_its_folder(packager, src, tmp_path, out):
    with tarfile.open(tmp_path / "mine.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.add(src, arcname=".")
    for location in (str(tmp_path / "mine.tar.gz"), (tmp_path / "mine.tar.gz").as_uri()):
        bundle = packager.pack_source(SourceCode("train.py", location), out)
        assert packed(bundle) == FILES
        assert names_in(out) == ["sourcedir.tar.gz"]
        assert bundle.digest == packager.pack_source(SourceCode("train.py", str(src)), tmp_path / "2").digest


def test_archive_as_source_is_taken_whole(packager, tmp_path, out):
    mine = packager.pack_tree(
        write_tree(tmp_path / "a", {**FILES, ".env": b"kept"}), tmp_path / "mine.tar.gz"
    )
    bundle = packager.pack_source(SourceCode("train.py", str(mine.path)), out)
    assert packed(bundle) == {**FILES, ".env": b"kept"}


def test_archive_as_source_without_the_entry_point(packager, src, tmp_path, refuse):
    mine = packager.pack_tree(src, tmp_path / "mine.tar.gz").path
    message = refuse("trian.py", str(mine))
    assert message.startswith(
        f"entry point 'trian.py' is not in source_dir '{mine}'; did you mean 'train.py'?"
    )


def test_hostile_archive_as_source(tmp_path, refuse):
    with tarfile.open(tmp_path / "mine.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../train.py"))
    assert "has the name '../train.py', which has a '..' in it" in refuse(
        "train.py", str(tmp_path / "mine.tar.gz")
    )


def test_file_that_is_no_archive_as_source(src, refuse):
    assert "neither .tar nor .tar.gz" in refuse("train.py", str(src / "train.py"))


def test_links_in_the_folder_become_what_they_point_to(packager, src, out):
    (src / "soft.py").symlink_to("lib/net.py")
    (src / "absolute.py").symlink_to(src / "train.py")
    (src / "copy").symlink_to("lib")
    bundle = packager.pack_source(SourceCode("soft.py", str(src)), out)
    links = {"soft.py": b"2\n", "absolute.py": b"1\n", "copy/__init__.py": b"", "copy/net.py": b"2\n"}
    assert packed(bundle) == FILES | links


def test_hard_links_in_the_folder_become_files(packager, src, out):
    os.link(src / "train.py", src / "hard.py")
    assert packed(packager.pack_source(SourceCode("train.py", str(src)), out)) == {**FILES, "hard.py": b"1\n"}


def test_dependencies(packager, src, out, tmp_path):
    write_tree(tmp_path / "other", {"common/a.py": b"3", "common/__pycache__/a.pyc": b"", "b.py": b"4"})
    dependencies = (str(tmp_path / "other/common"), (tmp_path / "other/b.py").as_uri())
    bundle = packager.pack_source(SourceCode("train.py", str(src), dependencies), out)
    assert packed(bundle) == {**FILES, "common/a.py": b"3", "b.py": b"4"}


# -- sources that cannot be packed -----------------------------------------------------------------


def test_missing_entry_point(src, refuse):
    assert refuse("trian.py", str(src)) == (
        f"entry point 'trian.py' is not in source_dir '{src}'; did you mean 'train.py'? "
        "Known: lib/__init__.py, lib/net.py, train.py"
    )


def test_missing_entry_point_in_a_folder_of_many_files(src, refuse):
    write_tree(src, {f"module_{i}.py": b"" for i in range(100)})
    message = refuse("trian.py", str(src))
    assert "did you mean 'train.py'?" in message
    assert message.endswith(" more")
    assert message.count("module_") < 15


def test_missing_source_dir(src, refuse, tmp_path):
    message = refuse("train.py", str(tmp_path / "scr"))
    assert message.startswith(f"source_dir '{tmp_path}/scr' does not exist; did you mean 'src'?")


def test_missing_entry_point_alone(src, refuse):
    message = refuse(str(src / "trian.py"))
    assert message.startswith(f"entry point '{src}/trian.py' does not exist; did you mean 'train.py'?")


def test_missing_dependency(src, refuse, tmp_path):
    message = refuse("train.py", str(src), (str(tmp_path / "commno"),))
    assert message.startswith(f"dependency '{tmp_path}/commno' does not exist")


def test_source_that_is_elsewhere(refuse):
    message = refuse("train.py", "s3://bucket/sourcedir.tar.gz")
    assert (
        message
        == "'s3://bucket/sourcedir.tar.gz' is not on this machine: download it first and pass its path"
    )
    assert "is not on this machine" in refuse("train.py", "file://other-host/src")


@pytest.mark.parametrize("entry_point", ["../train.py", "lib/../../out/train.py", "/etc/hostname"])
def test_entry_point_outside(src, refuse, entry_point):
    message = refuse(entry_point, str(src))
    assert message.startswith(f"entry point '{entry_point}' is outside of source_dir '{src}'")


def test_entry_point_is_a_folder(src, refuse):
    assert "entry point 'lib' is a folder" in refuse("lib", str(src))
    assert "is a folder" in refuse("", str(src))
    assert "is a folder: pass the script in it" in refuse(str(src))


def test_entry_point_that_is_left_out(src, refuse):
    write_tree(src, {"venv/train.py": b""})
    message = refuse("venv/train.py", str(src))
    assert message.startswith("entry point 'venv/train.py' is left out of archives")
    assert ".git, .hg" in message


@pytest.mark.parametrize("target", ["../secret.py", "/etc/hostname", "lib/../../secret.py"])
def test_link_out_of_the_folder(src, refuse, tmp_path, target):
    (tmp_path / "secret.py").touch()
    (src / "lib/link.py").symlink_to(target if target[0] == "/" else f"../{target}")
    message = refuse("train.py", str(src))
    assert message.startswith(f"'{src}/lib/link.py' is a link to '")
    assert f"outside of '{src}'" in message


def test_entry_point_that_links_out(src, refuse, tmp_path):
    (tmp_path / "secret.py").touch()
    (src / "entry.py").symlink_to("../secret.py")
    assert "is a link to" in refuse("entry.py", str(src))


def test_link_to_nothing(src, refuse):
    (src / "link").symlink_to("nothing")
    assert refuse("train.py", str(src)) == f"'{src}/link' is a link to '{src}/nothing', which does not exist"


def test_link_to_itself(src, refuse):
    (src / "link").symlink_to("link")
    assert "which does not exist" in refuse("train.py", str(src))


@pytest.mark.parametrize("target", [".", "..", "../lib"])
def test_link_in_a_circle(src, refuse, target):
    (src / "lib/circle").symlink_to(target)
    assert "a link leads back to where it is" in refuse("train.py", str(src))


def test_pipe(src, refuse):
    os.mkfifo(src / "pipe")
    assert (
        refuse("train.py", str(src))
        == f"'{src}/pipe' is a socket, a pipe or a device, which cannot be packed"
    )


def test_socket(src, refuse, monkeypatch):
    monkeypatch.chdir(src)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert "is a socket, a pipe or a device" in refuse("train.py", str(src))


def test_device_as_entry_point(refuse):
    assert "is a socket, a pipe or a device" in refuse("/dev/null")


def test_dependencies_of_one_name(src, refuse, tmp_path):
    write_tree(tmp_path / "other", {"lib/a.py": b"", "train.py": b""})
    assert refuse("train.py", str(src), (str(tmp_path / "other/lib"),)) == (
        f"dependency '{tmp_path}/other/lib' and '{src}/lib' would both be 'lib' in the archive: "
        "rename one of them"
    )
    assert "'train.py' in the archive" in refuse("train.py", str(src), (str(tmp_path / "other/train.py"),))
    assert "'train.py' in the archive" in refuse(
        str(src / "train.py"), None, (str(tmp_path / "other/train.py"),)
    )


def test_too_many_files(src, out):
    with pytest.raises(PackagingError, match="cannot pack more than 3 files and folders"):
        TarballPackager(max_entries=3).pack_source(SourceCode("train.py", str(src)), out)
    assert names_in(out) == []


@pytest.mark.parametrize("name", ["a\nb.py", "d/" * 32 + "f.py", "/".join(["n" * 200] * 6)])
def test_name_that_could_not_be_unpacked(src, refuse, name):
    write_tree(src, {name: b""})
    assert "cannot pack " in refuse("train.py", str(src))


def test_file_that_changes_while_it_is_packed(src):
    (entry,) = entries_of({"train.py": src / "train.py"})
    chunks = iter(entry.chunks)
    next(chunks)
    (src / "train.py").write_bytes(b"changed")
    with pytest.raises(PackagingError, match=r"train.py' changed while it was packed"):
        list(chunks)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="there is no /proc on this machine")
def test_file_whose_size_is_not_that_of_its_content(refuse):
    assert refuse("/proc/version") == "'version' changed while it was packed"


def test_disk_that_fills_up(packager, src, out, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(PackagingError, match=r"cannot make '.*sourcedir.tar.gz': .*No space left on device"):
        packager.pack_source(SourceCode("train.py", str(src)), out)
    assert names_in(out) == []


def test_file_that_cannot_be_read(packager, src, out, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(PackagingError, match=f"cannot read '{src}': Permission denied"):
        packager.pack_source(SourceCode("train.py", str(src)), out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(src, refuse):
    (src / "lib/net.py").chmod(0)
    assert refuse("train.py", str(src)) == f"cannot read '{src}/lib/net.py': Permission denied"


def test_folder_that_cannot_be_made(packager, src):
    with pytest.raises(PackagingError, match="cannot make the folder"):
        packager.pack_source(SourceCode("train.py", str(src)), src / "train.py/out")


def test_archive_of_before_survives_a_failure(packager, src, out):
    source = SourceCode("train.py", str(src))
    before = packager.pack_source(source, out).path.read_bytes()
    write_tree(src, {"z\n": b""})
    with pytest.raises(PackagingError):
        packager.pack_source(source, out)
    assert names_in(out) == ["sourcedir.tar.gz"]
    assert (out / "sourcedir.tar.gz").read_bytes() == before


# -- models ----------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "tar.gz", "tar"])
def model(request, tmp_path):
    folder = write_tree(tmp_path / "model", MODEL)
    if request.param == "folder":
        return folder
    archive = tmp_path / f"model.{request.param}"
    with tarfile.open(archive, "w:gz" if request.param == "tar.gz" else "w") as tar:
        tar.add(folder, arcname="./")
    return archive


def test_source_folder_replaces_the_code(packager, model, src, out):
    bundle = packager.pack_model(model, SourceCode("train.py", str(src)), out)
    assert bundle.path == out / "model.tar.gz"
    assert packed(bundle) == {"model.pth": MODEL["model.pth"], **{f"code/{n}": c for n, c in FILES.items()}}
    assert bundle.files == 4


def test_entry_point_is_laid_over_the_code(packager, model, tmp_path, out):
    script = write_tree(tmp_path / "s", {"inference.py": b"new"}) / "inference.py"
    assert packed(packager.pack_model(model, SourceCode(str(script)), out)) == {
        **MODEL,
        "code/inference.py": b"new",
    }


def test_dependency_lies_beside_the_entry_point_and_replaces_its_former_self(packager, tmp_path, out):
    model = write_tree(tmp_path / "model", {**MODEL, "code/lib/stale.py": b"old", "code/library.py": b"kept"})
    script = write_tree(tmp_path / "s", {"inference.py": b"new", "lib/net.py": b"2"})
    source = SourceCode(str(script / "inference.py"), dependencies=(str(script / "lib"),))
    assert packed(packager.pack_model(model, source, out)) == {
        **MODEL,
        "code/inference.py": b"new",
        "code/lib/net.py": b"2",
        "code/library.py": b"kept",
    }


def test_requirements_come_as_a_dependency(packager, model, tmp_path, out):
    folder = write_tree(tmp_path / "s", {"inference.py": b"new", "requirements.txt": b"einops"})
    source = SourceCode(str(folder / "inference.py"), dependencies=(str(folder / "requirements.txt"),))
    assert packed(packager.pack_model(model, source, out))["code/requirements.txt"] == b"einops"


def test_model_without_source_keeps_its_code(packager, model, out):
    assert packed(packager.pack_model(model, None, out)) == MODEL


def test_names_that_only_start_like_code_are_kept(packager, src, tmp_path, out):
    model = packager.pack_tree(
        write_tree(tmp_path / "model", {"code.txt": b"1", "codec/a": b"2"}), tmp_path / "m.tar.gz"
    )
    names = set(packed(packager.pack_model(model.path, SourceCode("train.py", str(src)), out)))
    assert {"code.txt", "codec/a", "code/train.py"} <= names


def test_source_archive_for_a_model(packager, model, src, tmp_path, out):
    mine = packager.pack_tree(src, tmp_path / "mine.tar.gz")
    bundle = packager.pack_model(model, SourceCode("train.py", str(mine.path)), out)
    assert {name for name in packed(bundle) if name.startswith("code/")} == {f"code/{name}" for name in FILES}
    assert names_in(out) == ["model.tar.gz"]


def test_repacking_in_place(packager, model, src, out):
    source = SourceCode("train.py", str(src))
    first = packager.pack_model(model, source, out)
    again = packager.pack_model(first.path, source, out)
    assert again == first


def test_model_of_a_single_root_is_left_as_it_is(packager, tmp_path, src, out):
    content = {f"my_model/{name}": data for name, data in MODEL.items()}
    model = packager.pack_tree(write_tree(tmp_path / "m", content), tmp_path / "m.tar.gz")
    assert packed(packager.pack_model(model.path, None, out)) == content


def test_members_of_an_archive_keep_their_order(packager, tmp_path, out):
    with tarfile.open(tmp_path / "model.tar", "w") as tar:
        for name in ("z.bin", "a.bin"):
            tar.addfile(tarfile.TarInfo(name))
    assert list(packed(packager.pack_model(tmp_path / "model.tar", None, out))) == ["z.bin", "a.bin"]


def linked_model(path, *, target):
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(target)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("latest.bin")
        link.type, link.linkname = tarfile.SYMTYPE, target
        tar.addfile(link)
    return path


def test_links_of_a_model_go_on(packager, tmp_path, out):
    bundle = packager.pack_model(linked_model(tmp_path / "m.tar.gz", target="v1/model.bin"), None, out)
    packager.unpack(bundle.path, tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"v1/model.bin": b"abc", "latest.bin": b"abc"}


def test_link_of_a_model_to_code_that_is_replaced(packager, tmp_path, src, out):
    model = linked_model(tmp_path / "m.tar.gz", target="code/model.bin")
    with pytest.raises(
        PackagingError, match="'latest.bin': it is a link to 'code/model.bin', which is left out"
    ):
        packager.pack_model(model, SourceCode("train.py", str(src)), out)
    assert names_in(out) == []


def test_model_with_a_file_called_code(packager, tmp_path, src, out):
    model = write_tree(tmp_path / "model", {"code": b"a file"})
    with pytest.raises(PackagingError, match="it would be both a file and a folder"):
        packager.pack_model(model, SourceCode(str(src / "train.py")), out)


def test_missing_model(packager, tmp_path, out):
    (tmp_path / "model.tar.gz").touch()
    with pytest.raises(
        PackagingError, match=r"model '.*/modle.tar.gz' does not exist; did you mean 'model.tar.gz'"
    ):
        packager.pack_model(tmp_path / "modle.tar.gz", None, out)


def test_model_that_is_no_archive(packager, tmp_path, out):
    (tmp_path / "model.pth").write_bytes(b"PK\x03\x04" * 500)
    with pytest.raises(PackagingError, match=r"model.pth' is damaged, or neither .tar nor .tar.gz"):
        packager.pack_model(tmp_path / "model.pth", None, out)
    assert names_in(out) == []


def test_hostile_model(packager, tmp_path, out):
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../escaped"))
    with pytest.raises(UnsafeArchiveError):
        packager.pack_model(tmp_path / "model.tar.gz", None, out)
    assert names_in(out) == []


def test_truncated_model(packager, tmp_path, src, out):
    model = packager.pack_tree(write_tree(tmp_path / "model", MODEL), tmp_path / "m.tar.gz").path
    model.write_bytes(model.read_bytes()[:-4])
    with pytest.raises(PackagingError, match="is damaged"):
        packager.pack_model(model, SourceCode("train.py", str(src)), out)
    assert names_in(out) == []


def test_model_of_many_bytes_is_streamed(packager, tmp_path, src, out):
    program = f"""
import resource
from pathlib import Path
from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.tarball import TarballPackager
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
TarballPackager(compression_level=0).pack_model(
    Path({str(tmp_path / "m.tar")!r}), SourceCode("train.py", {str(src)!r}), Path({str(out)!r})
)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) // (1024 * 1024 if {sys.platform == "darwin"} else 1024))
"""
    info = tarfile.TarInfo("model.pth")
    info.size = 256 << 20
    with (tmp_path / "m.tar").open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + info.size + 1024)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50


# -- trees -----------------------------------------------------------------------------------------


def test_tree_is_packed_whole(packager, tmp_path):
    content = {".env": b"1", "__pycache__/a.pyc": b"2", "model.pth": b"3"}
    bundle = packager.pack_tree(write_tree(tmp_path / "tree", content), tmp_path / "new/model.tar.gz")
    assert bundle.path == tmp_path / "new/model.tar.gz"
    assert packed(bundle) == content


def test_links_of_a_tree_are_followed_wherever_they_lead(packager, tmp_path):
    tree = write_tree(tmp_path / "tree", {"a": b"1"})
    write_tree(tmp_path / "checkpoints", {"last/model.pth": b"2"})
    (tree / "best").symlink_to(tmp_path / "checkpoints/last")
    assert packed(packager.pack_tree(tree, tmp_path / "m.tar.gz")) == {"a": b"1", "best/model.pth": b"2"}


def test_tree_may_have_more_entries_than_are_unpacked(tmp_path):
    packager = TarballPackager(max_entries=2)
    tree = write_tree(tmp_path / "tree", dict.fromkeys("abc", b""))
    bundle = packager.pack_tree(tree, tmp_path / "m.tar.gz")
    with pytest.raises(UnsafeArchiveError, match=r"over 2 entries \(option max_entries\)"):
        packager.unpack(bundle.path, tmp_path / "into")


def test_empty_tree(packager, tmp_path):
    bundle = packager.pack_tree(new_folder(tmp_path / "tree"), tmp_path / "m.tar.gz")
    assert bundle.files == 0
    packager.unpack(bundle.path, tmp_path / "deep/into")
    assert names_in(tmp_path / "deep") == ["into"]


def test_missing_tree(packager, tmp_path):
    with pytest.raises(PackagingError, match="folder '.*/missing' does not exist"):
        packager.pack_tree(tmp_path / "missing", tmp_path / "m.tar.gz")


# -- headers ---------------------------------------------------------------------------------------


@given(
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=110),
    size=st.one_of(st.integers(0, 5000), st.integers((8 << 30) - 2, (8 << 30) + 2)),
    executable=st.booleans(),
)
def test_headers_are_those_of_the_standard_library(name, size, executable):
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o755 if executable else 0o644
    expected = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    assert _header(Entry(name, EntryKind.FILE, size, executable)) == expected
