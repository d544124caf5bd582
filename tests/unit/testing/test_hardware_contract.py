"""Each promise of the hardware contract is broken by one hardware, and seen."""

import importlib.util
import os
import re
import sys
from itertools import count
from pathlib import Path

import attrs
import numpy as np
import pytest
from tests.unit.testing.broken import breaks, cases_of, failing, promises

from modelyard.core.errors import UserCodeError
from modelyard.hardware.cpu import CpuHardware
from modelyard.testing.hardware import HardwareContract
from modelyard.testing.stand_in import StandInHardware
from modelyard.testing.trees import new_folder

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


class Renamable(CpuHardware):
    def __init__(self, name="cpu"):
        object.__setattr__(self, "name", name)


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


class LostToAnything(CpuHardware):
    def recover(self, error):
        return False


class PreparesArgv(CpuHardware):
    def prepare(self, command, host, environ):
        return command.argv


class PreparesAnew(CpuHardware):
    def prepare(self, command, host, environ):
        return attrs.evolve(command, environ={"CALL": str(next(_numbers))})


class PreparesAway(CpuHardware):
    def prepare(self, command, host, environ):
        return attrs.evolve(command, argv=command.argv[:2])


class PreparesEnviron(CpuHardware):
    def prepare(self, command, host, environ):
        os.environ["GLOO_SOCKET_IFNAME"] = host.network_interface
        return command


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
    NeedsOption: ("test_is_made_without_options", r"NeedsOption\(\) must work without options"),
    Renamable: ("test_is_made_without_options", "cls.. is other hardware: 'cpu'"),
    ImpureEnviron: ("test_environ_is_pure", "environ differs from call to call"),
    NumberEnviron: ("test_environ_is_pure", "must map text to text, not .'WORLD_SIZE'"),
    EnvironChanges: ("test_environ_is_pure", "must not change os.environ; .*GLOO"),
    WorkersChange: ("test_worker_environ_is_pure", "must not change os.environ; .*GLOO"),
    LostToAnything: ("test_recover_goes_on_after_a_scripts_own_error", "but recover returned False"),
    PreparesArgv: ("test_prepare_is_pure", r"must return a Command, not \('python'"),
    PreparesAnew: ("test_prepare_is_pure", "prepare differs from call to call"),
    PreparesAway: (
        "test_prepare_is_pure",
        r"must leave the script and its arguments, not \('python', 'train.py'\)",
    ),
    PreparesEnviron: ("test_prepare_is_pure", "prepare must not change os.environ; .*GLOO"),
}


def contract(hardware, **attributes):
    return type("Contract", (HardwareContract,), {"hardware": hardware, **attributes})()


def made(cls):
    return cls("other") if cls in (NeedsOption, Renamable) else cls()


@pytest.mark.parametrize("wrong", BROKEN, ids=lambda cls: cls.__name__)
def test_wrong_hardware_is_caught(wrong, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "before")
    test, message = BROKEN[wrong]
    method = getattr(contract(made(wrong)), test)
    for case in cases_of(method):
        assert re.search(message, breaks(method, **case))


OPTIONAL = {
    "test_describes_itself_on_one_line": "it does not describe itself",
    "test_worker_environ_is_pure": "its workers need no variables",
    "test_recover_goes_on_after_a_scripts_own_error": "it cannot be lost",
    "test_prepare_is_pure": "it has no say in how a script is started",
    "test_batches_come_apart": "it takes one request at a time",
}


@pytest.mark.parametrize("test", OPTIONAL)
def test_what_only_some_have_is_skipped(test):
    method = getattr(contract(StandInHardware()), test)
    for case in cases_of(method):
        with pytest.raises(pytest.skip.Exception, match=OPTIONAL[test]):
            method(**case)


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


HEAVY = (
    ("import torch", "pass", "pass", "must not import torch"),
    ("", "import torch", "pass", "must not import torch"),
    ("", "pass", "import torch", "must not import torch"),
    ("", "import a_module_that_is_absent", "pass", "in a fresh interpreter: .*a_module_that_is_absent"),
)
COUNTS = "test_counting_does_not_import_torch"


@pytest.mark.parametrize(
    ("top", "body", "described", "message"),
    HEAVY,
    ids=["torch at the top", "torch to count", "torch to describe", "needs more than itself"],
)
def test_counting_with_torch(tmp_path, monkeypatch, top, body, described, message):
    """The torch that is imported is an empty module: whether one is installed makes no difference."""
    (tmp_path / "torch.py").write_text("")
    source = COUNTING.format(top=top, body=body, described=described)
    hardware = written(tmp_path / "counting.py", source, monkeypatch).Counting()
    assert re.search(f"(?s){message}", breaks(getattr(contract(hardware), COUNTS)))


