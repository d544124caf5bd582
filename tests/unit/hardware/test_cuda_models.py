"""CUDA's hardware and models, as far as no GPU is needed; `tests/gpu` has the rest."""

import sys
import weakref
from types import SimpleNamespace

import pytest

cuda = pytest.importorskip("modelyard.hardware.cuda")
CudaHardware = cuda.CudaHardware


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


# -- compiling ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "how", "recorded"),
    [
        ({"compile": "default"}, {"mode": "default"}, False),
        ({"compile": "max-autotune-no-cudagraphs"}, {"mode": "max-autotune-no-cudagraphs"}, False),
        ({"compile": "reduce-overhead"}, {"mode": "reduce-overhead"}, True),
        ({"compile": "max-autotune"}, {"mode": "max-autotune"}, True),
        ({"cuda_graphs": True}, {"backend": "cudagraphs"}, True),
        ({"cuda_graphs": True, "compile": "default"}, {"mode": "reduce-overhead"}, True),
        ({"cuda_graphs": True, "compile": "reduce-overhead"}, {"mode": "reduce-overhead"}, True),
        ({"cuda_graphs": True, "compile": "max-autotune-no-cudagraphs"}, {"mode": "max-autotune"}, True),
    ],
)
def test_the_options_say_how_a_model_is_compiled(torch, monkeypatch, options, how, recorded):
    asked = []

    def compile_(module, **options):
        asked.append(options)
        return module

    monkeypatch.setattr(torch, "compile", compile_)
    placed = CudaHardware(**options).move_module(torch.device("cpu"), torch.nn.Linear(2, 2))
    assert asked == [how]
    assert (cuda._kept in placed._forward_hooks.values()) == recorded
    assert not placed.training


def test_a_recorded_prediction_is_no_memory_of_the_recording(torch):
    memory = torch.zeros(2)
    kept = cuda._kept(None, None, {"scores": memory, "others": (memory, "text", None)})
    memory.fill_(1)
    assert kept["scores"].tolist() == [0.0, 0.0]
    assert kept["others"][0].tolist() == [0.0, 0.0]
    assert kept["others"][1:] == ("text", None)


# -- going on ----------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    pass


class Gpu:
    """Stands where torch stands, for what is asked of a GPU after a failure; here is none that could fail."""

    OutOfMemoryError = OutOfMemoryError

    def __init__(self, *, initialized=True, error=None, on_empty=lambda: None):
        self.calls = []
        self.error = error
        self.on_empty = on_empty
        self.cuda = SimpleNamespace(
            is_initialized=lambda: initialized, empty_cache=self._empty, synchronize=self._synchronize
        )

    def _empty(self):
        self.calls.append("empty")
        self.on_empty()

    def _synchronize(self):
        self.calls.append("synchronize")
        if self.error:
            raise self.error


@pytest.fixture
def gpu(monkeypatch):
    def make(**options):
        made = Gpu(**options)
        monkeypatch.setitem(sys.modules, "torch", made)
        return made

    return make


def test_without_cuda_nothing_can_be_lost(monkeypatch, gpu):
    unused = gpu(initialized=False)
    assert CudaHardware().recover(RuntimeError("CUDA error"))
    assert unused.calls == []
    monkeypatch.delitem(sys.modules, "torch")
    assert CudaHardware().recover(ImportError("no torch"))


def test_a_gpu_that_answers_is_not_lost_whatever_was_said(gpu):
    asked = gpu()
    assert CudaHardware().recover(RuntimeError("CUDA error: device-side assert triggered"))
    assert asked.calls == ["synchronize"]


@pytest.mark.parametrize("error", [ValueError("of the script"), OutOfMemoryError("CUDA out of memory")])
def test_a_gpu_that_fails_is_lost_and_its_last_words_are_logged(gpu, caplog, error):
    gpu(error=RuntimeError("CUDA error: unspecified launch failure\nCompile with ..."))
    assert not CudaHardware().recover(error)
    assert "unspecified launch failure" in caplog.text
    assert "Compile with" not in caplog.text


class Large:
    pass


def test_what_a_call_held_that_ran_out_of_memory_is_free_before_memory_is_given_back(gpu):
    held = []

    def call():
        large = Large()
        held.append(weakref.ref(large))
        raise OutOfMemoryError("CUDA out of memory")

    alive = []
    asked = gpu(on_empty=lambda: alive.append(held[0]()))
    with pytest.raises(OutOfMemoryError) as failed:
        call()
    assert held[0]() is not None
    assert CudaHardware().recover(failed.value)
    assert alive == [None]
    assert asked.calls == ["empty", "synchronize"]
