"""Tables for people."""

from collections.abc import Callable, Mapping, Sequence

Paint = Callable[[str, str], str]
"""From a column's name and a cell, which is as wide as its column, to the cell with its colour."""


def table(
    rows: Sequence[Mapping[str, str]],
    columns: Sequence[str],
    paint: Paint = lambda _column, cell: cell,
) -> list[str]:
    """Return a line of column names and one per row; a column that is empty everywhere is left out."""
    used = [column for column in columns if any(row[column] for row in rows)]
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in used}
    names = [column.upper().ljust(widths[column]) for column in used]
    lines = [[paint(column, row[column].ljust(widths[column])) for column in used] for row in rows]
    return ["  ".join(cells).rstrip() for cells in (names, *lines)]