def test_counting_with_nothing_but_itself(tmp_path, monkeypatch):
    source = COUNTING.format(top="", body="pass", described="pass")
    hardware = written(tmp_path / "counting.py", source, monkeypatch).Counting()
    contract(hardware).test_counting_does_not_import_torch()


def test_a_class_that_no_fresh_interpreter_can_find():
    class Local(CpuHardware):
        pass

    assert "must be at the top of its module" in breaks(getattr(contract(Local()), COUNTS))


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


class WidensBytes(CpuHardware):
    def place(self, value, index=0):
        is_bytes = isinstance(value, np.ndarray) and value.dtype == "uint8"
        return super().place(value.astype("int16") if is_bytes else value)


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
        placed = super().place(value)
        return placed.double() if isinstance(value, list) and placed is not value else placed


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


class Pair(CpuHardware):
    def device_count(self):
        return 2


class HasNoSecond(Pair):
    def place(self, value, index=0):
        return super().place(value, (0,)[index])


class SaysItIsTheFirst(Pair):
    """Has a tensor say that it is on the first GPU: no machine without one has a second device."""

    def place(self, value, index=0):
        import torch

        class OfTheFirst(torch.Tensor):
            device = torch.device("cuda", 0)

        placed = super().place(value, index)
        return placed.as_subclass(OfTheFirst) if index and isinstance(placed, torch.Tensor) else placed


class LeavesModelsElsewhere(Pair):
    def move_module(self, device, module):
        return module.to(device)

    def device(self, index):
        import torch

        return torch.device("meta" if index else "cpu")


class PredictsOnTheFirstAlone(Pair):
    def place(self, value, index=0):
        import torch

        placed = super().place(value, index)
        return placed + index if isinstance(placed, torch.Tensor) else placed


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


class MakesUpForLayers(CpuHardware):
    def predict(self, model, value):
        import torch

        with torch.no_grad():
            return super().predict(model, value) + isinstance(model, torch.nn.Linear)


class LoadsAnother(CpuHardware):
    def load(self, model_dir):
        import torch

        super().load(model_dir)
        return torch.nn.Linear(3, 2)


class RaisesItsOwn(CpuHardware):
    def load(self, model_dir):
        try:
            return super().load(model_dir)
        except UserCodeError as error:
            raise FileNotFoundError(model_dir) from error


class LoadsWithoutAFile(CpuHardware):
    def load(self, model_dir):
        return super().load(model_dir) if (model_dir / "model.pt").exists() else dict


class NoKey(CpuHardware):
    def batch_key(self, value):
        return None


class KeyOfRows(CpuHardware):
    def batch_key(self, value):
        return len(value)


class OneKey(CpuHardware):
    def batch_key(self, value):
        return 1


class KeyOfType(CpuHardware):
    def batch_key(self, value):
        return super().batch_key(value) and value.dtype


class KeyOfAnything(CpuHardware):
    def batch_key(self, value):
        return super().batch_key(value) or repr(value)


class StacksSizes(CpuHardware):
    def stack(self, values):
        stacked, sizes = super().stack(values)
        return stacked, sizes[::-1]


class StacksReversed(CpuHardware):
    def stack(self, values):
        return super().stack(values[::-1])[0], super().stack(values)[1]


class SplitsReversed(CpuHardware):
    def split(self, prediction, sizes):
        return super().split(prediction.flip(0), sizes)


class SplitsAnything(CpuHardware):
    def split(self, prediction, sizes):
        return (
            [prediction for _ in sizes] if len(prediction) != sum(sizes) else super().split(prediction, sizes)
        )


