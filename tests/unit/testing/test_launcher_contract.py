"""Each promise of the launcher contract is broken by one launcher, and seen."""

import os
import re
import shlex
import subprocess
import sys
from itertools import count

import attrs
import pytest
from tests.unit.testing.broken import breaks, failing, promises

from modelyard.core.contracts import RankFailure
from modelyard.core.errors import UserCodeError
from modelyard.plugins.launchers.process import ProcessLauncher
from modelyard.testing.launchers import LauncherContract
from modelyard.testing.stand_in import StandInHardware
from modelyard.testing.trees import new_folder

_numbers = count()


def contract(launcher, **attributes):
    return type("Contract", (LauncherContract,), {"launcher": launcher, **attributes})()


class Right(ProcessLauncher):
    """Made wrong below, one promise at a time."""

    def right(self, entry, host, hardware):
        return ProcessLauncher.command(self, entry, host, hardware)


class Changed(Right):
    """Its command differs in what `changes` returns."""

    def command(self, entry, host, hardware):
        command = self.right(entry, host, hardware)
        return attrs.evolve(command, **self.changes(command, entry))


class Nameless(ProcessLauncher):
    name = "My Launcher"


class TextDistributions(ProcessLauncher):
    distributions = "torch_distributed"


class SpacedDistribution(ProcessLauncher):
    distributions = ("torch_distributed", "my tool")


class EmptyDistribution(ProcessLauncher):
    distributions = ("",)


class NeedsOption(ProcessLauncher):
    def __init__(self, option):
        pass


class Renamable(ProcessLauncher):
    def __init__(self, name="process"):
        object.__setattr__(self, "name", name)


class NoCommand(Right):
    def command(self, entry, host, hardware):
        return self.right(entry, host, hardware).argv


class DiffersByCall(Changed):
    def changes(self, command, entry):
        return {"environ": {"CALL": str(next(_numbers))}}


class SetsEnviron(Changed):
    def changes(self, command, entry):
        os.environ["MASTER_PORT"] = "changed"
        return {}


class Spawns(Changed):
    def changes(self, command, entry):
        subprocess.run([sys.executable, "-V"], check=True, capture_output=True)
        return {}


class Forks(Changed):
    def changes(self, command, entry):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        return {}


class WritesFiles(Changed):
    def changes(self, command, entry):
        (entry.code_dir / "hostfile").write_text("algo-1")
        return {}


class ListArgv(Changed):
    def changes(self, command, entry):
        return {"argv": list(command.argv)}


class EmptyArgv(Changed):
    def changes(self, command, entry):
        return {"argv": ()}


class NumberInArgv(Changed):
    def changes(self, command, entry):
        return {"argv": (*command.argv, 2)}


class NumberInEnviron(Changed):
    def changes(self, command, entry):
        return {"environ": {"WORLD_SIZE": 2}}


class AnotherFolder(Changed):
    def changes(self, command, entry):
        return {"cwd": entry.code_dir.parent}


class ShellString(Changed):
    def changes(self, command, entry):
        return {"argv": ("/bin/sh", "-c", shlex.join(command.argv))}


class DropsEmpty(Changed):
    def changes(self, command, entry):
        return {"argv": tuple(token for token in command.argv if token)}


class Splits(Changed):
    def changes(self, command, entry):
        return {"argv": tuple(" ".join(command.argv).split())}


class ForgetsFolder(Changed):
    def changes(self, command, entry):
        program = entry.program.rpartition("/")[2]
        return {"argv": tuple(program if token == entry.program else token for token in command.argv)}


class AddsEmpty(Changed):
    def changes(self, command, entry):
        return {"argv": command.argv if entry.arguments else (*command.argv, "")}


class MasterOnly(Right):
    def command(self, entry, host, hardware):
        return self.right(entry, host, hardware) if host.rank == 0 else None


class DoesNotRun(Changed):
    def changes(self, command, entry):
        return {"argv": ("true", *command.argv[1:])}


class Fails(Changed):
    def changes(self, command, entry):
        return {"argv": (sys.executable, "-c", "import sys; sys.exit('no rendezvous')", *command.argv[1:])}


class NotInstalled(Changed):
    def changes(self, command, entry):
        return {"argv": ("a-program-that-is-absent", *command.argv[1:])}


class ChangesFolder(Changed):
    def changes(self, command, entry):
        absolute = str(entry.code_dir / entry.program)
        return {"argv": (sys.executable, absolute, *entry.arguments), "cwd": entry.code_dir.parent}


class Reverses(Changed):
    def changes(self, command, entry):
        return {"argv": (*command.argv[:2], *reversed(entry.arguments))}


class UnknownProfile(ProcessLauncher):
    def __init__(self):
        object.__setattr__(self, "profile", "kubeflow")


class ReportsAnything(ProcessLauncher):
    def first_failure(self, stderr):
        return RankFailure(0, 1) if stderr else None


class ReportsAtAnyPrice(ProcessLauncher):
    def first_failure(self, stderr):
        return stderr.split("rank")[1] and None


