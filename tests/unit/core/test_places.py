"""Where jobs and endpoints are looked for."""

from types import SimpleNamespace

import pytest

from modelyard.core.errors import EndpointNotFoundError, InvalidPlanError, JobNotFoundError, StorageError
from modelyard.core.hookspecs import hookimpl
from modelyard.core.manager import PluginManager
from modelyard.core.places import Place, found_anywhere, place_of
from modelyard.core.plans import ProviderRef


def backend(called, answer):
    class Known:
        name = called
        instance_types = (f"{called}.*",)

        def job(self, name):
            if isinstance(answer, Exception):
                raise answer
            return f"{name} of {called}"

        submit = deploy = endpoint = job

    return Known


@pytest.fixture
def places():
    """Make plugins with the local backend and others, each with its answer."""

    def make(**answers):
        plugins = PluginManager.discover(
            {"MODELYARD_PLUGINS_DISABLED": "backends", "MODELYARD_PLUGINS_AUTOLOAD": "0"}
        )
        classes = [backend(name, answer) for name, answer in answers.items()]
        plugins.register(SimpleNamespace(modelyard_register_backends=hookimpl(lambda: classes)), "places")
        return plugins

    return make


def job(plugins, asked=None):
    return found_anywhere(plugins, asked, lambda found: found.job("it"), JobNotFoundError)


def test_the_local_backend_is_asked_first(places):
    assert job(places(local=None, cloud=None)) == "it of local"


def test_what_the_first_has_not_is_looked_for_in_the_others(places):
    assert job(places(local=JobNotFoundError("not here"), cloud=None)) == "it of cloud"


def test_a_backend_that_was_asked_for_is_the_only_one(places):
    plugins = places(local=JobNotFoundError("not here"), cloud=None)
    assert job(plugins, "cloud") == "it of cloud"
    with pytest.raises(JobNotFoundError, match="^not here$"):
        job(plugins, ProviderRef("local"))


def test_where_nobody_has_it_everybody_is_quoted(places):
    plugins = places(
        local=JobNotFoundError("no job here"),
        cloud=JobNotFoundError("no job there"),
        other=StorageError("no credentials"),
    )
    with pytest.raises(JobNotFoundError) as raised:
        job(plugins)
    assert str(raised.value) == (
        "no job here; no job there; the backend 'other' was not asked: no credentials"
    )


def test_an_error_that_is_a_fault_is_raised(places):
    with pytest.raises(ZeroDivisionError):
        job(places(local=EndpointNotFoundError("x"), cloud=ZeroDivisionError()))


def test_a_session_says_where_it_is():
    place = Place(ProviderRef("cloud"))
    assert place_of(None) is None
    assert place_of(place) is place
    assert place_of(SimpleNamespace(place=place)) is place


def test_what_is_no_session_is_an_error():
    with pytest.raises(
        InvalidPlanError, match=r"sagemaker_session is a builtins.object; give a modelyard.Session"
    ):
        place_of(object())