EVERY = "test_every_device_can_be_placed_on"
BROKEN_WITH_TORCH = {
    DoublesArrays: ("test_place_keeps_dtype_and_values", "an array of float32 became torch.float64"),
    WidensBytes: ("test_place_keeps_dtype_and_values", "an array of uint8 became torch.int16"),
    RoundsArrays: ("test_place_keeps_dtype_and_values", "the values changed"),
    LeavesArrays: ("test_place_keeps_dtype_and_values", "must return a tensor"),
    Elsewhere: ("test_place_keeps_dtype_and_values", "must use xla, not cpu"),
    TakesWhatTorchShares: ("test_place_takes_every_layout", "must take an array that is reversed"),
    DoublesLists: ("test_a_list_becomes_float32", "became torch.float64"),
    HalvesTensors: ("test_a_tensor_is_moved", "torch.float32 became torch.float16"),
    LeavesTraining: ("test_a_module_is_placed_in_evaluation_mode", "still in training mode: .*Dropout"),
    HasNoSecond: (EVERY, "place raised IndexError.* for the device 1"),
    SaysItIsTheFirst: (EVERY, "what is for the device 1 is on cuda:0"),
    LeavesModelsElsewhere: (EVERY, r"for the device 1 a tensor is on cpu, a model on \['meta'\]"),
    PredictsOnTheFirstAlone: (EVERY, r"the sum of 1, 2, 4 is \[\[10"),
    TakesText: ("test_other_values_are_left_alone", r"leave \['a', 'b'\] alone; it raised ValueError"),
    CopiesDicts: ("test_other_values_are_left_alone", "leave .'a': .* alone, not make it"),
    FetchesTheTopOnly: ("test_fetch_undoes_place", "a tensor in a list was fetched as"),
    FetchesFloat32Only: ("test_fetch_reads_every_float", "torch.bfloat16 was fetched as"),
    TracksGradients: ("test_predict_records_no_gradients", "gradients enabled"),
    MakesItUp: ("test_predict_calls_the_model", "the sum of 1, 2, 4 is"),
    NoKey: ("test_batches_come_apart", "rows of numbers have no batch_key"),
    KeyOfRows: ("test_batches_come_apart", "have two keys: 2 and 1"),
    StacksSizes: ("test_batches_come_apart", r"the sizes of 2 rows and 1 row are \[1, 2\]"),
    StacksReversed: ("test_batches_come_apart", "2 rows and 1 row, stacked, became"),
    SplitsReversed: ("test_batches_come_apart", "a piece of a prediction became"),
    OneKey: ("test_what_does_not_go_together_is_not_stacked", "and rows of float64 have one key: 1"),
    KeyOfType: ("test_what_does_not_go_together_is_not_stacked", "and rows of another width have one key"),
    KeyOfAnything: ("test_what_does_not_go_together_is_not_stacked", "'text' cannot be stacked, but has"),
    SplitsAnything: ("test_a_prediction_of_other_rows_is_not_split", "1 rows for an input of 3 were split"),
    MakesUpForLayers: ("test_predict_calls_the_model", r"the sum of 1, 2, 4 is \[\[8"),
    LoadsAnother: ("test_load_reads_a_model", "the sum of 1, 2, 4 is"),
    LoadsWithoutAFile: ("test_load_of_nothing_is_the_users_error", "for the empty model, not return"),
    RaisesItsOwn: ("test_load_of_nothing_is_the_users_error", "not FileNotFoundError"),
}
BROKEN_PROMISES = {COUNTS, *(test for test, _ in (*BROKEN.values(), *BROKEN_WITH_TORCH.values()))}


@pytest.mark.parametrize("wrong", BROKEN_WITH_TORCH, ids=lambda cls: cls.__name__)
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.torch
def test_placing_and_predicting(wrong, tmp_path):
    test, message = BROKEN_WITH_TORCH[wrong]
    method = getattr(contract(wrong()), test)
    arguments = {"tmp_path": tmp_path} if "tmp_path" in method.__annotations__ else {}
    assert re.search(message, breaks(method, **arguments))


@pytest.mark.parametrize("promise", sorted(promises(HardwareContract) - {COUNTS}))
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.torch
def test_one_wrong_hardware_breaks_this_promise_alone(promise, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "before")
    given = {"tmp_path": lambda: new_folder(tmp_path / str(next(_numbers)))}
    wrong = [made(cls) for cls, (test, _) in (BROKEN | BROKEN_WITH_TORCH).items() if test == promise]
    assert {promise} in [failing(contract(hardware), given, but={COUNTS}) for hardware in wrong]


@pytest.mark.torch
def test_a_machine_without_the_device_skips():
    class Absent(CpuHardware):
        def device_count(self):
            return 0

    with pytest.raises(pytest.skip.Exception, match="this machine has no cpu"):
        contract(Absent()).test_a_tensor_is_moved()


@pytest.mark.torch
def test_workers_may_see_their_own_device_alone():
    class ByVariable(SaysItIsTheFirst):
        def worker_environ(self, index):
            return {"VISIBLE": str(index)}

    with pytest.raises(AssertionError, match="for the device 1 a tensor is on cuda:0, a model on"):
        contract(ByVariable()).test_every_device_can_be_placed_on()


@pytest.mark.torch
def test_what_may_not_run_is_skipped():
    with pytest.raises(pytest.skip.Exception, match="models are not run on cpu here"):
        contract(CpuHardware(), can_run=False).test_a_tensor_is_moved()
