"""The ranks of one host: how many there are, and how a launcher's tool starts each of them."""

import re
from pathlib import Path

from modelyard.core.contracts import Hardware

_SHIM = Path(__file__).with_name("rank.sh")


def ranks_on(hardware: Hardware) -> int:
    """Return how many processes use a host well: one for each device; all of its CPUs are one."""
    return max(1, hardware.device_count())


def as_rank(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return `argv` as the command of a rank, which is told its number and has streams of its own."""
    return ("/bin/sh", str(_SHIM), *argv)


def literal(token: str) -> str:
    """Return what torch's agent, below torchrun and others, passes on as `token`.

    In a token it looks for ``${local_rank}`` and ``$$``.
    """
    return re.sub(r"\$(?=\$|\{?local_rank)", "$$", token)
