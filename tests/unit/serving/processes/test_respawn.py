"""When a dead worker is replaced."""

from modelyard.serving.processes.respawn import BackOff


def wait(back_off, now):
    """Return for how long nothing is started after `now`."""
    return next(delay for delay in (0, 0.5, 1, 2, 4, 8, 16, 30) if back_off.permits(now + delay))


def test_a_worker_that_has_served_is_replaced_at_once_however_often():
    back_off = BackOff()
    for now in range(100, 120, 2):
        back_off.died(now, served=1.5)
        assert back_off.permits(now)


def test_deaths_in_quick_succession_are_followed_by_longer_and_longer_waits():
    back_off, now, waits = BackOff(), 100.0, []
    for _ in range(9):
        back_off.died(now, served=0.0)
        waits.append(wait(back_off, now))
        now += waits[-1]
    assert waits == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_workers_that_die_together_count_once():
    back_off = BackOff()
    back_off.died(100.0, served=0.0)
    for _ in range(4):
        back_off.died(100.0, served=0.0)
    back_off.died(100.1, served=0.0)
    assert wait(back_off, 100.1) <= 1


def test_a_worker_that_serves_for_a_while_ends_the_succession():
    back_off = BackOff()
    for now in (100.0, 101.0, 102.0, 105.0):
        back_off.died(now, served=0.0)
    back_off.died(200.0, served=60.0)
    assert back_off.permits(200.0)
