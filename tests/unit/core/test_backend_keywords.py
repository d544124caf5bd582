"""Keywords that only some backends have a use for."""

import logging
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from modelyard.core.backend_keywords import BackendKeywords, backend_options
from modelyard.core.errors import InvalidPlanError
from modelyard.core.hookspecs import hookimpl
from modelyard.core.plans import ProviderRef


def _even(_backend, attribute, value):
    if value % 2:
        raise InvalidPlanError(f"{attribute.name} must be even, not {value}")


@attrs.frozen
class CloudBackend:
    """A backend with options of its own."""

    name = "cloud"
    instance_types = ("cloud.*",)

    disk: int = attrs.field(default=2, validator=_even)
    labels: tuple = ()
    region: str | None = None

    def submit(self, plan, carrier, *, attached=True):
        raise NotImplementedError

    deploy = job = endpoint = submit


@pytest.fixture
def cloud(plugins):
    """The plugins, with a backend ``cloud`` that has the options disk, labels and region."""
    hooks = SimpleNamespace(modelyard_register_backends=hookimpl(lambda: [CloudBackend]))
    plugins.register(hooks, "cloud-plugin")
    return plugins


def keywords(plugins, quiet=None, **options):
    return BackendKeywords.of(plugins, options, called="Call", known={"entry_point"}, quiet=quiet)


def test_the_options_of_all_backends_are_known_with_those_that_have_them(cloud):
    options = backend_options(cloud)
    assert options["disk"] == ("cloud",)
    assert "local" in options["home"]


def test_what_the_backend_has_becomes_its_option(cloud):
    applied = keywords(cloud, disk=50, labels=["a"]).applied(ProviderRef("cloud", {"region": "here"}))
    assert applied == ProviderRef("cloud", {"region": "here", "disk": 50, "labels": ["a"]})
    assert cloud.backends.create(applied).disk == 50


def test_the_backend_checks_the_value_when_it_is_chosen(cloud):
    with pytest.raises(InvalidPlanError, match="disk must be even, not 3"):
        keywords(cloud, disk=3).applied(ProviderRef("cloud"))
    assert keywords(cloud, disk=3).applied(ProviderRef("local")) == ProviderRef("local")


def test_what_the_backend_has_not_is_noted_once_with_the_backend_that_has_it(cloud, caplog):
    given = keywords(cloud, disk=50, labels=["a"])
    with caplog.at_level(logging.WARNING, "modelyard"):
        assert given.applied(ProviderRef("local")) == ProviderRef("local")
        given.applied(ProviderRef("local"))
    (record,) = caplog.records
    assert record.getMessage() == ("the backend 'local' has no use for disk, labels (they are for 'cloud')")


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_what_asks_for_nothing_is_not_noted(cloud, value):
    assert keywords(cloud, disk=value).note(ProviderRef("local")) == ""


def test_what_no_backend_knows_is_a_typo(cloud):
    with pytest.raises(TypeError, match=r"^Call\(\) has no keyword 'dsk'; did you mean 'disk'"):
        keywords(cloud, dsk=50)
    with pytest.raises(TypeError, match="no keyword 'entrypoint'; did you mean 'entry_point'"):
        keywords(cloud, entrypoint="x")


def test_a_keyword_and_the_reference_to_the_backend_must_agree(cloud):
    same = ProviderRef("cloud", {"disk": 50})
    assert keywords(cloud, disk=50).applied(same).options == {"disk": 50}
    with pytest.raises(InvalidPlanError, match="was given disk=50, and the keyword disk is 60"):
        keywords(cloud, disk=60).applied(same)


def test_a_later_call_wins(cloud):
    merged = keywords(cloud, disk=2, region="here").merged(keywords(cloud, disk=4))
    assert merged.applied(ProviderRef("cloud")).options == {"disk": 4, "region": "here"}


def test_what_is_quiet_is_handed_on_or_dropped_without_a_word(cloud):
    given = keywords(cloud, quiet={"region": "here", "profile": "mine"})
    assert given.applied(ProviderRef("cloud")).options == {"region": "here"}
    assert given.applied(ProviderRef("local")) == ProviderRef("local")
    assert given.note(ProviderRef("local")) == ""
    # What the reference says is said more exactly.
    assert given.applied(ProviderRef("cloud", {"region": "there"})).options == {"region": "there"}


class Request:
    """An object of SDK v2's."""

    def _to_request_dict(self):
        return {"S3OutputPath": "s3://bucket", "Depth": [1]}


@attrs.frozen
class Pair:
    key: str
    value: Path


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (("a", "b"), ["a", "b"]),
        (Path("/x"), "/x"),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
        (Request(), {"S3OutputPath": "s3://bucket", "Depth": [1]}),
        ([Pair("k", "v")], [{"key": "k", "value": "v"}]),
    ],
)
def test_values_are_kept_as_json_knows_them(cloud, value, plain):
    applied = keywords(cloud, labels=value).applied(ProviderRef("cloud"))
    assert keywords(cloud, labels=value).given == {"labels": plain}
    assert ProviderRef.from_json(applied.to_json()).to_json() == applied.to_json()


@pytest.mark.parametrize("value", [object(), {1: 2}, [b"x"], {"a": {1, 2}}])
def test_values_that_a_plan_cannot_carry(cloud, value):
    with pytest.raises(InvalidPlanError, match="labels is a .*, which a plan cannot carry"):
        keywords(cloud, labels=value)
