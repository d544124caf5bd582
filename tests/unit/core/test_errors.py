import builtins
import inspect
import re

import pytest

from modelyard.core import errors

CLASSES = {
    name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, Exception)
}


def drawn_tree():
    """Yield each error that the module's docstring draws: its name, its parent, its built-in type."""
    parents = {}
    for line in errors.__doc__.splitlines():
        if match := re.match(r"([ │├└─]{4,})(\w+Error)(?: \((\w+)\))?", line):
            depth = len(match[1])
            parents[depth] = match[2]
            yield match[2], parents.get(depth - 4), match[3]


def test_the_drawn_tree_has_every_error():
    assert sorted(name for name, _, _ in drawn_tree()) == sorted(CLASSES)


@pytest.mark.parametrize(("name", "parent", "builtin"), list(drawn_tree()))
def test_an_error_is_where_the_tree_draws_it(name, parent, builtin):
    drawn = [CLASSES[parent]] if parent else [Exception]
    drawn += [getattr(builtins, builtin)] if builtin else []
    assert list(CLASSES[name].__bases__) == drawn


@pytest.mark.parametrize("cls", list(CLASSES.values()))
def test_an_error_says_what_it_means(cls):
    assert inspect.getdoc(cls).partition("\n")[0].endswith(".")


def test_a_failed_job_says_which_and_why():
    error = errors.JobFailedError("digits-1", "exit status 1", "see job.log")
    assert str(error) == "training job 'digits-1' failed: exit status 1\nsee job.log"
    assert (error.job_name, error.reason) == ("digits-1", "exit status 1")
    assert str(errors.JobStoppedError("digits-1", "interrupted")).endswith("was stopped: interrupted")


def test_a_failed_endpoint_says_which_and_why():
    error = errors.EndpointFailedError("digits-1", "no model_fn")
    assert str(error) == "endpoint 'digits-1' failed: no model_fn"
    assert (error.endpoint_name, error.reason) == ("digits-1", "no model_fn")


def test_a_failed_invocation_has_the_status():
    error = errors.InvocationError("digits-1", 415, "no codec", "send JSON")
    assert str(error) == "endpoint 'digits-1' answered 415: no codec\nsend JSON"
    assert (error.endpoint_name, error.status, error.message) == ("digits-1", 415, "no codec")


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("jsno", ["json", "csv"], "; did you mean 'json'? Known: csv, json"),
        ("parquet", ["json", "csv"], ". Known: csv, json"),
        ("json", [], ". Known: none"),
    ],
)
def test_a_suggestion_is_close_or_absent(name, known, hint):
    assert errors.did_you_mean(name, known) == hint


@pytest.mark.parametrize(
    ("error", "said", "expected"),
    [
        (errors.InvalidPlanError("there is no port 70000"), "there is no port 70000", True),
        (FileNotFoundError(2, "No such file", "model"), "[Errno 2] No such file: 'model'", True),
        (KeyError("weight"), "KeyError: 'weight'", False),
        (ValueError("no weights"), "ValueError: no weights", False),
    ],
)
def test_what_is_said_of_an_error(error, said, expected):
    assert errors.said(error) == said
    assert errors.is_expected(error) is expected
