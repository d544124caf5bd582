"""Storages that break one promise each, and the test of the contract that says so."""

import os
import re
import shutil
from pathlib import Path

import pytest
from tests.unit.testing import broken

from modelyard.core.errors import StorageError
from modelyard.plugins.storage.file import FileStorage
from modelyard.testing.storages import StorageContract

BROKEN = {}


def breaks(test, message, **attributes):
    """Note a storage, the test that it must fail, and what the failure must say."""

    def note(cls):
        BROKEN[cls.__name__] = (cls, test, message, attributes)
        return cls

    return note


def path_of(uri):
    return Path(uri.removeprefix("file://"))


@breaks("test_has_a_name", "not a plain lower-case word: ''")
class HasNoName(FileStorage):
    name = ""


@breaks("test_schemes_are_well_formed", "schemes are a tuple, not 'file'")
class HasOneScheme(FileStorage):
    schemes = "file"


@breaks("test_schemes_are_well_formed", "there is no scheme")
class HasNoScheme(FileStorage):
    schemes = ()


@breaks("test_schemes_are_well_formed", r"these are no schemes: \['File', 'fs://'\]")
class HasBadSchemes(FileStorage):
    schemes = ("file", "File", "fs://")


@breaks("test_schemes_are_well_formed", "'file', which is not among")
class HasAnotherScheme(FileStorage):
    schemes = ("hdfs",)


@breaks("test_is_made_without_options", "cannot be called without options")
class NeedsAnOption(FileStorage):
    def __init__(self, region):
        pass


@breaks("test_file_comes_back", r"gave \['data'\], not \['model.tar.gz'\]")
class RenamesFiles(FileStorage):
    def download(self, uri, into):
        super().download(uri, into)
        next(into.iterdir()).rename(into / "data")


@breaks("test_file_comes_back", "with another content: .'model.tar.gz'")
class ChangesContent(FileStorage):
    def download(self, uri, into):
        super().download(uri, into)
        next(into.iterdir()).write_bytes(b"")


@breaks("test_tree_comes_back", r"gave \['channel', .*not")
class KeepsTheFolder(FileStorage):
    def download(self, uri, into):
        super().download(uri, into / path_of(uri).name)


@breaks("test_tree_comes_back", r"gave \[.*\], not \[.*deep")
class TakesTheTopOnly(FileStorage):
    def upload(self, path, uri):
        for folder in [item for item in path.iterdir() if item.is_dir()]:
            shutil.rmtree(folder)
        return super().upload(path, uri)


@breaks("test_uri_of_an_upload_has_one_of_the_schemes", "upload returned '/.*', of another scheme")
class ReturnsAPath(FileStorage):
    def upload(self, path, uri):
        return str(path_of(super().upload(path, uri)))


@breaks("test_part_of_a_tree_comes_back", "gave .*images.*, not")
class DownloadsTheWholeTree(FileStorage):
    def download(self, uri, into):
        path = path_of(uri)
        super().download((path.parent if path.is_file() else path).as_uri(), into)


@breaks("test_download_is_a_copy", "with another content: .'data.csv'")
class LinksDownloads(FileStorage):
    def download(self, uri, into):
        shutil.copytree(path_of(uri), into, copy_function=os.link)


@breaks("test_upload_is_a_copy", "with another content: .'data.csv'")
class LinksUploads(FileStorage):
    def upload(self, path, uri):
        shutil.copytree(path, path_of(uri), copy_function=os.link)
        return uri


@breaks("test_same_upload_again_is_no_error", "a second upload of the same is refused: .*exists")
class UploadsOnce(FileStorage):
    def upload(self, path, uri):
        if path_of(uri).exists():
            raise StorageError("it exists")
        return super().upload(path, uri)


@breaks("test_missing_uri_is_an_error", "a URI with nothing at it must raise StorageError, not return")
class DownloadsNothing(FileStorage):
    def download(self, uri, into):
        into.mkdir()


@breaks("test_missing_uri_is_an_error", "must raise StorageError, not FileNotFoundError")
class RaisesAnother(FileStorage):
    def download(self, uri, into):
        raise FileNotFoundError(uri)


