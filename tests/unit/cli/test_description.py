"""A job's description, for people and for programs."""

import json
import math
from datetime import UTC, datetime

import attrs
import pytest

from modelyard.cli.description import as_json, for_people, seconds_of
from modelyard.cli.terminal import Terminal
from modelyard.core.contracts import JobDescription, Metric
from modelyard.core.plans import JobStatus, ProviderRef, SourceCode, TrainingPlan

CREATED = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC).timestamp()
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

PLAN = TrainingPlan(
    "first",
    SourceCode("train.py"),
    backend=ProviderRef("local"),
    hardware=ProviderRef("cpu"),
    launcher=ProviderRef("process"),
    packager=ProviderRef("tarball"),
    environment={"MY_TOKEN": "hunter2"},
)
FAILED = JobDescription(
    "first",
    JobStatus.FAILED,
    PLAN,
    reason="train.py exited with code 1: ValueError: bad batch 17\nthe second line\n",
    source_data="file:///jobs/first/sourcedir.tar.gz",
    log="/jobs/first/log.txt",
    created=CREATED,
    ended=CREATED + 75,
)
METRICS = (
    Metric("loss", 2.0, CREATED + 1, "algo-1"),
    Metric("accuracy", 0.5, CREATED + 1, "algo-1"),
    Metric("loss", 1.0, CREATED + 21, "algo-1"),
)

SHOWN = """\
training job first: Failed
  started           10:00:00
  ended             10:01:15
  duration          1 min 15 s
  reason            train.py exited with code 1: ValueError: bad batch 17
                    the second line
  log               /jobs/first/log.txt
  source archive    file:///jobs/first/sourcedir.tar.gz

training plan first
  source            entry_point=train.py
  backend           local
  hardware          cpu
  launcher          process
  packager          tarball
  resources         instance_type=local, instance_count=1
  environment       MY_TOKEN = "********"

loss  last 1  min 1  max 2  (2 values)
  2 +***
    |   ****
    |       ****
    |           ****
  1 +               ***
    +------------------
     1 s           21 s

accuracy  last 0.5  (1 value)"""


def test_a_job_is_shown_with_its_plan_and_its_metrics():
    assert for_people(FAILED, METRICS, Terminal(23, unicode=False), NOW) == SHOWN


@pytest.mark.parametrize(
    ("status", "colour"), [(JobStatus.FAILED, 31), (JobStatus.COMPLETED, 32), (JobStatus.STOPPING, 33)]
)
def test_the_state_has_a_colour(status, colour):
    shown = for_people(attrs.evolve(FAILED, status=status), (), Terminal(colour=True), NOW)
    assert shown.splitlines()[0] == f"training job first: \x1b[{colour}m{status}\x1b[0m"


def test_what_the_backend_does_not_tell_is_not_shown():
    bare = JobDescription("first", JobStatus.IN_PROGRESS, PLAN)
    assert for_people(bare, (), Terminal(), NOW).startswith("training job first: InProgress\n\ntraining plan")


def test_programs_get_everything_but_secrets():
    shown = json.loads(as_json(FAILED, METRICS))
    assert (shown["name"], shown["status"], shown["created"]) == ("first", "Failed", CREATED)
    assert shown["plan"]["source"]["entry_point"] == "train.py"
    assert shown["plan"]["environment"] == {"MY_TOKEN": "********"}
    assert shown["metrics"][1] == {"name": "accuracy", "value": 0.5, "time": CREATED + 1, "host": "algo-1"}
    assert "metrics" not in json.loads(as_json(FAILED))


def test_a_value_that_is_no_number_is_null_for_programs():
    metrics = [Metric("loss", value, CREATED, "algo-1") for value in (math.nan, math.inf, 1.0)]
    assert [metric["value"] for metric in json.loads(as_json(FAILED, metrics))["metrics"]] == [
        None,
        None,
        1.0,
    ]


def test_how_long_a_job_took():
    assert seconds_of(FAILED) == 75
    assert seconds_of(attrs.evolve(FAILED, ended=None)) is None
    assert seconds_of(attrs.evolve(FAILED, created=None)) is None
    running = attrs.evolve(FAILED, status=JobStatus.IN_PROGRESS, ended=None)
    assert seconds_of(running) >= 0
    assert seconds_of(attrs.evolve(running, created=1e12)) == 0  # The clock was set back.
