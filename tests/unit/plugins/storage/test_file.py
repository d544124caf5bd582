import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.core.errors import StorageError
from modelyard.plugins.storage.file import FileStorage
from modelyard.plugins.storage.plugin import modelyard_register_storages
from modelyard.testing.trees import names_in, read_tree, write_tree

TREE = {"train.csv": b"1", "images/a.png": b"2"}


@pytest.fixture
def storage():
    return FileStorage()


@pytest.fixture
def data(tmp_path):
    return write_tree(tmp_path / "data", TREE)


def test_hook_registers_it():
    assert FileStorage in modelyard_register_storages()


def test_plugin_is_loaded_without_the_storage():
    program = (
        "import sys, modelyard.plugins.storage.plugin\n"
        "assert not {'modelyard.plugins.storage.file', 'modelyard.plugins.storage.s3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- URIs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "with space", "ünïcode", "per%20cent", "a?b#c", "new\nline"])
def test_percent_encoding(storage, tmp_path, name):
    folder = write_tree(tmp_path / name, TREE)
    storage.download(folder.as_uri(), tmp_path / "into")
    assert read_tree(tmp_path / "into") == TREE


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 only")
def test_name_that_is_not_utf8(storage, data, tmp_path):
    uri = storage.upload(data, (tmp_path / os.fsdecode(b"caf\xe9")).as_uri())
    assert uri.endswith("/caf%E9")
    storage.download(uri, tmp_path / "into")
    assert read_tree(tmp_path / "into") == TREE


@pytest.mark.parametrize("start", ["file://", "file://localhost", "file:", "FILE://", "file:///../"])
def test_forms_of_one_uri(storage, data, tmp_path, start):
    storage.download(f"{start}{data}", tmp_path / "into")
    assert read_tree(tmp_path / "into") == TREE


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("s3://bucket/key", "is not a file:// URI"),
        ("/plain/path", "is not a file:// URI"),
        ("", "is not a file:// URI"),
        ("file://host/path", "names the host 'host'"),
        ("file://path", "names the host 'path'"),
        ("file:relative", "has no absolute path"),
        ("file://", "has no absolute path"),
        ("file:///a?b", "'?' or '#'"),
        ("file:///a#b", "'?' or '#'"),
        ("file:///a%00b", "has a NUL in it"),
    ],
)
@pytest.mark.parametrize("call", ["download", "upload", "prepare"])
def test_uris_that_are_refused(storage, data, tmp_path, uri, fault, call):
    calls = {
        "download": lambda: storage.download(uri, tmp_path / "into"),
        "upload": lambda: storage.upload(data, uri),
        "prepare": lambda: storage.prepare(uri),
    }
    with pytest.raises(StorageError) as caught:
        calls[call]()
    assert repr(uri) in str(caught.value)
    assert fault in str(caught.value)


# -- download --------------------------------------------------------------------------------------


def test_one_file(storage, data, tmp_path):
    storage.download((data / "train.csv").as_uri(), tmp_path / "deep/into")
    assert read_tree(tmp_path / "deep/into") == {"train.csv": b"1"}


def test_empty_folders_come_too(storage, data, tmp_path):
    (data / "empty/inner").mkdir(parents=True)
    storage.download(data.as_uri(), tmp_path / "into")
    assert (tmp_path / "into/empty/inner").is_dir()


def test_nothing_is_shared_with_the_original(storage, data, tmp_path):
    storage.download(data.as_uri(), tmp_path / "into")
    copied = tmp_path / "into/images/a.png"
    assert not copied.is_symlink()
    assert copied.stat().st_nlink == 1
    assert copied.stat().st_ino != (data / "images/a.png").stat().st_ino


def test_time_and_mode_come_too(storage, tmp_path):
    data = write_tree(tmp_path / "data", {"run.sh": b"1"}, mtime=1_000_000_000)
    (data / "run.sh").chmod(0o750)
    storage.download(data.as_uri(), tmp_path / "into")
    status = (tmp_path / "into/run.sh").stat()
    assert (status.st_mtime, stat.S_IMODE(status.st_mode)) == (1_000_000_000, 0o750)


