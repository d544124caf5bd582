"""What a metric looks like: golden text."""

import math

import pytest

from modelyard.cli.chart import Canvas, draw
from modelyard.cli.terminal import Terminal
from modelyard.core.contracts import Metric


def metrics(*values, host="algo-1", name="loss", start=100.0, step=10.0):
    """Return a value every `step` seconds."""
    return [Metric(name, float(v), start + step * i, host) for i, v in enumerate(values)]


def drawn(values, terminal, started=None):
    return "\n" + "\n".join(draw(values, terminal, started)) + "\n"


FALLING = """
loss  last 0.25  min 0.25  max 8  (6 values)
     8 ┤⠑⠤⡀
       │  ⠈⠒⢄
       │     ⠉⠢⢄⡀
       │        ⠈⠉⠒⠤⣀⣀⡀
  0.25 ┤              ⠈⠉⠉⠑⠒⠒⠒⠒⠢⠤⠤⠤⠤⠤⢄⣀⣀⣀
       └────────────────────────────────
        5 s                         55 s
"""

FALLING_IN_ASCII = """
loss  last 0.25  min 0.25  max 8  (6 values)
     8 +**
       |  ***
       |     *****
       |          ******
  0.25 +                ****************
       +--------------------------------
        5 s                         55 s
"""

CROSSING = """
loss  last 0  min 0  max 2  (6 values)
  2 +*****                         *****
    |     ********         ********
    |             *********
    |     ********         ********
  0 +*****                         *****
    +-----------------------------------
     0 s                            20 s
"""

FLAT = """
loss  last 3  min 3  max 3  (3 values)
  4.5 +
      |
      |******************
      |
  1.5 +
      +------------------
       0 s           20 s
"""


@pytest.mark.parametrize(("unicode", "expected"), [(True, FALLING), (False, FALLING_IN_ASCII)])
def test_a_curve_with_its_numbers_and_its_axes(unicode, expected):
    assert drawn(metrics(8, 4, 2, 1, 0.5, 0.25), Terminal(40, unicode), 95.0) == expected


def test_each_host_has_a_curve_of_its_own():
    both = sorted(metrics(0, 1, 2) + metrics(2, 1, 0, host="algo-2"), key=lambda m: m.time)
    assert drawn(both, Terminal(40, unicode=False)) == CROSSING


def test_a_metric_that_does_not_change_is_in_the_middle():
    assert drawn(metrics(3, 3, 3), Terminal(25, unicode=False)) == FLAT


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (metrics(0.5), "loss  last 0.5  (1 value)"),
        (metrics(math.nan), "loss  last nan  (1 value)"),
        (metrics(math.nan, math.inf), "loss  last inf  (2 values)"),
        (metrics(1, 2, step=0), "loss  last 2  min 1  max 2  (2 values)"),
        (metrics(1, math.nan), "loss  last nan  min 1  max 1  (2 values)"),
    ],
)
def test_without_two_moments_there_is_no_curve(values, expected):
    assert draw(values, Terminal()) == [expected]


def test_what_is_no_number_is_left_out_of_the_curve():
    with_gaps = draw(metrics(1, math.nan, 3, math.inf, 5), Terminal(40))
    assert with_gaps[0] == "loss  last 5  min 1  max 5  (5 values)"
    assert with_gaps[1:] == draw(metrics(1, 3, 5, step=20), Terminal(40))[1:]


def test_the_largest_numbers_have_a_curve():
    lines = draw(metrics(1e308, -1e308), Terminal(40, unicode=False))
    assert lines[1].lstrip().startswith("1e+308 +***")
    assert lines[5].lstrip().startswith("-1e+308 +")
    assert lines[5].endswith("***")


@pytest.mark.parametrize("width", [30, 60, 100])
@pytest.mark.parametrize("unicode", [True, False])
def test_a_chart_is_as_wide_as_its_terminal(width, unicode):
    lines = draw(metrics(*range(50)), Terminal(width, unicode))
    assert max(map(len, lines[1:])) == width


@pytest.mark.parametrize(("width", "expected"), [(None, 80), (300, 100), (5, 15)])
def test_a_chart_is_neither_too_wide_nor_too_narrow_to_read(width, expected):
    assert max(map(len, draw(metrics(1, 2), Terminal(width))[1:])) == expected


def test_only_the_curve_has_a_colour():
    plain = draw(metrics(2, 1), Terminal(30))
    coloured = draw(metrics(2, 1), Terminal(30, colour=True))
    assert [line.replace("\x1b[36m", "").replace("\x1b[0m", "") for line in coloured] == plain
    assert ["\x1b" in line for line in coloured] == [False, True, True, True, True, True, False, False]


def test_the_dots_of_a_character_are_where_braille_has_them():
    for dots, expected in (
        ([(0, 3)], "⠁"),
        ([(1, 3)], "⠈"),
        ([(0, 0)], "⡀"),
        ([(1, 0)], "⢀"),
        ([(x, y) for x in (0, 1) for y in range(4)], "⣿"),
        ([], " "),
    ):
        canvas = Canvas(1, 1, unicode=True)
        for dot in dots:
            canvas.line(dot, dot)
        assert canvas.lines() == [expected]
