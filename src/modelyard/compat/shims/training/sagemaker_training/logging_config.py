"""Logging as the toolkit sets it up."""

import logging

from sagemaker_training import _lacking

__getattr__ = _lacking.attribute_of(__name__)


def get_logger() -> logging.Logger:
    """Return the toolkit's logger."""
    return logging.getLogger("sagemaker-training-toolkit")


def configure_logger(
    level: int, log_format: str = "%(asctime)s %(name)-12s %(levelname)-8s %(message)s"
) -> None:
    """Log everything from `level` on, in the toolkit's format."""
    logging.basicConfig(format=log_format, level=level)
