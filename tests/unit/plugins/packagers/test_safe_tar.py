import gzip
import io
import os
import stat
import struct
import sys
import tarfile
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import PackagingError, UnsafeArchiveError
from modelyard.plugins.packagers.safe_tar import Limits, unpack_archive
from modelyard.testing.trees import names_in, read_tree

LIMITS = Limits(max_bytes=200 << 20, max_entries=100, max_ratio=200)
MIB = 1 << 20


def file(name, content=b"", mode=0o644):
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    return info, content


def member(name, kind, target="", **fields):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    for field, value in fields.items():
        setattr(info, field, value)
    return info, b""


def folder(name):
    return member(name, tarfile.DIRTYPE, mode=0o755)


def symlink(name, target):
    return member(name, tarfile.SYMTYPE, target)


def hardlink(name, target):
    return member(name, tarfile.LNKTYPE, target)


def tar(*members, layout=tarfile.GNU_FORMAT, end=bytes(1024)):
    blocks = b"".join(
        info.tobuf(layout, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)
        for info, content in members
    )
    return blocks + end


def patched(block, offset, data):
    """Return a header with other bytes at an offset and a checksum that fits them."""
    block = bytearray(block)
    block[offset : offset + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def header(name="f", kind=tarfile.REGTYPE, size=0):
    return member(name, kind, size=size)[0].tobuf(tarfile.GNU_FORMAT)


def extended(kind, payload):
    return header("././@Ext", kind, len(payload)) + payload + bytes(-len(payload) % 512)


def pax(*records):
    payload = b""
    for key, value in records:
        body = b" %s=%s\n" % (key, value)
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length += 1
        payload += str(length).encode() + body
    return extended(tarfile.XHDTYPE, payload)


def path_max_escape():
    """CVE-2025-4517: a path so long that realpath gives up on it and says that it is inside."""
    members, path, part = [], "", "d" * 247
    for step in "abcdefghijklmnop":
        members += [folder(path + part), symlink(path + step, part)]
        path += f"{part}/"
    long_link = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    members += [symlink(long_link, "../" * 16), symlink("escape", long_link + "/../../escaped")]
    return tar(*members, hardlink("flag", "escape/flag"), file("flag", b"evil"), layout=tarfile.PAX_FORMAT)


LONG_NAME = extended(tarfile.GNUTYPE_LONGNAME, b"b")
OLD_SPARSE = patched(header("sparse", b"S"), 483, b"%011o\0" % (1 << 32))

HOSTILE = {
    "parent": tar(file("../escaped", b"evil")),
    "parent inside": tar(file("a/../../escaped", b"evil")),
    "parent that stays inside": tar(file("a/../escaped", b"evil")),
    "parent as folder": tar(folder("..")),
    "absolute": tar(file("/proc/escaped", b"evil")),
    "absolute with two slashes": tar(file("//proc/escaped", b"evil")),
    "nul in a name": pax((b"path", b"a\0/../b")) + tar(file("f")),
    "newline in a name": tar(file("a\nb")),
    "escape sequence in a name": tar(file("\x1b[31mred")),
    "c1 control in a name": tar(file("a\x9bb")),
    "33 levels": tar(file("d/" * 32 + "f")),
    "part of 256 bytes": tar(file("n" * 256)),
    "part of 256 bytes in utf-8": tar(file("é" * 128)),
    "name of more than 1024 bytes": tar(file(("n" * 200 + "/") * 6 + "f")),
    "file without a name": tar(file("")),
    "file called dot": tar(file("./.")),
    "link without a name": tar(file("a"), symlink("", "a")),
    "symlink to the parent": tar(symlink("out", "..")),
    "symlink up and out": tar(file("a/b"), symlink("a/out", "../../escaped")),
    "absolute symlink": tar(symlink("out", "/etc/passwd")),
    "symlink to a folder": tar(folder("a"), symlink("b", "a")),
    "symlink to a later file": tar(symlink("b", "a"), file("a")),
    "symlink to itself": tar(symlink("a", "a")),
    "symlink to nothing": tar(symlink("a", "")),
    "write through a symlink": tar(symlink("out", ".."), file("out/escaped", b"evil")),
    "write through an inner symlink": tar(folder("a"), symlink("b", "a"), file("b/f", b"evil")),
    "path_max escape": path_max_escape(),
    "hard link out": tar(hardlink("out", "../escaped")),
    "absolute hard link": tar(hardlink("out", "/etc/passwd")),
    "hard link to nothing": tar(hardlink("a", "b")),
    "hard link to itself": tar(file("a"), hardlink("a", "a")),
    "hard link to a symlink out": tar(
        folder("a/b"), symlink("a/b/c", "../../../escaped"), hardlink("d", "a/b/c")
    ),
    "character device": tar(member("null", tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "block device": tar(member("sda", tarfile.BLKTYPE, devmajor=8)),
    "pipe": tar(member("pipe", tarfile.FIFOTYPE)),
    "multi-volume": tar(member("m", b"M")),
    "unknown type": tar(member("u", b"Z")),
    "old GNU sparse file of 4 GiB": OLD_SPARSE + tar(),
    "PAX sparse file of the first kind": pax((b"GNU.sparse.map", b"0,1"), (b"GNU.sparse.size", b"9"))
    + tar(file("s")),
    "volume header": tar(member("v", b"V")),
    "folder with a list of its files": tar(member("d", b"D")),
    "link to a name that PAX gives": pax((b"linkpath", b"../escaped")) + tar(symlink("s", "a")),
    "absolute name that PAX gives": pax((b"path", b"/proc/escaped")) + tar(file("f")),
    "long link of 2 MiB": extended(tarfile.GNUTYPE_LONGLINK, b"n" * 2 * MIB) + tar(symlink("s", "a")),
    "PAX sparse file": pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9" * 15)) + tar(file("s")),
    "file, then folder": tar(file("a"), folder("a")),
    "folder, then file": tar(folder("a"), file("a")),
    "file, then file below": tar(file("a"), file("a/b")),
    "file below, then file": tar(file("a/b"), file("a")),
    "file below a link": tar(file("a"), hardlink("b", "a"), file("b/c")),
    "101 entries": tar(*(file(f"f{i}") for i in range(101))),
    "101 folders": tar(*(folder(f"d{i}") for i in range(101))),
    "101 roots": tar(*(folder("./") for _ in range(101))),
    "a petabyte is announced": header("big", size=1 << 50) + tar(),
    "links multiply": tar(file("a", bytes(3 * MIB)), *(hardlink(f"l{i}", "a") for i in range(90))),
    "PAX header of 2 MiB": pax((b"comment", bytes(2 * MIB))) + tar(file("f")),
    "long name of 2 MiB": extended(tarfile.GNUTYPE_LONGNAME, b"n" * 2 * MIB) + tar(file("f")),
    "PAX headers without end": extended(tarfile.XGLTYPE, b"13 comment=c\n") * 2000 + tar(file("f")),
    "global PAX path": extended(tarfile.XGLTYPE, b"16 path=../gone\n") + tar(file("f")),
}

DAMAGED = {
    "extended header of Solaris": extended(tarfile.SOLARIS_XHDTYPE, b"16 path=../gone\n") + tar(file("f")),
    "size of twelve bytes": patched(header(), 124, b"\x80\x7f" + b"\xff" * 10) + tar(),
    "negative size": patched(header(size=1), 124, b"\xff" * 12) + tar(),
    "negative size in PAX": pax((b"size", b"-512")) + tar(file("f")),
    "size in PAX is no number": pax((b"size", b"1e3")) + tar(file("f")),
    "negative extended header": patched(header("x", tarfile.XHDTYPE), 124, b"\xff" * 11 + b"\0") + tar(),
    "PAX record of no length": extended(tarfile.XHDTYPE, b"0 path=x\n") + tar(file("f")),
    "PAX record too long": extended(tarfile.XHDTYPE, b"99 path=x\n") + tar(file("f")),
    "PAX record with a negative length": extended(tarfile.XHDTYPE, b"-9 path=x\n") + tar(file("f")),
    "PAX header of garbage": extended(tarfile.XHDTYPE, b"\xff" * 600) + tar(file("f")),
    "two PAX headers": pax((b"path", b"a")) + pax((b"mtime", b"1")) + tar(file("b")),
    "PAX header before GNU's": pax((b"path", b"a")) + LONG_NAME + tar(file("c")),
    "PAX header behind GNU's": LONG_NAME + pax((b"path", b"a")) + tar(file("c")),
    "two long names": LONG_NAME * 2 + tar(file("c")),
    "PAX header of two names": pax((b"path", b"a"), (b"path", b"b")) + tar(file("c")),
    "extended header before the end": tar(file("a"), end=b"") + pax((b"path", b"b")) + tar(),
    "target of a file": extended(tarfile.GNUTYPE_LONGLINK, b"a") + tar(file("b")),
    "file with the name of a folder": pax((b"path", b"a/")) + tar(file("b")),
    "old folder with the long name of a file": LONG_NAME + patched(header("a/"), 156, b"\0") + tar(),
    "times of GNU, for Python a part of the name": patched(header("a"), 345, b"14512345123\0") + tar(),
    "file of GNU that is sparse for libarchive": patched(header("a"), 386, b"\xaa") + tar(),
    "link with content": header("l", tarfile.SYMTYPE, 512) + bytes(512) + tar(),
    "folder with content": header("d/", tarfile.DIRTYPE, 512) + bytes(512) + tar(),
    "bad checksum of the second header": tar(file("a"), end=b"") + b"x" + header("b")[1:] + tar(),
    "bad number": patched(header(), 124, b"zzzzzzzzzzz\0") + tar(),
    "no end marker": tar(file("a", b"1"), end=b""),
    "ends within a header": tar(file("a", b"1"), end=b"")[:-600],
    "ends within a file": header("a", size=2000) + bytes(512),
    "ends within an extended header": header("x", tarfile.XHDTYPE, 5000) + bytes(512),
    "data behind the end": tar(file("a")) + tar(file("b")),
    "empty": b"",
    "text": b"this is no archive\n" * 100,
}


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a" * 600, b"1" * 600)
    return buffer.getvalue()


GOOD = gzip.compress(tar(file("a", os.urandom(3000)), file("b", b"2")), mtime=0)
DAMAGED_FILES = {
    "gzip without its last byte": GOOD[:-1],
    "gzip without its trailer": GOOD[:-8],
    "gzip cut in the middle": GOOD[: len(GOOD) // 2],
    "gzip header only": GOOD[:10],
    "gzip with a wrong checksum": GOOD[:-8] + struct.pack("<I", 1) + GOOD[-4:],
    "gzip with a wrong length": GOOD[:-4] + struct.pack("<I", 1),
    "gzip with a flipped bit": GOOD[:1500] + bytes([GOOD[1500] ^ 1]) + GOOD[1501:],
    "gzip with garbage behind it": GOOD + b"garbage",
    "second gzip member with an archive of its own": GOOD + GOOD,
    "second gzip member cut": GOOD + gzip.compress(bytes(512))[:-3],
    "zip": zipped(),
}


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def unpack(tmp_path):
    """Unpack bytes into the folder `into` of a folder of its own, with a file beside it."""

    def call(data, limits=LIMITS):
        (tmp_path / "archive").write_bytes(data)
        around = tmp_path / "around"
        around.mkdir()
        (around / "escaped").write_bytes(b"mine")
        unpack_archive(tmp_path / "archive", around / "into", limits)
        return around / "into"

    return call


@pytest.fixture
def refuse(tmp_path, unpack):
    """Check that bytes are refused and nothing is changed, and return the message."""

    def call(data, error, limits=LIMITS):
        with pytest.raises(PackagingError) as caught:
            unpack(data, limits)
        assert type(caught.value) is error
        assert read_tree(tmp_path / "around") == {"escaped": b"mine"}
        assert names_in(tmp_path / "around") == ["escaped"]
        assert f"archive '{tmp_path / 'archive'}'" in str(caught.value)
        return str(caught.value)

    return call


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive(refuse, name, compress):
    assert "is not safe to unpack: it " in refuse(compress(HOSTILE[name]), UnsafeArchiveError)


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_archive(refuse, name, compress):
    assert "is damaged, or neither .tar nor .tar.gz" in refuse(compress(DAMAGED[name]), PackagingError)


@pytest.mark.parametrize("name", DAMAGED_FILES)
def test_damaged_file(refuse, name):
    assert "is damaged, or neither .tar nor .tar.gz" in refuse(DAMAGED_FILES[name], PackagingError)


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(tar(file("zeros", bytes(80 * MIB))), id="file"),
        pytest.param(tar(file("a"), end=bytes(80 * MIB)), id="behind the end marker"),
        pytest.param(tar(file("a", bytes(MIB)), *(hardlink(f"l{i}", "a") for i in range(80))), id="links"),
    ],
)
def test_bomb_by_ratio(refuse, bomb):
    assert "far more than its size (option max_ratio)" in refuse(gzip.compress(bomb, 9), UnsafeArchiveError)


def test_ratio_can_be_raised_for_an_archive_that_is_trusted(unpack):
    into = unpack(gzip.compress(tar(file("zeros", bytes(80 * MIB)))), Limits(200 * MIB, 10, 2000))
    assert (into / "zeros").stat().st_size == 80 * MIB


def test_bytes_are_counted_before_they_are_written(refuse):
    data = tar(file("a", b"12345"), file("b", b"67890"))
    assert "more than 9 bytes" in refuse(data, UnsafeArchiveError, Limits(9, 100, 200))


def test_limit_is_the_free_disk_space_where_none_is_given(refuse, monkeypatch):
    usage = type("usage", (), {"free": (1 << 30) + 3})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert "more than 3 bytes" in refuse(tar(file("a", b"1234")), UnsafeArchiveError, Limits(None, 9, 9))


def test_error_names_the_member_without_its_control_characters(refuse):
    message = refuse(tar(file("\x1b[31mred" + "x" * 500)), UnsafeArchiveError)
    assert r"'\x1b[31mredxxx" in message
    assert len(message) < 400


CONTENT = {"a.txt": b"1", "folder/b.bin": bytes(range(256)) * 99, "folder/empty": b""}


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_formats_of_tar(unpack, layout):
    data = tar(*(file(name, content) for name, content in CONTENT.items()), layout=layout)
    assert read_tree(unpack(data)) == CONTENT


def test_long_names(unpack):
    name = "/".join(["n" * 200] * 5)
    links = tar(file(name, b"1"), hardlink("link", name))
    assert read_tree(unpack(links)) == {name: b"1", "link": b"1"}


def test_pax_long_names(unpack):
    name = "/".join(["é" * 100] * 5)
    links = tar(file(name, b"1"), hardlink("link", name), layout=tarfile.PAX_FORMAT)
    assert read_tree(unpack(links)) == {name: b"1", "link": b"1"}


def test_size_of_pax_counts_for_where_the_next_member_is(unpack):
    hidden = tar(file("hidden", b"x"), end=b"")
    data = pax((b"size", b"%d" % len(hidden))) + header("a") + hidden + tar(file("b", b"2"))
    assert read_tree(unpack(data)) == {"a": hidden, "b": b"2"}


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 only")
def test_names_that_are_not_utf8(unpack):
    name = os.fsdecode(b"caf\xe9")
    assert read_tree(unpack(tar(file(name, b"1")))) == {name: b"1"}


def test_multi_member_gzip_is_read_whole(unpack):
    data = tar(*(file(name, content) for name, content in CONTENT.items()))
    parts = (data[:700], data[700:5000], data[5000:])
    assert read_tree(unpack(b"".join(map(gzip.compress, parts)))) == CONTENT


def test_padding_behind_the_end_marker_is_ignored(unpack):
    assert read_tree(unpack(gzip.compress(tar(file("a", b"1")) + bytes(10240)) + bytes(512))) == {"a": b"1"}


def test_root_entry_as_sdk_v2_writes_it(unpack):
    members = (member("", tarfile.DIRTYPE), folder("code"), file("code/inference.py", b"1"))
    data = tar(*members)
    assert data.startswith(b"/\0")
    assert read_tree(unpack(data)) == {"code/inference.py": b"1"}


def test_names_that_start_with_a_dot_and_a_slash(unpack):
    data = tar(folder("./"), folder("./a"), file("./a//b", b"1"), symlink("./c", "./a/b"))
    assert read_tree(unpack(data)) == {"a/b": b"1", "c": b"1"}


def test_global_pax_header_of_git_archive(unpack):
    comment = extended(tarfile.XGLTYPE, b"52 comment=" + b"c" * 40 + b"\n")
    assert read_tree(unpack(comment + tar(file("a", b"1")))) == {"a": b"1"}


def test_empty_folders_and_empty_archives(unpack):
    into = unpack(tar(folder("empty/inner")))
    assert names_in(into) == ["empty", "empty/inner"]


def test_empty_archive_gives_an_empty_folder(unpack):
    assert names_in(unpack(gzip.compress(tar()))) == []


def test_links_become_copies(unpack):
    into = unpack(
        tar(
            file("a/b", b"1", 0o755),
            symlink("a/soft", "b"),
            symlink("up", "a/../a/b"),
            hardlink("hard", "a/b"),
            symlink("second", "up"),
        )
    )
    links = [into / name for name in ("a/soft", "up", "hard", "second")]
    assert [link.read_bytes() for link in links] == [b"1"] * 4
    assert not any(link.is_symlink() for link in links)
    assert {link.stat().st_nlink for link in links} == {1}
    assert {stat.S_IMODE(link.stat().st_mode) for link in links} == {0o755}


def test_of_two_files_of_one_name_the_later_counts(unpack):
    into = unpack(tar(file("a", b"old"), hardlink("l", "a"), file("a", b"new"), file("./a", b"newest")))
    assert read_tree(into) == {"a": b"newest", "l": b"old"}


@pytest.mark.parametrize(
    ("mode", "becomes"),
    [(0o4755, 0o755), (0o2777, 0o755), (0o1666, 0o644), (0o000, 0o644), (0o100, 0o755), (0o055, 0o644)],
)
def test_modes_are_masked(unpack, mode, becomes):
    into = unpack(tar(file("a", b"1", mode), member("d", tarfile.DIRTYPE, mode=0o7000), file("d/b")))
    assert stat.S_IMODE((into / "a").stat().st_mode) == becomes
    assert stat.S_IMODE((into / "d").stat().st_mode) == 0o755


def test_owners_and_times_are_those_of_the_unpacking(unpack):
    info, content = file("a", b"1")
    info.uid, info.gid, info.uname, info.mtime = 4711, 4711, "nobody", 1
    status = (unpack(tar((info, content))) / "a").stat()
    assert (status.st_uid, status.st_mtime > 1) == (os.geteuid(), True)


def test_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "archive").write_bytes(tar(file("a", b"1")))
    (tmp_path / "into").mkdir()
    (tmp_path / "into/mine").touch()
    with pytest.raises(PackagingError, match="is not an empty folder"):
        unpack_archive(tmp_path / "archive", tmp_path / "into", LIMITS)
    assert names_in(tmp_path) == ["archive", "into", "into/mine"]


def test_file_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "archive").write_bytes(tar(file("a", b"1")))
    with pytest.raises(PackagingError, match="is not an empty folder"):
        unpack_archive(tmp_path / "archive", tmp_path / "archive", LIMITS)


