"""Packing a tree of source, against ``tar | pigz``; all of them write through to the disk."""

import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.packaging.costs import RUNS, Cost, medians, settled, shell

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE_FILES = 5000
FILE_BYTES = 8192
PIGZ = 'tar -C "$0" -cf - . | pigz $2 > "$1" && sync "$1"'


def _source_tree(folder: Path) -> Path:
    """Write a tree of many small files: beginnings of the standard library's own modules."""
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    for number in range(SOURCE_FILES):
        module = library[number % len(library)]
        target = folder / f"package{number // 100}" / f"{module.stem}_{number}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"# %d\n" % number + module.read_bytes()[:FILE_BYTES])
    return folder


def run(base: Path) -> None:
    """Print what it costs, and whether the aim is met."""
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
        "tar | pigz": lambda: shell(PIGZ, tree, base / "pigz.tar.gz", ""),
        "tar | pigz -1": lambda: shell(PIGZ, tree, base / "pigz.tar.gz", "-1"),
    }
    costs: dict[str, list[Cost]] = {label: [] for label in contenders}
    for _ in range(1 + RUNS):
        for label, measure in contenders.items():
            costs[label].append(settled(measure))
    rows = {label: medians(measured[1:]) for label, measured in costs.items()}
    size = sum(path.stat().st_size for path in tree.rglob("*.py")) >> 20
    print(f"{f'source, {SOURCE_FILES:,} files, {size} MiB':<44}{'s':>8}{'x ours':>8}{'aim':>6}")
    for label, cost in rows.items():
        ratio = cost.wall / rows["ours"].wall
        verdict = f"{'1':>6}  {'met' if ratio >= 1 else 'MISSED'}" if label == "tar | pigz" else ""
        print(f"{label:<44}{cost.wall:>8.2f}{ratio:>8.2f}{verdict}", flush=True)
