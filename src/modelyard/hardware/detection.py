"""Which devices this machine has: by asking their drivers, without torch.

Nothing here raises: what cannot be asked is not there, and the reason is part of the answer.
"""

import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING

import attrs

from modelyard.core.cores import cores
from modelyard.core.lazy import lazy_module

if TYPE_CHECKING:
    import subprocess
else:
    subprocess = lazy_module("subprocess")  # Few machines have a driver that could be asked.

_PATIENCE = 20
"""Seconds for a driver's answer: nvidia-smi takes some on a machine with many GPUs that are asleep."""

_SHOWN = 200
"""Characters of what others say that a reason repeats."""

_ORDINAL = re.compile(r"[+-]?\d{1,4000}")
"""Python makes no number of more digits."""


@attrs.frozen
class Found:
    """Devices of one kind. ``said``: what they are, or why there are none, for a person."""

    count: int
    said: str


def cpus() -> Found:
    """Return the CPUs that this process may use."""
    count = cores()
    return Found(count, _several(count, "CPU"))


# -- NVIDIA ------------------------------------------------------------------------------------


def gpus(environ: Mapping[str, str] = os.environ) -> Found:
    """Return NVIDIA's GPUs, those that ``CUDA_VISIBLE_DEVICES`` hides left out.

    Where one that it shows is cut up (MIG), CUDA shows a process a single piece and nothing else.
    """
    listed = _ask(("nvidia-smi", "--list-gpus"), environ.get("PATH", ""))
    if isinstance(listed, _Silence):
        return Found(0, f"no GPU found: {listed.reason}")
    whole, pieces = _listed(listed)
    if not whole:
        return Found(0, "no GPU found: nvidia-smi lists none")
    names = _several(len(whole), "GPU", _shown(", ".join(dict.fromkeys(whole.values()))))
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    seen = list(whole) if visible is None else _visible(visible, list(whole), list(pieces))
    says = (
        "" if visible is None or seen == list(whole) else f", as CUDA_VISIBLE_DEVICES={_quoted(visible)} says"
    )
    if not seen:
        return Found(0, f"no GPU found: none of {names}{says}")
    if not {*pieces, *pieces.values()}.isdisjoint(seen):
        return Found(1, f"1 of the pieces (MIG) of {names}{says}")
    return Found(len(seen), f"{len(seen)} of {names}{says}" if says else names)


