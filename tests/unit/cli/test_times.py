"""Moments and durations as people read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from modelyard.cli.times import duration, moment

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, ""),
        (0.0, "0 s"),
        (0.04, "0 s"),
        (1.0, "1 s"),
        (9.99, "9.9 s"),
        (10.0, "10 s"),
        (59.9, "59 s"),
        (60.0, "1 min 00 s"),
        (3599.9, "59 min 59 s"),
        (3600.0, "1 h 00 min"),
        (86399.0, "23 h 59 min"),
        (90000.0, "1 d 1 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, expected):
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (datetime(2026, 11, 21, 9, 5, 7, tzinfo=UTC), "09:05:07"),
        (datetime(2026, 11, 20, 23, 59, tzinfo=UTC), "20 Nov 23:59"),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2 Jan 03:04"),
        (datetime(2025, 12, 31, 23, 59, tzinfo=UTC), "31 Dec 2025"),
    ],
)
def test_a_moment_says_the_day_only_where_it_is_not_today(then, expected):
    assert moment(then.timestamp(), NOW) == expected


def test_a_moment_is_in_the_readers_time_zone():
    here = timezone(timedelta(hours=5, minutes=30))
    then = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
    assert moment(then.timestamp(), NOW.astimezone(here)) == "01:30:00"


def test_no_moment_is_nothing():
    assert moment(None, NOW) == ""
