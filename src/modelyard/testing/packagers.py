"""What every packager promises, as tests."""

import io
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from modelyard.core.contracts import Bundle, Packager, SplicingPackager
from modelyard.core.errors import ModelyardError, PackagingError
from modelyard.core.plans import SourceCode
from modelyard.testing.saying import is_a_name, refused
from modelyard.testing.trees import names_in, new_folder, read_tree, write_tree

SOURCE: Mapping[str, bytes] = {
    "train.py": b"print('training')\n",
    "requirements.txt": b"",
    "package/__init__.py": b"",
    "package/näive name.py": b"x = 1\n",
    "package/deep/er/data.bin": bytes(range(256)) * 5,
}
MODEL: Mapping[str, bytes] = {
    "model.pth": b"\x00weights\xff" * 999,
    "parts/second.bin": b"2",
    "code/inference.py": b"old\n",
    "code/helper.py": b"old helper\n",
}


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(_EVIL) if kind == tarfile.REGTYPE else 0
    return info


_EVIL = b"evil"
HOSTILE: Mapping[str, tuple[tarfile.TarInfo, ...]] = {
    "a name with '..'": (_member("../escaped"),),
    "a hidden '..'": (_member("a/b/../../../escaped"),),
    "an absolute name": (_member("/proc/escaped"),),
    "a link to the outside": (_member("out", tarfile.SYMTYPE, "../escaped"),),
    "a write through a link": (_member("out", tarfile.SYMTYPE, ".."), _member("out/escaped")),
    "a hard link to the outside": (_member("out", tarfile.LNKTYPE, "../secret"),),
    "an absolute link": (_member("out", tarfile.SYMTYPE, "/etc/passwd"),),
    "a named pipe": (_member("pipe", tarfile.FIFOTYPE),),
    "a device": (_member("device", tarfile.CHRTYPE),),
    "a file that is a folder too": (_member("a"), _member("a/b")),
}
"""Tars that must not be unpacked; a packager of another format refuses them because they are tars."""