@breaks("test_missing_uri_is_an_error", "does not name what is missing: no")
class SaysTooLittle(FileStorage):
    def download(self, uri, into):
        raise StorageError("no")


@breaks(
    "test_missing_file_is_not_uploaded",
    "an upload of what does not exist must raise StorageError, not return",
)
class UploadsNothing(FileStorage):
    def upload(self, path, uri):
        return uri


@breaks(
    "test_missing_file_is_not_uploaded",
    "a download of what was not uploaded must raise StorageError, not return",
)
class LeavesATarget(FileStorage):
    def upload(self, path, uri):
        path_of(uri).mkdir(parents=True)
        return super().upload(path, uri)


@breaks("test_prepared_uri_takes_an_upload", r"gave \['.probe', ")
class LeavesAProbe(FileStorage):
    def prepare(self, uri):
        super().prepare(uri)
        (path_of(uri) / ".probe").touch()


@breaks("test_prepared_uri_takes_an_upload", "preparing 'file://.*' is refused: .*File exists")
class PreparesOnce(FileStorage):
    def prepare(self, uri):
        try:
            path_of(uri).mkdir(parents=True)
        except FileExistsError as error:
            raise StorageError(str(error)) from error


@breaks(
    "test_other_content_is_not_overwritten",
    "an upload over other content must raise StorageError, not return",
)
class Overwrites(FileStorage):
    def upload(self, path, uri):
        if path_of(uri).is_file():
            path_of(uri).unlink()
        return super().upload(path, uri)


@breaks("test_other_content_is_not_overwritten", "with another content: .'model.tar.gz'")
class OverwritesAndComplains(FileStorage):
    def upload(self, path, uri):
        try:
            return super().upload(path, uri)
        except StorageError:
            shutil.copy(path, path_of(uri))
            raise


@breaks(
    "test_what_cannot_upload_refuses_to",
    "preparing an upload that cannot be must raise StorageError, not return",
    can_upload=False,
)
class PromisesToWrite(FileStorage):
    def upload(self, path, uri):
        raise StorageError("it only reads")


@breaks(
    "test_what_cannot_upload_refuses_to",
    "an upload to what only reads must raise StorageError, not return",
    can_upload=False,
)
class WritesSecretly(FileStorage):
    def prepare(self, uri):
        raise StorageError("it only reads")


BROKEN_PROMISES = {test for _, test, _, _ in BROKEN.values()}


def contract(cls, attributes):
    """Return the contract of a storage; a tree is copied to where one that cannot upload reads it."""

    class Contract(StorageContract):
        storage = object.__new__(cls)

        def root_uri(self, tmp_path):
            return (tmp_path / "root").as_uri()

        def stored(self, folder, uri):
            return FileStorage().upload(folder, uri) if attributes else super().stored(folder, uri)

    subject = Contract()
    vars(subject).update(attributes)
    return subject


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_storage_is_caught(name, tmp_path):
    cls, test, message, attributes = BROKEN[name]
    method = getattr(contract(cls, attributes), test)
    arguments = {"tmp_path": tmp_path} if "tmp_path" in method.__annotations__ else {}
    assert re.search(message, broken.breaks(method, **arguments))


class ReadOnly(FileStorage):
    """Reads what others have written."""

    def upload(self, path, uri):
        raise StorageError("it only reads")

    def prepare(self, uri):
        raise StorageError("it only reads")


class TestReadOnly(StorageContract):
    storage = ReadOnly()
    can_upload = False

    def root_uri(self, tmp_path):
        return (tmp_path / "root").as_uri()

    def stored(self, folder, uri):
        return FileStorage().upload(folder, uri)


def test_what_a_storage_cannot_is_skipped(tmp_path):
    with pytest.raises(pytest.skip.Exception, match="file only reads"):
        TestReadOnly().test_upload_is_a_copy(tmp_path)
    with pytest.raises(pytest.skip.Exception, match="file can upload"):
        contract(FileStorage, {}).test_what_cannot_upload_refuses_to(tmp_path)
