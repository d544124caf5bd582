"""What installed plugins cost: to list them, and for each request: ``python -m benchmarks.plugins``."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from timeit import timeit

from benchmarks.timing import Comparison, Row, table
from modelyard import PluginManager
from modelyard.core.http import Request, Response
from modelyard.serving.model import folder as model_folder
from modelyard.serving.model.handler import build_handler

THIRD_PARTIES = Path(__file__).parents[1] / "tests" / "downstream"
RUNS = 21
TURNS, CALLS = 401, 100
LISTING_AIM_MS = 150
MANY = 50
SAME = 0.95
"""The time of a request without plugins, of that with them: what noise may make of 1."""

PLUGIN = '''
import attrs

from modelyard import hookimpl


@attrs.frozen
class Codec:
    """Text."""

    name = "dummy-{number}"
    media_types = ("application/x-dummy-{number}",)

    def encode(self, value):
        return str(value).encode()

    def decode(self, body):
        return body.decode()


@hookimpl
def modelyard_register_codecs():
    return (Codec,)


@hookimpl
def modelyard_select_hardware(resources):
    return None
'''
SCRIPT = """
def model_fn(model_dir):
    return None

def predict_fn(value, model):
    return value
"""


def _install_third_parties(target: Path) -> None:
    """Install the distributions of the tests, without the libraries that they need to encode or launch."""
    projects = [str(path.parent) for path in sorted(THIRD_PARTIES.glob("*/pyproject.toml"))]
    pip = (sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps")
    subprocess.run([*pip, "--target", str(target), *projects], check=True)


def _install_dummies(target: Path) -> None:
    """Lay out as many distributions as pip would, each with a codec and a selection hook."""
    for number in range(MANY):
        module = f"modelyard_dummy_{number}"
        info = target / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (target / f"{module}.py").write_text(PLUGIN.format(number=number))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[modelyard]\ndummy-{number} = {module}\n")


def _listing(installed: Path) -> None:
    """Print the time of ``modelyard plugins list`` over that of a bare Python, also with none installed.

    The best of many runs, as for requests, with the median beside it.
    """
    listing = (str(Path(sys.executable).with_name("modelyard")), "plugins", "list")
    bare = (sys.executable, "-c", "pass")
    for what, path, aim in (("four", str(installed), LISTING_AIM_MS), ("none", "", None)):
        environ = {**os.environ, "PYTHONPATH": path}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)  # As users run it: compiled.
        # By a pipe, whose end is seen at once: `subprocess` asks for an exit in steps of up to 50 ms.
        run = partial(subprocess.run, env=environ, stdout=subprocess.PIPE, timeout=60, check=True)
        times = [
            [timeit(partial(run, argv), number=1) * 1000 for argv in (listing, bare)] for _ in range(RUNS)
        ]
        ours, reference = map(sorted, zip(*times, strict=True))
        over, usual = ours[0] - reference[0], median(ours) - median(reference)
        verdict = "" if aim is None else f"{aim:>6}  {'met' if over < aim else 'MISSED'}"
        title = f"modelyard plugins list, {what} installed, ms over a bare Python"
        print(f"{title:<64}{over:>8.0f}{verdict}  (median {usual:.0f})", flush=True)


def _requests(model: Path, plugins: PluginManager) -> Iterator[Row]:
    """Compare the handler that has all of the plugins with the one that has only the built-in ones."""
    model.mkdir()
    (model / "code").mkdir()
    (model / "code" / "inference.py").write_text(SCRIPT)
    with contextlib.chdir(model):  # Which a handler makes the working directory.
        handlers = [_handler(model, manager) for manager in (plugins, PluginManager.builtin())]
        for accept in ("application/json", "text/csv;q=0.5, application/json", "*/*"):
            request = Request(b"[[1.0, 2.0, 3.0, 4.0]]", "application/json", accept, {}, "id")
            ours, reference = (partial(_answered, handler, request) for handler in handlers)
            yield Row(f"Accept: {accept}", _best(ours, reference), SAME)


def _best(ours: Callable[[], object], reference: Callable[[], object]) -> Comparison:
    """Return the best of many short turns: who shares the machine makes medians differ by half."""
    turns = [(timeit(ours, number=CALLS), timeit(reference, number=CALLS)) for _ in range(TURNS)]
    our_best, reference_best = (min(times) / CALLS * 1e6 for times in zip(*turns, strict=True))
    return Comparison(our_best, reference_best, reference_best / our_best)


def _handler(model: Path, plugins: PluginManager) -> Callable[[Request], Response]:
    folder = model_folder.find(model, lambda _archive, _into: None, model)
    return build_handler(folder, plugins, plugins.hardware.create("cpu"))


def _answered(handler: Callable[[Request], Response], request: Request) -> None:
    response = handler(request)
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {response.body!r}")


@contextlib.contextmanager
def _found(*targets: Path) -> Iterator[PluginManager]:
    """Give a manager that has also what is installed in the `targets`."""
    before: Sequence[str] = tuple(sys.path)
    sys.path += map(str, targets)
    try:
        yield PluginManager.discover()
    finally:
        sys.path[:] = before


def main() -> None:
    """Print both."""
    with tempfile.TemporaryDirectory() as name:
        third_parties, dummies = Path(name, "four"), Path(name, "many")
        _install_third_parties(third_parties)
        _install_dummies(dummies)
        _listing(third_parties)
        with _found(third_parties, dummies) as plugins:
            active = [status.plugin for status in plugins.statuses if status.state == "active"]
            print(f"\na request of one row, {len(active)} plugins installed / the built-in ones alone")
            table(_requests(Path(name, "model"), plugins))


if __name__ == "__main__":
    main()