def test_link_in_the_way_is_not_followed(tmp_path):
    (tmp_path / "archive").write_bytes(tar(file("a", b"1")))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "into").symlink_to("elsewhere")
    with pytest.raises(PackagingError, match="cannot unpack"):
        unpack_archive(tmp_path / "archive", tmp_path / "into", LIMITS)
    assert names_in(tmp_path) == ["archive", "elsewhere", "into"]


def test_folder_that_fills_meanwhile_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "archive").write_bytes(tar(file("a", b"1")))
    into = tmp_path / "into"
    into.mkdir()
    real = os.fdopen

    def fill(*arguments):
        (into / "mine").touch()
        return real(*arguments)

    monkeypatch.setattr("os.fdopen", fill)
    with pytest.raises(PackagingError, match="cannot unpack"):
        unpack_archive(tmp_path / "archive", into, LIMITS)
    assert names_in(tmp_path) == ["archive", "into", "into/mine"]


def test_a_name_that_the_disk_takes_for_another_is_refused(tmp_path, monkeypatch):
    """As some take 'A' for 'a'; here it is there by another hand."""
    (tmp_path / "archive").write_bytes(tar(file("a", b"1"), file("A", b"2")))
    real = os.fdopen

    def also_upper(*arguments):
        for part in tmp_path.glob("into.*.part"):
            (part / "A").touch()
        return real(*arguments)

    monkeypatch.setattr("os.fdopen", also_upper)
    with pytest.raises(PackagingError, match="cannot unpack .* File exists: 'A'"):
        unpack_archive(tmp_path / "archive", tmp_path / "into", LIMITS)
    assert names_in(tmp_path) == ["archive"]


