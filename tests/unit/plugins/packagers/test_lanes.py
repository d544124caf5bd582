import hashlib
import threading

import pytest

from modelyard.plugins.packagers.lanes import Chunks

MIB = 1 << 20


@pytest.fixture(autouse=True)
def threads():
    """Check that every thread is gone at the end."""
    before = {*threading.enumerate()}  # Those of earlier tests may end meanwhile.
    yield
    assert {*threading.enumerate()} <= before


@pytest.mark.parametrize("pieces", [[], [b"a"], [b"a" * 10] * 7, [bytes(MIB)], [b"x" * 300_000] * 30])
def test_every_function_sees_everything_in_order(pieces):
    first, second = hashlib.sha256(), hashlib.sha256()
    with Chunks(first.update, second.update) as chunks:
        for piece in pieces:
            chunks.write(piece)
        chunks.close()
    assert first.digest() == second.digest() == hashlib.sha256(b"".join(pieces)).digest()


def test_little_is_worked_on_in_the_calling_thread():
    seen = []
    with Chunks(lambda chunk: seen.append((threading.current_thread(), chunk))) as chunks:
        chunks.write(b"a" * (MIB - 1))
        chunks.close()
    assert seen == [(threading.main_thread(), b"a" * (MIB - 1))]


def test_functions_work_beside_each_other():
    both = threading.Barrier(2)
    with Chunks(lambda chunk: both.wait(30), lambda chunk: both.wait(30)) as chunks:
        chunks.write(bytes(MIB))
        for lane in chunks._lanes:
            lane.end()
        assert both.n_waiting == 0
        assert [lane._error for lane in chunks._lanes] == [None, None]


def failing(chunk):
    if chunk:
        raise OSError(28, "No space left on device")


def test_error_is_raised_at_the_end():
    with Chunks(failing) as chunks:
        chunks.write(bytes(MIB))
        with pytest.raises(OSError, match="No space left"):
            chunks.close()


def write_much(chunks):
    for _ in range(1000):
        chunks.write(bytes(MIB))


def test_error_is_raised_by_a_later_write():
    with Chunks(failing) as chunks, pytest.raises(OSError, match="No space left"):
        write_much(chunks)


def interrupted(chunks):
    with chunks:
        chunks.write(bytes(MIB))
        raise KeyError


def test_error_of_the_caller_ends_the_work():
    with pytest.raises(KeyError):
        interrupted(Chunks(len))
