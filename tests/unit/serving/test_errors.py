import gc
import logging
import weakref

import pytest

from modelyard.core.http import Request
from modelyard.serving.errors import FailedError, Source, answering


class Large:
    pass


def model(made):
    large = Large()
    made.append(weakref.ref(large))
    raise KeyError("none")


def codec(made):
    try:
        model(made)
    except KeyError as error:
        raise FailedError(Source("the codec")) from error


@pytest.mark.parametrize("failing", [model, codec])
def test_what_a_failed_request_held_goes_with_it_before_any_collection(failing, monkeypatch):
    """It may be half of a GPU's memory."""
    monkeypatch.setattr(
        logging.getLogger("modelyard.serving.errors"), "disabled", True
    )  # pytest keeps records.
    made = []
    gc.disable()
    try:
        assert answering(lambda _: failing(made))(Request(b"")).status == 500
        assert made[0]() is None
    finally:
        gc.enable()