@pytest.mark.parametrize("missing", ["missing", "."])
def test_archive_that_cannot_be_opened(tmp_path, missing):
    with pytest.raises(PackagingError, match="cannot read archive"):
        unpack_archive(tmp_path / missing, tmp_path / "into", LIMITS)
    assert names_in(tmp_path) == []


NAMES = st.sampled_from([b"a", b"b", b"d/a", b"code/x", b"code", b"d"])
EXTENSIONS = st.one_of(
    st.builds(extended, st.sampled_from([tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]), NAMES),
    st.lists(
        st.tuples(
            st.sampled_from([b"path", b"linkpath", b"size", b"mtime", b"comment"]), NAMES | st.just(b"3")
        ),
        max_size=2,
    ).map(lambda records: pax(*records)),
)


@st.composite
def members(draw):
    """Make a member by the rules, and break one of them."""
    kind = draw(st.sampled_from([b"0", b"0", b"0", b"\0", b"7", b"5", b"1", b"2"]))
    content = draw(st.sampled_from([b"", b"xyz", b"q" * 512])) if kind in b"0\07" else b""
    target = draw(NAMES).decode() if kind in b"12" else ""
    info, _ = member(draw(NAMES).decode(), kind, target, size=len(content))
    block = info.tobuf(draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])))
    offset, change = draw(
        st.sampled_from([(0, b""), (345, b"before"), (386, b"1"), (257, b"ustar\000"), (257, bytes(8))])
        | st.tuples(st.just(len(info.name)), st.just(b"/"))
        | st.tuples(st.integers(0, 511), st.binary(min_size=1, max_size=1))
        | st.tuples(st.just(156), st.sampled_from("01257\0gxLKSV").map(str.encode))
    )
    before = b"".join(draw(st.lists(EXTENSIONS, max_size=2)))
    return before + patched(block, offset, change) + content + bytes(-len(content) % 512)


