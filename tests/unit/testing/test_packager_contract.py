"""Packagers that break one promise each, and the test of the contract that says so."""

import os
import re
import shutil
import tarfile
from pathlib import Path

import attrs
import pytest
from tests.unit.testing import broken

from modelyard.core.errors import PackagingError
from modelyard.plugins.packagers.tarball import TarballPackager
from modelyard.testing.packagers import PackagerContract
from modelyard.testing.trees import write_tree

BROKEN = {}


def breaks(test, message, **arguments):
    """Note a packager, the test that it must fail, and what the failure must say."""

    def note(cls):
        BROKEN[cls.__name__] = (cls, test, message, arguments)
        return cls

    return note


@breaks("test_has_a_name", "not a plain lower-case word: 'Tar Ball'")
class BadName(TarballPackager):
    name = "Tar Ball"


@breaks("test_is_made_without_options", "cannot be called without options")
class NeedsAnOption(TarballPackager):
    def __init__(self, level):
        super().__init__(level)


class Rewriting(TarballPackager):
    """Changes every archive, by way of a folder, before it is handed out."""

    def change(self, folder):
        raise NotImplementedError

    def rewritten(self, bundle):
        folder = bundle.path.with_name("rewritten")
        TarballPackager().unpack(bundle.path, folder)
        self.change(folder)
        changed = super().pack_tree(folder, bundle.path)
        shutil.rmtree(folder)
        return changed

    def pack_source(self, source, into):
        return self.rewritten(super().pack_source(source, into))


@breaks("test_source_folder_comes_back", r"unpacked were \['package/__init__.py'.*not")
class LosesAFile(Rewriting):
    def change(self, folder):
        (folder / "train.py").unlink()


@breaks("test_source_folder_comes_back", "came back with another content: .'train.py'")
class ChangesAFile(Rewriting):
    def change(self, folder):
        (folder / "train.py").write_bytes(b"changed")


@breaks("test_source_folder_comes_back", r"train.py alone had the x bit, now \[\] have it")
class LosesTheXBit(Rewriting):
    def change(self, folder):
        (folder / "train.py").chmod(0o644)


@breaks("test_entry_point_alone_comes_back", "unpacked were .*package")
class PacksTheWholeFolder(TarballPackager):
    def pack_source(self, source, into):
        folder = source.source_dir or str(Path(source.entry_point).parent)
        return super().pack_source(attrs.evolve(source, source_dir=folder), into)


@breaks("test_dependencies_lie_beside_the_entry_point", "unpacked were .*lib/common/a.py")
class PutsDependenciesIntoLib(Rewriting):
    def change(self, folder):
        if (folder / "common").exists():
            (folder / "lib").mkdir()
            (folder / "common").rename(folder / "lib/common")


class TakesAnyEntryPoint(TarballPackager):
    def pack_source(self, source, into):
        return super().pack_tree(Path(source.source_dir), into / "sourcedir.tar.gz")


breaks("test_missing_entry_point_is_named", "a missing entry point must raise PackagingError, not return")(
    TakesAnyEntryPoint
)


@breaks("test_missing_entry_point_is_named", "must raise PackagingError, not FileNotFoundError")
class RaisesAnother(TarballPackager):
    def pack_source(self, source, into):
        raise FileNotFoundError(source.entry_point)


@breaks("test_missing_entry_point_is_named", "does not name the missing entry point: no")
class SaysTooLittle(TarballPackager):
    def pack_source(self, source, into):
        raise PackagingError("no")


@breaks("test_missing_entry_point_is_named", r"after the error this is left: \['half'\]")
class LeavesHalf(TarballPackager):
    def pack_source(self, source, into):
        (into / "half").touch()
        return super().pack_source(source, into)


@breaks("test_bundle_describes_its_file", "not only .* is there: .*'extra'")
class LeavesExtras(TarballPackager):
    def pack_source(self, source, into):
        (into / "extra").touch()
        return super().pack_source(source, into)


