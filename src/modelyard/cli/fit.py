"""``modelyard fit``: train without a driver script."""

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.cli.fit_options import fit_parser

if TYPE_CHECKING:
    from modelyard.cli.parser import Commands, Parser
    from modelyard.core.contracts import JobHandle
    from modelyard.estimator import PyTorch

_KEYWORDS = (
    "source_dir",
    "dependencies",
    "input_mode",
    "hyperparameters",
    "environment",
    "instance_type",
    "instance_count",
    "max_run",
    "checkpoint_s3_uri",
    "output_path",
    "job_name",
    "backend",
)
"""The options that are keywords of the estimator."""


def add_to(commands: "Commands") -> None:
    """Add the command to the parser of ``modelyard``."""
    parser = fit_parser(commands)
    parser.set_defaults(run=lambda options: _run(parser, options))


def _run(parser: "Parser", options: argparse.Namespace) -> int:
    if (options.entry_point is None) == (options.module is None):
        parser.error("give a training script, or a module with -m")
    if options.distribution_options and not options.distribution:
        parser.error("--distribution-option is for a --distribution, as --distribution torchrun")
    if options.launcher_options and not options.launcher:
        parser.error("--launcher-option is for a --launcher, as --launcher process")
    if options.hardware_options and not options.hardware:
        parser.error("--hardware-option is for a --hardware, as --hardware cuda")
    if options.launcher and options.distribution:
        parser.error("--distribution and --launcher say the same: give one of them")
    estimator = _estimator(options)
    if options.dry_run:
        plan = estimator.plan(options.inputs)
        print(plan.redacted().to_json() if options.json else plan)
    elif options.json:
        _fit_for_programs(estimator, options)
    else:
        _fit(estimator, options)
    return 0


def _estimator(options: argparse.Namespace) -> "PyTorch":
    """Return the estimator; what was not said is left to its own defaults."""
    from modelyard.core.plans import ProviderRef
    from modelyard.estimator import PyTorch

    said = {name: getattr(options, name) for name in _KEYWORDS if getattr(options, name) is not None}
    if options.distribution:
        said["distribution"] = {options.distribution: options.distribution_options or {}}
    if options.launcher:
        said["launcher"] = ProviderRef(options.launcher, options.launcher_options or {})
    if options.hardware:
        said["hardware"] = ProviderRef(options.hardware, options.hardware_options or {})
    if options.metrics:
        said["metric_definitions"] = [
            {"Name": name, "Regex": regex} for name, regex in options.metrics.items()
        ]
    stem = Path(options.module or options.entry_point).name.removesuffix(".py")
    return PyTorch(_entry_point(options), base_job_name=stem, **said)


def _entry_point(options: argparse.Namespace) -> str:
    """Return the entry point as the estimator takes it.

    With a source folder that is a path inside it; a path from here, as a shell completes it, will do.
    """
    if options.module is not None:
        return f"-m {options.module.strip()}"
    script, folder = Path(options.entry_point), Path(options.source_dir or "")
    if options.source_dir and folder.is_dir() and script.exists() and not (folder / script).exists():
        return str(script.absolute())
    return str(options.entry_point)


def _fit(estimator: "PyTorch", options: argparse.Namespace) -> None:
    """Train, and say what a person then wants to know."""
    try:
        estimator.fit(options.inputs, wait=not options.no_wait, logs=not options.quiet)
    except BrokenPipeError:
        if job := estimator.latest_training_job:
            sys.stderr.write(f"modelyard: nobody reads the log of {job.name} any more; it goes on\n")
            sys.stderr.write(f"{_how_to_follow(job, options)}\n")
        raise
    job = estimator.latest_training_job
    if job and options.no_wait:
        print(f"training job {job.name} started\n{_how_to_follow(job, options)}")
    elif job and options.quiet:
        description = job.describe()
        print(f"training job {job.name}: {description.status}")
        if description.model_data:
            print(f"model: {description.model_data}")


def _fit_for_programs(estimator: "PyTorch", options: argparse.Namespace) -> None:
    """Train with the log on stderr; whatever becomes of the job, its description is on stdout."""
    from modelyard.cli.description import as_json

    try:
        with contextlib.redirect_stdout(sys.stderr):
            estimator.fit(options.inputs, wait=not options.no_wait, logs=not options.quiet)
    finally:
        if job := estimator.latest_training_job:
            print(as_json(job.describe()))


def _how_to_follow(job: "JobHandle", options: argparse.Namespace) -> str:
    backend = f" --backend {options.backend}" if options.backend else ""
    return f"follow it with: modelyard logs {job.name} --follow{backend}"