@settings(max_examples=200)
@given(parts=st.lists(members(), min_size=1, max_size=3))
def test_what_is_accepted_is_what_the_standard_library_reads(tmp_path_factory, parts):
    """Or else what one of them found harmless is not what the other one serves."""
    around = tmp_path_factory.mktemp("around")
    (around / "archive").write_bytes(b"".join(parts) + bytes(1024))
    try:
        unpack_archive(around / "archive", around / "into", LIMITS)
    except PackagingError:
        return
    with suppress(tarfile.TarError), tarfile.open(around / "archive") as tar:
        tar.extractall(around / "theirs", filter="tar")
        assert read_tree(around / "theirs") == read_tree(around / "into")


@given(position=st.integers(0, 4 * 512 - 1), byte=st.integers(0, 255), fix=st.booleans())
def test_any_changed_byte_is_contained(tmp_path_factory, position, byte, fix):
    data = bytearray(tar(file("a", b"1" * 512), hardlink("b", "a"), end=bytes(1024)))
    block = position // 512 * 512
    data[position] = byte
    if fix:
        data[block : block + 512] = patched(data[block : block + 512], 0, b"")
    around = tmp_path_factory.mktemp("around")
    (around / "archive").write_bytes(data)
    try:
        unpack_archive(around / "archive", around / "into", LIMITS)
    except PackagingError:
        assert names_in(around) == ["archive"]
    else:
        assert all(path.is_file() or path.is_dir() for path in (around / "into").rglob("*"))
