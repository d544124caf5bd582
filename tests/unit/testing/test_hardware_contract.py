"""Each promise of the hardware contract is broken by one hardware, and seen."""

import importlib.util
import os
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.errors import UserCodeError
from modelyard.hardware.cpu import CpuHardware
from modelyard.testing.hardware import HardwareContract

_numbers = count()


class Nameless(CpuHardware):
    name = ""


class TitledType(CpuHardware):
    device_type = "CPU 0"


class TextCollectives(CpuHardware):
    collectives = "gloo"


class NumberedTypes(CpuHardware):
    instance_types = (1,)


class NeedsOption(CpuHardware):
    def __init__(self, option):
        pass


class OtherName(CpuHardware):
    def __init__(self):
        object.__setattr__(self, "name", "other")


class RaisesOnCount(CpuHardware):
    def device_count(self):
        raise OSError("no driver")


class CountsTrue(CpuHardware):
    def device_count(self):
        return True


class CountsBelowZero(CpuHardware):
    def device_count(self):
        return -1


class ImpureEnviron(CpuHardware):
    def environ(self, host):
        return {"CALL": str(next(_numbers))}


class NumberEnviron(CpuHardware):
    def environ(self, host):
        return {"WORLD_SIZE": len(host.names)}


class EnvironChanges(CpuHardware):
    def environ(self, host):
        os.environ["GLOO_SOCKET_IFNAME"] = host.network_interface
        return {}


class RaisesOnDescribe(CpuHardware):
    def describe(self):
        raise OSError("no driver")


class DescribesOnTwoLines(CpuHardware):
    def describe(self):
        return "2 CPUs\nno GPU"


class DescribesNothing(CpuHardware):
    def describe(self):
        return ""


class DescribesAsNumber(CpuHardware):
    def describe(self):
        return 2


class ImpureWorkers(CpuHardware):
    def worker_environ(self, index):
        return {"CALL": str(next(_numbers))}


class NumberWorkers(CpuHardware):
    def worker_environ(self, index):
        return {"DEVICE": index}


class WorkersChange(CpuHardware):
    def worker_environ(self, index):
        os.environ["GLOO_SOCKET_IFNAME"] = str(index)
        return {}


class TextAccelerators(CpuHardware):
    accelerator_types = "ml.eia*"


class BlankAccelerators(CpuHardware):
    accelerator_types = ("ml.eia*", " ")


BROKEN = {
    Nameless: ("test_has_a_name", "plain lower-case word: ''"),
    TitledType: ("test_attributes_are_well_formed", "what torch calls the device, not 'CPU 0'"),
    TextCollectives: ("test_attributes_are_well_formed", "collectives must be a tuple, not 'gloo'"),
    NumberedTypes: ("test_attributes_are_well_formed", r"instance_types must hold text, not \[1\]"),
    RaisesOnCount: ("test_device_count_is_a_number", "never raise; it raised OSError"),
    CountsTrue: ("test_device_count_is_a_number", "must return an int, not True"),
    CountsBelowZero: ("test_device_count_is_a_number", "must be 0 or more, not -1"),
    TextAccelerators: ("test_attributes_are_well_formed", "accelerator_types must be a tuple, not 'ml.eia"),
    BlankAccelerators: ("test_attributes_are_well_formed", r"accelerator_types must hold text, not \[' '\]"),
    RaisesOnDescribe: ("test_describes_itself_on_one_line", "never raise; it raised OSError"),
    DescribesOnTwoLines: ("test_describes_itself_on_one_line", "must return one line, not '2 CPUs"),
    DescribesNothing: ("test_describes_itself_on_one_line", "must return one line, not ''"),
    DescribesAsNumber: ("test_describes_itself_on_one_line", "must return text, not 2"),
    ImpureWorkers: ("test_worker_environ_is_pure", "worker_environ differs from call to call"),
    NumberWorkers: ("test_worker_environ_is_pure", "must map text to text, not .'DEVICE'"),
}


def contract(hardware):
    subject = HardwareContract()
    subject.hardware = hardware
    return subject


def breaks(hardware, test, message, *args):
    with pytest.raises(AssertionError, match=message):
        getattr(contract(hardware), test)(*args)


