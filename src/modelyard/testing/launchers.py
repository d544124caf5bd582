"""What every launcher promises, as tests."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from modelyard.core.contracts import Command, DiagnosingLauncher, EntryPoint, Hardware, Host, Launcher
from modelyard.core.kinds import NAME
from modelyard.core.listening import free_port
from modelyard.testing.saying import is_a_name, maps_text_to_text
from modelyard.testing.stand_in import StandInHardware

ARGUMENTS = (
    "--epochs", "3",
    "--note", "two words",
    "--quotes", "it's \"quoted\"",
    "--shell", "$HOME `id` *.py ; | & > \\",
    "--empty", "",
    "--json", '{"a": [1, 2]}',
    "--unicode", "größe",
    "--lines", "one\ntwo",
)  # fmt: skip
"""What a shell would take apart, change or lose."""
_OF_TOOLS = ("$$", "${local_rank}")
"""What torchrun, and tools that are made of it, would replace; before a command runs it may be escaped."""

_PROGRAM = """
import json, os, pathlib, sys

seen = {"arguments": sys.argv[1:], "cwd": os.getcwd()}
target = pathlib.Path(__file__).with_name(f"seen.{os.getpid()}.json")
target.with_suffix(".part").write_text(json.dumps(seen), "utf-8")
target.with_suffix(".part").rename(target)
"""

PROFILES = ("drivers", "toolkit")
_SPAWNING = ("fork", "forkpty", "posix_spawn", "posix_spawnp", "execv", "execve", "system")
_RUN_SECONDS = 60


class LauncherContract:
    """The tests of one launcher: subclass this, and say which.

    ::

        from modelyard.plugins.launchers.process import ProcessLauncher  # Yours.
        from modelyard.testing import LauncherContract


        class TestProcessLauncher(LauncherContract):
            launcher = ProcessLauncher()

    ``hardware``: what it launches on; ``can_run``: whether what its commands need is installed here,
    so that one can be run.
    """

    launcher: Launcher
    hardware: ClassVar[Hardware] = StandInHardware()
    can_run: ClassVar[bool] = True

    # -- what it is ----------------------------------------------------------------------------

    def test_has_a_name(self) -> None:
        """A launcher is found by its name."""
        is_a_name(type(self.launcher).name)

    def test_distributions_are_well_formed(self) -> None:
        """`distributions` is a tuple of the keys of ``distribution={...}``, empty for none."""
        declared = type(self.launcher).distributions
        assert isinstance(declared, tuple), f"distributions must be a tuple, not {declared!r}"
        wrong = [key for key in declared if not isinstance(key, str) or not NAME.fullmatch(key)]
        assert not wrong, f"distributions must hold plain lower-case words, not {wrong!r}"

    def test_is_made_without_options(self) -> None:
        """Every option has a default: ``distribution={"name": {"enabled": True}}`` gives none."""
        cls = type(self.launcher)
        try:
            made = cls()
        except TypeError as error:
            raise AssertionError(f"{cls.__qualname__}() must work without options: {error}") from error
        assert made.name == self.launcher.name, f"cls() is another launcher: {made.name!r}"

    # -- what only some have -------------------------------------------------------------------

    def test_profile_is_known(self) -> None:
        """`profile`, where there is one, names variables and arguments that modelyard can give."""
        profile = getattr(self.launcher, "profile", "toolkit")
        assert profile in PROFILES, f"profile must be one of {', '.join(PROFILES)}, not {profile!r}"

    def test_reports_name_no_failure_without_one(self) -> None:
        """`first_failure`, where there is one, says None of what is no report, and never raises."""
        if not isinstance(self.launcher, DiagnosingLauncher):
            pytest.skip(f"{self.launcher.name} has no tool that reports failures")
        for stderr in (
            "",
            "\n",
            "Traceback (most recent call last):\nValueError: no\n",
            "rank 1 failed \x00ü{",
        ):
            try:
                found = self.launcher.first_failure(stderr)
            except Exception as error:
                raise AssertionError(f"first_failure must not raise for {stderr!r}: {error!r}") from error
            assert found is None, f"first_failure found {found} in {stderr!r}"

    # -- the command ---------------------------------------------------------------------------

    def test_command_is_pure(self, tmp_path: Path) -> None:
        """The command depends on what it is made from; making it changes and starts nothing."""
        before = dict(os.environ)
        with _no_processes():
            first, second = self._command(tmp_path), self._command(tmp_path)
        assert first == second, f"the command differs from call to call: {first}, then {second}"
        changed = set(os.environ.items()) ^ set(before.items())
        assert not changed, f"command must not change os.environ; it changed {sorted(changed)}"
        left = sorted(path.name for path in tmp_path.iterdir())
        assert not left, f"command must not write files; it wrote {left}"

    def test_every_host_gets_a_command(self, tmp_path: Path) -> None:
        """Each host of a job is told what to run, as tokens and variables of text, in the code folder."""
        for name in ("algo-1", "algo-2"):
            _is_well_formed(self._command(tmp_path, name, hosts=2), tmp_path, name)

    def test_arguments_are_tokens_of_their_own(self, tmp_path: Path) -> None:
        """The user's arguments follow the program, each as it is: there is no shell in between."""
        for hosts in (1, 2):
            argv = tuple(self._command(tmp_path, hosts=hosts).argv)
            place = _program_in(argv, tmp_path, "train.py")
            passed = argv[place + 1 :]
            assert passed == ARGUMENTS, f"the script's arguments are {passed}, not {ARGUMENTS}"

    def test_program_in_a_folder_is_found(self, tmp_path: Path) -> None:
        """The entry point may lie in a folder of the source."""
        entry = EntryPoint("steps/train.py", (), tmp_path)
        _program_in(self._command_of(entry).argv, tmp_path, entry.program)

    def test_command_without_arguments_ends_with_the_program(self, tmp_path: Path) -> None:
        """A script without hyperparameters is given no argument, not an empty one."""
        argv = self._command_of(EntryPoint("train.py", (), tmp_path)).argv
        place = _program_in(argv, tmp_path, "train.py")
        assert not argv[place + 1 :], f"a script without arguments is given {argv[place + 1 :]}"

    def test_command_runs(self, tmp_path: Path) -> None:
        """The command of a job of one host runs the script, with its arguments, in the code folder."""
        if not self.can_run:
            pytest.skip(f"{self.launcher.name} cannot run here")
        (tmp_path / "train.py").write_text(_PROGRAM, "utf-8")
        arguments = (*ARGUMENTS, *_OF_TOOLS)
        command = self._command_of(EntryPoint("train.py", arguments, tmp_path))
        self._run(command)
        found = [json.loads(path.read_text("utf-8")) for path in tmp_path.glob("seen.*.json")]
        assert found, f"the command ended well and did not run the script: {command.argv}"
        for seen in found:
            assert tuple(seen["arguments"]) == arguments, f"the script was given {seen['arguments']}"
            assert Path(seen["cwd"]).samefile(tmp_path), f"the script ran in {seen['cwd']}, not {tmp_path}"

    def _command(self, code_dir: Path, name: str = "algo-1", *, hosts: int = 1) -> Command:
        return self._command_of(EntryPoint("train.py", ARGUMENTS, code_dir), name, hosts=hosts)

    def _command_of(self, entry: EntryPoint, name: str = "algo-1", *, hosts: int = 1) -> Command:
        names = tuple(f"algo-{number + 1}" for number in range(hosts))
        command: Any = self.launcher.command(entry, Host(name, names), self.hardware)
        assert isinstance(command, Command), f"command must return a Command, not {command!r}"
        return command

    def _run(self, command: Command) -> None:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port(count=2))}
        # Of its own, and gone with the test: tools leave files there.
        scratch = tempfile.TemporaryDirectory()
        try:
            done = subprocess.run(
                command.argv,
                cwd=command.cwd,
                env={**os.environ, **address, "TMPDIR": scratch.name, **command.environ},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_RUN_SECONDS,
                check=False,
            )
        except OSError as error:
            raise AssertionError(f"the command {command.argv} cannot be run: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"not ended after {_RUN_SECONDS} s: {command.argv}") from error
        finally:
            scratch.cleanup()
        said = f"{done.stdout[-500:]}{done.stderr[-500:]}"
        assert done.returncode == 0, f"the command {command.argv} ended with {done.returncode}: {said}"


def _is_well_formed(command: Command, code_dir: Path, host: str) -> None:
    argv = command.argv
    assert isinstance(argv, tuple), f"argv of {host} must be a tuple of tokens, not {argv!r}"
    assert argv, f"argv of {host} is empty"
    wrong = [token for token in argv if not isinstance(token, str)]
    assert not wrong, f"argv of {host} must hold text, not {wrong!r}"
    assert command.cwd == code_dir, f"{host} must run in the code folder {code_dir}, not {command.cwd}"
    maps_text_to_text(f"environ of {host}", command.environ)


def _program_in(argv: tuple[str, ...], code_dir: Path, program: str) -> int:
    """Return the place of the program among the tokens, relative to the code folder or absolute."""
    places = [i for i, token in enumerate(argv) if code_dir / token == code_dir / program]
    assert places, f"the program {program!r} is not a token of {argv}"
    return places[0]


@contextmanager
def _no_processes() -> Iterator[None]:
    """Make it an error to start a process."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("command must not start a process: launching is the supervisor's part")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", refused)
        # A Popen that was never made has nothing to look after when it goes.
        patch.setattr(subprocess.Popen, "__del__", lambda _: None)
        for name in _SPAWNING:
            patch.setattr(os, name, refused, raising=False)
        yield
