"""A metric over time, drawn with characters."""

import math
from collections.abc import Iterator, Sequence

from modelyard.cli.terminal import Terminal
from modelyard.cli.times import duration
from modelyard.core.contracts import Metric

_ROWS = 5
_WIDTH = 80
_WIDEST = 100

# The bits of a braille character's dots, from the top, left and right: U+2800 has none of them.
_BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))

Dot = tuple[int, int]


class Canvas:
    """Dots on lines of text: 2 by 4 in a character of braille, or one in an asterisk.

    ``width`` and ``height``: in dots; dot (0, 0) is at the bottom left.
    """

    def __init__(self, columns: int, rows: int, *, unicode: bool) -> None:
        self._columns, self._rows, self._unicode = columns, rows, unicode
        self.width, self.height = (2 * columns, 4 * rows) if unicode else (columns, rows)
        self._dots: set[Dot] = set()

    def line(self, start: Dot, end: Dot) -> None:
        """Set the dots from `start` to `end`."""
        (x, y), (across, up) = start, (end[0] - start[0], end[1] - start[1])
        steps = max(abs(across), abs(up), 1)
        self._dots.update(
            (x + round(across * i / steps), y + round(up * i / steps)) for i in range(steps + 1)
        )

    def lines(self) -> list[str]:
        """Return the lines of text, the top one first."""
        cell = self._braille if self._unicode else self._asterisk
        return ["".join(cell(x, y) for x in range(self._columns)) for y in reversed(range(self._rows))]

    def _braille(self, column: int, row: int) -> str:
        left, top = 2 * column, 4 * row + 3
        bits = sum(
            bit
            for down, pair in enumerate(_BRAILLE)
            for right, bit in enumerate(pair)
            if (left + right, top - down) in self._dots
        )
        return chr(0x2800 + bits) if bits else " "

    def _asterisk(self, column: int, row: int) -> str:
        return "*" if (column, row) in self._dots else " "


def draw(values: Sequence[Metric], terminal: Terminal, started: float | None = None) -> list[str]:
    """Return the lines that show one metric's values, in the order of time: its numbers and its curve.

    `started`: when the job did, in seconds since 1970; the axis of time begins to count there, or at
    the first value. Each host has a curve of its own. What is no number (``nan``) has no place.
    """
    finite = [metric for metric in values if math.isfinite(metric.value)]
    lines = [_numbers(values, finite)]
    if len({metric.time for metric in finite}) > 1:
        lines += _plot(finite, terminal, finite[0].time if started is None else started)
    return lines


def _numbers(values: Sequence[Metric], finite: Sequence[Metric]) -> str:
    said = [f"last {_number(values[-1].value)}"]
    if len(values) > 1 and finite:
        said.append(f"min {_number(min(metric.value for metric in finite))}")
        said.append(f"max {_number(max(metric.value for metric in finite))}")
    said.append(f"({len(values)} value{'s' if len(values) > 1 else ''})")
    return "  ".join((values[0].name, *said))


def _plot(values: Sequence[Metric], terminal: Terminal, origin: float) -> list[str]:
    low, high = _range([metric.value for metric in values])
    labels = [_number(high), *[""] * (_ROWS - 2), _number(low)]
    margin = max(map(len, labels))
    columns = max(10, min(terminal.width or _WIDTH, _WIDEST) - margin - 4)
    canvas = Canvas(columns, _ROWS, unicode=terminal.unicode)
    for start, end in _segments(values, canvas, (low, high)):
        canvas.line(start, end)
    tick, side, corner, floor = "┤│└─" if terminal.unicode else "+|+-"
    lines = [
        f"  {label:>{margin}} {tick if label else side}{terminal.paint(line.rstrip(), 'cyan')}"
        for label, line in zip(labels, canvas.lines(), strict=True)
    ]
    first, last = (duration(max(0.0, time - origin)) for time in (values[0].time, values[-1].time))
    room = columns - len(first)
    return [*lines, f"  {'':{margin}} {corner}{floor * columns}", f"  {'':{margin}}  {first}{last:>{room}}"]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: the least and the greatest value, or what is around a single one."""
    low, high = min(values), max(values)
    around = 0.0 if low < high else abs(low) / 2 or 1.0
    return low - around, high + around


def _segments(
    values: Sequence[Metric], canvas: Canvas, ends: tuple[float, float]
) -> Iterator[tuple[Dot, Dot]]:
    """Yield the dots between which each host's curve runs."""
    since, until = values[0].time, values[-1].time
    latest: dict[str, Dot] = {}
    for metric in values:
        across = (metric.time - since) / (until - since)
        # Halved, as the difference of two large numbers may be too large.
        up = (metric.value / 2 - ends[0] / 2) / (ends[1] / 2 - ends[0] / 2)
        dot = (round(across * (canvas.width - 1)), round(up * (canvas.height - 1)))
        yield latest.get(metric.host, dot), dot
        latest[metric.host] = dot


def _number(value: float) -> str:
    return f"{value:.4g}"
