"""``modelyard endpoints`` and the commands for endpoints, with backends that can little and much."""

import json

import pytest

from modelyard.cli import main

PLUGIN = """
from modelyard import hookimpl
from modelyard.core.contracts import EndpointDescription
from modelyard.core.errors import EndpointNotFoundError
from modelyard.core.plans import EndpointPlan, EndpointStatus, ModelSource, ProviderRef


def described(name, status, reason="", **more):
    refs = [ProviderRef(kind) for kind in ("plain", "cpu", "tarball")]
    model = ModelSource(f"file:///models/{name}.tar.gz")
    plan = EndpointPlan(name, model, *refs, environment={"MY_TOKEN": "hunter22"})
    return EndpointDescription(name, status, plan, reason, log=f"/logs/{name}.txt", **more)


REASON = "ValueError:\\n  bad weights " + "x" * 100
ENDPOINTS = [
    described("broken", EndpointStatus.FAILED, REASON, created=1.0, ended=4.5),
    described("alpha", EndpointStatus.DELETED, created=1.0, ended=100.0),
    described("alpha", EndpointStatus.IN_SERVICE, url="http://127.0.0.1:4000"),
    described("beta", EndpointStatus.CREATING),
]


class Endpoint:
    def __init__(self, description):
        self.name = description.name
        self.describe = lambda: description

    def logs(self, *, follow=False):
        yield "following" if follow else "so far"

    def delete(self):
        print("deleted", self.name)


class Reloadable(Endpoint):
    def reload(self):
        print("reloaded", self.name)


class PlainBackend:
    name = "plain"
    instance_types = ("plain",)
    handle = Endpoint

    def endpoint(self, name):
        for endpoint in ENDPOINTS:
            if endpoint.name == name and not endpoint.status.is_terminal:
                return self.handle(endpoint)
        raise EndpointNotFoundError(f"no endpoint {name!r}")

    submit = deploy = job = None


class KnowingBackend(PlainBackend):
    name = "knowing"
    handle = Reloadable

    def endpoints(self):
        return iter(ENDPOINTS)


class EmptyBackend(PlainBackend):
    name = "empty"

    def endpoints(self):
        return ()


@hookimpl
def modelyard_register_backends():
    return [PlainBackend, KnowingBackend, EmptyBackend]
"""

LIVE = """\
NAME   STATUS     URL                    MODEL
beta   Creating                          /models/beta.tar.gz
alpha  InService  http://127.0.0.1:4000  /models/alpha.tar.gz
"""


@pytest.fixture(autouse=True)
def backends(installed):
    installed("of-endpoints", PLUGIN)


def said(capsys, *arguments, status=0, backend="knowing"):
    """Return what a command says on stdout, or on stderr where it fails."""
    assert main([*arguments, "--backend", backend]) == status
    out, err = capsys.readouterr()
    assert not (out if status else err)
    return err if status else out


def names(text):
    return [endpoint["name"] for endpoint in json.loads(text)]


def test_live_endpoints_are_listed_the_newest_first(capsys):
    assert said(capsys, "endpoints") == LIVE


def test_those_that_have_ended_are_listed_where_they_are_asked_for(capsys):
    lines = said(capsys, "endpoints", "--all").splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["beta", "Creating"],
        ["alpha", "InService"],
        ["alpha", "Deleted"],
    ]
    assert lines[4].split()[:2] == ["broken", "Failed"]
    assert lines[5] == "  ValueError: bad weights " + "x" * 100
    assert len(lines) == 6


@pytest.mark.parametrize("status", ["Failed", "failed"])
def test_only_those_of_a_state(capsys, status):
    assert names(said(capsys, "endpoints", "--json", "--status", status)) == ["broken"]


def test_only_so_many_are_shown_and_it_is_said_that_there_are_more(capsys):
    lines = said(capsys, "endpoints", "--all", "--limit", "1").splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "beta", "and"]
    assert lines[-1] == "and 3 older ones: modelyard endpoints --limit 0 shows all"


