import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.training import lines
from modelyard.training.lines import LONGEST, Lines, Mask


class Log:
    """What `Lines` emits: what is shown, what is kept as the program's words, and what goes on."""

    def __init__(self, *secrets):
        self.shown, self.kept, self.broken = [], [], []
        self.mask = Mask(secrets)
        self.lines = Lines(self, self.mask)

    def __call__(self, block, *, show=True, keep=True, broken=False):
        assert block.endswith(b"\n")
        self.shown += [self.mask(block)] * show
        self.kept += [self.mask(block)] * keep
        self.broken += [broken]

    def look(self):
        """Show what has not ended, as happens a second later."""
        assert self.lines.due < math.inf
        self.lines.tick()


CHUNKS = st.lists(
    st.one_of(st.binary(max_size=40), st.sampled_from([b"\n", b"x" * 40_000, b"y" * 70_000 + b"\n"]))
).map(lambda chunks: [chunk.replace(b"\r", b"") for chunk in chunks])


@given(CHUNKS)
def test_lines_lose_nothing_and_add_newlines_only(chunks):
    log = Log()
    for chunk in chunks:
        log.lines.feed(chunk)
        assert len(log.lines._partial) <= LONGEST
    log.lines.flush()
    whole, shown = b"".join(chunks), b"".join(log.shown)
    assert shown.replace(b"\n", b"") == whole.replace(b"\n", b"")
    assert log.shown == log.kept
    if max(map(len, whole.split(b"\n"))) < LONGEST:
        assert shown == whole + b"\n" * (bool(whole) and not whole.endswith(b"\n"))
    assert max(map(len, shown.split(b"\n"))) <= LONGEST + max(map(len, chunks), default=0)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r")), st.data())
def test_a_character_is_never_torn_by_where_a_line_is_looked_at(text, data):
    encoded = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=4)))
    log = Log()
    for start, end in itertools.pairwise([0, *cuts, len(encoded)]):
        log.lines.feed(encoded[start:end])
        log.lines.tick()
    log.lines.flush()
    for block in log.shown:
        block.decode()


def test_a_character_is_never_torn_where_a_long_line_is_broken():
    log = Log()
    for _ in range(10):
        log.lines.feed("x\u20ac\U0001f600".encode() * 5000)
    log.lines.flush()
    assert len(log.shown) > 3
    assert "".join(block.decode()[:-1] for block in log.shown) == "x\u20ac\U0001f600" * 50_000


def test_of_a_line_that_is_broken_all_pieces_but_the_last_go_on():
    log = Log()
    for _ in range(3):
        log.lines.feed(b"x" * (LONGEST + 1))
    log.lines.feed(b"x\nnext\n")
    assert log.broken == [True, True, True, False]


def test_a_newline_of_windows_is_one():
    log = Log()
    log.lines.feed(b"one\r\ntwo\r")
    log.lines.feed(b"\nthree\r\n\r\n")
    assert b"".join(log.shown) == b"one\ntwo\nthree\n\n"


def test_empty_lines_stay():
    log = Log()
    log.lines.feed(b"\n\na\n\n")
    assert b"".join(log.shown) == b"\n\na\n\n"


def test_of_a_bar_that_ends_at_once_only_the_last_state_is_shown():
    log = Log()
    log.lines.feed(b"\r 0%|  |" + b"".join(b"\r%3d%%|# |" % i for i in range(101)) + b"\ndone\n")
    assert b"".join(log.shown) == b"100%|# |\ndone\n"


def test_a_bar_whose_states_end_with_a_carriage_return():
    log = Log()
    log.lines.feed(b"10%\r50%\r")
    log.look()
    log.lines.feed(b"100%\r")
    log.lines.feed(b"\n")
    assert log.shown == [b"50%\n", b"100%\n"]


def test_a_bar_is_shown_as_it_stands_and_once_more_when_it_ends():
    log = Log()
    log.lines.feed(b"\rstep 1\rstep 2\rste")
    log.look()
    log.lines.feed(b"p 3\rstep 4")
    log.look()
    assert log.shown == [b"step 2\n", b"step 3\n"]
    log.look()
    assert log.shown[2:] == [b"step 4\n"]
    log.lines.feed(b"\rstep 5\n")
    assert log.shown[3:] == [b"step 5\n"]
    assert log.kept == log.shown


