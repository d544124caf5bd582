"""Stacks that requests run on, and wait on."""

import asyncio
import math

import pytest

from modelyard.serving.waiting import parking
from modelyard.serving.waiting.interruption import Interrupter
from modelyard.serving.waiting.parking import Stacks


@pytest.fixture
def stacks():
    return Stacks(Interrupter())


def test_a_function_runs_until_it_is_parked(stacks):
    done = []
    held = []

    def function():
        held.append(parking.current())
        done.append("before")
        done.append(parking.park())

    stacks.run(function, math.inf)
    assert done == ["before"]
    held[0].go_on("after")
    assert done == ["before", "after"]


def test_stacks_are_used_again(stacks):
    used = []
    for _ in range(3):
        stacks.run(lambda: used.append(parking.current()), math.inf)
    assert len(set(map(id, used))) == 1


def test_a_stack_that_is_dead_is_not_used(stacks):
    ran = []
    stacks.run(lambda: ran.append(parking.current()), math.inf)
    ran[0].throw()  # Ends it, as an interruption does that comes when it has nothing to do.
    assert ran[0].dead
    stacks.run(lambda: ran.append("again"), math.inf)
    assert ran[1:] == ["again"]


def test_nobody_is_parked_outside_of_a_stack():
    assert parking.current() is None


async def double(number):
    await asyncio.sleep(0)
    return 2 * number


async def count(to):
    for number in range(to):
        await asyncio.sleep(0)
        yield number


def test_outside_of_a_stack_what_is_awaited_is_awaited():
    assert parking.wait(double(2)) == 4
    assert list(parking.iterate(count(3))) == [0, 1, 2]
