import logging
import signal
from importlib.util import find_spec

import pytest
from hypothesis import settings

from modelyard.core import log

pytest_plugins = ["modelyard.testing.fixtures", "tests.model_server"]

# The same examples on every machine, and no example fails because the machine is slow.
settings.register_profile("modelyard", deadline=None, derandomize=True)
settings.load_profile("modelyard")


# A suite that runs in the background of a shell, or under nohup, has these ignored, and so would all
# programs that it starts.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

NEEDED = {"torch": "torch", "cuda": "modelyard.hardware.cuda"}
"""The module that the tests of a mark need."""


def pytest_collection_modifyitems(items):
    for mark, module in NEEDED.items():
        if find_spec(module) is None:
            for item in items:
                if item.get_closest_marker(mark):
                    item.add_marker(pytest.mark.skip(reason=f"{module} is not installed"))


@pytest.fixture(autouse=True)
def _logging_as_before():
    """Undo what a program that a test runs in this process does to its log."""
    logger = logging.getLogger("modelyard")
    program, handlers, level, propagate = log._program, logger.handlers[:], logger.level, logger.propagate
    yield
    log._program, logger.handlers[:], logger.propagate = program, handlers, propagate
    logger.setLevel(level)