def _listed(listing: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the GPUs of a listing with their names, and the pieces of some of them with their GPUs."""
    whole: dict[str, str] = {}
    pieces: dict[str, str] = {}
    for line in listing.splitlines():
        name, _, uuid = line.partition(": ")[2].partition(" (UUID: ")
        if line.startswith("GPU "):
            # One whose UUID is not given is another one all the same.
            whole[uuid.rstrip(") ") or line] = name.strip()
        elif line.lstrip().startswith("MIG ") and whole:
            pieces[line.partition("UUID: ")[2].rstrip(") ") or line] = next(reversed(whole))
    return whole, pieces


def _visible(variable: str, whole: Sequence[str], pieces: Sequence[str]) -> list[str]:
    """Return the devices that CUDA shows, as torch reads the variable.

    Those before the first that there is not; none at all where one is named twice.
    """
    kind = next((kind for kind in ("GPU-", "MIG-") if variable.startswith(kind)), "")
    tokens = variable.split(",")
    if kind:
        named = list(takewhile(lambda token: token.startswith(kind), tokens))
        known = [[uuid for uuid in (*whole, *pieces) if uuid.startswith(token)] for token in named]
    else:
        numbers = list(takewhile(lambda number: number >= 0, map(_ordinal, tokens)))
        named = list(map(str, numbers))
        known = [list(whole[number : number + 1]) for number in numbers]
    seen = [found[0] for found in takewhile(lambda found: len(found) == 1, known)]
    twice = len(set(named)) < len(named) or len(set(seen)) < len(seen)
    return [] if twice else seen


def _ordinal(token: str) -> int:
    """Return the number that a text begins with, -1 if it does not begin with one."""
    found = _ORDINAL.match(token.strip())
    return int(found[0]) if found else -1


# -- AWS Neuron --------------------------------------------------------------------------------

CPU_RUNTIME = "CPU"
"""The value of ``PJRT_DEVICE`` with which XLA computes on the CPU."""

_VISIBLE_CORES = "NEURON_RT_VISIBLE_CORES"
_MOST = 4096
"""A number that no core has."""

_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


def neuron_cores(environ: Mapping[str, str] = os.environ) -> Found:
    """Return the NeuronCores that processes may use.

    Those of one logical core (``NEURON_LOGICAL_NC_CONFIG``) count as one, as for the runtime. Where
    ``PJRT_DEVICE`` is the CPU they are 1, since one process drives all of XLA's devices there.
    """
    if environ.get("PJRT_DEVICE") == CPU_RUNTIME:
        return Found(1, "XLA's runtime on the CPU, as PJRT_DEVICE says")
    listed = _neuron_ls(environ.get("PATH", ""))
    if isinstance(listed, _Silence):
        return Found(0, f"no NeuronCore found: {listed.reason}")
    try:
        physical, grouped = _cores(listed)
    except (ValueError, RecursionError) as error:
        return Found(0, f"no NeuronCore found: what neuron-ls says is not understood: {_shown(str(error))}")
    there = physical // (_number(environ.get("NEURON_LOGICAL_NC_CONFIG", "")) or grouped)
    if not there:
        return Found(0, "no NeuronCore found: neuron-ls lists none")
    visible = environ.get(_VISIBLE_CORES)
    if visible is None:
        return Found(there, _several(there, "NeuronCore"))
    count = len([core for core in _in_ranges(visible) if core < there])
    says = f"of {there}, as {_VISIBLE_CORES}={_quoted(visible)} says"
    if not count:
        return Found(0, f"no NeuronCore found: none {says}")
    return Found(count, _several(count, "NeuronCore", says if count < there else ""))


def core_numbers(environ: Mapping[str, str] = os.environ) -> tuple[int, ...]:
    """Return the numbers that the runtime knows the NeuronCores by which processes may use."""
    count = neuron_cores(environ).count
    visible = environ.get(_VISIBLE_CORES)
    return tuple(range(count)) if visible is None else tuple(sorted(_in_ranges(visible))[:count])


def _neuron_ls(path: str) -> "str | _Silence":
    """Return what neuron-ls lists; its option has another name from Neuron 2.34 on."""
    reasons = []
    for options in (("--output-format", "json"), ("--json-output",)):
        answer = _ask(("neuron-ls", *options), path)
        if isinstance(answer, str):
            return answer
        reasons.append(answer.reason)
    # Which of them is about the option alone cannot be told.
    return _Silence("; ".join(dict.fromkeys(reasons)))


def _cores(listing: str) -> tuple[int, int]:
    """Return how many cores there are, and how many of them make a logical one. Raises ``ValueError``."""
    counted, grouped = 0, 1
    for key, value in _items(json.loads(listing)):
        if key == "nc_count":
            counted += max(0, int(value))
        elif key.replace("-", "_") == "logical_neuroncore_config":
            grouped = max(1, int(value))
    return min(counted, _MOST), grouped


def _items(document: object) -> Iterator[tuple[str, str]]:
    """Yield the names and the values of everything in a document, however deep."""
    if isinstance(document, dict):
        for key, value in document.items():
            if isinstance(value, (dict, list)):
                yield from _items(value)
            else:
                yield str(key), str(value)
    elif isinstance(document, list):
        for item in document:
            yield from _items(item)


def _in_ranges(text: str) -> set[int]:
    """Return the numbers in text such as ``0-3,5``; none in what is no such text."""
    numbers: set[int] = set()
    for part in text.split(","):
        if found := _RANGE.fullmatch(part.strip()):
            first, last = int(found[1]), int(found[2] or found[1])
            numbers.update(range(first, min(last, _MOST) + 1))
    return numbers


def _number(text: str) -> int:
    return int(text) if _RANGE.fullmatch(text) and text.isdecimal() else 0


# -- asking ------------------------------------------------------------------------------------


@attrs.frozen
class _Silence:
    """No answer from a driver's program."""

    reason: str


# A job asks several times, and an answer takes up to a second.
@lru_cache(maxsize=16)
def _ask(argv: tuple[str, ...], path: str) -> str | _Silence:
    """Return what a driver's program says, or why it does not."""
    program = shutil.which(argv[0], path=path)
    if program is None:
        return _Silence(f"{argv[0]} is not on the PATH")
    try:
        process = subprocess.Popen(
            (program, *argv[1:]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return _Silence(f"{argv[0]} cannot be run: {error.strerror}")
    try:
        said = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return _Silence(f"{argv[0]} does not answer within {_PATIENCE} s")
    finally:
        _end(process)
    out, err = (stream.decode("utf-8", "replace").strip() for stream in said)
    if process.returncode:
        lines = (err or out).splitlines()
        reason = _shown(lines[0]) if lines else f"exit code {process.returncode}"
        return _Silence(f"{argv[0]} fails: {reason}")
    return out


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program that still runs, with all that it started."""
    if process.returncode is not None:
        return
    os.killpg(process.pid, signal.SIGKILL)
    for stream in filter(None, (process.stdout, process.stderr)):
        stream.close()
    # One that waits inside of the driver cannot be ended, and is left alone.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)


def _shown(text: str) -> str:
    """Return text of another program so that it can be part of a line."""
    return "".join(character if character.isprintable() else "?" for character in text[:_SHOWN])


def _quoted(text: str) -> str:
    return repr(text[:_SHOWN])


def _several(count: int, word: str, which: str = "") -> str:
    return f"{count} {word}{'' if count == 1 else 's'}" + (f" ({which})" if which else "")
