"""Giving a model other code, and packing source. ``python -m benchmarks.packaging``.

The peer is ``repack_model`` of SageMaker's SDK v2, in an environment of its own; where that cannot be
installed, its algorithm in the words of the standard library. The limit is ``cp``. All of them write
through to the disk. Times and CPU seconds are those of the calls, without what it takes to start a
Python and to import.
"""

import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import attrs
import numpy as np

from benchmarks.serving.environments import Absent, Environment, default_cache

MODEL_BYTES = 512 << 20
SOURCE_FILES = 5000
FILE_BYTES = 8192
PART_BYTES = 5 << 20
"""The least that S3 takes as a part of an object, the last one aside."""
RUNS = 5
SDK = Environment("sagemaker-2", ("sagemaker==2.257.*",))

OURS = """
import json, sys, time
from pathlib import Path
from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.tarball import TarballPackager
model, source, out = map(Path, sys.argv[1:])
packager, source = TarballPackager(), SourceCode("inference.py", str(source))
packager.pack_source(source, out)
wall, cpu = time.perf_counter(), time.process_time()
packager.pack_model(model, source, out)
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""
PEER = """
import json, os, sys, time, types
os.environ["SAGEMAKER_SUPPRESS_V2_WARNING"] = "1"
from sagemaker.utils import repack_model
session = types.SimpleNamespace(settings=None)
model, source, out = sys.argv[1:]
wall, cpu = time.perf_counter(), time.process_time()
made = out + "/model.tar.gz"
repack_model("inference.py", source, None, "file://" + model, "file://" + made, session)
descriptor = os.open(made, os.O_RDONLY)
os.fsync(descriptor)
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""
ALGORITHM = """
import json, os, shutil, sys, tarfile, tempfile, time
model, source, out = sys.argv[1:]
wall, cpu = time.perf_counter(), time.process_time()
made = out + "/model.tar.gz"
with tempfile.TemporaryDirectory(dir=out) as folder:
    with tarfile.open(model, "r:gz") as tar:
        tar.extractall(folder, filter="data")
    shutil.rmtree(folder + "/code", ignore_errors=True)
    shutil.copytree(source, folder + "/code")
    with tarfile.open(made, "w:gz") as tar:
        tar.add(folder, arcname=os.sep)
descriptor = os.open(made, os.O_RDONLY)
os.fsync(descriptor)
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""
COPY = 'cp "$0" "$1" && sync "$1"'
PIGZ = 'tar -C "$0" -cf - . | pigz $2 > "$1" && sync "$1"'


@attrs.frozen
class Cost:
    """Seconds by the clock and of the CPU."""

    wall: float
    cpu: float


def _weights(folder: Path) -> Path:
    folder.mkdir()
    numbers = np.random.default_rng(0).standard_normal(MODEL_BYTES // 4, np.float32) * np.float32(0.02)
    numbers.tofile(folder / "model.bin")
    return folder


def _source_tree(folder: Path) -> Path:
    """Write a tree of many small files: beginnings of the standard library's own modules."""
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    for number in range(SOURCE_FILES):
        module = library[number % len(library)]
        target = folder / f"package{number // 100}" / f"{module.stem}_{number}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"# %d\n" % number + module.read_bytes()[:FILE_BYTES])
    return folder


def _archives(base: Path) -> dict[str, Path]:
    """Write the model as we do, as others do, and as others do who have code in it already."""
    from modelyard.plugins.packagers.tarball import TarballPackager

    weights = _weights(base / "weights")
    ours = TarballPackager().pack_tree(weights, base / "ours.tar.gz").path
    archives = {"with an index": ours}
    for label, code in (("of others, scanned", False), ("of others with code, rewritten", True)):
        path = base / f"others-{code}.tar.gz"
        with tarfile.open(path, "w:gz", compresslevel=1) as tar:
            tar.add(weights / "model.bin", "model.bin")
            if code:
                tar.addfile(tarfile.TarInfo("code/old.py"), io.BytesIO())
        archives[label] = path
    return archives


def _python(python: str | Path, program: str, *arguments: Path) -> Cost:
    done = subprocess.run(
        [python, "-c", program, *arguments], check=True, stdout=subprocess.PIPE, text=True, cwd=arguments[-1]
    )
    return Cost(*json.loads(done.stdout.splitlines()[-1]))


def _shell(script: str, *arguments: Path | str) -> Cost:
    start = time.perf_counter()
    subprocess.run(["/bin/sh", "-c", script, *arguments], check=True)
    return Cost(time.perf_counter() - start, 0)


def _settled(measure: Callable[[], Cost]) -> Cost:
    """Measure once nothing that was written before is on its way to the disk."""
    os.sync()
    return measure()


def _medians(costs: list[Cost]) -> Cost:
    return Cost(median(cost.wall for cost in costs), median(cost.cpu for cost in costs))


