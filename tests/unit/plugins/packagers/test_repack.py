"""Model archives that get other code: by a splice wherever that is certain to be right, else rewritten."""

import errno
import gzip
import io
import os
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import PackagingError, UnsafeArchiveError
from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers import deflate, original, splice
from modelyard.plugins.packagers.model_archive import write_spliced
from modelyard.plugins.packagers.original import examine
from modelyard.plugins.packagers.splice import (
    HEADER_SIZE,
    Index,
    make_prefix,
    neutral_entry,
    parse_index,
    unindexed_header,
)
from modelyard.plugins.packagers.tarball import TarballPackager
from modelyard.testing.trees import names_in, new_folder, read_tree, write_tree

WEIGHTS = {"model.pth": os.urandom(70_000) + bytes(70_000), "parts/2.bin": b"2"}
CODE = {"inference.py": b"new\n", "lib/net.py": b"1\n"}
LATER = {"inference.py": b"later\n"}


@pytest.fixture
def packager():
    return TarballPackager()


@pytest.fixture
def repack(packager, tmp_path):
    """Give a model a source folder of these files, or with `script` an entry point alone."""
    count = iter(range(1000))

    def call(model, files, *, script=False, into=None):
        src = write_tree(tmp_path / f"src-{next(count)}", files)
        source = SourceCode(str(src / "inference.py")) if script else SourceCode("inference.py", str(src))
        return packager.pack_model(model, source, into or tmp_path / f"out-{next(count)}").path

    return call


@pytest.fixture
def content(packager, tmp_path):
    """Return all files of an archive, once two readers of ours have found nothing wrong with it."""

    def call(archive):
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            packager.unpack(archive, Path(folder, "into"))
            found = read_tree(Path(folder, "into"))
        raw = zlib.decompress(archive.read_bytes(), 31)
        assert archive.read_bytes()[-8:] == struct.pack("<II", zlib.crc32(raw), len(raw))
        return found

    return call


def expected(weights, code):
    return weights | {f"code/{name}": data for name, data in code.items()}


def file(name, data=b"", mode=0o644):
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, 1234567
    return info, data


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def long_name(name):
    """Return what gives the next member a name, whatever its own is."""
    info, data = file("././@LongLink", name.encode())
    info.type = tarfile.GNUTYPE_LONGNAME
    return info.tobuf(tarfile.GNU_FORMAT) + data.ljust(512, b"\0")


