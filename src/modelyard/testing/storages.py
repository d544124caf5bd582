"""What every storage promises, as tests."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from modelyard.core.contracts import Storage
from modelyard.core.errors import StorageError
from modelyard.testing.trees import names_in, read_tree, write_tree

TREE: Mapping[str, bytes] = {
    "train.csv": b"1,2\n",
    "empty": b"",
    "images/a b.png": bytes(range(256)),
    "images/deep/er/ü.txt": b"x",
}


class StorageContract:
    """Tests of one storage.

    Subclass it and say which, and where it may write::

    class TestHdfsStorage(StorageContract):
        storage = HdfsStorage()

        def root_uri(self, tmp_path):
            return f"hdfs://localhost:9000/tests/{tmp_path.name}"
    """

    storage: Storage

    def root_uri(self, tmp_path: Path) -> str:
        """Return a URI, without a slash at its end, below which there is nothing yet."""
        raise NotImplementedError

    def test_has_a_name(self) -> None:
        """A storage has a name, by which it can be turned off."""
        name = type(self.storage).name
        assert re.fullmatch(r"[a-z][a-z0-9_.-]*", name), f"the name is not a plain lower-case word: {name!r}"

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
        write_tree(tmp_path / "local", {"model.tar.gz": b"\x1f\x8bmodel"})
        uri = f"{self.root_uri(tmp_path)}/output/model.tar.gz"
        returned = self.storage.upload(tmp_path / "local/model.tar.gz", uri)
        self._downloads(returned, {"model.tar.gz": b"\x1f\x8bmodel"}, tmp_path / "into")

    def test_tree_comes_back(self, tmp_path: Path) -> None:
        """The content of a folder that was uploaded is downloaded into the folder."""
        folder = write_tree(tmp_path / "local", TREE)
        returned = self.storage.upload(folder, f"{self.root_uri(tmp_path)}/channel")
        self._downloads(returned, TREE, tmp_path / "into")

    def test_uri_of_an_upload_has_one_of_the_schemes(self, tmp_path: Path) -> None:
        """The URI that an upload returns belongs to the same storage."""
        folder = write_tree(tmp_path / "local", TREE)
        returned = self.storage.upload(folder, f"{self.root_uri(tmp_path)}/channel")
        scheme = urlsplit(returned).scheme
        assert scheme in type(self.storage).schemes, f"upload returned {returned!r}, of another scheme"

    def test_part_of_a_tree_comes_back(self, tmp_path: Path) -> None:
        """Below the URI of a tree, its files have URIs of their own."""
        root = f"{self.root_uri(tmp_path)}/channel"
        self.storage.upload(write_tree(tmp_path / "local", TREE), root)
        self._downloads(f"{root}/train.csv", {"train.csv": TREE["train.csv"]}, tmp_path / "into")

    def test_download_is_a_copy(self, tmp_path: Path) -> None:
        """What a script does to its input does not reach the original."""
        root = f"{self.root_uri(tmp_path)}/channel"
        self.storage.upload(write_tree(tmp_path / "local", {"data.csv": b"original"}), root)
        self.storage.download(root, tmp_path / "first")
        with (tmp_path / "first/data.csv").open("r+b") as file:
            file.write(b"damaged!")
        self._downloads(root, {"data.csv": b"original"}, tmp_path / "second")

    def test_upload_is_a_copy(self, tmp_path: Path) -> None:
        """What happens to a file after its upload does not reach what was uploaded."""
        root = f"{self.root_uri(tmp_path)}/channel"
        folder = write_tree(tmp_path / "local", {"data.csv": b"original"})
        self.storage.upload(folder, root)
        with (folder / "data.csv").open("r+b") as file:
            file.write(b"damaged!")
        self._downloads(root, {"data.csv": b"original"}, tmp_path / "into")

    def test_same_upload_again_is_no_error(self, tmp_path: Path) -> None:
        """An upload whose answer was lost may be repeated."""
        folder = write_tree(tmp_path / "local", TREE)
        root = f"{self.root_uri(tmp_path)}/channel"
        self.storage.upload(folder, root)
        with _accepted("a second upload of the same"):
            self.storage.upload(folder, root)
        self._downloads(root, TREE, tmp_path / "into")

    def test_missing_uri_is_an_error(self, tmp_path: Path) -> None:
        """Where there is nothing, a download is an error that names what is missing."""
        uri = f"{self.root_uri(tmp_path)}/nothing-here"
        error = _refusal(lambda: self.storage.download(uri, tmp_path / "into"), "a URI with nothing at it")
        assert "nothing-here" in str(error), f"the error does not name what is missing: {error}"

    def test_missing_file_is_not_uploaded(self, tmp_path: Path) -> None:
        """An upload of nothing is an error."""
        uri = f"{self.root_uri(tmp_path)}/target"
        _refusal(lambda: self.storage.upload(tmp_path / "missing", uri), "an upload of what does not exist")
        _refusal(lambda: self.storage.download(uri, tmp_path / "into"), "a download of what was not uploaded")

    def test_prepared_uri_takes_an_upload(self, tmp_path: Path) -> None:
        """Preparing can be repeated, and leaves nothing that a later download would bring."""
        root = f"{self.root_uri(tmp_path)}/output"
        with _accepted(f"preparing {root!r}"):
            self.storage.prepare(root)
            self.storage.prepare(root)
        self.storage.upload(write_tree(tmp_path / "local", TREE), root)
        self._downloads(root, TREE, tmp_path / "into")

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


def _refusal(call: Callable[[], object], what: str) -> StorageError:
    try:
        call()
    except StorageError as error:
        return error
    except Exception as error:
        raise AssertionError(f"{what} must raise StorageError, not {error!r}") from error
    raise AssertionError(f"{what} is not refused")