def _peer(archive: Path, source: Path, out: Path) -> tuple[str, Cost]:
    try:
        python = SDK.python(default_cache())
    except Absent as error:
        print(f"SDK v2 is not here ({error}): its algorithm, with the standard library", file=sys.stderr)
        return "SDK v2's algorithm", _settled(
            lambda: _python(sys.executable, ALGORITHM, archive, source, out)
        )
    return "SDK v2's repack_model", _settled(partial(_python, python, PEER, archive, source, out))


def _repack(base: Path) -> None:
    source, out = base / "code", base / "out"
    source.mkdir()
    out.mkdir()
    (source / "inference.py").write_text("def model_fn(model_dir):\n    return None\n")
    archives = _archives(base)
    indexed = archives["with an index"]
    costs: dict[str, list[Cost]] = {label: [] for label in ("cp", *archives)}
    for _ in range(RUNS):
        costs["cp"].append(_settled(partial(_shell, COPY, indexed, out / "copy")))
        for label, path in archives.items():
            costs[label].append(_settled(partial(_python, sys.executable, OURS, path, source, out)))
    name, peer = _peer(indexed, source, out)
    rows = {label: _medians(measured) for label, measured in costs.items()}
    title = f"{MODEL_BYTES >> 20} MiB of float32, other code"
    print(f"{title:<44}{'s':>8}{'CPU s':>8}{'x cp':>8}{'CPU less':>10}")
    for label, cost in {**rows, name: peer}.items():
        times, less = cost.wall / rows["cp"].wall, peer.cpu / cost.cpu if cost.cpu else 0
        figures = f"{cost.wall:>8.2f}{cost.cpu:>8.2f}{times:>8.2f}{less:>10.0f}"
        verdict = ""
        if label == "with an index":
            verdict = f"  aims 3, 20  {'met' if times <= 3 and less >= 20 else 'MISSED'}"
        print(f"{label:<44}{figures}{verdict}", flush=True)
    _repack_on_s3(indexed, source)


def _repack_on_s3(archive: Path, folder: Path) -> None:
    """Say what a client sends where S3 copies the model: what its tests count on the wire, at full size."""
    from modelyard.core.plans import SourceCode
    from modelyard.plugins.packagers.tarball import TarballPackager

    packager, source = TarballPackager(), SourceCode("inference.py", str(folder))
    size = archive.stat().st_size
    with archive.open("rb") as file:
        ends = packager.code_ends(file.read(4096)) or 0
        file.seek(0)
        head = file.read(ends)
        file.seek(size - 8)
        start = time.perf_counter()
        splice = packager.splice(head, size, file.read(), source, at_least=PART_BYTES)
    wall = time.perf_counter() - start
    sent = (len(splice.before) + len(splice.after) if splice else size) / 1e6
    verdict = f"aim 6  {'met' if sent < 6 else 'MISSED'}"
    print(f"{'the same on S3':<44}{wall:>8.2f}   {sent:.2f} MB sent, {verdict}", flush=True)


def _pack_source(base: Path) -> None:
    from modelyard.core.plans import SourceCode
    from modelyard.plugins.packagers.tarball import TarballPackager

    tree, out = _source_tree(base / "tree"), base / "packed"
    source = SourceCode(f"package0/{min(path.name for path in (tree / 'package0').iterdir())}", str(tree))

    def ours() -> Cost:
        start = time.perf_counter(), time.process_time()
        TarballPackager().pack_source(source, out)
        return Cost(time.perf_counter() - start[0], time.process_time() - start[1])

    contenders: dict[str, Callable[[], Cost]] = {
        "ours": ours,
        "tar | pigz": lambda: _shell(PIGZ, tree, base / "pigz.tar.gz", ""),
        "tar | pigz -1": lambda: _shell(PIGZ, tree, base / "pigz.tar.gz", "-1"),
    }
    costs: dict[str, list[Cost]] = {label: [] for label in contenders}
    for _ in range(1 + RUNS):
        for label, measure in contenders.items():
            costs[label].append(_settled(measure))
    rows = {label: _medians(measured[1:]) for label, measured in costs.items()}
    size = sum(path.stat().st_size for path in tree.rglob("*.py")) >> 20
    print(f"{f'source, {SOURCE_FILES:,} files, {size} MiB':<44}{'s':>8}{'x ours':>8}{'aim':>6}")
    for label, cost in rows.items():
        ratio = cost.wall / rows["ours"].wall
        verdict = f"{'1':>6}  {'met' if ratio >= 1 else 'MISSED'}" if label == "tar | pigz" else ""
        print(f"{label:<44}{cost.wall:>8.2f}{ratio:>8.2f}{verdict}", flush=True)


def main() -> None:
    """Print medians and whether the aims are met."""
    with tempfile.TemporaryDirectory() as name:
        _pack_source(Path(name))
        _repack(Path(name))


if __name__ == "__main__":
    main()