def test_programs_get_descriptions_without_secrets(capsys):
    shown = said(capsys, "endpoints", "--json", "--all", "--limit", "0")
    assert names(shown) == ["beta", "alpha", "alpha", "broken"]
    assert "hunter22" not in shown
    assert json.loads(shown)[1]["url"] == "http://127.0.0.1:4000"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "there are no live endpoints; modelyard endpoints --all shows those that have ended\n"),
        (("--all",), "there are no endpoints, and there were none\n"),
        (("--status", "failed"), "there are no endpoints that are Failed\n"),
        (("--json",), "[]\n"),
    ],
)
def test_no_endpoints_is_said(capsys, options, expected):
    assert said(capsys, "endpoints", *options, backend="empty") == expected


def test_a_backend_that_does_not_list_its_endpoints_is_named(capsys):
    assert said(capsys, "endpoints", backend="plain", status=1) == (
        "modelyard: the backend 'plain' does not list its endpoints; "
        "modelyard endpoints show NAME shows one\n"
    )


@pytest.mark.parametrize("backend", ["plain", "knowing"])
def test_a_live_endpoint_is_shown_with_its_address_and_plan(capsys, backend):
    shown = said(capsys, "endpoints", "show", "alpha", backend=backend)
    assert shown.startswith("endpoint alpha: InService\n")
    assert "  try it at         http://127.0.0.1:4000/docs\n" in shown
    assert "  model             uri=file:///models/alpha.tar.gz\n" in shown
    assert "hunter22" not in shown


def test_an_endpoint_that_has_failed_is_shown_with_its_reason_in_full(capsys):
    lines = said(capsys, "endpoints", "show", "broken").splitlines()
    assert "  duration          3.5 s" in lines
    assert f"                      bad weights {'x' * 100}" in lines
    assert "  log               /logs/broken.txt" in lines
    assert json.loads(said(capsys, "endpoints", "show", "broken", "--json"))["status"] == "Failed"


@pytest.mark.parametrize(("options", "line"), [((), "so far\n"), (("-f",), "following\n")])
def test_logs(capsys, options, line):
    assert said(capsys, "endpoints", "logs", "alpha", *options) == line


def test_options_count_before_and_after_the_command_within(capsys):
    assert main(["endpoints", "--backend", "knowing", "--json", "show", "beta"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "beta"
    assert main(["endpoints", "--backend", "knowing", "logs", "beta"]) == 0
    assert capsys.readouterr().out == "so far\n"


def test_several_endpoints_are_deleted_each_once(capsys):
    assert said(capsys, "delete-endpoint", "beta", "alpha", "beta").splitlines() == [
        "endpoint beta: deleting",
        "deleted beta",
        "endpoint beta: deleted",
        "endpoint alpha: deleting",
        "deleted alpha",
        "endpoint alpha: deleted",
    ]


@pytest.mark.parametrize("command", ["delete-endpoint", "reload"])
def test_nothing_is_done_where_one_of_the_names_is_wrong(capsys, command):
    assert said(capsys, command, "alpha", "bta", status=1) == (
        "modelyard: no endpoint 'bta'; did you mean 'beta'?\n"
    )


def test_a_reload_says_how_to_follow_it(capsys):
    assert said(capsys, "reload", "alpha").splitlines() == [
        "reloaded alpha",
        "endpoint alpha: loading its model anew; the old one answers meanwhile",
        "follow it with: modelyard endpoints logs alpha --follow",
    ]


def test_an_endpoint_that_cannot_load_anew_says_what_can_be_done(capsys):
    assert said(capsys, "reload", "alpha", backend="plain", status=1) == (
        "modelyard: the backend 'plain' cannot load an endpoint's model anew; deploy another one\n"
    )


@pytest.mark.parametrize("command", [("delete-endpoint",), ("reload",), ("endpoints", "logs")])
def test_the_log_of_an_endpoint_that_has_failed_is_named(capsys, command):
    assert said(capsys, *command, "broken", status=1) == (
        "modelyard: no endpoint 'broken'\nIts log is /logs/broken.txt\n"
    )


@pytest.mark.parametrize(
    "command",
    [
        "endpoints show alpa",
        "endpoints logs alpa",
        "delete-endpoint alpa",
        "reload alpa",
        "predict alpa a.csv",
    ],
)
def test_the_name_that_was_meant_is_suggested_where_it_is_known(capsys, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"1")
    plain = said(capsys, *command.split(), status=1, backend="plain")
    assert plain == "modelyard: no endpoint 'alpa'\n"
    knowing = said(capsys, *command.split(), status=1)
    assert knowing == "modelyard: no endpoint 'alpa'; did you mean 'alpha'?\n"
