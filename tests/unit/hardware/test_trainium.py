"""NeuronCores, as far as no XLA is needed: options, commands and the workers' variables."""

import json
from pathlib import Path

import attrs
import pytest

from modelyard.core.contracts import Command, Host
from modelyard.core.errors import InvalidPlanError
from modelyard.hardware import detection
from modelyard.hardware.trainium import TrainiumHardware

ONE = Host("algo-1", ("algo-1",))
TWO = Host("algo-1", ("algo-1", "algo-2"))
COMMAND = Command(("python", "train.py", "--epochs", "1"), {"A": "B"}, Path("/code"), ranks=1)
LISTING = json.dumps([{"neuron_device": number, "nc_count": 2} for number in range(2)])


@pytest.fixture
def machine(drivers, monkeypatch):
    """Have a machine with four cores, or with none, and with these variables."""
    cores, numbers = detection.neuron_cores, detection.core_numbers
    for name in ("PJRT_DEVICE", "NEURON_RT_VISIBLE_CORES"):
        monkeypatch.delenv(name, raising=False)

    def make(listing=LISTING, **environ):
        if listing:
            drivers.says("neuron-ls", listing)
        told = {**drivers.environ, **environ}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(detection, "neuron_cores", lambda _=None: cores(told))
        monkeypatch.setattr(detection, "core_numbers", lambda: numbers(told))

    return make


# -- what a job runs ---------------------------------------------------------------------------


@pytest.mark.parametrize(("ranks", "host", "processes"), [(2, ONE, 2), (1, TWO, 2), (0, TWO, 2), (4, TWO, 8)])
def test_several_processes_on_xlas_cpu_runtime_are_refused(ranks, host, processes):
    command = attrs.evolve(COMMAND, ranks=ranks)
    with pytest.raises(
        InvalidPlanError,
        match=f"PJRT_DEVICE=CPU.*{processes} processes would train {processes} models.*hardware 'cpu'",
    ):
        TrainiumHardware().prepare(command, host, {"PJRT_DEVICE": "CPU"})


@pytest.mark.parametrize(
    ("ranks", "host", "device"), [(1, ONE, "CPU"), (0, ONE, "CPU"), (32, TWO, "NEURON"), (32, TWO, None)]
)
def test_what_xla_can_run_is_run_as_it_is(ranks, host, device):
    command = attrs.evolve(COMMAND, ranks=ranks)
    environ = {} if device is None else {"PJRT_DEVICE": device}
    assert TrainiumHardware().prepare(command, host, environ) == command


@pytest.mark.parametrize("option", [True, False])
@pytest.mark.parametrize("variable", ["1", "0", "", None])
def test_a_job_compiles_ahead_by_an_option_or_by_the_toolkits_variable(option, variable):
    environ = {} if variable is None else {"RUN_NEURON_PARALLEL_COMPILE": variable}
    prepared = TrainiumHardware(parallel_compile=option).prepare(COMMAND, ONE, environ)
    before = ("neuron_parallel_compile",) if option or variable == "1" else ()
    assert prepared == attrs.evolve(COMMAND, argv=(*before, *COMMAND.argv))


@pytest.mark.parametrize("wrong", [1, "yes", None])
def test_a_wrong_option_says_what_it_may_be(wrong):
    with pytest.raises(InvalidPlanError, match=f"parallel_compile is True or False, not {wrong!r}"):
        TrainiumHardware(parallel_compile=wrong)


# -- what an endpoint's workers are told ---------------------------------------------------------


def told(indices=range(6)):
    return [TrainiumHardware().worker_environ(index).get("NEURON_RT_VISIBLE_CORES") for index in indices]


def test_each_worker_has_a_core_of_its_own(machine):
    machine()
    assert told() == ["0", "1", "2", "3", "0", "1"]
    assert TrainiumHardware().worker_environ(0)["PJRT_DEVICE"] == "NEURON"


def test_workers_share_the_cores_that_the_user_leaves_them(machine):
    machine(NEURON_RT_VISIBLE_CORES="1,3")
    assert told() == ["1", "3", "1", "3", "1", "3"]
    assert TrainiumHardware().device_count() == 2


def test_a_worker_without_cores_is_told_none(machine):
    machine(listing=None)
    assert TrainiumHardware().worker_environ(0) == {"PJRT_DEVICE": "NEURON"}


def test_workers_on_xlas_cpu_runtime_need_nothing(machine):
    machine(PJRT_DEVICE="CPU")
    assert TrainiumHardware().worker_environ(1) == {}
    assert (TrainiumHardware().device_count(), TrainiumHardware().describe()) == (
        1,
        "XLA's runtime on the CPU, as PJRT_DEVICE says",
    )


def test_it_says_what_the_runtime_lists(machine):
    machine()
    assert TrainiumHardware().describe() == "4 NeuronCores"