def lying(**fields):
    """Return a packager whose bundles are wrong in these fields."""

    class Lying(TarballPackager):
        def pack_source(self, source, into):
            return attrs.evolve(super().pack_source(source, into), **fields)

    return Lying


BROKEN["LiesAboutSize"] = (lying(size=1), "test_bundle_describes_its_file", "says 1 bytes", {})
BROKEN["LiesAboutFiles"] = (lying(files=1), "test_bundle_describes_its_file", "says 1 files", {})
BROKEN["HasAShortDigest"] = (lying(digest="12ab"), "test_bundle_describes_its_file", "no SHA-256: '12ab'", {})
BROKEN["HasOneDigest"] = (
    lying(digest="0" * 64),
    "test_digest_is_of_the_content",
    "two contents have the",
    {},
)


@breaks("test_digest_is_of_the_content", "the same content has two digests")
class CountsItsArchives(Rewriting):
    count = 0

    def change(self, folder):
        CountsItsArchives.count += 1
        (folder / "count").write_text(str(self.count))


@breaks("test_source_folder_replaces_the_code", "unpacked were .*code/helper.py", form="folder")
class OnlyAdds(TarballPackager):
    def pack_model(self, model, source, into):
        everything = into / "everything"
        shutil.copytree(model, everything)
        shutil.copytree(source.source_dir, everything / "code", dirs_exist_ok=True)
        return super().pack_tree(everything, into / "model.tar.gz")


@breaks("test_entry_point_is_laid_over_the_code", "unpacked were .*not .*code/helper.py", form="archive")
class AlwaysReplaces(TarballPackager):
    def pack_model(self, model, source, into):
        folder = str(Path(source.entry_point).parent)
        return super().pack_model(model, attrs.evolve(source, source_dir=folder), into)


@breaks("test_model_without_source_keeps_its_code", "unpacked were .*not .*code/helper.py", form="folder")
class DropsTheCode(Rewriting):
    def change(self, folder):
        shutil.rmtree(folder / "code")

    def pack_model(self, model, source, into):
        return self.rewritten(super().pack_model(model, source, into))


@breaks("test_tree_comes_back", "unpacked were .*not .*'.env'")
class ExcludesFromTrees(TarballPackager):
    def pack_tree(self, folder, archive):
        (folder / ".env").unlink()
        return super().pack_tree(folder, archive)


@breaks("test_tree_comes_back", "the archive is at .*tree.tar.gz, not at .*tree")
class ChoosesTheName(TarballPackager):
    def pack_tree(self, folder, archive):
        return super().pack_tree(folder, archive.with_suffix(".tar.gz"))


