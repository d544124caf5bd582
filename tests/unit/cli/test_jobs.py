"""``modelyard jobs`` and the commands for one job, with backends that can little and much."""

import json

import pytest

from modelyard.cli import main

PLUGIN = """
from modelyard import hookimpl
from modelyard.core.contracts import JobDescription
from modelyard.core.errors import JobNotFoundError
from modelyard.core.plans import JobStatus, ProviderRef, Resources, SourceCode, TrainingPlan


def described(name, status, number, reason=""):
    refs = (ProviderRef(kind) for kind in ("plain", "cpu", "process", "tarball"))
    plan = TrainingPlan(name, SourceCode("train.py"), *refs, resources=Resources("local", number))
    return JobDescription(name, status, plan, reason)


JOBS = [
    described("alpha", JobStatus.COMPLETED, 1),
    described("beta", JobStatus.FAILED, 2, "ValueError:\\n  bad batch 17 " + "x" * 100),
    described("gamma", JobStatus.IN_PROGRESS, 3),
]


class Job:
    def __init__(self, description):
        self.name = description.name
        self.describe = lambda: description


class PlainBackend:
    name = "plain"
    instance_types = ("plain",)

    def job(self, name):
        for job in JOBS:
            if job.name == name:
                return Job(job)
        raise JobNotFoundError(f"no job {name!r}")

    submit = deploy = endpoint = None


class KnowingBackend(PlainBackend):
    name = "knowing"

    def jobs(self):
        return iter(JOBS)


class EmptyBackend(PlainBackend):
    name = "empty"

    def jobs(self):
        return ()


@hookimpl
def modelyard_register_backends():
    return [PlainBackend, KnowingBackend, EmptyBackend]
"""

TABLE = """\
NAME   STATUS      HOSTS  ENTRY POINT
gamma  InProgress  3      train.py
beta   Failed      2      train.py
  ValueError: bad batch 17 {x}
alpha  Completed   1      train.py
"""


@pytest.fixture(autouse=True)
def backends(installed):
    installed("third-party", PLUGIN)


def said(capsys, *arguments, status=0):
    """Return what a command says on stdout, or on stderr where it fails."""
    assert main(list(arguments)) == status
    out, err = capsys.readouterr()
    assert not (out if status else err)
    return err if status else out


def test_the_newest_job_comes_first_and_reasons_are_on_one_line(capsys):
    assert said(capsys, "jobs", "--backend", "knowing") == TABLE.format(x="x" * 100)


def test_only_so_many_are_shown_and_it_is_said_that_there_are_more(capsys):
    lines = said(capsys, "jobs", "--backend", "knowing", "--limit", "1").splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "gamma", "and"]
    assert lines[-1] == "and 2 older ones: modelyard jobs --limit 0 shows all"


@pytest.mark.parametrize("status", ["Failed", "failed", "FAILED"])
def test_only_those_of_a_state(capsys, status):
    shown = json.loads(said(capsys, "jobs", "--backend", "knowing", "--status", status, "--json"))
    assert [job["name"] for job in shown] == ["beta"]


@pytest.mark.parametrize(("limit", "names"), [("2", ["gamma", "beta"]), ("0", ["gamma", "beta", "alpha"])])
def test_programs_get_a_list(capsys, limit, names):
    shown = json.loads(said(capsys, "jobs", "--backend", "knowing", "--limit", limit, "--json"))
    assert [job["name"] for job in shown] == names


def test_no_jobs_is_said_with_the_way_to_one(capsys):
    expected = "there are no training jobs; start one with: modelyard fit train.py\n"
    assert said(capsys, "jobs", "--backend", "empty") == expected
    assert said(capsys, "jobs", "--backend", "empty", "--status", "Failed").startswith(
        "there are no training jobs that are Failed; "
    )
    assert said(capsys, "jobs", "--backend", "empty", "--json") == "[]\n"


def test_a_backend_that_does_not_list_its_jobs_is_named(capsys):
    expected = "modelyard: the backend 'plain' does not list its jobs; modelyard jobs show NAME shows one\n"
    assert said(capsys, "jobs", "--backend", "plain", status=1) == expected


def test_a_job_without_metrics_is_shown(capsys):
    assert said(capsys, "jobs", "show", "alpha", "--backend", "plain").startswith(
        "training job alpha: Completed\n"
    )
    assert json.loads(said(capsys, "jobs", "show", "alpha", "--backend", "plain", "--json"))["metrics"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "--backend", "plain", "--json", "show", "beta"),
        ("jobs", "show", "beta", "--backend=plain", "--json"),
    ],
)
def test_options_count_before_and_after_show(capsys, arguments):
    assert json.loads(said(capsys, *arguments))["name"] == "beta"


def test_a_job_that_cannot_be_interrupted_says_what_can_be_done(capsys):
    assert said(capsys, "interrupt", "gamma", "--backend", "plain", status=1) == (
        "modelyard: the backend 'plain' cannot interrupt a job and start it again; "
        "to end it: modelyard stop gamma\n"
    )


def test_stopping_a_job_that_has_ended_is_done_already(capsys):
    expected = "training job alpha has ended already: Completed\n"
    assert said(capsys, "stop", "alpha", "--backend", "plain") == expected


@pytest.mark.parametrize("command", [("logs",), ("stop",), ("interrupt",), ("jobs", "show")])
def test_the_name_that_was_meant_is_suggested_where_it_is_known(capsys, command):
    plain = said(capsys, *command, "gama", "--backend", "plain", status=1)
    assert plain == "modelyard: no job 'gama'\n"
    knowing = said(capsys, *command, "gama", "--backend", "knowing", status=1)
    assert knowing == "modelyard: no job 'gama'; did you mean 'gamma'?\n"


@pytest.mark.parametrize("command", [("jobs",), ("jobs", "show", "x"), ("logs", "x"), ("stop", "x")])
def test_a_backend_that_there_is_not_is_named(capsys, command):
    assert "no backend is called 'knowin'; did you mean 'knowing'?" in said(
        capsys, *command, "--backend", "knowin", status=1
    )