class PackagerContract:
    """The tests of one packager: subclass this, and say which.

    ::

        from modelyard.plugins.packagers.tarball import TarballPackager  # Yours.
        from modelyard.testing import PackagerContract


        class TestTarballPackager(PackagerContract):
            packager = TarballPackager()

    What only some can, as `SplicingPackager`, is tested where it is there.
    """

    packager: Packager

    def test_has_a_name(self) -> None:
        """A packager is found by its name."""
        is_a_name(type(self.packager).name)

    def test_is_made_without_options(self) -> None:
        """Every option has a default, so that a plan may give the name alone."""
        try:
            type(self.packager)()
        except TypeError as error:
            raise AssertionError(f"the class cannot be called without options: {error}") from error

    def test_source_folder_comes_back(self, tmp_path: Path) -> None:
        """What a source folder holds is unpacked again: names, contents, x bits."""
        folder = write_tree(tmp_path / "src", SOURCE)
        (folder / "train.py").chmod(0o755)
        unpacked = self._unpacks_to(self._pack(folder, tmp_path / "out"), SOURCE, tmp_path / "unpacked")
        executable = [name for name in SOURCE if (unpacked / name).stat().st_mode & 0o100]
        assert executable == ["train.py"], f"train.py alone had the x bit, now {executable} have it"

    def test_entry_point_alone_comes_back(self, tmp_path: Path) -> None:
        """Without a source folder only the entry point is packed, under its own name."""
        script = write_tree(tmp_path / "src", SOURCE) / "train.py"
        bundle = self.packager.pack_source(SourceCode(str(script)), new_folder(tmp_path / "out"))
        self._unpacks_to(bundle, {"train.py": SOURCE["train.py"]}, tmp_path / "unpacked")

    def test_dependencies_lie_beside_the_entry_point(self, tmp_path: Path) -> None:
        """Dependencies are packed at the top, folders under their own name."""
        folder = write_tree(tmp_path / "src", {"train.py": b"1"})
        elsewhere = write_tree(tmp_path / "elsewhere", {"common/a.py": b"2", "single.py": b"3"})
        dependencies = (str(elsewhere / "common"), str(elsewhere / "single.py"))
        source = SourceCode("train.py", str(folder), dependencies)
        bundle = self.packager.pack_source(source, new_folder(tmp_path / "out"))
        expected = {"train.py": b"1", "common/a.py": b"2", "single.py": b"3"}
        self._unpacks_to(bundle, expected, tmp_path / "unpacked")

    def test_missing_entry_point_is_named(self, tmp_path: Path) -> None:
        """An entry point that is not in the source folder is an error that names it."""
        folder, out = write_tree(tmp_path / "src", SOURCE), new_folder(tmp_path / "out")
        source = SourceCode("trian.py", str(folder))
        error = _refusal(lambda: self.packager.pack_source(source, out), "a missing entry point")
        assert "trian.py" in str(error), f"the error does not name the missing entry point: {error}"
        assert not names_in(out), f"after the error this is left: {names_in(out)}"

    def test_bundle_describes_its_file(self, tmp_path: Path) -> None:
        """A bundle says where its file is, how large, how many files it holds, and their SHA-256."""
        out = tmp_path / "out"
        bundle = self._pack(write_tree(tmp_path / "src", SOURCE), out)
        assert list(out.iterdir()) == [bundle.path], f"not only {bundle.path} is there: {names_in(out)}"
        size = bundle.path.stat().st_size
        assert bundle.size == size, f"the bundle says {bundle.size} bytes, the file has {size}"
        assert bundle.files == len(SOURCE), f"the bundle says {bundle.files} files, not {len(SOURCE)}"
        assert re.fullmatch("[0-9a-f]{64}", bundle.digest), f"the digest is no SHA-256: {bundle.digest!r}"

    def test_digest_is_of_the_content(self, tmp_path: Path) -> None:
        """The digest depends on the content alone: not on the place, nor on the files' times."""
        first = write_tree(tmp_path / "first", SOURCE)
        second = write_tree(tmp_path / "second", SOURCE, mtime=1_000_000_000)
        one, other = self._pack(first, tmp_path / "1").digest, self._pack(second, tmp_path / "2").digest
        assert one == other, f"the same content has two digests: {one} and {other}"
        write_tree(second, {"train.py": b"print('changed!')\n"}, mtime=1_000_000_000)
        changed = self._pack(second, tmp_path / "3").digest
        assert changed != one, f"two contents have the same digest: {one}"

    @pytest.mark.parametrize("form", ["folder", "archive"])
    def test_source_folder_replaces_the_code(self, tmp_path: Path, form: str) -> None:
        """A source folder becomes the model's ``code/``, and nothing of the former one is left."""
        source = SourceCode("train.py", str(write_tree(tmp_path / "src", SOURCE)))
        bundle = self.packager.pack_model(self._model(tmp_path, form), source, new_folder(tmp_path / "out"))
        files = {name: content for name, content in MODEL.items() if not name.startswith("code/")}
        code = {f"code/{name}": content for name, content in SOURCE.items()}
        self._unpacks_to(bundle, {**files, **code}, tmp_path / "unpacked")

    @pytest.mark.parametrize("form", ["folder", "archive"])
    def test_entry_point_is_laid_over_the_code(self, tmp_path: Path, form: str) -> None:
        """An entry point alone replaces the file of its name; the rest of ``code/`` stays."""
        script = write_tree(tmp_path / "src", {"inference.py": b"new\n"}) / "inference.py"
        source, model = SourceCode(str(script)), self._model(tmp_path, form)
        bundle = self.packager.pack_model(model, source, new_folder(tmp_path / "out"))
        self._unpacks_to(bundle, {**MODEL, "code/inference.py": b"new\n"}, tmp_path / "unpacked")

    @pytest.mark.parametrize("form", ["folder", "archive"])
    def test_model_without_source_keeps_its_code(self, tmp_path: Path, form: str) -> None:
        """Without source, a model is packed with the code that it brings."""
        bundle = self.packager.pack_model(self._model(tmp_path, form), None, new_folder(tmp_path / "out"))
        self._unpacks_to(bundle, MODEL, tmp_path / "unpacked")

    @pytest.mark.parametrize("at_least", [0, 10_000])
    def test_splice_makes_what_packing_makes(self, tmp_path: Path, at_least: int) -> None:
        """`splice`, where there is one, gives an archive the code that `pack_model` gives it."""
        splicer: object = self.packager
        if not isinstance(splicer, SplicingPackager):
            pytest.skip("it does not give archives other code where they are")
        old = self.packager.pack_model(
            write_tree(tmp_path / "model", MODEL), None, new_folder(tmp_path / "old")
        )
        source = SourceCode("train.py", str(write_tree(tmp_path / "src", SOURCE)))
        new = self.packager.pack_model(old.path, source, new_folder(tmp_path / "new"))
        content = old.path.read_bytes()
        end = splicer.code_ends(content[:4096])
        made = end and splicer.splice(content[:end], len(content), content[-8:], source, at_least=at_least)
        if not made:
            pytest.skip("only reading all of the archive can tell what is in it")
        before = len(made.before)
        assert before >= at_least, f"before the range are {before} bytes, not at least {at_least}"
        spliced = tmp_path / "spliced"
        spliced.write_bytes(made.before + content[made.start : made.stop] + made.after)
        self.packager.unpack(spliced, tmp_path / "unpacked")
        self.packager.unpack(new.path, tmp_path / "expected")
        found, expected = read_tree(tmp_path / "unpacked"), read_tree(tmp_path / "expected")
        assert found == expected, f"spliced holds {sorted(found)}, packed holds {sorted(expected)}"
        told = (made.digest, made.files)
        assert told == (new.digest, new.files), f"the splice says {told}, packing {(new.digest, new.files)}"

    def test_tree_comes_back(self, tmp_path: Path) -> None:
        """A tree is packed to the named file as it is, with what a source archive might leave out."""
        content = {**MODEL, ".env": b"kept", "__pycache__/kept.pyc": b"kept"}
        archive = new_folder(tmp_path / "out") / "tree"
        bundle = self.packager.pack_tree(write_tree(tmp_path / "tree", content), archive)
        assert bundle.path == archive, f"the archive is at {bundle.path}, not at {archive}"
        self._unpacks_to(bundle, content, tmp_path / "unpacked")

    def test_unpacks_into_an_empty_folder(self, tmp_path: Path) -> None:
        """The folder to unpack into may be there already, if it is empty."""
        bundle = self._pack(write_tree(tmp_path / "src", SOURCE), tmp_path / "out")
        self._unpacks_to(bundle, SOURCE, new_folder(tmp_path / "unpacked"))

    def test_unpacks_over_nothing(self, tmp_path: Path) -> None:
        """A folder with something in it is refused and left as it is."""
        bundle = self._pack(write_tree(tmp_path / "src", SOURCE), tmp_path / "out")
        there = write_tree(tmp_path / "there", {"train.py": b"mine"})
        _refusal(lambda: self.packager.unpack(bundle.path, there), "a folder that is not empty")
        assert read_tree(there) == {"train.py": b"mine"}, f"the folder was changed: {names_in(there)}"

    @pytest.mark.parametrize("missing", [1, 8, 100])
    def test_truncated_archive_is_refused(self, tmp_path: Path, missing: int) -> None:
        """An archive whose last bytes are missing is an error, however few they are."""
        archive = self._pack(write_tree(tmp_path / "src", SOURCE), tmp_path / "out").path
        archive.write_bytes(archive.read_bytes()[:-missing])
        self._refuses(archive, tmp_path, f"an archive without its last {missing} bytes")

    def test_missing_archive_is_refused(self, tmp_path: Path) -> None:
        """An archive that does not exist is an error of packaging."""
        self._refuses(tmp_path / "missing", tmp_path, "an archive that does not exist")

    @pytest.mark.parametrize("fault", HOSTILE)
    def test_hostile_archive_is_refused(self, tmp_path: Path, fault: str) -> None:
        """What would lead out of the folder, or is neither file nor folder, is never unpacked."""
        with tarfile.open(tmp_path / "hostile.tar.gz", "w:gz") as tar:
            for member in HOSTILE[fault]:
                tar.addfile(member, io.BytesIO(_EVIL))
        self._refuses(tmp_path / "hostile.tar.gz", tmp_path, f"an archive with {fault}")

    def _pack(self, folder: Path, into: Path) -> Bundle:
        return self.packager.pack_source(SourceCode("train.py", str(folder)), new_folder(into))

    def _model(self, tmp_path: Path, form: str) -> Path:
        folder = write_tree(tmp_path / "model", MODEL)
        if form == "folder":
            return folder
        return self.packager.pack_tree(folder, tmp_path / "model.archive").path

    def _unpacks_to(self, bundle: Bundle, expected: Mapping[str, bytes], into: Path) -> Path:
        self.packager.unpack(bundle.path, into)
        found = read_tree(into)
        assert sorted(found) == sorted(expected), f"unpacked were {sorted(found)}, not {sorted(expected)}"
        changed = [name for name in found if found[name] != expected[name]]
        assert not changed, f"these came back with another content: {changed}"
        return into

    def _refuses(self, archive: Path, tmp_path: Path, what: str) -> None:
        """Check that unpacking is an error and leaves nothing, inside or beside the folder."""
        parent = new_folder(tmp_path / "around/parent")
        _refusal(lambda: self.packager.unpack(archive, parent / "into"), what)
        left = [name for name in names_in(tmp_path / "around") if name != "parent"]
        assert not left, f"after the refusal of {what} this is left: {left}"


def _refusal(call: Callable[[], object], what: str) -> ModelyardError:
    return refused(call, PackagingError, what)
