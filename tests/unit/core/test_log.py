import io
import logging
import subprocess
import sys

import pytest

from modelyard.core.log import configure, get_logger

NAME = "modelyard.somewhere"


@pytest.fixture
def root():
    """Give modelyard's logger back as it was."""
    logger = logging.getLogger("modelyard")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


def last_line(stream):
    return stream.getvalue().splitlines()[-1]


def test_an_event_and_its_fields_are_one_line(caplog):
    get_logger(NAME).warning("plugin failed", plugin="acme", error="it's 100% gone", count=3)
    (record,) = caplog.records
    assert record.name == NAME
    assert record.levelname == "WARNING"
    assert record.getMessage() == """plugin failed plugin='acme' error="it's 100% gone" count=3"""


def test_an_event_may_hold_a_percent_sign(caplog):
    get_logger(NAME).error("100%s", of="it")
    assert caplog.records[0].getMessage() == "100%s of='it'"


def test_a_newline_in_a_field_does_not_break_the_line(caplog):
    get_logger(NAME).warning("failed", reason="a\nb")
    assert "\n" not in caplog.records[0].getMessage()


def test_an_exception_comes_with_its_trace(caplog):
    try:
        1 / 0  # noqa: B018 - raised on purpose
    except ZeroDivisionError:
        get_logger(NAME).error("failed", exc_info=True)
    message = caplog.records[0].getMessage()
    assert message.startswith("failed\nTraceback")
    assert message.endswith("ZeroDivisionError: division by zero")


def test_what_the_level_hides_is_not_logged(root):
    stream = io.StringIO()
    configure(stream, "WARNING")
    get_logger(NAME).info("hidden")
    get_logger(NAME).warning("shown")
    assert last_line(stream).endswith("WARNING modelyard.somewhere shown")
    assert "hidden" not in stream.getvalue()


def test_configuring_twice_does_not_double_the_lines(root):
    stream = io.StringIO()
    configure(stream)
    configure(stream)
    get_logger(NAME).info("once")
    assert stream.getvalue().count("once") == 1


def test_a_library_says_nothing_until_it_is_told_to():
    program = "from modelyard.core.log import get_logger; get_logger('modelyard.x').error('unheard')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_getting_a_logger_imports_neither_structlog_nor_logging():
    program = (
        "import sys, modelyard.core.log as log; log.get_logger('x'); log.configure(); "
        "assert not {'structlog', 'logging'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
