"""Which devices this machine has: by asking their drivers, without torch.

Nothing here raises: what cannot be asked is not there, and the reason is part of the answer.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import attrs

from modelyard.core.cores import cores

_PATIENCE = 20
"""Seconds for a driver's answer: nvidia-smi takes some on a machine with many GPUs that are asleep."""

_SHOWN = 200


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

    Of a GPU that is cut up (MIG) CUDA shows a process one piece, unless the variable names others.
    """
    listed = _ask(("nvidia-smi", "--list-gpus"), environ.get("PATH", ""))
    if isinstance(listed, _Silence):
        return Found(0, f"no GPU found: {listed.reason}")
    whole = [line for line in listed.splitlines() if line.startswith("GPU ")]
    pieces = [line for line in listed.splitlines() if line.lstrip().startswith("MIG ")]
    if not whole:
        return Found(0, "no GPU found: nvidia-smi lists none")
    names = _several(len(whole), "GPU", ", ".join(dict.fromkeys(map(_name, whole))))
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return Found(1, f"1 of the pieces (MIG) of {names}") if pieces else Found(len(whole), names)
    count = _count_visible(visible, [_uuid(line) for line in whole], [_uuid(line) for line in pieces])
    if count == len(whole):
        return Found(count, names)
    few = f"{count or 'none'} of {names}, as CUDA_VISIBLE_DEVICES={visible!r} says"
    return Found(count, few if count else f"no GPU found: {few}")


def _count_visible(visible: str, uuids: Sequence[str], pieces: Sequence[str]) -> int:
    """Return how many devices CUDA shows: those before the first that there is not, each once."""
    seen: list[str] = []
    for token in filter(None, (part.strip() for part in visible.split(","))):
        known = [uuid for uuid in (*uuids, *pieces) if uuid.startswith(token)]
        if token.isdecimal() and int(token) < len(uuids):
            known = [uuids[int(token)]]
        if len(known) != 1 or known[0] in seen:
            break
        seen += known
    return len(seen)


def _name(line: str) -> str:
    return line.partition(": ")[2].partition(" (UUID")[0].strip()


def _uuid(line: str) -> str:
    return line.partition("UUID: ")[2].rstrip(") ")


# -- AWS Neuron --------------------------------------------------------------------------------

CPU_RUNTIME = "CPU"
"""The value of ``PJRT_DEVICE`` with which XLA computes on the CPU."""

_VISIBLE_CORES = "NEURON_RT_VISIBLE_CORES"
_MOST = 4096
"""A number that no core has."""


def neuron_cores(environ: Mapping[str, str] = os.environ) -> Found:
    """Return the NeuronCores that processes may use.

    Those of one logical core (``NEURON_LOGICAL_NC_CONFIG``) count as one, as for the runtime. Where
    ``PJRT_DEVICE`` is the CPU they are 1, since one process drives all of XLA's devices there.
    """
    if environ.get("PJRT_DEVICE") == CPU_RUNTIME:
        return Found(1, "XLA's runtime on the CPU, as PJRT_DEVICE says")
    asked = [
        _ask(("neuron-ls", *options), environ.get("PATH", ""))
        for options in (("--output-format", "json"), ("--json-output",))  # From Neuron 2.34 on, and before.
    ]
    answers = [answer for answer in asked if isinstance(answer, str)]
    if not answers:
        return Found(0, f"no NeuronCore found: {asked[-1].reason}")  # type: ignore[union-attr]
    try:
        physical, grouped = _cores(answers[0])
    except ValueError as error:
        return Found(0, f"no NeuronCore found: what neuron-ls says is not understood: {error}")
    there = physical // (_number(environ.get("NEURON_LOGICAL_NC_CONFIG")) or grouped)
    visible = environ.get(_VISIBLE_CORES)
    count = there if visible is None else len([core for core in _in_ranges(visible) if core < there])
    if not count:
        return Found(
            0, "no NeuronCore found" + (f": {_VISIBLE_CORES}={visible!r} hides them" if there else "")
        )
    few = f"of {there}, as {_VISIBLE_CORES} says" if count < there else ""
    return Found(count, _several(count, "NeuronCore", few))


def core_numbers(environ: Mapping[str, str] = os.environ) -> tuple[int, ...]:
    """Return the numbers that the runtime knows the NeuronCores by which processes may use."""
    count = neuron_cores(environ).count
    visible = environ.get(_VISIBLE_CORES)
    return tuple(range(count)) if visible is None else tuple(sorted(_in_ranges(visible))[:count])


def _cores(listing: str) -> tuple[int, int]:
    """Return how many cores there are, and how many of them make a logical one. Raises ``ValueError``."""
    counted, grouped = 0, 1
    for key, value in _items(json.loads(listing)):
        if key == "nc_count":
            counted += int(value)
        elif key.replace("-", "_") == "logical_neuroncore_config":
            grouped = max(1, int(value))
    return counted, grouped


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
        first, _, last = part.strip().partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            numbers.update(range(int(first), min(int(last or first), _MOST) + 1))
    return numbers


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


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
        done = subprocess.run(
            (program, *argv[1:]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _Silence(f"{argv[0]} does not answer within {_PATIENCE} s")
    except OSError as error:
        return _Silence(f"{argv[0]} cannot be run: {error.strerror}")
    out, err = (stream.decode("utf-8", "replace").strip() for stream in (done.stdout, done.stderr))
    if done.returncode:
        lines = (err or out).splitlines()
        return _Silence(f"{argv[0]} fails: {lines[0][:_SHOWN] if lines else f'exit code {done.returncode}'}")
    return out


def _several(count: int, word: str, which: str = "") -> str:
    return f"{count} {word}{'' if count == 1 else 's'}" + (f" ({which})" if which else "")
