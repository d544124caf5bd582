"""What every kind of hardware promises, as tests."""

import contextlib
import inspect
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from modelyard.core.contracts import (
    BatchingHardware,
    Command,
    DescribedHardware,
    Hardware,
    Host,
    PreparingHardware,
    RecoveringHardware,
    WorkerHardware,
)
from modelyard.core.errors import UserCodeError
from modelyard.testing.saying import is_a_name, maps_text_to_text

HOSTS: Mapping[int, tuple[Host, ...]] = {
    1: (Host("algo-1", ("algo-1",)),),
    2: tuple(Host(name, ("algo-1", "algo-2"), "ens5") for name in ("algo-1", "algo-2")),
}
"""The hosts of a job, by how many there are."""

_COUNT = """
import importlib, importlib.util, operator, sys

file, module, name = sys.argv[1:]
try:
    found = importlib.import_module(module)
except ImportError:
    spec = importlib.util.spec_from_file_location(module, file)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
hardware = operator.attrgetter(name)(found)()
hardware.device_count()
getattr(hardware, "describe", str)()
print("imported" if "torch" in sys.modules else "absent")
"""


class HardwareContract:
    """The tests of one kind of hardware: subclass this, and say which.

    ::

        from modelyard.hardware.cpu import CpuHardware  # Yours.
        from modelyard.testing import HardwareContract


        class TestCpuHardware(HardwareContract):
            hardware = CpuHardware()

    ``dtypes``: of the arrays that the device can hold; ``tolerance``: how far a prediction may be
    from the exact one; ``can_run``: whether models may be run on it here. Where torch is not installed,
    or the machine has no such device, what needs them is skipped in any case.
    """

    hardware: Hardware
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64", "int64", "uint8", "bool")
    tolerance: ClassVar[float] = 1e-2
    can_run: ClassVar[bool] = True

    def save_model(self, module: Any, folder: Path) -> None:
        """Write a model that `load` reads into `folder`: TorchScript's ``model.pt``, unless overridden."""
        import torch

        with _torchscript():
            torch.jit.save(torch.jit.script(module), str(folder / "model.pt"))

    # -- what it is ----------------------------------------------------------------------------

    def test_has_a_name(self) -> None:
        """Hardware is found by its name."""
        is_a_name(type(self.hardware).name)

    def test_attributes_are_well_formed(self) -> None:
        """The device's type is one word, its collectives and what selects it are tuples of text."""
        cls = type(self.hardware)
        kind = cls.device_type
        assert re.fullmatch("[a-z]+", kind), f"device_type is what torch calls the device, not {kind!r}"
        for attribute in ("collectives", "instance_types", "accelerator_types"):
            declared = getattr(cls, attribute, () if attribute == "accelerator_types" else None)
            assert isinstance(declared, tuple), f"{attribute} must be a tuple, not {declared!r}"
            wrong = [item for item in declared if not isinstance(item, str) or not item.strip()]
            assert not wrong, f"{attribute} must hold text, not {wrong!r}"

    def test_is_made_without_options(self) -> None:
        """Every option has a default, so that an instance type alone can select the hardware."""
        made = _made_by(type(self.hardware))
        assert made.name == self.hardware.name, f"cls() is other hardware: {made.name!r}"

    # -- counting ------------------------------------------------------------------------------

    def test_device_count_is_a_number(self) -> None:
        """`device_count` never raises, and says 0 where there is no such device."""
        try:
            count = self.hardware.device_count()
        except Exception as error:
            raise AssertionError(f"device_count must never raise; it raised {error!r}") from error
        assert type(count) is int, f"device_count must return an int, not {count!r}"
        assert count >= 0, f"device_count must be 0 or more, not {count}"

    def test_counting_does_not_import_torch(self) -> None:
        """The program that only launches a script has no use for torch, which takes seconds to import."""
        cls = type(self.hardware)
        assert "<locals>" not in cls.__qualname__, f"{cls.__qualname__} must be at the top of its module"
        where = (inspect.getfile(cls), cls.__module__, cls.__qualname__)
        done = subprocess.run(
            [sys.executable, "-c", _COUNT, *where],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"device_count fails in a fresh interpreter: {done.stderr[-500:]}"
        said = done.stdout.split()[-1]
        assert said == "absent", (
            "making the hardware, counting and describing its devices must not import torch"
        )

    # -- the process group ---------------------------------------------------------------------

    @pytest.mark.parametrize("hosts", HOSTS)
    def test_environ_is_pure(self, hosts: int) -> None:
        """`environ` depends on the host alone, and changes nothing."""
        with _environ_unchanged("environ"):
            for host in HOSTS[hosts]:
                first, second = dict(self.hardware.environ(host)), dict(self.hardware.environ(host))
                assert first == second, f"environ differs from call to call: {first}, then {second}"
                maps_text_to_text("environ", first)

    # -- what only some have ----------------------------------------------------------------------

    def test_describes_itself_on_one_line(self) -> None:
        """`describe`, where there is one, never raises, and says something that fits a log."""
        if not isinstance(self.hardware, DescribedHardware):
            pytest.skip("it does not describe itself")
        try:
            said = self.hardware.describe()
        except Exception as error:
            raise AssertionError(f"describe must never raise; it raised {error!r}") from error
        assert isinstance(said, str), f"describe must return text, not {said!r}"
        assert len(said.splitlines()) == 1, f"describe must return one line, not {said!r}"

    def test_worker_environ_is_pure(self) -> None:
        """`worker_environ`, where there is one, depends on the index alone, and changes nothing."""
        if not isinstance(self.hardware, WorkerHardware):
            pytest.skip("its workers need no variables")
        with _environ_unchanged("worker_environ"):
            for index in range(2):
                first, second = (dict(self.hardware.worker_environ(index)) for _ in range(2))
                assert first == second, f"worker_environ differs from call to call: {first}, then {second}"
                maps_text_to_text("worker_environ", first)

    @pytest.mark.parametrize("hosts", HOSTS)
    def test_prepare_is_pure(self, hosts: int) -> None:
        """`prepare`, where there is one, makes another command of one, and starts and changes nothing."""
        if not isinstance(self.hardware, PreparingHardware):
            pytest.skip("it has no say in how a script is started")
        command = Command(
            ("python", "train.py", "--epochs", "3"), {"GREETING": "hello"}, Path("/opt/ml/code")
        )
        for host in HOSTS[hosts]:
            with _environ_unchanged("prepare"):
                made: Any = [self.hardware.prepare(command, host, {"A": "b"}) for _ in range(2)]
            assert isinstance(made[0], Command), f"prepare must return a Command, not {made[0]!r}"
            assert made[0] == made[1], f"prepare differs from call to call: {made[0]}, then {made[1]}"
            program = made[0].argv[-len(command.argv) + 1 :]
            assert program == command.argv[1:], (
                f"prepare must leave the script and its arguments, not {program}"
            )

    def test_recover_goes_on_after_a_scripts_own_error(self) -> None:
        """`recover`, where there is one, says that the device still works after an error of the script's."""
        if not isinstance(self.hardware, RecoveringHardware):
            pytest.skip("it cannot be lost")
        works = self.hardware.recover(ValueError("of the script"))
        assert works is True, f"an error of the script's loses no device, but recover returned {works!r}"

    # -- several requests at once ----------------------------------------------------------------

    def test_batches_come_apart(self) -> None:
        """Inputs of one `batch_key` are stacked, and a prediction is split into the rows of each."""
        hardware = self._batching()
        inputs = [self._placed(np.full((rows, 3), rows, np.float32)) for rows in (2, 1)]
        keys = [hardware.batch_key(value) for value in inputs]
        assert keys[0] is not None, "rows of numbers have no batch_key, so they are never stacked"
        assert keys[0] == keys[1], f"rows of one width and dtype have two keys: {keys[0]!r} and {keys[1]!r}"
        stacked, sizes = hardware.stack(inputs)
        assert list(sizes) == [2, 1], f"the sizes of 2 rows and 1 row are {sizes!r}"
        expected = np.array([[2.0] * 3, [2.0] * 3, [1.0] * 3])
        self._holds(stacked, expected, "2 rows and 1 row, stacked,")
        for piece, rows in zip(hardware.split(stacked, sizes), (expected[:2], expected[2:]), strict=True):
            self._holds(piece, rows, "a piece of a prediction")

    def test_what_does_not_go_together_is_not_stacked(self) -> None:
        """Rows of another width or dtype have another `batch_key`, and what has no rows has none."""
        hardware = self._batching()
        array = np.zeros((2, 3), np.float32)
        key = hardware.batch_key(self._placed(array))
        others = {dtype: array.astype(dtype) for dtype in self.dtypes if dtype != "float32"}
        others["another width"] = array[:, :2]
        for what, other in others.items():
            found = hardware.batch_key(self._placed(other))
            assert found != key, f"rows of 3 float32 and rows of {what} have one key: {key!r}"
        for value in ("text", None, {"a": "b"}):
            found = hardware.batch_key(value)
            assert found is None, f"{value!r} cannot be stacked, but has the batch_key {found!r}"

    def test_a_prediction_of_other_rows_is_not_split(self) -> None:
        """A prediction that has not a row for each of the input's is a ``ValueError``."""
        hardware = self._batching()
        for rows in (1, 4):
            prediction = self._placed(np.zeros((rows, 2), np.float32))
            try:
                pieces = hardware.split(prediction, [2, 1])
            except ValueError:
                continue
            raise AssertionError(f"{rows} rows for an input of 3 were split into {pieces!r}")

    # -- placing and fetching ------------------------------------------------------------------

    def test_place_keeps_dtype_and_values(self) -> None:
        """An array becomes a tensor of its dtype, shape and values on the device."""
        self._device()
        for dtype in self.dtypes:
            array = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
            placed = self._placed(array)
            assert str(placed.dtype) == f"torch.{dtype}", f"an array of {dtype} became {placed.dtype}"
            assert np.array_equal(placed.cpu().numpy(), array), f"the values changed: {array} to {placed}"

    def test_place_takes_every_layout(self) -> None:
        """Arrays that torch cannot share are placed too: read-only, reversed, of the other byte order."""
        self._device()
        for what, array in _layouts().items():
            try:
                placed = self._placed(array)
            except (TypeError, ValueError, RuntimeError) as error:
                raise AssertionError(f"place must take an array that is {what}: {error}") from error
            assert placed.shape == array.shape, f"an array that is {what} became {tuple(placed.shape)}"
            assert np.array_equal(placed.cpu().numpy(), array), f"an array that is {what} became {placed}"

    def test_a_list_becomes_float32(self) -> None:
        """A list has no dtype of its own: its numbers become float32."""
        self._device()
        for values in ([1, 2, 3], [[1.5, 2], [3, 4]]):
            placed = self._placed(values)
            assert str(placed.dtype) == "torch.float32", f"the list {values} became {placed.dtype}"
            assert placed.cpu().tolist() == np.asarray(values).tolist(), f"the list {values} became {placed}"

    def test_a_tensor_is_moved(self) -> None:
        """A tensor is on the device afterwards, with its dtype and values."""
        torch = self._device()
        given = torch.tensor([1.5, 2.5])
        placed = self._placed(given)
        assert placed.cpu().tolist() == [1.5, 2.5], f"the tensor {given} became {placed}"
        assert placed.dtype == given.dtype, f"a tensor of {given.dtype} became {placed.dtype}"

    def test_a_module_is_placed_in_evaluation_mode(self) -> None:
        """A module is moved and its dropout and batch norm are switched to evaluation."""
        torch = self._device()
        placed: Any = self.hardware.place(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout()))
        training = [type(part).__name__ for part in placed.modules() if part.training]
        assert not training, f"these are still in training mode: {training}"
        kinds = {parameter.device.type for parameter in placed.parameters()}
        assert kinds == {self.hardware.device_type}, f"the module's parameters are on {sorted(kinds)}"

    def test_every_device_can_be_placed_on(self) -> None:
        """Each device that `device_count` counts takes a tensor and a model, by its index, and predicts."""
        torch = self._device()
        for index in range(self.hardware.device_count()):
            try:
                placed: Any = self.hardware.place(torch.ones(2), index)
                model: Any = self.hardware.place(_summing(torch), index)
            except Exception as error:
                raise AssertionError(f"place raised {error!r} for the device {index}") from error
            # Who gives workers variables may have each see its own device alone, as its first.
            alone = (0,) if isinstance(self.hardware, WorkerHardware) else ()
            where = placed.device
            assert where.index in (None, index, *alone), f"what is for the device {index} is on {where}"
            apart = sorted({str(each.device) for each in model.parameters()} - {str(where)})
            assert not apart, f"for the device {index} a tensor is on {where}, a model on {apart}"
            if index:  # What is on the first is asked by promises of their own.
                self._predicts(model, index)

    def test_other_values_are_left_alone(self) -> None:
        """What is no array, tensor, module or list of numbers is returned as it is."""
        self._device()
        for value in ("text", b"bytes", None, 3, {"a": [1.0]}, ["a", "b"], [[1.0], [1.0, 2.0]], object()):
            try:
                placed = self.hardware.place(value)
            except Exception as error:
                raise AssertionError(f"place must leave {value!r} alone; it raised {error!r}") from error
            assert placed is value, f"place must leave {value!r} alone, not make it {placed!r}"

    def test_fetch_undoes_place(self) -> None:
        """Tensors become arrays again, also those that require gradients, and inside lists and dicts."""
        torch = self._device()
        array = np.array([[1.5, -2.0]], np.float32)
        placed = self._placed(array)
        tracked = torch.nn.Parameter(placed)
        for value in (placed, tracked):
            self._is_fetched(self.hardware.fetch(value), array, f"{type(value).__name__} alone")
        nested: Any = self.hardware.fetch({"scores": [placed, (tracked, "text")], "number": 3})
        assert isinstance(nested, dict), f"a dict was fetched as {nested!r}"
        first, (second, text) = nested["scores"]
        self._is_fetched(first, array, "a tensor in a list")
        self._is_fetched(second, array, "a tensor in a tuple")
        assert (text, nested["number"]) == ("text", 3), f"other values were fetched as {text!r}, {nested!r}"

    def test_fetch_reads_every_float(self) -> None:
        """Half precision is fetched as numbers, bfloat16 too, which numpy does not know."""
        torch = self._device()
        for dtype in (torch.float16, torch.bfloat16):
            fetched: Any = self.hardware.fetch(self.hardware.place(torch.tensor([1.5, -2.0], dtype=dtype)))
            assert isinstance(fetched, np.ndarray), f"a tensor of {dtype} was fetched as {fetched!r}"
            assert fetched.tolist() == [1.5, -2.0], f"a tensor of {dtype} was fetched as {fetched}"

    # -- predicting ----------------------------------------------------------------------------

    def test_predict_records_no_gradients(self) -> None:
        """The model is called with gradients switched off, so that requests do not collect memory."""
        torch = self._device()
        recording = []

        class Probe(torch.nn.Module):  # type: ignore[misc, name-defined]
            def forward(self, value: Any) -> Any:
                recording.append(torch.is_grad_enabled())
                return value * 2

        answer: Any = self.hardware.predict(
            self.hardware.place(Probe()), self._placed(np.ones((1, 3), np.float32))
        )
        assert recording == [False], f"the model was called with gradients enabled: {recording}"
        assert not answer.requires_grad, "the prediction requires gradients"

    def test_predict_calls_the_model(self) -> None:
        """The prediction is what the model says of the value."""
        torch = self._device()
        self._predicts(self.hardware.place(_summing(torch)))

    def test_load_reads_a_model(self, tmp_path: Path) -> None:
        """A model without a ``model_fn`` is loaded, and predicts."""
        torch = self._device()
        self.save_model(_summing(torch), tmp_path)
        with _torchscript():
            model = self.hardware.load(tmp_path)
        self._predicts(self.hardware.place(model))

    def test_load_of_nothing_is_the_users_error(self, tmp_path: Path) -> None:
        """A folder without a model, or with a damaged one, is a `UserCodeError`."""
        self._device()
        damaged = tmp_path / "damaged"
        damaged.mkdir()
        (damaged / "model.pt").write_bytes(b"no model at all")
        empty = tmp_path / "empty"
        empty.mkdir()
        for folder in (empty, damaged):
            try:
                with _torchscript():
                    loaded = self.hardware.load(folder)
            except UserCodeError:
                continue
            except Exception as error:
                said = f"load must raise UserCodeError for the {folder.name} model, not {error!r}"
                raise AssertionError(said) from error
            raise AssertionError(
                f"load must raise UserCodeError for the {folder.name} model, not return {loaded!r}"
            )

    def _device(self) -> Any:
        """Return torch, or skip the test where it or the device is missing."""
        torch = pytest.importorskip("torch", reason="torch is not installed")
        if not self.can_run:
            pytest.skip(f"models are not run on {self.hardware.name} here")
        if self.hardware.device_count() == 0:
            pytest.skip(f"this machine has no {self.hardware.name}")
        return torch

    def _batching(self) -> BatchingHardware:
        if not isinstance(self.hardware, BatchingHardware):
            pytest.skip("it takes one request at a time")
        self._device()
        return self.hardware

    def _holds(self, value: object, expected: "np.ndarray[Any, Any]", what: str) -> None:
        fetched: Any = self.hardware.fetch(value)
        assert np.array_equal(fetched, expected), f"{what} became {fetched!r}, not {expected}"

    def _placed(self, value: object) -> Any:
        import torch

        placed: Any = self.hardware.place(value)
        assert isinstance(placed, torch.Tensor), f"place must return a tensor for {value!r}, not {placed!r}"
        kind = placed.device.type
        assert kind == self.hardware.device_type, f"place must use {self.hardware.device_type}, not {kind}"
        return placed

    def _is_fetched(self, fetched: object, array: "np.ndarray[Any, Any]", what: str) -> None:
        assert isinstance(fetched, np.ndarray), f"{what} was fetched as {fetched!r}, not as an array"
        assert np.array_equal(fetched, array), f"{what} was fetched as {fetched}, not {array}"

    def _predicts(self, model: object, index: int = 0) -> None:
        """Check that a model that sums its inputs does."""
        value = self.hardware.place(np.array([[1.0, 2.0, 4.0]], np.float32), index)
        fetched: Any = self.hardware.fetch(self.hardware.predict(model, value))
        assert np.allclose(fetched, [[7.0]], rtol=self.tolerance), (
            f"the sum of 1, 2, 4 is {fetched}, not [[7.]]"
        )


def _summing(torch: Any) -> Any:
    """Return a linear layer that adds up three numbers."""
    layer = torch.nn.Linear(3, 1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(0.0)
    return layer


def _layouts() -> dict[str, "np.ndarray[Any, Any]"]:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    read_only = array.copy()
    read_only.flags.writeable = False
    return {
        "read-only": read_only,
        "reversed": array[::-1],
        "transposed": array.T,
        "of the other byte order": array.astype(array.dtype.newbyteorder("S")),
        "empty": array[:0],
        "zero-dimensional": np.array(1.5, np.float32),
    }


@contextlib.contextmanager
def _environ_unchanged(what: str) -> Iterator[None]:
    before = dict(os.environ)
    yield
    changed = set(os.environ.items()) ^ set(before.items())
    assert not changed, f"{what} must not change os.environ; it changed {sorted(changed)}"


def _made_by(cls: type[Hardware]) -> Hardware:
    try:
        return cls()
    except TypeError as error:
        raise AssertionError(f"{cls.__qualname__}() must work without options: {error}") from error


@contextlib.contextmanager
def _torchscript() -> Iterator[None]:
    """Let TorchScript be used: torch 2.9 and later call it deprecated, and SageMaker's default needs it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        yield
