"""``modelyard train``: the in-job program, for containers and hosts."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelyard.cli.parser import Commands


def add_to(commands: "Commands") -> None:
    """Add the command to the parser of ``modelyard``."""
    parser = commands.add_parser(
        "train",
        help="the program inside a job: what a container or a host runs",
        description=(
            "Run the job that is described below SAGEMAKER_BASE_DIR (default: /opt/ml) on this host,\n"
            "and end with the script's exit code. To start a job, use modelyard fit."
        ),
    )
    parser.set_defaults(run=_run)


def _run(_options: argparse.Namespace) -> int:
    from modelyard.training.__main__ import main

    return main()
