from pathlib import Path

import pytest

from modelyard.core.contracts import EntryForm, EntryPoint, Host, ProfiledLauncher
from modelyard.core.errors import InvalidPlanError
from modelyard.plugins.launchers.process import ProcessLauncher
from modelyard.testing.stand_in import StandInHardware

HOSTS = ("algo-1", "algo-2")


@pytest.mark.parametrize("form", EntryForm)
@pytest.mark.parametrize("name", HOSTS)
def test_each_host_runs_the_entry_point_itself(form, name):
    entry = EntryPoint("train", ("--epochs", "3"), Path("/code"), form, "/env/bin/python")

    command = ProcessLauncher().command(entry, Host(name, HOSTS), StandInHardware())

    assert command.argv == entry.argv
    assert command.cwd == Path("/code")
    assert command.environ == {}


def test_its_one_process_has_the_streams_of_the_command():
    entry = EntryPoint("train.py", (), Path("/code"))
    assert ProcessLauncher().command(entry, Host("algo-1", HOSTS), StandInHardware()).ranks == 0


def test_the_profile_is_an_option():
    assert isinstance(ProcessLauncher(), ProfiledLauncher)
    assert ProcessLauncher().profile == "toolkit"
    assert ProcessLauncher(profile="drivers").profile == "drivers"


def test_another_profile_is_refused():
    with pytest.raises(InvalidPlanError, match="profile must be 'toolkit' or 'drivers', not 'v3'"):
        ProcessLauncher(profile="v3")