def extract(tar, info, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if info.issym():
        path.symlink_to(info.linkname)
    elif info.islnk():
        path.hardlink_to(path.parent / info.linkname)
    elif info.isfifo():
        os.mkfifo(path)
    elif info.isreg():
        path.write_bytes(tar.extractfile(info).read())
        path.chmod(info.mode)


class Careless(TarballPackager):
    """Believes what it reads, and reads no further than the last member."""

    def unpack(self, archive, into):
        try:
            with tarfile.open(archive) as tar:
                for info in tar:
                    extract(tar, info, into / info.name)
        except (OSError, EOFError, tarfile.TarError) as error:
            raise PackagingError(str(error)) from error


FAULTS = {
    "a name with '..'": "must raise PackagingError, not return",
    "a hidden '..'": "must raise PackagingError, not return",
    "a link to the outside": "must raise PackagingError, not return",
    "a write through a link": "must raise PackagingError, not return",
    "a hard link to the outside": "this is left",
    "an absolute link": "must raise PackagingError, not return",
    "a named pipe": "must raise PackagingError, not return",
    "a device": "must raise PackagingError, not return",
    "a file that is a folder too": "this is left",
}
for number, (fault, message) in enumerate(FAULTS.items()):
    BROKEN[f"Careless{number}"] = (Careless, "test_hostile_archive_is_refused", message, {"fault": fault})
BROKEN["Careless"] = (
    Careless,
    "test_truncated_archive_is_refused",
    "last 1 bytes must raise",
    {"missing": 1},
)
BROKEN["CarelessOver"] = (
    Careless,
    "test_unpacks_over_nothing",
    "folder that is not empty must raise PackagingError, not return",
    {},
)


@breaks("test_unpacks_over_nothing", "the folder was changed: .*requirements.txt")
class UnpacksAndThenRefuses(Careless):
    def unpack(self, archive, into):
        was_full = into.exists() and any(into.iterdir())
        super().unpack(archive, into)
        if was_full:
            raise PackagingError("too late")


@breaks("test_unpacks_into_an_empty_folder", "FileExistsError|exists")
class WantsANewFolder(TarballPackager):
    def unpack(self, archive, into):
        assert not into.exists(), "it exists"
        super().unpack(archive, into)


@breaks("test_missing_archive_is_refused", "must raise PackagingError, not FileNotFoundError")
class OpensBlindly(TarballPackager):
    def unpack(self, archive, into):
        archive.stat()
        super().unpack(archive, into)


@breaks(
    "test_hostile_archive_is_refused", r"this is left: \['parent/into', 'parent/into/x'\]", fault="a device"
)
class LeavesRubbish(TarballPackager):
    def unpack(self, archive, into):
        try:
            super().unpack(archive, into)
        except PackagingError:
            write_tree(into, {"x": b""})
            raise


def splicing(**changes):
    """Return a packager whose splices are wrong in these fields."""

    class Splicing(TarballPackager):
        def splice(self, *args, at_least=0):
            made = super().splice(*args, at_least=at_least)
            return attrs.evolve(made, **{name: change(made) for name, change in changes.items()})

    return Splicing


SPLICE = "test_splice_makes_what_packing_makes"


BROKEN["SplicesMiscounted"] = (
    splicing(files=lambda made: made.files + 1),
    SPLICE,
    "the splice says ",
    {"at_least": 0},
)
BROKEN["SplicesUndigested"] = (
    splicing(digest=lambda _: "0" * 64),
    SPLICE,
    r"the splice says \('0000",
    {"at_least": 0},
)


@breaks(SPLICE, "before the range are [0-9]+ bytes, not at least 10000", at_least=10_000)
class SplicesTooLittle(TarballPackager):
    def splice(self, *args, at_least=0):
        return super().splice(*args)


@breaks(SPLICE, "spliced holds .*, packed holds .*train.py", at_least=0)
class SplicesAnotherSource(TarballPackager):
    def splice(self, head, size, trailer, source, *, at_least=0):
        return super().splice(head, size, trailer, attrs.evolve(source, dependencies=(__file__,)))


BROKEN_PROMISES = {test for _, test, _, _ in BROKEN.values()}


def contract(packager):
    return type("Contract", (PackagerContract,), {"packager": packager})()


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_packager_is_caught(name, tmp_path):
    cls, test, message, arguments = BROKEN[name]
    method = getattr(contract(cls(1)), test)
    if "tmp_path" in method.__annotations__:
        arguments = {"tmp_path": tmp_path, **arguments}
    assert re.search(message, broken.breaks(method, **arguments))


class CannotSplice:
    """The tarball packager without what only some can."""

    name = "plain"

    def __init__(self):
        inner = TarballPackager()
        self.pack_source, self.pack_model = inner.pack_source, inner.pack_model
        self.pack_tree, self.unpack = inner.pack_tree, inner.unpack


class ReadsAll(TarballPackager):
    def code_ends(self, head):
        return None


@pytest.mark.parametrize(
    ("packager", "reason"),
    [(CannotSplice(), "does not give archives other code"), (ReadsAll(), "only reading all of the archive")],
)
def test_what_a_packager_need_not_is_skipped(packager, reason, tmp_path):
    with pytest.raises(pytest.skip.Exception, match=reason):
        contract(packager).test_splice_makes_what_packing_makes(tmp_path, 0)
