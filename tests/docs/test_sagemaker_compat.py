"""The page about code for SageMaker's SDK says what is so."""

import inspect
import re
import warnings
from importlib import import_module
from pathlib import Path

import pytest
from tests.docs.sagemaker_page import PAGE, page
from tests.docs.sagemaker_rows import DIFFERS, REFUSED, SAID_ONLY, SECTIONS, WORKS

from modelyard.compat.names import RENAMED, WITHOUT_EFFECT
from modelyard.core.backend_keywords import backend_options
from modelyard.core.keywords import keywords_of

TESTS = Path(__file__).parents[1]
ROWS = [row for rows in SECTIONS.values() for row in rows]
NAMES = sorted({name for row in ROWS for name in row.names})
SHOWN = sorted({shown for row in ROWS for shown in row.shown})
NAME = re.compile(r"([\w.]+):([\w.]+)(?:\((\w+)\))?")


def found(name):
    """Return what a name of the table is, and its parameter."""
    module, path, parameter = NAME.fullmatch(name).groups()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        value = import_module(module)
        for part in path.split("."):
            value = getattr(value, part)
    return value, parameter


def taken_by(value):
    """Return the keywords that a function takes, or a class when it is made, its parents' included."""
    if not inspect.isclass(value):
        return keywords_of(value)
    makers = [vars(cls)["__init__"] for cls in value.__mro__[:-1] if "__init__" in vars(cls)]
    return frozenset().union(*map(keywords_of, makers))


def test_the_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == page(), "python -m tests.docs.sagemaker_page writes it"


def test_there_is_a_line_for_each_of_the_documentation():
    assert len(ROWS) == 89
    assert {row.status for row in ROWS} == {WORKS, DIFFERS, REFUSED}


@pytest.mark.parametrize("name", NAMES)
def test_each_name_exists(name, plugins):
    value, parameter = found(name)
    if parameter and parameter not in WITHOUT_EFFECT:
        known = taken_by(value) | set(backend_options(plugins))
        assert RENAMED.get(parameter, parameter) in known


@pytest.mark.parametrize("shown", SHOWN)
def test_each_test_exists(shown):
    file, _, test = shown.partition("::")
    assert f"\ndef {test}(" in (TESTS / file).read_text("utf-8")


@pytest.mark.parametrize("row", [row for row in ROWS if row.status is not WORKS], ids=lambda row: row.feature)
def test_what_differs_or_is_refused_says_why(row):
    assert row.said.endswith(".")


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.status is not REFUSED], ids=lambda row: row.feature
)
def test_what_works_is_shown_by_a_test(row):
    assert row.shown


def test_what_the_documentation_calls_is_called_by_the_tests_of_its_pages():
    by_seeds = {row.feature for row in ROWS if any(shown.startswith("seeds/") for shown in row.shown)}
    assert by_seeds | SAID_ONLY == {row.feature for row in ROWS}
    assert not by_seeds & SAID_ONLY