def foreign_tar(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def foreign(path, *members, level=9):
    """Write an archive as another program would."""
    path.write_bytes(gzip.compress(foreign_tar(*members), level, mtime=7))
    return path


def by_tarfile(archive, mode):
    """Return all files of an archive as the standard library reads them, once it has read all of it."""
    with tarfile.open(archive, mode) as tar:
        files = (info for info in tar if info.isreg())
        return {info.name.removeprefix("./"): tar.extractfile(info).read() for info in files}


def index_of(archive):
    return parse_index(archive.read_bytes())


def was_spliced(archive, model):
    """Tell whether the deflated bytes of a model without code are in the archive as they were."""
    index, data = index_of(archive), archive.read_bytes()
    return index is not None and data[index.start : index.stop] in model.read_bytes()


MODEL = [file(name, data) for name, data in WEIGHTS.items()]


# -- what is spliced -------------------------------------------------------------------------------


def test_archive_of_a_job_is_spliced(packager, repack, content, tmp_path):
    model = packager.pack_tree(write_tree(tmp_path / "m", WEIGHTS), tmp_path / "m.tar.gz").path
    first = repack(model, CODE)
    assert content(first) == expected(WEIGHTS, CODE)
    assert was_spliced(first, model)
    second = repack(first, LATER)
    assert content(second) == expected(WEIGHTS, LATER)
    assert was_spliced(second, model)


def test_archive_of_another_program_without_code_is_spliced(repack, content, tmp_path):
    model = foreign(tmp_path / "m.tar.gz", *MODEL)
    first = repack(model, CODE)
    assert content(first) == expected(WEIGHTS, CODE)
    assert was_spliced(first, model)
    assert (
        gzip.decompress(model.read_bytes())
        == gzip.decompress(first.read_bytes())[index_of(first).prefix_raw :]
    )


def test_repacking_by_index_reads_nothing_but_the_code(repack, content, tmp_path, monkeypatch):
    first = repack(foreign(tmp_path / "m.tar.gz", *MODEL), CODE)
    monkeypatch.setattr(original, "_by_scan", None)
    assert content(repack(first, LATER)) == expected(WEIGHTS, LATER)


def test_repacking_twice_gives_the_same_bytes(repack, tmp_path):
    first = repack(foreign(tmp_path / "m.tar.gz", *MODEL), CODE)
    assert repack(first, CODE).read_bytes() == first.read_bytes()
    assert repack(repack(first, LATER), CODE).read_bytes() == first.read_bytes()


def test_repacking_twice_gives_the_same_digest(packager, tmp_path):
    source = SourceCode("inference.py", str(write_tree(tmp_path / "s", CODE)))
    first = packager.pack_model(foreign(tmp_path / "m.tar.gz", *MODEL), source, tmp_path / "1")
    again = packager.pack_model(first.path, source, tmp_path / "2")
    assert attrs.evolve(again, path=first.path) == first
    assert first.files == 4


def test_digest_is_that_of_packing_at_once(packager, tmp_path):
    folder = write_tree(tmp_path / "m", WEIGHTS)
    source = SourceCode("inference.py", str(write_tree(tmp_path / "s", CODE)))
    at_once = packager.pack_model(folder, source, tmp_path / "1")
    archive = packager.pack_tree(folder, tmp_path / "m.tar.gz").path
    spliced = packager.pack_model(archive, source, tmp_path / "2")
    assert spliced.path.read_bytes() == at_once.path.read_bytes()
    assert spliced.digest == at_once.digest
    level = TarballPackager(compression_level=9).pack_model(folder, source, tmp_path / "3")
    assert (level.digest, level.size == at_once.size) == (at_once.digest, False)


@pytest.mark.parametrize("change", ["code", "weights"])
def test_digest_depends_on_all_of_the_content(packager, tmp_path, change):
    digests = set()
    for number in "12":
        weights = {"w": number.encode() if change == "weights" else b""}
        code = {"inference.py": number.encode() if change == "code" else b""}
        source = SourceCode("inference.py", str(write_tree(tmp_path / f"s{number}", code)))
        model = write_tree(tmp_path / f"m{number}", weights)
        digests.add(packager.pack_model(model, source, tmp_path / f"o{number}").digest)
    assert len(digests) == 2


def test_entry_point_alone_is_laid_over_the_code_of_an_index(repack, content, tmp_path):
    first = repack(foreign(tmp_path / "m.tar.gz", *MODEL), CODE)
    second = repack(first, LATER, script=True)
    assert content(second) == expected(WEIGHTS, CODE | LATER)
    assert was_spliced(second, first)


def test_modes_of_the_code_are_kept(packager, repack, tmp_path):
    model = foreign(tmp_path / "m.tar.gz", *MODEL, file("code/run.sh", b"1", 0o755), file("code/x", b"2"))
    once = repack(repack(model, LATER, script=True), LATER, script=True)
    packager.unpack(once, tmp_path / "into")
    assert [oct((tmp_path / "into/code" / name).stat().st_mode)[-3:] for name in ("run.sh", "x")] == [
        "755",
        "644",
    ]


def test_without_source_a_splice_adds_an_index(packager, content, tmp_path):
    model = foreign(tmp_path / "m.tar.gz", *MODEL)
    bundle = packager.pack_model(model, None, tmp_path / "out")
    assert content(bundle.path) == WEIGHTS
    assert was_spliced(bundle.path, model)
    assert bundle.files == 2
    again = packager.pack_model(bundle.path, None, tmp_path / "again")
    assert again.path.read_bytes() == bundle.path.read_bytes()


def test_parts_of_the_header_are_dropped(repack, content, tmp_path):
    plain = foreign(tmp_path / "m.tar.gz", *MODEL).read_bytes()
    (tmp_path / "m.tar.gz").write_bytes(
        plain[:3] + b"\x0c" + plain[4:10] + b"\x03\0abc" + b"name\0" + plain[10:]
    )
    first = repack(tmp_path / "m.tar.gz", CODE)
    assert content(first) == expected(WEIGHTS, CODE)
    assert was_spliced(first, tmp_path / "m.tar.gz")


def test_padding_of_an_upload_goes_away_with_the_next_code(repack, content, tmp_path):
    first = repack(foreign(tmp_path / "m.tar.gz", *MODEL), CODE)
    index, data = index_of(first), first.read_bytes()
    raw = gzip.decompress(data)[: index.prefix_raw - 1536]
    prefix = make_prefix(raw, at_least=5 << 20, level=1)
    padded = index.with_prefix(prefix, 2)
    (tmp_path / "padded.tar.gz").write_bytes(
        padded.header + prefix.deflated + data[index.start : index.stop] + padded.trailer
    )
    assert content(tmp_path / "padded.tar.gz") == expected(WEIGHTS, CODE)
    assert repack(tmp_path / "padded.tar.gz", CODE).read_bytes() == data


def remote(packager, archive, files, tmp_path, *, script=False, **options):
    """Give an archive other code as a client of a server that copies ranges does."""
    data = archive.read_bytes()
    head = data[: packager.code_ends(data[:4096])]
    src = write_tree(new_folder(tmp_path), files)
    source = SourceCode(str(src / "inference.py")) if script else SourceCode("inference.py", str(src))
    made = packager.splice(head, len(data), data[-8:], source, **options)
    return made, made.before + data[made.start : made.stop] + made.after


@pytest.mark.parametrize("script", [True, False])
def test_splice_elsewhere_gives_what_packing_here_does(packager, repack, content, tmp_path, script):
    first = repack(foreign(tmp_path / "m.tar.gz", *MODEL), CODE)
    plain, made = remote(packager, first, LATER, tmp_path / "1", script=script)
    assert made == repack(first, LATER, script=script).read_bytes()
    assert plain.files == len(WEIGHTS) + (2 if script else 1)
    padded, made = remote(packager, first, LATER, tmp_path / "2", script=script, at_least=5 << 20)
    assert 5 << 20 <= len(padded.before) < (5 << 20) + 5
    assert padded.digest == plain.digest
    (tmp_path / "padded.tar.gz").write_bytes(made)
    assert content(tmp_path / "padded.tar.gz") == expected(WEIGHTS, CODE | LATER if script else LATER)
    _, again = remote(packager, tmp_path / "padded.tar.gz", LATER, tmp_path / "3", script=True)
    assert again == repack(first, LATER, script=script).read_bytes()


def test_splice_elsewhere_has_the_digest_of_a_bundle(packager, tmp_path):
    model = packager.pack_model(foreign(tmp_path / "m.tar.gz", *MODEL), None, tmp_path / "o").path
    made, _ = remote(packager, model, CODE, tmp_path / "s")
    source = SourceCode("inference.py", str(tmp_path / "s"))
    bundle = packager.pack_model(model, source, tmp_path / "here")
    assert (made.digest, made.files) == (bundle.digest, bundle.files)


@pytest.mark.parametrize("change", ["head", "size", "trailer", "prefix"])
def test_splice_elsewhere_of_what_does_not_fit(packager, repack, tmp_path, change):
    data = repack(foreign(tmp_path / "m.tar.gz", *MODEL), CODE).read_bytes()
    ends = packager.code_ends(data[:4096])
    given = {"head": data[:ends], "size": len(data), "trailer": data[-8:]}
    source = SourceCode("inference.py", str(write_tree(tmp_path / "s", LATER)))
    assert packager.splice(**given, source=source) is not None
    flipped = data[: ends - 10] + bytes([data[ends - 10] ^ 1]) + data[ends - 9 : ends]
    wrong = {"head": data[: ends - 1], "size": len(data) + 1, "trailer": bytes(8), "prefix": flipped}
    given |= {"head" if change == "prefix" else change: wrong[change]}
    assert packager.splice(**given, source=source) is None


def test_archive_of_another_program_has_to_be_read(packager, tmp_path):
    data = foreign(tmp_path / "m.tar.gz", *MODEL).read_bytes()
    source = SourceCode("inference.py", str(write_tree(tmp_path / "s", LATER)))
    assert packager.code_ends(data[:4096]) is None
    assert packager.splice(data[:4096], len(data), data[-8:], source) is None


NAMES = st.sampled_from(
    [
        "a",
        "A",
        "b.bin",
        "codec",
        "Code/x",
        "code.txt",
        "dir/c",
        "dir/deep/d",
        "n\u00e4me",
        "na\u0308me",
        "n" * 120,
    ]
)
SCRIPTS = st.sampled_from(["inference.py", "x.py", "lib/a.py", "lib/b.py", "é.py", "m" * 110 + ".py"])
DATA = st.binary(max_size=3000)
SOURCES = st.tuples(st.booleans(), DATA, st.dictionaries(SCRIPTS, DATA, max_size=4))


@settings(max_examples=40)
@given(
    weights=st.dictionaries(NAMES, DATA, max_size=4),
    own_code=st.dictionaries(SCRIPTS, DATA, max_size=3),
    form=st.sampled_from(["folder", "job", "foreign", "tar", "members"]),
    sources=st.lists(SOURCES, min_size=1, max_size=4),
)
def test_any_tree_any_code_any_number_of_times(weights, own_code, form, sources):
    packager = TarballPackager()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        files = expected(weights, own_code)
        tar = foreign_tar(*(file(f"./{path}", data) for path, data in files.items()))
        model = base / "model"
        match form:
            case "folder":
                write_tree(new_folder(model), files)
            case "job":
                model = packager.pack_tree(write_tree(new_folder(base / "tree"), files), model).path
            case "foreign":
                model.write_bytes(gzip.compress(tar))
            case "tar":
                model.write_bytes(tar)
            case "members":
                model.write_bytes(gzip.compress(tar[:700]) + gzip.compress(tar[700:]))
        code = dict(own_code)
        for number, (alone, script, more) in enumerate(sources):
            new = {"inference.py": script} if alone else more | {"inference.py": script}
            src = write_tree(base / f"src-{number}", new)
            source = SourceCode(str(src / "inference.py")) if alone else SourceCode("inference.py", str(src))
            code = (code if alone else {}) | new
            bundle = packager.pack_model(model, source, base / f"out-{number}")
            packager.unpack(bundle.path, base / f"into-{number}")
            assert read_tree(base / f"into-{number}") == expected(weights, code)
            for mode in ("r:gz", "r|gz"):
                assert by_tarfile(bundle.path, mode) == expected(weights, code)
            assert bundle.files == len(weights) + len(code)
            data = bundle.path.read_bytes()
            raw = zlib.decompress(data, 31)
            assert data[-8:] == struct.pack("<II", zlib.crc32(raw), len(raw))
            index = parse_index(data)
            assert index.fits(len(data), data[-8:])
            again = packager.pack_model(bundle.path, source, base / f"again-{number}")
            assert again.path.read_bytes() == data
            model = bundle.path


# -- what is rewritten -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["code/", "./code/", "code", "./code//."])
@pytest.mark.parametrize("script", [True, False])
def test_code_of_another_program_is_found_by_any_name(repack, content, tmp_path, name, script):
    members = [file("model.pth", b"w"), file(f"{name}/old.py", b"old"), file(f"{name}/inference.py", b"old")]
    first = repack(foreign(tmp_path / "m.tar.gz", *members), CODE, script=script)
    kept = {"old.py": b"old", "inference.py": b"new\n"} if script else CODE
    assert content(first) == expected({"model.pth": b"w"}, kept)
    assert index_of(first).prefix_files == 2


def test_code_by_an_absolute_name_is_refused(repack, tmp_path):
    with pytest.raises(UnsafeArchiveError, match="is absolute"):
        repack(foreign(tmp_path / "m.tar.gz", *MODEL, file("/code/old.py", b"old")), CODE)


def test_empty_folder_of_code_counts_as_code(repack, content, tmp_path):
    info = tarfile.TarInfo("code")
    info.type = tarfile.DIRTYPE
    first = repack(foreign(tmp_path / "m.tar.gz", *MODEL, (info, b"")), CODE, script=True)
    assert content(first) == expected(WEIGHTS, {"inference.py": b"new\n"})


def test_code_as_the_last_member_is_found(repack, content, tmp_path):
    model = foreign(tmp_path / "m.tar.gz", file("w", os.urandom(3 << 20)), file("code/old.py", b"old"))
    first = repack(model, CODE)
    assert set(content(first)) == {"w", "code/inference.py", "code/lib/net.py"}
    assert not was_spliced(first, model)


@pytest.mark.parametrize("cut", [5, 512, 700, 80_000])
def test_several_gzip_members_are_made_one(repack, content, tmp_path, cut):
    tar = foreign_tar(*MODEL)
    (tmp_path / "m.tar.gz").write_bytes(gzip.compress(tar[:cut]) + gzip.compress(tar[cut:]))
    assert content(repack(tmp_path / "m.tar.gz", CODE)) == expected(WEIGHTS, CODE)


def test_padding_behind_the_member_is_dropped(repack, content, tmp_path):
    model = foreign(tmp_path / "m.tar.gz", *MODEL)
    model.write_bytes(model.read_bytes() + bytes(100))
    first = repack(model, CODE)
    assert content(first) == expected(WEIGHTS, CODE)
    assert was_spliced(first, model)


def test_code_that_links_to_the_model_stays_where_it_is(repack, content, tmp_path):
    model = foreign(tmp_path / "m.tar.gz", *MODEL, link("code/weights", "../parts/2.bin"))
    first = repack(model, LATER, script=True)
    assert content(first) == expected(WEIGHTS, {**LATER, "weights": b"2"})
    assert index_of(first) is None
    assert first.read_bytes().startswith(unindexed_header())
    assert content(repack(first, CODE)) == expected(WEIGHTS, CODE)


def test_model_that_links_to_code_cannot_be_spliced(repack, content, tmp_path):
    model = foreign(tmp_path / "m.tar.gz", file("code/real", b"r"), link("alias", "code/real"), *MODEL)
    first = repack(model, LATER, script=True)
    assert content(first) == expected({**WEIGHTS, "alias": b"r"}, {**LATER, "real": b"r"})
    assert index_of(first) is None
    with pytest.raises(PackagingError, match="'alias': it is a link to 'code/real', which is left out"):
        repack(first, CODE)


def test_links_between_files_of_code(repack, content, tmp_path):
    members = [file("code/a", b"1"), link("code/b", "a"), link("code/c", "code/b", tarfile.LNKTYPE)]
    first = repack(foreign(tmp_path / "m.tar.gz", *members, *MODEL), LATER, script=True)
    assert content(first) == expected(WEIGHTS, {**LATER, "a": b"1", "b": b"1", "c": b"1"})
    assert index_of(first) is not None


def test_of_two_files_of_code_of_one_name_the_later_counts(repack, content, tmp_path):
    members = [file("code/a", b"1"), file("code/a", b"2")]
    first = repack(foreign(tmp_path / "m.tar.gz", *members, *MODEL), LATER, script=True)
    assert content(first) == expected(WEIGHTS, {**LATER, "a": b"2"})


def test_file_called_code(packager, repack, content, tmp_path):
    model = foreign(tmp_path / "m.tar.gz", file("code", b"a file"), *MODEL)
    with pytest.raises(PackagingError, match="it would be both a file and a folder"):
        repack(model, LATER, script=True)
    assert content(repack(model, CODE)) == expected(WEIGHTS, CODE)
    kept = packager.pack_model(model, None, tmp_path / "kept").path
    assert content(kept) == {**WEIGHTS, "code": b"a file"}
    tree = write_tree(tmp_path / "tree", {**WEIGHTS, "code": b"a file"})
    packed = packager.pack_tree(tree, tmp_path / "tree.tar.gz").path
    assert content(packed) == {**WEIGHTS, "code": b"a file"}
    assert [index_of(kept), index_of(packed)] == [None, None]


def test_more_code_than_is_held_in_memory(repack, content, tmp_path, monkeypatch):
    first = repack(foreign(tmp_path / "m.tar.gz", *MODEL, file("code/big", bytes(5000))), LATER, script=True)
    monkeypatch.setattr(original, "MAX_CODE", 4000)
    second = repack(first, CODE, script=True)
    assert content(second) == expected(WEIGHTS, {"inference.py": b"new\n", "big": bytes(5000)})
    third = repack(first, CODE)
    assert content(third) == expected(WEIGHTS, CODE)


def test_index_of_much_code_is_not_followed(repack, content, tmp_path, monkeypatch):
    first = repack(foreign(tmp_path / "m.tar.gz", *MODEL), CODE)
    monkeypatch.setattr(splice, "MAX_CODE", index_of(first).prefix_raw - 1)
    monkeypatch.setattr(original, "_prefix", None)
    assert content(repack(first, LATER)) == expected(WEIGHTS, LATER)


def test_index_of_much_code_is_not_followed_elsewhere(packager, repack, tmp_path, monkeypatch):
    data = repack(foreign(tmp_path / "m.tar.gz", *MODEL), CODE).read_bytes()
    source = SourceCode("inference.py", str(write_tree(tmp_path / "s", LATER)))
    head = data[: packager.code_ends(data[:4096])]
    monkeypatch.setattr(splice, "MAX_CODE", parse_index(data).prefix_raw - 1)
    assert packager.code_ends(data[:4096]) is None
    assert packager.splice(head, len(data), data[-8:], source) is None


def test_too_many_files_in_sum(tmp_path):
    model = foreign(tmp_path / "m.tar.gz", *MODEL)
    source = SourceCode("inference.py", str(write_tree(tmp_path / "src", CODE)))
    for packed in (model, TarballPackager().pack_model(model, None, tmp_path / "indexed").path):
        with pytest.raises(PackagingError, match="cannot pack more than"):
            TarballPackager(max_entries=3).pack_model(
                packed, source, new_folder(tmp_path / f"o{packed.stat().st_size}")
            )


# -- what is damaged or lies -----------------------------------------------------------------------


def cut(data):
    return data[: len(data) // 2]


def wrong_crc(data):
    return data[:-8] + struct.pack("<I", 1) + data[-4:]


def wrong_length(data):
    return data[:-4] + struct.pack("<I", 1)


def trailing_garbage(data):
    return data + b"garbage"


@pytest.mark.parametrize("spoil", [cut, wrong_crc, wrong_length, trailing_garbage])
@pytest.mark.parametrize("indexed", [True, False])
def test_damaged_model(repack, tmp_path, spoil, indexed):
    model = foreign(tmp_path / "m.tar.gz", *MODEL)
    if indexed:
        model = repack(model, CODE)
    model.write_bytes(spoil(model.read_bytes()))
    with pytest.raises(PackagingError, match="is damaged, or neither"):
        repack(model, LATER, into=new_folder(tmp_path / "out"))
    assert names_in(tmp_path / "out") == []


def test_member_behind_an_index_is_no_splice(repack, content, tmp_path):
    first = repack(foreign(tmp_path / "m.tar.gz", *MODEL), CODE)
    first.write_bytes(first.read_bytes() + gzip.compress(bytes(1024)))
    assert examine(first, TarballPackager()._limits, whole_code=True).body is None
    assert content(repack(first, LATER)) == expected(WEIGHTS, LATER)


LIES = {
    "prefix": lambda index: {"prefix": index.prefix - 5},
    "prefix and body": lambda index: {"prefix": index.prefix - 5, "body": index.body + 5},
    "no prefix": lambda index: {"prefix": 0, "prefix_raw": 0, "body": index.body + index.prefix},
    "raw prefix": lambda index: {"prefix_raw": index.prefix_raw - 512},
    "raw sizes": lambda index: {"prefix_raw": index.prefix_raw - 512, "body_raw": index.body_raw + 512},
    "raw sizes the other way": lambda index: {
        "prefix_raw": index.prefix_raw + 512,
        "body_raw": index.body_raw - 512,
    },
    "body": lambda index: {"body": index.body + 1},
    "larger prefix": lambda index: {"prefix": index.prefix + 100, "body": index.body - 100},
    "all is prefix": lambda index: {"prefix": index.prefix + index.body, "body": 0},
    "crc": lambda index: {"crc": 1},
    "huge": lambda index: {"prefix": 1 << 47, "prefix_raw": 1 << 47},
}


@pytest.mark.parametrize("lie", LIES)
def test_index_that_does_not_fit_is_not_believed(repack, tmp_path, lie):
    first = repack(foreign(tmp_path / "m.tar.gz", *MODEL), CODE)
    index = index_of(first)
    lied = attrs.evolve(index, **LIES[lie](index))
    first.write_bytes(lied.header + first.read_bytes()[HEADER_SIZE:])
    if lied.prefix_raw >= index.prefix_raw:
        second = repack(first, LATER)
        TarballPackager().unpack(second, tmp_path / "into")
        assert read_tree(tmp_path / "into") == expected(WEIGHTS, LATER)
    else:
        with pytest.raises(UnsafeArchiveError, match="where its own index says that no code is"):
            repack(first, LATER)


BLANK = Index(0, 0, 0, 0, 0, 2, 0, "0" * 64)


def with_prefix(path, raw, end=zlib.Z_FULL_FLUSH, *, body=None, open_bytes=0):
    """Write an archive whose index fits a prefix of any bytes before a model.

    `open_bytes`: so many bytes of the model are in the prefix's last block.
    """
    body = body or foreign_tar(*MODEL)
    if open_bytes:
        size = len(raw) + open_bytes
        deflated = struct.pack("<BHH", 0, size, size ^ 0xFFFF) + raw
    else:
        deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
        deflated = deflater.compress(raw) + deflater.flush(end)
    if end == zlib.Z_FINISH:
        deflated += b"\0\0\xff\xff"
    rest = body[:open_bytes] + gzip.compress(body[open_bytes:])[10:-8]
    index = attrs.evolve(
        BLANK, prefix=len(deflated), prefix_raw=len(raw), body=len(rest), body_raw=len(body),
        crc=zlib.crc32(raw + body),
    )  # fmt: skip
    path.write_bytes(index.header + deflated + rest + index.trailer)
    return path


def of_no_crc(tail, content=b""):
    """Return a tar of one file of code and `tail` behind it, whose first four bytes make the CRC 0."""

    def tar(free):
        data = free.to_bytes(4, "little") + content
        return foreign_tar(file("code/a", data))[:1024] + tail

    def less(crc, free):
        """Change bits so that the CRC becomes as small as it can."""
        for effect, change in sorted(rows, reverse=True):
            crc, free = min((crc, free), (crc ^ effect, free ^ change))
        return crc, free

    rows = []
    for bit in range(32):
        rows += [less(zlib.crc32(tar(1 << bit)) ^ zlib.crc32(tar(0)), 1 << bit)]
    return tar(less(zlib.crc32(tar(0)), 0)[1])


@pytest.mark.parametrize("name", ["model.bin", "code.py", "codes/a.py"])
def test_prefix_that_is_no_code_is_kept(repack, content, tmp_path, name):
    """What a lying index calls code is part of the model, and must not go away with the code."""
    blocks = foreign_tar(file(name, b"precious"))[:1024]
    model = with_prefix(tmp_path / "m.tar.gz", blocks + neutral_entry(zlib.crc32(blocks)))
    assert index_of(model).fits(model.stat().st_size, model.read_bytes()[-8:])
    assert examine(model, TarballPackager()._limits, whole_code=True).body is None
    assert content(repack(model, CODE)) == expected({**WEIGHTS, name: b"precious"}, CODE)


def test_prefix_that_changes_the_crc_is_not_spliced(repack, content, tmp_path):
    model = with_prefix(tmp_path / "m.tar.gz", foreign_tar(file("code/a.py", b"old"))[:1024])
    assert content(repack(model, CODE)) == expected(WEIGHTS, CODE)


def test_prefix_that_ends_with_a_name_for_the_model_is_kept(repack, content, tmp_path):
    """Without it, the first file of the model would have another name in silence."""
    model = with_prefix(tmp_path / "m.tar.gz", of_no_crc(long_name("renamed")))
    assert index_of(model).fits(model.stat().st_size, model.read_bytes()[-8:])
    weights = {"renamed": WEIGHTS["model.pth"], "parts/2.bin": b"2"}
    assert content(repack(model, CODE)) == expected(weights, CODE)


def test_prefix_whose_last_file_goes_on_in_the_model_is_kept(repack, content, tmp_path):
    """Without it, other files would be there: those of which one was the content, and the reverse."""
    start, _ = file("code/b", bytes(512))
    inner = b"".join(info.tobuf() + data + bytes(-len(data) % 512) for info, data in MODEL)
    model = with_prefix(
        tmp_path / "m.tar.gz", of_no_crc(start.tobuf()), body=foreign_tar(file("hidden", inner))
    )
    assert content(repack(model, CODE)) == expected(WEIGHTS, CODE)


def test_prefix_that_ends_the_tar_before_the_model(repack, tmp_path):
    model = with_prefix(tmp_path / "m.tar.gz", of_no_crc(bytes(1024)))
    with pytest.raises(PackagingError, match="there is data behind its end marker"):
        repack(model, CODE)


def test_prefix_whose_last_block_goes_on_in_the_model_is_kept(repack, content, tmp_path):
    """Without it, the model's first bytes would be taken for deflated ones."""
    raw = of_no_crc(b"", bytes(504) + b"\0\0\xff\xff")
    model = with_prefix(tmp_path / "m.tar.gz", raw, open_bytes=512)
    assert content(model) == expected(WEIGHTS, {"a": raw[512:]})
    assert content(repack(model, CODE)) == expected(WEIGHTS, CODE)


@pytest.mark.parametrize("end", [zlib.Z_FINISH, zlib.Z_NO_FLUSH])
def test_prefix_that_does_not_end_where_it_should(repack, tmp_path, end):
    blocks = foreign_tar(file("code/a.py", b"old"))[:1024]
    model = with_prefix(tmp_path / "m.tar.gz", blocks + neutral_entry(zlib.crc32(blocks)), end)
    with pytest.raises(PackagingError, match="is damaged"):
        repack(model, CODE)


def test_code_that_an_index_hides_is_found_when_it_is_unpacked(packager, repack, tmp_path):
    """Nothing but a scan finds it earlier; a model that hides code could as well be a pickle."""
    members = foreign_tar(*MODEL, file("code/inference.py", b"hidden"))
    rest = gzip.compress(members)[10:-8]
    index = attrs.evolve(BLANK, body=len(rest), body_raw=len(members), crc=zlib.crc32(members))
    (tmp_path / "m.tar.gz").write_bytes(index.header + rest + index.trailer)
    first = repack(tmp_path / "m.tar.gz", CODE)
    with pytest.raises(UnsafeArchiveError, match="'code/inference.py' where its own index says that no code"):
        packager.unpack(first, tmp_path / "into")


def test_hostile_code_in_a_prefix(repack, tmp_path):
    blocks = foreign_tar(file("code/../../escaped", b"evil"))[:1024]
    model = with_prefix(tmp_path / "m.tar.gz", blocks + neutral_entry(zlib.crc32(blocks)))
    with pytest.raises(UnsafeArchiveError, match="has a '..' in it"):
        repack(model, LATER, script=True)


def test_model_that_is_changed_before_it_is_copied(repack, tmp_path):
    first = repack(foreign(tmp_path / "m.tar.gz", *MODEL), CODE)
    body = examine(first, TarballPackager()._limits, whole_code=True).body
    os.utime(first, (1, 1))
    with pytest.raises(PackagingError, match="changed while it was packed"):
        write_spliced(tmp_path / "out", (), body, level=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("whole_code", [True, False])
def test_model_that_is_changed_before_it_is_rewritten(tmp_path, whole_code):
    """Old code and a new model would be neither."""
    limits = TarballPackager()._limits
    model = foreign(tmp_path / "m.tar.gz", file("code/a.py", b"1"), *MODEL)
    found = examine(model, limits, whole_code=whole_code)
    assert found.body is None
    assert [entry.name for entry in found.entries(limits)] == ["code/a.py", *WEIGHTS]
    os.utime(model, (1, 1))
    with pytest.raises(PackagingError, match="changed while it was packed"):
        list(found.entries(limits))


SMALL = {"w": b"weights" * 20}


@given(position=st.integers(0, 5000), change=st.integers(1, 255), script=st.booleans())
def test_any_changed_byte_is_found_by_the_unpacking(position, change, script):
    packager = TarballPackager()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        src = write_tree(base / "src", {"inference.py": b"old\n", "kept.py": b"kept\n"})
        whole = SourceCode("inference.py", str(src))
        model = packager.pack_model(write_tree(base / "m", SMALL), whole, base / "first").path
        data = bytearray(model.read_bytes())
        data[position % len(data)] ^= change
        model.write_bytes(data)
        new = write_tree(base / "new", LATER)
        source = SourceCode(str(new / "inference.py")) if script else SourceCode("inference.py", str(new))
        try:
            packager.unpack(packager.pack_model(model, source, base / "second").path, base / "into")
        except PackagingError:
            return
        kept = {"kept.py": b"kept\n"} if script else {}
        assert read_tree(base / "into") == expected(SMALL, LATER | kept)


# -- how it is copied and written --------------------------------------------------------------------


@pytest.fixture(params=["missing", "refused", "short", "broken off"])
def other_copy(request, monkeypatch):
    """Have the kernel copy otherwise than it does here."""
    real = getattr(os, "copy_file_range", None)
    if request.param == "missing" or real is None:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
        return
    calls = iter(range(10**9))

    def copy(source, target, count, offset):
        if request.param == "refused" or (request.param == "broken off" and next(calls) == 2):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return real(source, target, min(count, 1000), offset)

    monkeypatch.setattr(os, "copy_file_range", copy)


def test_copies_are_the_same_however_they_are_made(repack, content, tmp_path, other_copy):
    model = foreign(tmp_path / "m.tar.gz", *MODEL)
    first = repack(model, CODE)
    assert content(first) == expected(WEIGHTS, CODE)
    assert was_spliced(first, model)


@pytest.fixture
def without_isal(monkeypatch):
    monkeypatch.setitem(sys.modules, "isal", None)
    deflate._isal.cache_clear()
    yield
    monkeypatch.undo()
    deflate._isal.cache_clear()


def test_without_isal(packager, repack, content, tmp_path, without_isal):
    model = packager.pack_tree(write_tree(tmp_path / "m", WEIGHTS), tmp_path / "m.tar.gz").path
    assert content(repack(model, CODE)) == expected(WEIGHTS, CODE)
    other = foreign(tmp_path / "o.tar.gz", *MODEL, file("code/x", b"1"))
    assert content(repack(other, CODE)) == expected(WEIGHTS, CODE)


def test_digest_is_the_same_without_isal(packager, tmp_path, request):
    tree = write_tree(tmp_path / "m", expected(WEIGHTS, CODE))
    fast = packager.pack_tree(tree, tmp_path / "fast.tar.gz")
    assert packager.pack_tree(tree, tmp_path / "again.tar.gz").path.read_bytes() == fast.path.read_bytes()
    request.getfixturevalue("without_isal")
    assert packager.pack_tree(tree, tmp_path / "plain.tar.gz").digest == fast.digest


def test_code_has_the_same_bytes_without_isal(packager, repack, tmp_path, request):
    code = {"inference.py": b"".join(b"%d\n" % (i * i) for i in range(5000))}
    fast = repack(foreign(tmp_path / "m.tar.gz", *MODEL), code)
    request.getfixturevalue("without_isal")
    assert repack(tmp_path / "m.tar.gz", code).read_bytes() == fast.read_bytes()


def test_isal_compresses_models_and_zlib_source(packager, tmp_path):
    pytest.importorskip("isal")
    from isal import isal_zlib

    tree = write_tree(tmp_path / "m", {"w": os.urandom(99_999) + bytes(99_999)})
    data = packager.pack_tree(tree, tmp_path / "m.tar.gz").path.read_bytes()
    raw = gzip.decompress(data)
    by_isal = isal_zlib.compressobj(1, zlib.DEFLATED, -15)
    assert data[HEADER_SIZE:-8] == by_isal.compress(raw) + by_isal.flush()
    source = packager.pack_source(SourceCode("w", str(tree)), tmp_path / "o").path.read_bytes()
    by_zlib = zlib.compressobj(1, zlib.DEFLATED, -15)
    assert source[10:-8] == by_zlib.compress(gzip.decompress(source)) + by_zlib.flush()


PROGRAM = """
import os, resource, signal, sys
from pathlib import Path
from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.tarball import TarballPackager
model, src, out, what = sys.argv[1:]
if what == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
else:
    os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
try:
    TarballPackager().pack_model(Path(model), SourceCode("inference.py", src), Path(out))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(params=["splice", "rewrite"])
def on_the_edge(request, repack, tmp_path):
    """Repack in another process that meets something; the folder has an archive of before in it."""
    code = [file("code/old", b"")] if request.param == "rewrite" else []
    model = foreign(tmp_path / "m.tar.gz", file("w", os.urandom(200_000)), *code)
    src = write_tree(tmp_path / "edge", CODE)
    before = write_tree(tmp_path / "out", {"model.tar.gz": b"of before"})

    def call(what):
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, model, src, before, what],
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_full_disk_leaves_what_was_there(on_the_edge, tmp_path):
    done = on_the_edge("full")
    assert done.stdout.startswith("PackagingError cannot make '"), done.stderr
    assert "File too large" in done.stdout
    assert read_tree(tmp_path / "out") == {"model.tar.gz": b"of before"}


def test_kill_leaves_what_was_there(on_the_edge, tmp_path):
    assert on_the_edge("kill").returncode == -signal.SIGKILL
    assert (tmp_path / "out/model.tar.gz").read_bytes() == b"of before"
    assert all(name == "model.tar.gz" or name.endswith(".part") for name in names_in(tmp_path / "out"))
