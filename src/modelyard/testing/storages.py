"""What every storage promises, as tests."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import pytest

from modelyard.core.contracts import Storage
from modelyard.core.errors import ModelyardError, StorageError
from modelyard.testing.saying import is_a_name, refused
from modelyard.testing.trees import names_in, read_tree, write_tree

TREE: Mapping[str, bytes] = {
    "train.csv": b"1,2\n",
    "empty": b"",
    "images/a b.png": bytes(range(256)),
    "images/deep/er/ü.txt": b"x",
}


class StorageContract:
    """The tests of one storage: subclass this, and say which, and where it may write.

    ::

        from modelyard.plugins.storage.file import FileStorage  # Yours.
        from modelyard.testing import StorageContract


        class TestFileStorage(StorageContract):
            storage = FileStorage()

            def root_uri(self, tmp_path):
                return tmp_path.joinpath("root").as_uri()

    ``can_upload``: whether it writes, or refuses to; where it does not, override `stored`.
    """

    storage: Storage
    can_upload: ClassVar[bool] = True

    def root_uri(self, tmp_path: Path) -> str:
        """Return a URI, without a slash at its end, below which there is nothing yet."""
        raise NotImplementedError

    def stored(self, folder: Path, uri: str) -> str:
        """Bring the tree `folder` to `uri`, by an upload unless overridden; return where it can be read."""
        return self.storage.upload(folder, uri)

    def test_has_a_name(self) -> None:
        """A storage has a name, by which it can be turned off."""
        is_a_name(type(self.storage).name)

    def test_schemes_are_well_formed(self, tmp_path: Path) -> None:
        """A storage is found by its schemes (RFC 3986), written in lower case."""
        schemes = type(self.storage).schemes
        assert isinstance(schemes, tuple), f"schemes are a tuple, not {schemes!r}"
        assert schemes, "there is no scheme"
        wrong = [scheme for scheme in schemes if not re.fullmatch(r"[a-z][a-z0-9+.-]+", scheme)]
        assert not wrong, f"these are no schemes: {wrong}"
        scheme = urlsplit(self.root_uri(tmp_path)).scheme
        assert scheme in schemes, f"root_uri has the scheme {scheme!r}, which is not among {schemes}"

    def test_is_made_without_options(self) -> None:
        """Every option has a default: storages are made from a URI alone."""
        try:
            type(self.storage)()
        except TypeError as error:
            raise AssertionError(f"the class cannot be called without options: {error}") from error

    def test_file_comes_back(self, tmp_path: Path) -> None:
        """A file that was uploaded is downloaded into the folder under its own name."""
        self._uploads()
        write_tree(tmp_path / "local", {"model.tar.gz": b"\x1f\x8bmodel"})
        uri = f"{self.root_uri(tmp_path)}/output/model.tar.gz"
        returned = self.storage.upload(tmp_path / "local/model.tar.gz", uri)
        self._downloads(returned, {"model.tar.gz": b"\x1f\x8bmodel"}, tmp_path / "into")

    def test_tree_comes_back(self, tmp_path: Path) -> None:
        """The content of a folder that lies there is downloaded into the folder."""
        folder = write_tree(tmp_path / "local", TREE)
        returned = self.stored(folder, f"{self.root_uri(tmp_path)}/channel")
        self._downloads(returned, TREE, tmp_path / "into")

    def test_uri_of_an_upload_has_one_of_the_schemes(self, tmp_path: Path) -> None:
        """The URI that an upload returns belongs to the same storage."""
        self._uploads()
        folder = write_tree(tmp_path / "local", TREE)
        returned = self.storage.upload(folder, f"{self.root_uri(tmp_path)}/channel")
        scheme = urlsplit(returned).scheme
        assert scheme in type(self.storage).schemes, f"upload returned {returned!r}, of another scheme"

    def test_part_of_a_tree_comes_back(self, tmp_path: Path) -> None:
        """Below the URI of a tree, its files have URIs of their own."""
        root = f"{self.root_uri(tmp_path)}/channel"
        root = self.stored(write_tree(tmp_path / "local", TREE), root)
        self._downloads(f"{root}/train.csv", {"train.csv": TREE["train.csv"]}, tmp_path / "into")

    def test_download_is_a_copy(self, tmp_path: Path) -> None:
        """What a script does to its input does not reach the original."""
        root = f"{self.root_uri(tmp_path)}/channel"
        root = self.stored(write_tree(tmp_path / "local", {"data.csv": b"original"}), root)
        self.storage.download(root, tmp_path / "first")
        with (tmp_path / "first/data.csv").open("r+b") as file:
            file.write(b"damaged!")
        self._downloads(root, {"data.csv": b"original"}, tmp_path / "second")

    def test_upload_is_a_copy(self, tmp_path: Path) -> None:
        """What happens to a file after its upload does not reach what was uploaded."""
        self._uploads()
        root = f"{self.root_uri(tmp_path)}/channel"
        folder = write_tree(tmp_path / "local", {"data.csv": b"original"})
        self.storage.upload(folder, root)
        with (folder / "data.csv").open("r+b") as file:
            file.write(b"damaged!")
        self._downloads(root, {"data.csv": b"original"}, tmp_path / "into")

    def test_same_upload_again_is_no_error(self, tmp_path: Path) -> None:
        """An upload whose answer was lost may be repeated."""
        self._uploads()
        folder = write_tree(tmp_path / "local", TREE)
        root = f"{self.root_uri(tmp_path)}/channel"
        self.storage.upload(folder, root)
        with _accepted("a second upload of the same"):
            self.storage.upload(folder, root)
        self._downloads(root, TREE, tmp_path / "into")

    def test_other_content_is_not_overwritten(self, tmp_path: Path) -> None:
        """Where something else lies already, an upload is an error, and what lies there stays."""
        self._uploads()
        uri = f"{self.root_uri(tmp_path)}/model.tar.gz"
        original = write_tree(tmp_path / "local", {"model.tar.gz": b"original"})
        self.storage.upload(original / "model.tar.gz", uri)
        other = write_tree(tmp_path / "other", {"model.tar.gz": b"changed!"}) / "model.tar.gz"
        _refusal(lambda: self.storage.upload(other, uri), "an upload over other content")
        self._downloads(uri, {"model.tar.gz": b"original"}, tmp_path / "into")

    def test_what_cannot_upload_refuses_to(self, tmp_path: Path) -> None:
        """A storage that only reads says so: to an upload, and to who prepares one."""
        if self.can_upload:
            pytest.skip(f"{self.storage.name} can upload")
        uri = f"{self.root_uri(tmp_path)}/output"
        folder = write_tree(tmp_path / "local", TREE)
        _refusal(lambda: self.storage.prepare(uri), "preparing an upload that cannot be")
        _refusal(lambda: self.storage.upload(folder, uri), "an upload to what only reads")

    def test_missing_uri_is_an_error(self, tmp_path: Path) -> None:
        """Where there is nothing, a download is an error that names what is missing."""
        uri = f"{self.root_uri(tmp_path)}/nothing-here"
        error = _refusal(lambda: self.storage.download(uri, tmp_path / "into"), "a URI with nothing at it")
        assert "nothing-here" in str(error), f"the error does not name what is missing: {error}"

    def test_missing_file_is_not_uploaded(self, tmp_path: Path) -> None:
        """An upload of nothing is an error."""
        self._uploads()
        uri = f"{self.root_uri(tmp_path)}/target"
        _refusal(lambda: self.storage.upload(tmp_path / "missing", uri), "an upload of what does not exist")
        _refusal(lambda: self.storage.download(uri, tmp_path / "into"), "a download of what was not uploaded")

    def test_prepared_uri_takes_an_upload(self, tmp_path: Path) -> None:
        """Preparing can be repeated, and leaves nothing that a later download would bring."""
        self._uploads()
        root = f"{self.root_uri(tmp_path)}/output"
        with _accepted(f"preparing {root!r}"):
            self.storage.prepare(root)
            self.storage.prepare(root)
        self.storage.upload(write_tree(tmp_path / "local", TREE), root)
        self._downloads(root, TREE, tmp_path / "into")

    def _uploads(self) -> None:
        if not self.can_upload:
            pytest.skip(f"{self.storage.name} only reads")

    def _downloads(self, uri: str, expected: Mapping[str, bytes], into: Path) -> None:
        self.storage.download(uri, into)
        found = read_tree(into) if into.is_dir() else {}
        assert sorted(found) == sorted(expected), f"{uri!r} gave {names_in(into)}, not {sorted(expected)}"
        changed = [name for name in found if found[name] != expected[name]]
        assert not changed, f"these came from {uri!r} with another content: {changed}"


@contextmanager
def _accepted(what: str) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise AssertionError(f"{what} is refused: {error}") from error


def _refusal(call: Callable[[], object], what: str) -> ModelyardError:
    return refused(call, StorageError, what)