def test_links_are_followed(storage, data, tmp_path):
    outside = write_tree(tmp_path / "outside", {"b": b"3"})
    (data / "file").symlink_to(outside / "b")
    (data / "folder").symlink_to(outside)
    (tmp_path / "link").symlink_to(data)
    storage.download((tmp_path / "link").as_uri(), tmp_path / "into")
    assert read_tree(tmp_path / "into") == {**TREE, "file": b"3", "folder/b": b"3"}
    assert not any(path.is_symlink() for path in (tmp_path / "into").rglob("*"))


def test_link_in_the_way_is_replaced_and_not_followed(storage, data, tmp_path):
    write_tree(tmp_path / "precious", {"file": b"mine"})
    (tmp_path / "into").mkdir()
    (tmp_path / "into/train.csv").symlink_to(tmp_path / "precious/file")
    storage.download(data.as_uri(), tmp_path / "into")
    assert read_tree(tmp_path / "into") == TREE
    assert read_tree(tmp_path / "precious") == {"file": b"mine"}


@pytest.mark.parametrize("target", [".", "..", "../images"])
def test_link_in_a_circle(storage, data, tmp_path, target):
    (data / "images/circle").symlink_to(target)
    with pytest.raises(StorageError, match="is a link that leads back to"):
        storage.download(data.as_uri(), tmp_path / "into")


def test_missing_file_with_a_near_name(storage, data, tmp_path):
    with pytest.raises(StorageError) as caught:
        storage.download((data / "trian.csv").as_uri(), tmp_path / "into")
    assert str(caught.value) == (
        f"there is nothing at '{data}/trian.csv': no 'trian.csv' in '{data}'; did you mean 'train.csv'? "
        "Known: images, train.csv"
    )
    assert not (tmp_path / "into").exists()


def test_missing_folder_with_a_near_name(storage, data, tmp_path):
    with pytest.raises(StorageError, match=f"no 'image' in '{data}'; did you mean 'images'"):
        storage.download((data / "image/deep/a.png").as_uri(), tmp_path / "into")


def test_path_below_a_file(storage, data, tmp_path):
    with pytest.raises(StorageError, match=f"no 'below' in '{data}/train.csv'"):
        storage.download((data / "train.csv/below").as_uri(), tmp_path / "into")


def test_only_the_nearest_names_are_told(storage, tmp_path):
    data = write_tree(tmp_path / "data", {f"part-{i:04}": b"" for i in range(1000)})
    with pytest.raises(StorageError) as caught:
        storage.download((data / "part-5").as_uri(), tmp_path / "into")
    assert str(caught.value).endswith(" and 988 more")


def test_pipe(storage, data, tmp_path):
    os.mkfifo(data / "pipe")
    for uri in (data.as_uri(), (data / "pipe").as_uri()):
        with pytest.raises(StorageError, match="pipe' is a socket, a pipe or a device"):
            storage.download(uri, tmp_path / "into")


def test_device(storage, tmp_path):
    with pytest.raises(StorageError, match="is a socket, a pipe or a device"):
        storage.download("file:///dev/zero", tmp_path / "into")


def test_dangling_link(storage, data, tmp_path):
    (data / "link").symlink_to("nothing")
    with pytest.raises(StorageError, match="data/link'"):
        storage.download(data.as_uri(), tmp_path / "into")


def test_error_while_copying(storage, data, tmp_path, monkeypatch):
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(StorageError, match=r"cannot read 'file://.*No space left on device"):
        storage.download((data / "train.csv").as_uri(), tmp_path / "into")
    assert names_in(tmp_path / "into") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(storage, data, tmp_path):
    (data / "train.csv").chmod(0)
    with pytest.raises(StorageError, match="Permission denied"):
        storage.download(data.as_uri(), tmp_path / "into")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter everything")
def test_folder_without_permission(storage, data, tmp_path):
    data.chmod(0)
    try:
        with pytest.raises(StorageError, match="Permission denied"):
            storage.download((data / "train.csv").as_uri(), tmp_path / "into")
    finally:
        data.chmod(0o755)


def test_download_into_itself(storage, data):
    with pytest.raises(StorageError, match="cannot be copied into itself"):
        storage.download(data.as_uri(), data / "images/into")
    assert read_tree(data) == TREE