@pytest.mark.parametrize("wrong", BROKEN, ids=lambda cls: cls.__name__)
def test_what_it_is_and_how_it_counts(wrong):
    breaks(wrong(), *BROKEN[wrong])


def test_options_without_defaults():
    breaks(NeedsOption(1), "test_is_made_without_options", r"NeedsOption\(\) must work without options")


def test_a_name_that_depends_on_the_instance():
    class Renamed(CpuHardware):
        name = "renamed"

        def __new__(cls, *args):
            return object.__new__(cls if args else OtherName)

        def __init__(self, *args):
            pass

    breaks(Renamed(1), "test_is_made_without_options", "cls.. is other hardware: 'cpu'")


@pytest.mark.parametrize("hosts", [1, 2])
def test_an_environ_that_is_not_pure(hosts, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "before")
    breaks(ImpureEnviron(), "test_environ_is_pure", "environ differs from call to call", hosts)
    breaks(NumberEnviron(), "test_environ_is_pure", "must map text to text, not .'WORLD_SIZE'", hosts)
    breaks(EnvironChanges(), "test_environ_is_pure", "must not change os.environ; .*GLOO", hosts)


def test_a_worker_environ_that_is_not_pure(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "before")
    breaks(WorkersChange(), "test_worker_environ_is_pure", "must not change os.environ; .*GLOO")


class Plain:
    """Hardware that has nothing of what only some have."""


@pytest.mark.parametrize("test", ["test_describes_itself_on_one_line", "test_worker_environ_is_pure"])
def test_what_only_some_have_is_skipped(test):
    with pytest.raises(pytest.skip.Exception):
        getattr(contract(Plain()), test)()


COUNTING = """
{top}

class Counting:
    name = "counting"

    def device_count(self):
        {body}
        return 0

    def describe(self):
        {described}
        return "nothing"
"""


@pytest.mark.parametrize(
    ("top", "body", "described", "message"),
    [
        ("import torch", "pass", "pass", "must not import torch"),
        ("", "import torch", "pass", "must not import torch"),
        ("", "pass", "import torch", "must not import torch"),
        ("", "import a_module_that_is_absent", "pass", "in a fresh interpreter: .*a_module_that_is_absent"),
    ],
    ids=["torch at the top", "torch to count", "torch to describe", "needs more than itself"],
)
def test_counting_with_torch(tmp_path, monkeypatch, top, body, described, message):
    """The torch that is imported is an empty module: whether one is installed makes no difference."""
    (tmp_path / "torch.py").write_text("")
    source = COUNTING.format(top=top, body=body, described=described)
    hardware = written(tmp_path / "counting.py", source, monkeypatch).Counting()
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        contract(hardware).test_counting_does_not_import_torch()


def test_counting_with_nothing_but_itself(tmp_path, monkeypatch):
    source = COUNTING.format(top="", body="pass", described="pass")
    hardware = written(tmp_path / "counting.py", source, monkeypatch).Counting()
    contract(hardware).test_counting_does_not_import_torch()


def test_a_class_that_no_fresh_interpreter_can_find():
    class Local(CpuHardware):
        pass

    breaks(Local(), "test_counting_does_not_import_torch", "must be at the top of its module")


def written(path: Path, source, monkeypatch):
    """Return a module of this source, whose folder is on the path."""
    path.write_text(source)
    monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    monkeypatch.setitem(sys.modules, "torch", sys)  # Restored, or absent again, afterwards.
    spec.loader.exec_module(module)
    return module


# -- with torch --------------------------------------------------------------------------------


class DoublesArrays(CpuHardware):
    def place(self, value, index=0):
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            value = value.astype("float64")
        return super().place(value, index)


class RoundsArrays(CpuHardware):
    def place(self, value, index=0):
        if isinstance(value, np.ndarray) and value.size:
            value = np.minimum(value, 1)
        return super().place(value, index)


class LeavesArrays(CpuHardware):
    def place(self, value, index=0):
        return value


class TakesWhatTorchShares(CpuHardware):
    def place(self, value, index=0):
        import torch

        return torch.from_numpy(value) if isinstance(value, np.ndarray) else super().place(value)


class DoublesLists(CpuHardware):
    def place(self, value, index=0):
        return super().place(np.asarray(value, "float64") if isinstance(value, list) else value)


