"""What the output goes to: real pseudo-terminals, pipes and encodings."""

import io
import os
import pty

import pytest

from modelyard.cli.tables import table
from modelyard.cli.terminal import Terminal


@pytest.fixture
def stream():
    """A pseudo-terminal, open for writing."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as opened:
        yield opened
    os.close(master)


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_terminal_has_a_width_and_colours(stream):
    assert Terminal.of(stream) == Terminal(60, unicode=True, colour=True)


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_turned_off(stream, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    assert Terminal.of(stream) == Terminal(60, unicode=True, colour=False)


def test_a_pipe_has_neither():
    assert Terminal.of(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == Terminal(None, unicode=True)


@pytest.mark.parametrize(("encoding", "unicode"), [("utf-8", True), ("ascii", False), ("latin-1", False)])
def test_the_encoding_says_which_characters_there_are(encoding, unicode):
    assert Terminal.of(io.TextIOWrapper(io.BytesIO(), encoding=encoding)).unicode is unicode


def test_colour_is_put_around_what_there_is():
    coloured = Terminal(colour=True)
    assert coloured.paint("Failed", "red") == "\x1b[31mFailed\x1b[0m"
    assert (coloured.paint("", "red"), coloured.paint("text", None)) == ("", "text")
    assert Terminal().paint("Failed", "red") == "Failed"


def test_a_line_is_cut_to_the_width_and_marked():
    assert Terminal(8).cut("12345678") == "12345678"
    assert Terminal(8).cut("123456789") == "1234567…"
    assert Terminal(8, unicode=False).cut("123456789") == "12345..."
    assert Terminal().cut("x" * 500) == "x" * 500


ROWS = [{"name": "a", "state": "ok", "note": ""}, {"name": "longer", "state": "failed", "note": ""}]


def test_a_table_has_aligned_columns_and_no_empty_one():
    assert table(ROWS, ("name", "state", "note")) == ["NAME    STATE", "a       ok", "longer  failed"]


def test_a_coloured_cell_is_as_wide_as_a_plain_one():
    lines = table(ROWS, ("state", "name"), lambda column, cell: f"<{cell}>" if column == "state" else cell)
    assert lines == ["STATE   NAME", "<ok    >  a", "<failed>  longer"]


def test_a_table_of_nothing_is_empty():
    assert table([], ("name", "state")) == [""]
