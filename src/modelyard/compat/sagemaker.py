"""``import sagemaker`` for a program that cannot be edited: importing this makes it mean modelyard.

::

    python -m modelyard.compat.sagemaker program.py --its arguments

runs such a program, and ``import modelyard.compat.sagemaker`` as the first line of one does the same.
Nothing else in modelyard imports this. Where the real package is installed it is an error, unless
``MODELYARD_COMPAT_SAGEMAKER=replace`` says that it is to be hidden, which is then said aloud.
"""

import os
import runpy
import sys

from modelyard.compat.stand_in import install


def _run_program(arguments: list[str]) -> None:
    """Run a program's file as Python itself would."""
    if not arguments:
        sys.exit("usage: python -m modelyard.compat.sagemaker PROGRAM.py [ARGUMENT ...]")
    sys.argv[:] = arguments
    sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))  # noqa: PTH100, PTH120 - as Python does it
    runpy.run_path(arguments[0], run_name="__main__")


install()

if __name__ == "__main__":
    _run_program(sys.argv[1:])
