"""torchrun's report, in its words. What it really says: tests/integration/test_torchrun.py."""

import signal

import pytest

from modelyard.core.contracts import RankFailure
from modelyard.plugins.launchers.torchrun_report import first_failure

ENTRY = """[{index}]:
  time      : 2026-01-01_00:00:{second:02}
  host      : algo-1
  rank      : {rank} (local_rank: {rank})
  exitcode  : {status} (pid: 4711) {signal}
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
"""


def report(root, *others):
    """Return a report of (rank, status) or (rank, status, second), the root cause first."""
    texts = [entry(index, *failure) for index, failure in enumerate((root, *others))]
    rest = "".join(texts[1:]) or "  <NO_OTHER_FAILURES>\n"
    lines = "-" * 60 + "\n"
    return (
        f"some.module.ChildFailedError: \n{'=' * 60}\n/bin/sh FAILED\n{lines}Failures:\n{rest}{lines}"
        f"Root Cause (first observed failure):\n{texts[0]}{'=' * 60}\n"
    )


def entry(index, rank, status, second=0):
    name = f" ({signal.Signals(-status).name})" if status < 0 else ""
    return ENTRY.format(index=index, second=second, rank=rank, status=status, signal=name)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (report((3, 7)), RankFailure(3, 7)),
        (report((1, 1), (0, -15)), RankFailure(1, 1)),
        (report((0, -15), (1, 1)), RankFailure(1, 1)),
        (report((1, -15), (0, -15)), RankFailure(1, -15)),
        (report((0, 1), (1, -9)), RankFailure(1, -9)),
        (report((0, -6), (1, -11)), RankFailure(1, -11)),
        (report((0, 1), (1, -9, 30)), RankFailure(0, 1)),
        (report((1, 1, 9), (0, 1, 10)), RankFailure(1, 1)),
        (report((0, 2), (1, 2)), RankFailure(0, 2)),
        (report((0, -9), (1, -9)), RankFailure(0, -9)),
    ],
    ids=[
        "one",
        "the other was told to end",
        "the root cause was told to end",
        "all were told to end",
        "the other was killed and this one lost it",
        "the other crashed and this one aborted",
        "the other had to be killed later",
        "the other came later",
        "all for what none of them knows",
        "all were killed",
    ],
)
def test_the_first_failure_is_found(text, first):
    assert first_failure(text) == first


@pytest.mark.parametrize(
    "text",
    ["", "ValueError: bad batch 17\n", report((0, 1), (1, 1)), report((0, 2), (1, 3))],
    ids=["nothing", "no report", "two raised", "two ended in their own ways"],
)
def test_what_does_not_tell_is_none(text):
    assert first_failure(text) is None


def test_the_last_report_counts():
    assert first_failure(report((0, 3)) + "retried\n" + report((2, 4))) == RankFailure(2, 4)
