"""What ``modelyard fit`` takes."""

import argparse
import re
from typing import TYPE_CHECKING

from modelyard.cli.parser import Collect, Parser, json_pair, pair

if TYPE_CHECKING:
    from modelyard.cli.parser import Commands

_EXAMPLES = (
    "modelyard fit train.py --input train=data/ --hyperparameter epochs=3",
    "modelyard fit train.py --source-dir src --instance-count 2 --distribution torchrun",
    "modelyard fit -m package.train --source-dir src --no-wait",
)


def fit_parser(commands: "Commands") -> Parser:
    """Return the command's parser. Where it can, an option's ``dest`` is a keyword of the estimator."""
    parser = commands.add_parser(
        "fit",
        help="train: run a script as a training job",
        description="Run a training script as a job, and stay until it has ended, showing its log.",
        usage="modelyard fit ENTRY_POINT [options]",
        examples=_EXAMPLES,
        advice="; an argument of the script is given as --hyperparameter {}=VALUE",
    )
    _add_code(parser)
    _add_data(parser)
    _add_machines(parser)
    _add_job(parser)
    return parser


def _add_code(parser: Parser) -> None:
    group = parser.add_argument_group("what to run")
    group.add_argument("entry_point", nargs="?", metavar="ENTRY_POINT", help="the training script")
    group.add_argument("-m", "--module", metavar="PACKAGE.MODULE", help="a module in place of a script")
    group.add_argument(
        "--source-dir", metavar="DIR", help="the folder of the script and of all that it imports"
    )
    group.add_argument(
        "--dependency",
        action="append",
        dest="dependencies",
        metavar="PATH",
        help="a file or folder to put beside the script (repeatable)",
    )
    group.add_argument(
        "-H",
        "--hyperparameter",
        action=Collect,
        type=json_pair,
        dest="hyperparameters",
        metavar="NAME=VALUE",
        help="the script's argument --NAME VALUE; VALUE is JSON where it can be, else text (repeatable)",
    )
    group.add_argument(
        "-e",
        "--environment",
        action=Collect,
        type=pair,
        metavar="NAME=VALUE",
        help="a variable of the script's environment (repeatable)",
    )
    group.add_argument(
        "--metric",
        action=Collect,
        type=pair,
        dest="metrics",
        metavar="NAME=REGEX",
        help="a number to look for in the log, REGEX's first group: loss='loss: ([0-9.]+)' (repeatable)",
    )


def _add_data(parser: Parser) -> None:
    group = parser.add_argument_group("what goes in and out")
    group.add_argument(
        "--input",
        action=Collect,
        type=_channels,
        dest="inputs",
        metavar="[NAME=]PATH",
        help="a channel's data, path or URI; 'train' without a name (repeatable)",
    )
    group.add_argument(
        "--input-mode", choices=("File", "Pipe", "FastFile"), help="how the script reads its channels"
    )
    group.add_argument(
        "--checkpoints",
        dest="checkpoint_s3_uri",
        metavar="PATH",
        help="where the job's checkpoints are kept, path or URI; what is there already is given to it",
    )
    group.add_argument("--output-path", metavar="PATH", help="where the model goes, path or URI")


def _add_machines(parser: Parser) -> None:
    group = parser.add_argument_group("what to run on")
    group.add_argument("--instance-type", metavar="TYPE", help="default: local, this machine")
    group.add_argument("--instance-count", type=int, metavar="N", help="hosts; default: 1")
    group.add_argument(
        "--distribution", metavar="NAME", help="how several processes are launched: torchrun, mpi, ..."
    )
    group.add_argument(
        "--distribution-option",
        action=Collect,
        type=json_pair,
        dest="distribution_options",
        metavar="NAME=VALUE",
        help="an option of the distribution, as processes_per_host=2 (repeatable)",
    )
    group.add_argument(
        "--launcher", metavar="NAME", help="in place of --distribution: process, torchrun, mpirun, ..."
    )
    group.add_argument(
        "--launcher-option",
        action=Collect,
        type=json_pair,
        dest="launcher_options",
        metavar="NAME=VALUE",
        help="an option of the launcher, as profile=drivers (repeatable)",
    )
    group.add_argument("--backend", metavar="NAME", help="default: the one that has the instance type")
    group.add_argument("--hardware", metavar="NAME", help="default: that of the instance type")
    group.add_argument(
        "--hardware-option",
        action=Collect,
        type=json_pair,
        dest="hardware_options",
        metavar="NAME=VALUE",
        help="an option of the hardware, as autocast=bfloat16 (repeatable)",
    )


def _add_job(parser: Parser) -> None:
    group = parser.add_argument_group("the job")
    group.add_argument("--job-name", metavar="NAME", help="default: made of the script's name and the time")
    group.add_argument("--max-run", type=float, metavar="SECONDS", help="stop the job after that time")
    group.add_argument("--no-wait", action="store_true", help="start the job and leave it alone")
    group.add_argument("--dry-run", action="store_true", help="show the plan of the job and do nothing")
    group.add_argument("-q", "--quiet", action="store_true", help="do not show the job's log")
    group.add_argument(
        "--json",
        action="store_true",
        help="for programs: the job's description on stdout, all else on stderr",
    )


def _channels(text: str) -> dict[str, str]:
    """Return the location by channel; one without a name is what ``fit(location)`` makes of it."""
    named = re.fullmatch(r"([A-Za-z0-9._-]{1,64})=(.*)", text, re.DOTALL)
    path = named[2] if named else text
    if not path:
        raise argparse.ArgumentTypeError(f"{text!r} has no path; it is [NAME=]PATH")
    return dict.fromkeys((named[1],) if named else ("train", "training"), path)
