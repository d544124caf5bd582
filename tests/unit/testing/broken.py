"""What the tests of all contracts have in common: promises, and tests that must fail."""

import inspect

import pytest

from modelyard.core.errors import ModelyardError


def promises(contract):
    """Return the names of a contract's tests, inherited ones too."""
    return {name for name in dir(contract) if name.startswith("test_")}


def failure(test, *args, **arguments):
    """Return what a test says that fails, None for one that passes or is skipped."""
    try:
        test(*args, **arguments)
    except pytest.skip.Exception:
        return None
    except (AssertionError, ModelyardError) as error:
        return str(error)
    return None


def breaks(test, *args, **arguments):
    """Return what a test says that must fail."""
    said = failure(test, *args, **arguments)
    assert said is not None, f"{test.__name__} does not fail"
    return said


def cases_of(test):
    """Yield the arguments of each run of a test that is parametrized by one name; one of none else."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    if not marks:
        yield {}
    for mark in marks:
        name, values = mark.args
        yield from ({name: value} for value in values)


def failing(contract, given, *, but=()):
    """Return the names of the tests of a contract's instance that fail, with the fixtures that are `given`.

    Those that raise anything else fail too, as under pytest. `given`: makes a fixture by its name.
    """
    return {name for name in promises(contract) - {*but} if _fails(getattr(contract, name), given)}


def _fails(test, given):
    for case in cases_of(test):
        names = [name for name in inspect.signature(test).parameters if name not in case]
        try:
            if failure(test, **{name: given[name]() for name in names}, **case) is not None:
                return True
        except Exception:  # noqa: BLE001 - a test that raises fails
            return True
    return False
