"""The memory that the processes of a server share."""

import os
import time

import pytest

from modelyard.serving.processes.board import Board, Phase


def test_a_claimed_slot_is_that_of_a_worker_that_loads():
    slot = Board(2).claim()
    assert (slot.phase, slot.pid, slot.connections, slot.reason) == (Phase.LOADING, 0, 0, "")
    assert slot.silent_seconds < 10


def test_a_slot_is_claimed_once_and_again_when_it_is_cleared():
    board = Board(2)
    first, second = board.claim(), board.claim()
    assert first is not second
    with pytest.raises(IndexError, match="all 2 slots"):
        board.claim()
    second.connections, second.reason = 3, "gone"
    second.clear()
    assert board.claim() is second
    assert (second.connections, second.reason) == (0, "")


def test_what_a_child_writes_its_parent_reads():
    board = Board(2)
    other, slot = board.claim(), board.claim()
    silent_since = slot.silent_seconds
    if not (child := os.fork()):
        slot.phase, slot.connections, slot.reason, slot.pid = Phase.READY, 7, "größer", os.getpid()
        slot.beat()
        os._exit(0)
    os.waitpid(child, 0)
    assert (slot.phase, slot.connections, slot.reason, slot.pid) == (Phase.READY, 7, "größer", child)
    assert slot.silent_seconds < silent_since + 60
    assert other.phase is Phase.LOADING


def test_a_worker_of_a_later_model_is_admitted_with_its_model():
    board = Board(3)
    first, second = board.claim(), board.claim(1)
    assert (board.generation, first.generation, second.generation) == (0, 0, 1)
    assert (board.admits(first), board.admits(second)) == (True, False)
    if not (child := os.fork()):
        board.generation = 1
        os._exit(0)
    os.waitpid(child, 0)
    assert (board.admits(first), board.admits(second)) == (True, True)
    second.clear()
    assert board.claim(2).generation == 2


def test_a_long_reason_is_clipped_and_stays_in_its_slot():
    board = Board(2)
    first, second = board.claim(), board.claim()
    first.reason = "ä" * 5000
    assert set(first.reason) == {"ä"}
    assert 500 <= len(first.reason) <= 1024
    assert (second.phase, second.reason) == (Phase.LOADING, "")


def test_only_a_worker_that_is_ready_and_alive_serves():
    slot = Board(1).claim()
    assert not slot.serves(10)
    slot.phase = Phase.READY
    assert slot.serves(10)
    while slot.silent_seconds < 0.002:
        time.sleep(0.001)
    assert not slot.serves(0.001)
    slot.beat()
    slot.phase = Phase.DRAINING
    assert not slot.serves(10)


def test_a_worker_is_no_sibling_of_its_own():
    board = Board(2)
    mine, other = board.claim(), board.claim()
    mine.phase = Phase.READY
    assert not board.has_ready_sibling(mine, 10)
    assert board.has_ready_sibling(other, 10)
    assert board.has_idler_sibling(other, 1, 10)
    assert not board.has_idler_sibling(other, 0, 10)
    assert not board.has_idler_sibling(mine, 1, 10)


def test_slots_of_workers_that_never_were_are_free_again():
    board = Board(2)
    born, unborn = board.claim(), board.claim()
    born.pid = 17
    board.free_unborn()
    assert (born.phase, unborn.phase) == (Phase.LOADING, Phase.EMPTY)