CASES = {
    Nameless: ("test_has_a_name", "plain lower-case word: 'My Launcher'"),
    TextDistributions: ("test_distributions_are_well_formed", "must be a tuple, not 'torch_distributed'"),
    SpacedDistribution: ("test_distributions_are_well_formed", "words, not .'my tool'"),
    EmptyDistribution: ("test_distributions_are_well_formed", r"plain lower-case words, not \[''\]"),
    NoCommand: ("test_command_is_pure", "must return a Command, not "),
    DiffersByCall: ("test_command_is_pure", "differs from call to call"),
    SetsEnviron: ("test_command_is_pure", "must not change os.environ; .*MASTER_PORT"),
    Spawns: ("test_command_is_pure", "must not start a process"),
    Forks: ("test_command_is_pure", "must not start a process"),
    WritesFiles: ("test_command_is_pure", r"must not write files; it wrote \['hostfile'\]"),
    ListArgv: ("test_every_host_gets_a_command", "argv of algo-1 must be a tuple"),
    EmptyArgv: ("test_every_host_gets_a_command", "argv of algo-1 is empty"),
    NumberInArgv: ("test_every_host_gets_a_command", r"must hold text, not \[2\]"),
    NumberInEnviron: ("test_every_host_gets_a_command", "text to text, not .'WORLD_SIZE': 2"),
    AnotherFolder: ("test_every_host_gets_a_command", "must run in the code folder"),
    MasterOnly: ("test_every_host_gets_a_command", "must return a Command, not None"),
    ShellString: ("test_arguments_are_tokens_of_their_own", "'train.py' is not a token of"),
    DropsEmpty: ("test_arguments_are_tokens_of_their_own", "the script's arguments are"),
    Splits: ("test_arguments_are_tokens_of_their_own", "the script's arguments are"),
    ForgetsFolder: ("test_program_in_a_folder_is_found", "'steps/train.py' is not a token of"),
    AddsEmpty: ("test_command_without_arguments_ends_with_the_program", "without arguments is given .''"),
    DoesNotRun: ("test_command_runs", "did not run the script"),
    Fails: ("test_command_runs", "ended with 1: no rendezvous"),
    NotInstalled: ("test_command_runs", "cannot be run: .*a-program-that-is-absent"),
    ChangesFolder: ("test_command_runs", "the script ran in "),
    Reverses: ("test_command_runs", "the script was given "),
    NeedsOption: ("test_is_made_without_options", r"NeedsOption\(\) must work without options"),
    Renamable: ("test_is_made_without_options", "cls.. is another launcher: 'process'"),
    UnknownProfile: ("test_profile_is_known", "must be one of drivers, toolkit, not 'kubeflow'"),
    ReportsAnything: (
        "test_reports_name_no_failure_without_one",
        r"first_failure found RankFailure.* in '\\n'",
    ),
    ReportsAtAnyPrice: ("test_reports_name_no_failure_without_one", "must not raise for ''"),
}
BROKEN_PROMISES = {test for test, _ in CASES.values()}


def made(cls):
    return cls("other") if cls in (NeedsOption, Renamable) else cls()


@pytest.mark.parametrize("wrong", CASES, ids=lambda cls: cls.__name__)
def test_a_wrong_launcher_is_caught(tmp_path, monkeypatch, wrong):
    monkeypatch.setenv("MASTER_PORT", "7777")
    test, message = CASES[wrong]
    method = getattr(contract(made(wrong)), test)
    said = breaks(method, tmp_path) if "tmp_path" in method.__annotations__ else breaks(method)
    assert re.search(message, said)


@pytest.mark.parametrize("promise", sorted(promises(LauncherContract)))
def test_one_wrong_launcher_breaks_this_promise_alone(tmp_path, monkeypatch, promise):
    monkeypatch.setenv("MASTER_PORT", "7777")
    given = {"tmp_path": lambda: new_folder(tmp_path / str(next(_numbers)))}
    but = {"test_command_runs"} - {promise}
    wrong = [made(cls) for cls, (test, _) in CASES.items() if test == promise]
    assert {promise} in [failing(contract(launcher), given, but=but) for launcher in wrong]


def test_a_distribution_is_called_as_a_provider_may_be():
    class Hyphened(ProcessLauncher):
        name = "my-tool"
        distributions = ("my-tool", "smdistributed.modelparallel", "torch_distributed")

    contract(Hyphened()).test_has_a_name()
    contract(Hyphened()).test_distributions_are_well_formed()


def test_what_cannot_run_here_is_skipped(tmp_path):
    with pytest.raises(pytest.skip.Exception, match="process cannot run here"):
        contract(NotInstalled(), can_run=False).test_command_runs(tmp_path)
    with pytest.raises(pytest.skip.Exception, match="process has no tool that reports failures"):
        contract(ProcessLauncher()).test_reports_name_no_failure_without_one()


def test_processes_can_be_started_again_after_the_check(tmp_path):
    contract(ProcessLauncher()).test_command_is_pure(tmp_path)
    assert subprocess.run([sys.executable, "-c", ""], check=True).returncode == 0


def test_the_stand_in_is_hardware_that_a_launcher_may_ask():
    assert StandInHardware(4).device_count() == 4
    assert StandInHardware().environ(None) == {}
    with pytest.raises(UserCodeError, match="the stand-in hardware loads no model: define model_fn"):
        StandInHardware().load(None)


def test_the_stand_in_leaves_values_where_they_are():
    hardware, value = StandInHardware(), [1, 2]
    assert hardware.place(value) is value
    assert hardware.predict(sum, hardware.place(value)) == 3
    assert hardware.fetch(value) is value
