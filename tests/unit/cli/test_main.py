"""The program itself: usage, help, exit statuses, and how little it loads."""

import os
import subprocess
import sys

import pytest

from modelyard import __version__, cli
from modelyard.cli import main


def refused(arguments, capsys):
    """Return what is said about wrong usage."""
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("usage: modelyard")
    return err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "modelyard: the following arguments are required: COMMAND"),
        (["plugins"], "modelyard plugins: the following arguments are required: COMMAND"),
        (["job"], "invalid choice: 'job'"),
        (
            ["plugins", "list", "--jsn"],
            "modelyard plugins list: there is no option --jsn; did you mean --json?",
        ),
        (["jobs", "--limt=3"], "modelyard jobs: there is no option --limt; did you mean --limit?"),
        (["stop"], "modelyard stop: the following arguments are required: NAME"),
        (["stop", "a", "b"], "modelyard stop: there is nothing to do with 'b'"),
        (["logs", "a", "--foll"], "there is no option --foll; did you mean --follow?"),
        (["jobs", "--limit", "-1"], "argument --limit: '-1' is no number of jobs"),
        (["jobs", "--limit", "x"], "argument --limit: 'x' is no number of jobs"),
        (["jobs", "--status", "Done"], "'Done' is no state of a job: use InProgress, Stopping, Completed, "),
        (
            ["endpoints", "--status", "Up"],
            "'Up' is no state of an endpoint: use Creating, InService, Deleting, ",
        ),
        (["endpoints", "--limit", "x"], "argument --limit: 'x' is no number of endpoints"),
        (["delete-endpoint"], "modelyard delete-endpoint: the following arguments are required: NAME"),
        (["predict", "a"], "modelyard predict: the following arguments are required: FILE"),
        (["serve"], "modelyard serve: the following arguments are required: MODEL"),
        (["serve", "m", "--batch", "8"], "there is no option --batch"),
        (["serve", "m", "--batchsize=8"], "there is no option --batchsize; did you mean --batch-size?"),
        (["serve", "m", "--workers", "two"], "argument --workers: invalid int value: 'two'"),
        (["serve", "m", "--max-body", "many"], "argument --max-body: 'many' is no size: write it as 100M"),
    ],
)
def test_wrong_usage_names_what_is_wrong(arguments, said, capsys):
    assert said in refused(arguments, capsys)


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        ([], "modelyard fit train.py --input train=data/"),
        (["fit"], "modelyard fit train.py --input train=data/ --hyperparameter epochs=3"),
        (["jobs", "--limit", "x"], "modelyard jobs --status Failed"),
        (["jobs", "show"], "modelyard jobs show NAME"),
        (["logs"], "modelyard logs NAME"),
        (["serve"], "modelyard serve model.tar.gz"),
        (["predict"], "modelyard predict NAME rows.csv"),
        (["reload"], "modelyard reload NAME"),
        (["endpoints", "logs"], "modelyard endpoints logs NAME --follow"),
    ],
)
def test_wrong_usage_ends_with_an_example(arguments, example, capsys):
    assert refused(arguments, capsys).endswith(f"\nexample: {example}\n")


def test_version(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"modelyard {__version__}\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["fit", "jobs", "logs", "stop", "interrupt", "plugins", "train"]),
        ([], ["serve", "endpoints", "predict", "reload", "delete-endpoint"]),
        (["fit"], ["ENTRY_POINT", "--input [NAME=]PATH", "--hyperparameter", "--distribution", "--dry-run"]),
        (["jobs"], ["modelyard jobs show NAME", "--limit", "--status", "--json", "--backend"]),
        (["jobs", "show"], ["usage: modelyard jobs show [-h]", "NAME", "--json"]),
        (["logs"], ["--follow"]),
        (["interrupt"], ["NAME"]),
        (
            ["serve"],
            ["MODEL", "--host", "--port", "--workers", "--batch-size", "--max-batch-delay", "examples:"],
        ),
        (
            ["endpoints"],
            ["modelyard endpoints show NAME", "modelyard endpoints logs NAME", "--all", "--json"],
        ),
        (["predict"], ["ENDPOINT", "FILE", "--content-type", "--accept", "--output", "examples:"]),
        (["delete-endpoint"], ["NAME", "examples:"]),
        (["reload"], ["NAME", "examples:"]),
    ],
)
def test_help_names_what_there_is(command, words, capsys):
    with pytest.raises(SystemExit) as raised:
        main([*command, "--help"])
    assert raised.value.code == 0
    shown = capsys.readouterr().out
    assert [word for word in words if word not in shown] == []


@pytest.mark.parametrize("module", cli._MODULES)
def test_a_command_is_found_in_its_module(module):
    *_, commands = cli._parser([module])._subparsers._group_actions
    assert tuple(commands.choices) == cli._MODULES[module]
    assert cli._modules([cli._MODULES[module][-1], "--help"]) == [module]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["ftt"], ["--version", "fit"]])
def test_all_commands_are_there_for_whoever_names_none(arguments):
    assert cli._modules(arguments) == cli._MODULES


def test_help_loads_nothing_that_takes_time():
    ask = (
        "import sys\nfrom modelyard.cli import main\n"
        "heavy = {'asyncio', 'attr', 'numpy', 'pluggy', 'sqlite3', 'structlog', 'torch'}\n"
        "for command in ('fit', 'predict', 'serve'):\n"
        "    try: main([command, '--help'])\n    except SystemExit: pass\n"
        "    print('loaded', *sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    loaded = [line for line in done.stdout.splitlines() if line.startswith("loaded")]
    # The settings of the server, whose defaults are shown.
    assert loaded == ["loaded", "loaded", "loaded attr"]


def test_it_runs_as_a_module(plugins):
    done = subprocess.run(
        [sys.executable, "-m", "modelyard", "plugins", "list"],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "local" in done.stdout
    assert not done.stderr