def test_a_slow_bar_is_not_a_step_behind():
    log = Log()
    for step in (b"\r1", b"\r2", b"\r3"):
        log.lines.feed(step)
        log.look()
    assert log.shown == [b"1\n", b"2\n", b"3\n"]


def test_a_state_that_was_shown_is_not_shown_again_when_its_line_ends():
    log = Log()
    log.lines.feed(b"\r100%")
    log.look()
    log.lines.feed(b"\nnext\n")
    assert log.shown == [b"100%\n", b"next\n"]
    assert log.kept == log.shown


def test_nothing_is_due_while_nothing_changes():
    log = Log()
    log.lines.feed(b"\r50%")
    log.look()
    assert log.lines.due == math.inf
    log.lines.feed(b"\n")
    assert log.lines.due == math.inf


def test_a_second_lies_between_two_looks(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(lines.time, "monotonic", lambda: clock[0])
    log = Log()
    log.lines.feed(b"\r1")
    assert log.lines.due == 101.0
    clock[0] = 101.0
    log.lines.tick()
    clock[0] = 101.2
    log.lines.feed(b"\r2")
    assert log.lines.due == 102.0
    clock[0] = 160.0
    log.lines.tick()
    log.lines.feed(b"\r3")
    assert log.lines.due == pytest.approx(161.0)


def test_a_bar_that_is_wiped_out_leaves_nothing():
    log = Log()
    log.lines.feed(b"\r100%\r    \r")
    log.look()
    log.lines.flush()
    assert log.shown == []


def test_a_prompt_is_shown_once_and_kept_once():
    log = Log()
    log.lines.feed(b"waiting for the others")
    log.look()
    log.lines.flush()
    assert log.shown == log.kept == [b"waiting for the others\n"]


def test_dots_are_shown_once_and_then_whole():
    log = Log()
    for _ in range(5):
        log.lines.feed(b".")
        log.lines.tick()
    log.lines.feed(b" done\n")
    assert log.shown == [b".\n", b"..... done\n"]
    assert log.kept == [b"..... done\n"]


def test_a_bar_without_an_end_is_not_kept():
    log = Log()
    for number in range(200_000):
        log.lines.feed(b"\rstep %d" % number)
    assert len(log.lines._partial) < 100


# -- secrets -----------------------------------------------------------------------------------


def test_secrets_are_masked_the_longest_first():
    mask = Mask(["hunter2hunter2", "hunter2"])
    assert mask(b"a hunter2hunter2 b hunter2 c\n") == b"a ******** b ******** c\n"


def test_each_line_of_a_secret_is_masked():
    mask = Mask(["-----BEGIN-----\nabcdef123\n-----END-----\n"])
    assert mask(b"x abcdef123\n-----END-----\n") == b"x ********\n********\n"


@pytest.mark.parametrize("text", ["", "12345", "a\nb\nc"])
def test_what_is_too_short_for_a_secret_is_not_masked(text):
    assert Mask([text])(text.encode() + b" in 12345 abc\n") == text.encode() + b" in 12345 abc\n"


@given(st.integers(0, 7))
def test_a_secret_is_masked_however_it_is_read(start):
    log = Log("hunter2")
    for part in (b"pw hunter2"[: 3 + start], b"pw hunter2"[3 + start :]):
        log.lines.feed(part)
        log.lines.tick()
    log.lines.feed(b"\n")
    assert log.kept == [b"pw ********\n"]
    assert not any(b"hunt" in block or b"pw h" in block for block in log.shown)


def test_a_secret_is_masked_where_a_long_line_is_broken():
    log = Log("hunter2hunter2")
    text = b"x" * (LONGEST - 5) + b"hunter2hunter2" + b"x" * 100
    for start in range(0, len(text), 1000):
        log.lines.feed(text[start : start + 1000])
    log.lines.flush()
    assert b"".join(block[:-1] for block in log.shown) == b"x" * (LONGEST - 5) + b"********" + b"x" * 100


def test_a_secret_of_other_bytes_than_utf8():
    assert Mask(["caf\udce9caf"])(b"a caf\xe9caf\n") == b"a ********\n"
