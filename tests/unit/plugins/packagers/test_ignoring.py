import logging
import subprocess
import sys

import pytest

from modelyard.core.errors import PackagingError
from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.ignoring import EXCLUDES, filter_for
from modelyard.plugins.packagers.tarball import TarballPackager
from modelyard.testing.trees import names_in, read_tree, write_tree

FILES = dict.fromkeys(
    ["train.py", "data/a.csv", "data/keep.csv", "lib/data/b.csv", "notes.md", "lib/notes.md", ".env.example"],
    b"1",
)


@pytest.fixture
def left(tmp_path):
    """Pack a folder whose ignore file has these lines; return what is in the archive."""

    def call(*lines, files=FILES, entry_point="train.py", dependencies=()):
        ignore = "\n".join(lines).encode()
        src = write_tree(tmp_path / "src", {**files, ".modelyardignore": ignore})
        bundle = TarballPackager().pack_source(
            SourceCode(entry_point, str(src), dependencies), tmp_path / "out"
        )
        TarballPackager().unpack(bundle.path, tmp_path / "into")
        return set(read_tree(tmp_path / "into"))

    return call


def all_but(*names):
    return set(FILES) - {".env.example", *names}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), all_but()),
        (("# a comment", "", "   "), all_but()),
        (("*.md",), all_but("notes.md", "lib/notes.md")),
        (("/notes.md",), all_but("notes.md")),
        (("data/",), all_but("data/a.csv", "data/keep.csv", "lib/data/b.csv")),
        (("/data/*", "!keep.csv"), all_but("data/a.csv")),
        (("lib/**/*.csv",), all_but("lib/data/b.csv")),
        (("!.env.example",), all_but() | {".env.example"}),
        (("notes.md/",), all_but()),
    ],
)
def test_syntax_is_that_of_gitignore(left, lines, expected):
    assert left(*lines) == expected


def test_default_excludes_hold_with_an_ignore_file(left):
    names = ["x/.git/config", "a.pyc", ".env", "venv/x", "b.egg-info/c", "node_modules/d", "__pycache__/e"]
    assert left("*.md", files={**FILES, **dict.fromkeys(names, b"")}) == all_but("notes.md", "lib/notes.md")


@pytest.mark.parametrize("name", [*EXCLUDES, "a.pyc", ".env.x", "m.egg-info", "a.py", "environment", "Venv"])
@pytest.mark.parametrize("where", ["", "deep/er/"])
@pytest.mark.parametrize("is_folder", [True, False])
def test_both_ways_to_match_agree(tmp_path, name, where, is_folder):
    plain = filter_for(tmp_path)
    (tmp_path / ".modelyardignore").touch()
    told = filter_for(tmp_path)
    name = where + name.replace("*", "x")
    assert plain.leaves_out(name, is_folder=is_folder) == told.leaves_out(name, is_folder=is_folder)
    assert plain.left_out == told.left_out


def test_dependency_has_an_ignore_file_of_its_own(left, tmp_path):
    other = write_tree(tmp_path / "common", {"a.py": b"", "b.md": b"", ".modelyardignore": b"*.md"})
    assert left(dependencies=(str(other),)) == {*all_but(), "common/a.py"}


def test_entry_point_that_is_ignored(left):
    with pytest.raises(
        PackagingError, match=r"'train.py' is left out .* and what '.*/.modelyardignore' says"
    ):
        left("train.*")


def test_folder_that_is_left_out_is_not_looked_into(left, tmp_path):
    write_tree(tmp_path / "src/data", {})
    (tmp_path / "src/data").mkdir(parents=True)
    (tmp_path / "src/data/link").symlink_to("/etc")
    assert left("data/") == all_but("data/a.csv", "data/keep.csv", "lib/data/b.csv")


def test_ignore_file_that_makes_no_sense(left, tmp_path):
    with pytest.raises(PackagingError, match=r"'.*/src/.modelyardignore' makes no sense: "):
        left("!")
    assert names_in(tmp_path / "out") == []


def test_ignore_file_that_cannot_be_read(tmp_path):
    (tmp_path / ".modelyardignore").mkdir()
    with pytest.raises(PackagingError, match="cannot read '.*/.modelyardignore': Is a directory"):
        filter_for(tmp_path)


def test_pathspec_is_loaded_for_an_ignore_file_only(tmp_path):
    write_tree(tmp_path / "src", FILES)
    program = f"""
import sys
from pathlib import Path
from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.tarball import TarballPackager
source, out = SourceCode("train.py", {str(tmp_path / "src")!r}), Path({str(tmp_path / "out")!r})
TarballPackager().pack_source(source, out)
assert not {{"pathspec", "structlog"}} & set(sys.modules)
Path({str(tmp_path / "src/.modelyardignore")!r}).touch()
TarballPackager().pack_source(source, out)
assert "pathspec" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_was_packed_is_said(left, caplog):
    caplog.set_level(logging.INFO, "modelyard")
    left("*.md", files={**FILES, "data/large.csv": b"1" * 1000})
    (message,) = caplog.messages
    said, _, archive_bytes = message.rpartition(" archive_bytes=")
    assert said == (
        "packed sourcedir.tar.gz files=5 bytes=1004 largest='data/large.csv' largest_bytes=1000 left_out=4"
    )
    assert 0 < int(archive_bytes) < 1004


def test_large_source_is_warned_of(left, caplog, monkeypatch):
    monkeypatch.setattr("modelyard.plugins.packagers.packing._MUCH_SOURCE", 10)
    left()
    assert "the source is large: keep data out of it (.modelyardignore)" in caplog.messages[0]
