import sys
from pathlib import Path

import pytest

from modelyard.core.layout import JobLayout
from modelyard.core.namespaces import Mount, Room
from modelyard.plugins.backends.local import rooms

LAYOUT = JobLayout(Path("/jobs/j/algo-1"))


def test_a_job_that_needs_nothing_has_an_empty_room():
    assert rooms.furnished(LAYOUT, opt_ml=False) == Room()


def test_data_is_in_place_before_the_job_is_shown_at_opt_ml():
    data = {LAYOUT.channel("train"): Path("/data/train")}
    assert rooms.furnished(LAYOUT, opt_ml=True, hosts=Path("/jobs/j/hosts"), data=data).mounts == (
        Mount("/data/train", "/jobs/j/algo-1/input/data/train", read_only=True),
        Mount("/jobs/j/hosts", "/etc/hosts", read_only=True),
        Mount("/jobs/j/algo-1", "/opt/ml"),
    )


@pytest.mark.parametrize(
    ("original", "left"),
    [
        ("127.0.0.1 localhost\n# a comment\n\n", ["127.0.0.1 localhost", "# a comment"]),
        ("10.0.0.7 algo-1 # old\n10.0.0.8  machine\talgo-2 # new", ["10.0.0.8 machine # new"]),
        ("10.0.0.7 algo-10 my-algo-1\n", ["10.0.0.7 algo-10 my-algo-1"]),
        ("10.0.0.7 x # algo-1\n", ["10.0.0.7 x # algo-1"]),
    ],
)
def test_the_hosts_of_a_job_win_over_what_the_machine_says(original, left):
    addresses = {"algo-1": "127.3.7.1", "algo-2": "127.3.7.2"}
    text = rooms.hosts_file(addresses, original)
    assert text.splitlines() == ["127.3.7.1 algo-1", "127.3.7.2 algo-2", *left]


def test_a_home_below_opt_ml_is_refused():
    why = rooms.unavailable(Path("/opt/ml/home"))
    assert why.startswith("'/opt/ml/home' is itself below /opt/ml, and would be covered; set MODELYARD_HOME")


@pytest.mark.skipif(sys.platform == "linux", reason="Linux has them")
def test_elsewhere_than_on_linux_there_are_no_rooms(tmp_path):
    assert rooms.unavailable(tmp_path).endswith("mount namespaces are a feature of Linux")
