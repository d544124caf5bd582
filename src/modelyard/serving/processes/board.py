"""What the workers of a server are doing, in memory that all of its processes share.

Made before the first worker is forked. A slot is written by its worker while that lives and by the
arbiter before and after; everyone reads. There is no lock: every field is one aligned machine word.

Workers of one model are a generation, and later models have higher numbers. During a reload there are
two: those of the new one take no connection before the arbiter has made it the board's generation.
"""

import enum
import mmap
import time
from collections.abc import Iterator

from modelyard.core.handover import FAILURE_BYTES, clip

_WORDS = 6  # pid, phase, connections, time of the last beat in ns, length of the reason, generation
_WORD_BYTES = 8
_SLOT_BYTES = _WORDS * _WORD_BYTES + FAILURE_BYTES


class Phase(enum.IntEnum):
    """What one worker is doing."""

    EMPTY = 0
    LOADING = 1
    LOADED = 2
    """It could answer, but another model is still the one to serve."""
    READY = 3
    DRAINING = 4


class Slot:
    """One worker's place on the board."""

    def __init__(self, index: int, memory: memoryview) -> None:
        self.index = index
        self._words = memory[: _WORDS * _WORD_BYTES].cast("q")
        self._text = memory[_WORDS * _WORD_BYTES :]

    @property
    def pid(self) -> int:
        """The worker's process, 0 before it is known."""
        return self._words[0]

    @pid.setter
    def pid(self, pid: int) -> None:
        self._words[0] = pid

    @property
    def phase(self) -> Phase:
        """What the worker is doing."""
        return Phase(self._words[1])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._words[1] = phase

    @property
    def connections(self) -> int:
        """How many connections the worker holds."""
        return self._words[2]

    @connections.setter
    def connections(self, number: int) -> None:
        self._words[2] = number

    @property
    def generation(self) -> int:
        """Which model the worker's is, counted from 0."""
        return self._words[5]

    @generation.setter
    def generation(self, number: int) -> None:
        self._words[5] = number

    def beat(self) -> None:
        """Note that the worker's event loop runs."""
        self._words[3] = time.monotonic_ns()

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last beat."""
        return (time.monotonic_ns() - self._words[3]) / 1e9

    @property
    def reason(self) -> str:
        """Why the worker could not load its model, clipped; empty if it did not say."""
        return bytes(self._text[: self._words[4]]).decode("utf-8", "replace")

    @reason.setter
    def reason(self, text: str) -> None:
        encoded = clip(text).encode()
        self._text[: len(encoded)] = encoded
        self._words[4] = len(encoded)

    def serves(self, patience: float) -> bool:
        """Tell whether the worker is ready, and has shown life within `patience` seconds."""
        return self._words[1] == Phase.READY and self.silent_seconds < patience

    def clear(self) -> None:
        """Make the slot free for another worker."""
        for number in range(_WORDS):
            self._words[number] = 0


class Board:
    """A fixed number of slots, and the generation that is to serve, which the arbiter writes."""

    def __init__(self, slots: int) -> None:
        shared = memoryview(mmap.mmap(-1, _WORD_BYTES + slots * _SLOT_BYTES))
        self._generation = shared[:_WORD_BYTES].cast("q")
        places = shared[_WORD_BYTES:]
        self._slots = tuple(
            Slot(index, places[index * _SLOT_BYTES : (index + 1) * _SLOT_BYTES]) for index in range(slots)
        )

    @property
    def generation(self) -> int:
        """Which model is to serve, counted from 0."""
        return self._generation[0]

    @generation.setter
    def generation(self, number: int) -> None:
        self._generation[0] = number

    def admits(self, slot: Slot) -> bool:
        """Tell whether that worker may take connections: not while its model is yet to be served."""
        return slot.generation <= self.generation

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def claim(self, generation: int = 0) -> Slot:
        """Return a free slot, now that of a worker which is loading. Raises `IndexError` if all are taken."""
        for slot in self._slots:
            if slot.phase is Phase.EMPTY:
                slot.clear()
                slot.generation = generation
                slot.phase = Phase.LOADING
                slot.beat()
                return slot
        raise IndexError(f"all {len(self)} slots of the board are taken")

    def free_unborn(self) -> None:
        """Free the slots that were claimed for workers which could not be started."""
        for slot in self._slots:
            if not slot.pid:
                slot.clear()

    def has_ready_sibling(self, slot: Slot, patience: float) -> bool:
        """Tell whether another worker than that of `slot` can answer."""
        return any(other is not slot and other.serves(patience) for other in self._slots)

    def has_idler_sibling(self, slot: Slot, connections: int, patience: float) -> bool:
        """Tell whether another worker that can answer holds fewer connections than that."""
        return any(
            other.connections < connections and other is not slot and other.serves(patience)
            for other in self._slots
        )

    def connections_of_siblings(self, slot: Slot, patience: float) -> list[int]:
        """Return how many connections each other worker holds that serves."""
        return [other.connections for other in self._slots if other is not slot and other.serves(patience)]
