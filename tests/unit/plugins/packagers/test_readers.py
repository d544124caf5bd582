"""What other programs make of the archives: each reader on the machine must find every file in each form."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zlib

import pytest

from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.canonical_tar import _header
from modelyard.plugins.packagers.entries import Entry
from modelyard.plugins.packagers.splice import HEADER_SIZE, make_prefix, parse_index
from modelyard.plugins.packagers.tarball import TarballPackager
from modelyard.testing.trees import read_tree, write_tree

WEIGHTS = {"model.pth": os.urandom(60_000) + bytes(60_000), "parts/größe.bin": b"2", "n" * 130: b"long"}
OLD = {"inference.py": b"old\n", "stale.py": b"stale\n"}
NEW = {"inference.py": b"new\n", "lib/été.py": b"1\n", f"{'d' * 90}/{'f' * 90}.py": b"long\n"}
MADE = ("fresh", "with code", "spliced", "replaced", "padded", "rewritten")


def _fresh(base, packager):
    return packager.pack_tree(write_tree(base / "tree", WEIGHTS), base / "m.tar.gz").path


def _repacked(base, packager, model, code, number):
    source = SourceCode("inference.py", str(write_tree(base / f"src{number}", code)))
    return packager.pack_model(model, source, base / f"out{number}").path


def _foreign(base, files):
    with tarfile.open(base / "foreign.tar.gz", "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return base / "foreign.tar.gz"


def _padded(base, archive):
    """Return the archive as a server makes it of a first part of 5 MiB and a range of the old one."""
    data = archive.read_bytes()
    index = parse_index(data)
    raw = zlib.decompressobj(-15).decompress(data[HEADER_SIZE : index.start])
    prefix = make_prefix(raw[:-1536], at_least=5 << 20)
    changed = index.with_prefix(prefix, index.prefix_files)
    (base / "padded.tar.gz").write_bytes(
        changed.header + prefix.deflated + data[index.start : index.stop] + changed.trailer
    )
    return base / "padded.tar.gz"


def make(form, base):
    """Make an archive; return it with the code that is in it."""
    packager = TarballPackager()
    match form:
        case "fresh":
            return _fresh(base, packager), {}
        case "with code":
            files = WEIGHTS | {f"code/{name}": data for name, data in OLD.items()}
            return packager.pack_tree(write_tree(base / "tree", files), base / "m.tar.gz").path, OLD
        case "spliced":
            return _repacked(base, packager, _foreign(base, WEIGHTS), NEW, 1), NEW
        case "replaced":
            first = _repacked(base, packager, _fresh(base, packager), OLD, 1)
            return _repacked(base, packager, first, NEW, 2), NEW
        case "padded":
            return _padded(base, _repacked(base, packager, _foreign(base, WEIGHTS), NEW, 1)), NEW
        case _:
            model = _foreign(base, WEIGHTS | {"code/stale.py": b"stale"})
            return _repacked(base, packager, model, NEW, 1), NEW


@pytest.fixture(scope="module", params=MADE)
def archive(request, tmp_path_factory):
    path, code = make(request.param, tmp_path_factory.mktemp("made"))
    return path, WEIGHTS | {f"code/{name}": data for name, data in code.items()}


def program(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} on this machine")
    return found


def output(*command, **options):
    done = subprocess.run(command, capture_output=True, check=True, timeout=60, **options)
    assert done.stderr == b""
    return done.stdout


def files_of(raw):
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}


def by_tarfile(path, mode):
    found = {}
    with tarfile.open(path, mode) as tar:
        for info in tar:
            if info.isreg():
                found[info.name] = tar.extractfile(info).read()
    return found


# Each extracts into a folder.
EXTRACTORS = {
    "GNU tar": ("tar", "-xzf"),
    "bsdtar": ("bsdtar", "-xf"),
    "busybox tar": ("busybox", "tar", "-xzf"),
}

# Each writes the tar to its standard output.
DECOMPRESSORS = {
    "gzip": ("gzip", "-dc"),
    "pigz": ("pigz", "-dc"),
    "busybox gunzip": ("busybox", "gunzip", "-c"),
    "7z": ("7z", "x", "-so", "-tgzip"),
    "python -m gzip": (
        sys.executable, "-c", "import gzip, sys; sys.stdout.buffer.write(gzip.open(sys.argv[1]).read())",
    ),
    "node": (
        "node", "-e",
        "process.stdout.write(zlib.gunzipSync(fs.readFileSync(process.argv[1])))",
    ),
    "perl": (
        "perl", "-MIO::Uncompress::Gunzip=gunzip,$GunzipError", "-e",
        "binmode STDOUT; gunzip($ARGV[0] => '-') or die $GunzipError",
    ),
}  # fmt: skip

TESTS = {"gzip -t": ("gzip", "-t"), "pigz -t": ("pigz", "-t"), "7z t": ("7z", "t", "-bso0", "-bsp0")}


@pytest.mark.parametrize("reader", EXTRACTORS)
def test_extracts(archive, tmp_path, reader):
    path, expected = archive
    name, *arguments = EXTRACTORS[reader]
    output(program(name), *arguments, path, cwd=tmp_path, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert read_tree(tmp_path) == expected


@pytest.mark.parametrize("reader", DECOMPRESSORS)
def test_decompresses(archive, reader):
    path, expected = archive
    name, *arguments = DECOMPRESSORS[reader]
    assert files_of(output(program(name), *arguments, path)) == expected


@pytest.mark.parametrize("reader", TESTS)
def test_finds_nothing_wrong(archive, reader):
    name, *arguments = TESTS[reader]
    output(program(name), *arguments, archive[0])


@pytest.mark.parametrize("mode", ["r:gz", "r|gz", "r:*", "r|*"])
def test_tarfile(archive, mode):
    path, expected = archive
    assert by_tarfile(path, mode) == expected


def test_zlib(archive):
    """It reads one gzip member and no more, as flate2 and commons-compress do."""
    path, expected = archive
    decompressor = zlib.decompressobj(31)
    assert files_of(decompressor.decompress(path.read_bytes())) == expected
    assert decompressor.unused_data == b""


def test_isal(archive):
    igzip = pytest.importorskip("isal.igzip")
    path, expected = archive
    assert files_of(igzip.decompress(path.read_bytes())) == expected


@pytest.fixture(scope="module")
def java_reader(tmp_path_factory):
    """A command that decompresses with Java's own classes."""
    compiler, java = shutil.which("javac"), shutil.which("java")
    if compiler is None or java is None:
        pytest.skip("there is no Java compiler on this machine")
    folder = tmp_path_factory.mktemp("java")
    (folder / "Reader.java").write_text("""
import java.io.*; import java.util.zip.*;
class Reader { public static void main(String[] names) throws IOException {
    new GZIPInputStream(new FileInputStream(names[0])).transferTo(System.out); System.out.flush(); } }
""")
    output(compiler, str(folder / "Reader.java"))
    return java, "-cp", str(folder), "Reader"


