import zipfile

import pytest

from modelyard.core.errors import UserCodeError
from modelyard.core.model_files import ModelFormat, model_file
from modelyard.testing.trees import write_tree


def folder_of(tmp_path, *names):
    return write_tree(tmp_path, dict.fromkeys(names, b""))


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.pt", "other.pth", "model.safetensors"], "model.pt"),
        (["model.safetensors", "optimizer.pt"], "model.safetensors"),
        (["net.pth"], "net.pth"),
        (["net.pt2", "._net.pt2", "config.json", "code/helper.pt"], "net.pt2"),
    ],
)
def test_which_file_is_the_model(tmp_path, names, chosen):
    assert model_file(folder_of(tmp_path, *names)).path == tmp_path / chosen


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], r"it holds none. Define model_fn"),
        (["a.pt", "b.pth"], r"it holds a.pt, b.pth. Define model_fn"),
        (
            ["my_model/net.pth", "code/inference.py"],
            r"none. But there is my_model/net.pth, .* at the top. .*tar czvf",
        ),
        (
            ["code/model.pth", "code/inference.py"],
            r"none. But there is code/model.pth, which belongs at the top",
        ),
        (
            ["model.tar.gz", "code/inference.py"],
            r"none. But there is model.tar.gz, an archive inside the archive",
        ),
        (["code/inference.py"], r"none. Nothing but code/ is there: the model's files were left out"),
        ([f"{n}.pt" for n in range(10)], r"it holds 0.pt, .*, 7.pt and 2 more. Define"),
    ],
)
def test_where_no_file_is_the_model_it_is_said_what_is_there(tmp_path, names, said):
    with pytest.raises(
        UserCodeError, match=rf"^without a model_fn the model folder must hold model.pt, .*{said}"
    ):
        model_file(folder_of(tmp_path, *names))


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


@pytest.mark.parametrize(
    ("name", "entries", "found"),
    [
        ("model.pt", ["net/data.pkl", "net/constants.pkl", "net/code/x.py"], ModelFormat.TORCHSCRIPT),
        ("model.pth", ["net/data.pkl", "net/data/0"], ModelFormat.PICKLE),
        ("model.pt", ["net/archive_format", "net/models/model.json"], ModelFormat.EXPORTED),
        ("model.pt", ["serialized_exported_program.json"], ModelFormat.EXPORTED),
        ("model.pt", ["README"], ModelFormat.UNKNOWN),
    ],
)
def test_what_a_zip_file_holds(tmp_path, name, entries, found):
    zipped(tmp_path / name, *entries)
    assert model_file(tmp_path).format is found


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("model.safetensors", b"", ModelFormat.SAFETENSORS),
        ("model.pt2", b"", ModelFormat.EXPORTED),
        ("model.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", ModelFormat.PICKLE),
        ("model.pt", b"garbage", ModelFormat.UNKNOWN),
        ("model.pt", b"PK\x03\x04", ModelFormat.UNKNOWN),
        # An end of a zip file that promises a table of contents which is not there.
        ("model.pt", b"PK\x05\x06" + b"\x01" * 16 + b"\0\0", ModelFormat.UNKNOWN),
    ],
)
def test_what_a_file_holds(tmp_path, name, content, found):
    (tmp_path / name).write_bytes(content)
    assert model_file(tmp_path).format is found
