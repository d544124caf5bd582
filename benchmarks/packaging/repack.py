"""Giving a model other code, against SDK v2's ``repack_model`` and ``cp``.

The peer has an environment of its own; where that cannot be installed, it is its algorithm in the words of
the standard library. All of them write through to the disk. Times and CPU seconds are those of the calls,
without what it takes to start a Python and to import.
"""

import io
import sys
import tarfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.packaging.costs import RUNS, Cost, medians, python, settled, shell
from benchmarks.packaging.peer import SDK
from benchmarks.serving.environments import Absent, default_cache

MODEL_BYTES = 512 << 20
PART_BYTES = 5 << 20
"""The least that S3 takes as a part of an object, the last one aside."""

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


def _weights(folder: Path) -> Path:
    folder.mkdir()
    numbers = np.random.default_rng(0).standard_normal(MODEL_BYTES // 4, np.float32) * np.float32(0.02)
    numbers.tofile(folder / "model.bin")
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


def _peer(archive: Path, source: Path, out: Path) -> tuple[str, Cost]:
    try:
        its_python = SDK.python(default_cache())
    except Absent as error:
        print(f"SDK v2 is not here ({error}): its algorithm, with the standard library", file=sys.stderr)
        return "SDK v2's algorithm", settled(lambda: python(sys.executable, ALGORITHM, archive, source, out))
    return "SDK v2's repack_model", settled(partial(python, its_python, PEER, archive, source, out))


def run(base: Path) -> None:
    """Print what it costs, and whether the aims are met."""
    source, out = base / "code", base / "out"
    source.mkdir()
    out.mkdir()
    (source / "inference.py").write_text("def model_fn(model_dir):\n    return None\n")
    archives = _archives(base)
    indexed = archives["with an index"]
    costs: dict[str, list[Cost]] = {label: [] for label in ("cp", *archives)}
    for _ in range(RUNS):
        costs["cp"].append(settled(partial(shell, COPY, indexed, out / "copy")))
        for label, path in archives.items():
            costs[label].append(settled(partial(python, sys.executable, OURS, path, source, out)))
    name, peer = _peer(indexed, source, out)
    rows = {label: medians(measured) for label, measured in costs.items()}
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