# -- upload ----------------------------------------------------------------------------------------


def test_uploaded_file_is_at_the_uri(storage, data, tmp_path):
    uri = (tmp_path / "deep/er/copy.csv").as_uri()
    assert storage.upload(data / "train.csv", uri) == uri
    assert read_tree(tmp_path / "deep") == {"er/copy.csv": b"1"}


def test_returned_uri_is_the_plain_form(storage, data, tmp_path):
    assert storage.upload(data, f"file://localhost{tmp_path}/a/") == f"file://{tmp_path}/a"


def test_upload_beside_what_is_there(storage, data, tmp_path):
    write_tree(tmp_path / "there", {"other": b"mine", "images/a.png": b"2"})
    before = (tmp_path / "there/images/a.png").stat()
    storage.upload(data, (tmp_path / "there").as_uri())
    assert read_tree(tmp_path / "there") == {**TREE, "other": b"mine"}
    assert (tmp_path / "there/images/a.png").stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "there",
    [
        pytest.param({"images/a.png": b"mine"}, id="other content"),
        pytest.param({"images/a.png": b""}, id="other size"),
        pytest.param({"images": b"mine"}, id="file for a folder"),
        pytest.param({"train.csv/file": b"mine"}, id="folder for a file"),
    ],
)
def test_nothing_of_the_user_is_overwritten(storage, data, tmp_path, there):
    write_tree(tmp_path / "there", there)
    with pytest.raises(StorageError, match="is there already, with other content than"):
        storage.upload(data, (tmp_path / "there").as_uri())
    assert read_tree(tmp_path / "there") == there


def test_link_of_the_user_is_not_replaced(storage, data, tmp_path):
    (tmp_path / "link").symlink_to("nothing")
    with pytest.raises(StorageError, match="is there already"):
        storage.upload(data / "train.csv", (tmp_path / "link").as_uri())
    assert (tmp_path / "link").is_symlink()


def test_failed_upload_leaves_no_part(storage, data, tmp_path, monkeypatch):
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(StorageError, match=r"cannot write 'file://.*No space left on device"):
        storage.upload(data / "train.csv", (tmp_path / "there/train.csv").as_uri())
    assert names_in(tmp_path / "there") == []


def test_upload_of_a_pipe(storage, data, tmp_path):
    os.mkfifo(data / "pipe")
    with pytest.raises(StorageError, match="is a socket, a pipe or a device"):
        storage.upload(data, (tmp_path / "there").as_uri())
    assert not (tmp_path / "there").exists()


def test_upload_into_itself(storage, data):
    with pytest.raises(StorageError, match="cannot be copied into itself"):
        storage.upload(data, (data / "images/copy").as_uri())
    assert read_tree(data) == TREE


# -- prepare ---------------------------------------------------------------------------------------


def test_prepare_makes_the_folder_and_leaves_it_empty(storage, tmp_path):
    storage.prepare((tmp_path / "deep/er").as_uri())
    assert names_in(tmp_path) == ["deep", "deep/er"]


def test_prepare_keeps_what_is_there(storage, data):
    storage.prepare(data.as_uri())
    assert read_tree(data) == TREE


def test_prepare_below_a_file(storage, data):
    uri = (data / "train.csv/below").as_uri()
    with pytest.raises(StorageError, match=rf"cannot write into '{uri}': .*Not a directory"):
        storage.prepare(uri)


def test_prepare_at_a_file(storage, data):
    with pytest.raises(StorageError, match="File exists"):
        storage.prepare((data / "train.csv").as_uri())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc on this machine")
def test_prepare_where_even_root_cannot_write(storage):
    with pytest.raises(StorageError, match="cannot write into 'file:///proc/modelyard'"):
        storage.prepare("file:///proc/modelyard")
    with pytest.raises(StorageError, match="cannot write into 'file:///proc'"):
        storage.prepare("file:///proc")


def test_prepare_on_a_full_disk(storage, tmp_path, monkeypatch):
    def full(**arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    with pytest.raises(StorageError, match="No space left on device"):
        storage.prepare(tmp_path.as_uri())