def test_java(archive, java_reader):
    path, expected = archive
    assert files_of(output(*java_reader, path)) == expected


def test_go(archive, tmp_path):
    path, expected = archive
    source = """package main
import ("archive/tar"; "compress/gzip"; "fmt"; "io"; "os")
func main() {
    file, _ := os.Open(os.Args[1]); unzipped, err := gzip.NewReader(file)
    if err != nil { panic(err) }
    for reader := tar.NewReader(unzipped); ; {
        header, err := reader.Next()
        if err == io.EOF { return }
        if err != nil { panic(err) }
        if header.Typeflag == tar.TypeReg { fmt.Println(header.Size, header.Name) }
    }
}
"""
    (tmp_path / "main.go").write_text(source)
    listing = output(program("go"), "run", str(tmp_path / "main.go"), path).decode().splitlines()
    assert sorted(listing) == sorted(f"{len(data)} {name}" for name, data in expected.items())


# -- files of 8 GiB and more -------------------------------------------------------------------------


LISTERS = {
    "GNU tar": ("tar", "-tvf"),
    "bsdtar": ("bsdtar", "-tvf"),
    "busybox tar": ("busybox", "tar", "-tvf"),
}


@pytest.fixture
def huge(tmp_path):
    """A tar with a file of 9 GiB that takes no room on the disk, and one behind it."""
    size = 9 << 30
    with (tmp_path / "huge.tar").open("wb") as file:
        file.write(_header(Entry("model.pth", size=size)))
        file.seek(512 + size)
        file.write(_header(Entry("behind", size=0)) + bytes(1024))
    return tmp_path / "huge.tar"


def test_size_of_a_huge_file_stands_in_its_own_header():
    header = _header(Entry("model.pth", size=9 << 30))
    assert len(header) == 512
    assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == 9 << 30


@pytest.mark.parametrize("reader", LISTERS)
def test_huge_file_is_listed(huge, reader):
    name, *arguments = LISTERS[reader]
    lines = output(program(name), *arguments, huge).decode().splitlines()
    assert [line.split()[-1] for line in lines] == ["model.pth", "behind"]
    assert str(9 << 30) in lines[0]


def test_huge_file_is_listed_by_tarfile(huge):
    with tarfile.open(huge) as tar:
        assert [(info.name, info.size) for info in tar] == [("model.pth", 9 << 30), ("behind", 0)]