class HalvesTensors(CpuHardware):
    def place(self, value, index=0):
        placed = super().place(value)
        return placed.half() if hasattr(placed, "dtype") and value is placed else placed


class Elsewhere(CpuHardware):
    device_type = "xla"


class LeavesTraining(CpuHardware):
    def place(self, value, index=0):
        import torch

        placed = super().place(value)
        return placed.train() if isinstance(placed, torch.nn.Module) else placed


class TakesText(CpuHardware):
    def place(self, value, index=0):
        if isinstance(value, list):
            value = np.asarray(value, "float32")
        return super().place(value)


class CopiesDicts(CpuHardware):
    def place(self, value, index=0):
        return dict(value) if isinstance(value, dict) else super().place(value)


class FetchesTheTopOnly(CpuHardware):
    def fetch(self, value):
        import torch

        return super().fetch(value) if isinstance(value, torch.Tensor) else value


class FetchesFloat32Only(CpuHardware):
    def fetch(self, value):
        import torch

        if isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16:
            return value
        return super().fetch(value)


class TracksGradients(CpuHardware):
    def predict(self, model, value):
        return model(value)


class MakesItUp(CpuHardware):
    def predict(self, model, value):
        return value


class LoadsNothing(CpuHardware):
    def load(self, model_dir):
        import torch

        return torch.nn.Linear(3, 2)


class RaisesItsOwn(CpuHardware):
    def load(self, model_dir):
        try:
            return super().load(model_dir)
        except UserCodeError as error:
            raise FileNotFoundError(model_dir) from error


BROKEN_WITH_TORCH = {
    DoublesArrays: ("test_place_keeps_dtype_and_values", "an array of float32 became torch.float64"),
    RoundsArrays: ("test_place_keeps_dtype_and_values", "the values changed"),
    LeavesArrays: ("test_place_keeps_dtype_and_values", "must return a tensor"),
    Elsewhere: ("test_place_keeps_dtype_and_values", "must use xla, not cpu"),
    TakesWhatTorchShares: ("test_place_takes_every_layout", "must take an array that is reversed"),
    DoublesLists: ("test_a_list_becomes_float32", "became torch.float64"),
    HalvesTensors: ("test_a_tensor_is_moved", "torch.float32 became torch.float16"),
    LeavesTraining: ("test_a_module_is_placed_in_evaluation_mode", "still in training mode: .*Dropout"),
    TakesText: ("test_other_values_are_left_alone", r"leave \['a', 'b'\] alone; it raised ValueError"),
    CopiesDicts: ("test_other_values_are_left_alone", "leave .'a': .* alone, not make it"),
    FetchesTheTopOnly: ("test_fetch_undoes_place", "a tensor in a list was fetched as"),
    FetchesFloat32Only: ("test_fetch_reads_every_float", "torch.bfloat16 was fetched as"),
    TracksGradients: ("test_predict_records_no_gradients", "gradients enabled"),
    MakesItUp: ("test_predict_calls_the_model", "the sum of 1, 2, 4 is"),
}


@pytest.mark.parametrize("wrong", BROKEN_WITH_TORCH, ids=lambda cls: cls.__name__)
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_placing_and_predicting(wrong):
    pytest.importorskip("torch", reason="torch is not installed")
    breaks(wrong(), *BROKEN_WITH_TORCH[wrong])


@pytest.mark.parametrize(
    ("wrong", "test", "message"),
    [
        (LoadsNothing, "test_load_reads_a_model", "the sum of 1, 2, 4 is"),
        (
            LoadsNothing,
            "test_load_of_nothing_is_the_users_error",
            "UserCodeError for the empty model, not return",
        ),
        (RaisesItsOwn, "test_load_of_nothing_is_the_users_error", "not FileNotFoundError"),
    ],
)
def test_loading(tmp_path, wrong, test, message):
    pytest.importorskip("torch", reason="torch is not installed")
    breaks(wrong(), test, message, tmp_path)


def test_a_machine_without_the_device_skips():
    pytest.importorskip("torch", reason="torch is not installed")

    class Absent(CpuHardware):
        def device_count(self):
            return 0

    with pytest.raises(pytest.skip.Exception, match="this machine has no cpu"):
        contract(Absent()).test_a_tensor_is_moved()
