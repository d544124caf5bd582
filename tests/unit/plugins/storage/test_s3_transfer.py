"""Transfers on several threads, without a service."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from modelyard.plugins.storage.s3_transfer import Means


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.fixture
def means():
    return Means(bucket=None, part_size=1, concurrency=1, attempts=1)


def test_what_ended_with_an_error_may_be_tried_again(means):
    with pytest.raises(ZeroDivisionError):
        means.run([lambda: 1 / 0])
    means.run([means.go_on])


def test_no_thread_goes_on_after_a_second_ctrl_c(means, monkeypatch):
    """It comes while the threads are waited for, which have been told to stop by the first."""
    monkeypatch.setattr(ThreadPoolExecutor, "__exit__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        means.run([interrupted])
    assert means.stop.is_set()
