"""NVIDIA's GPUs, as far as no GPU is needed: options, checks and what is said of them."""

import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.core.plans import ProviderRef, Resources
from modelyard.hardware import detection

CudaHardware = pytest.importorskip("modelyard.hardware.cuda").CudaHardware

GPUS = "".join(f"GPU {number}: Tesla T4 (UUID: GPU-{number}abc)\n" for number in range(4))


@pytest.fixture
def machine(drivers, monkeypatch):
    """Have a machine with a driver that lists this, and with these variables; without a listing none."""
    asked = detection.gpus

    def make(listing=None, **environ):
        if listing is not None:
            drivers.says("nvidia-smi", listing)
        monkeypatch.setattr(detection, "gpus", lambda: asked({**drivers.environ, **environ}))

    return make


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("autocast", "float32", "autocast is one of '', 'float16', 'bfloat16', not 'float32'"),
        ("autocast", None, "not None"),
        ("autocast", True, "not True"),
        ("autocast", ["float16"], r"not \['float16'\]"),
        ("compile", "fast", "compile is one of '', 'default', 'reduce-overhead', .*, not 'fast'"),
        ("compile", True, "not True"),
        ("cuda_graphs", 1, "cuda_graphs is True or False, not 1"),
        ("cuda_graphs", "yes", "cuda_graphs is True or False, not 'yes'"),
    ],
)
def test_a_wrong_option_says_what_it_may_be(option, value, said):
    with pytest.raises(InvalidPlanError, match=said):
        CudaHardware(**{option: value})


def test_every_right_option_is_taken():
    for autocast in ("", "float16", "bfloat16"):
        for mode in ("", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"):
            made = CudaHardware(autocast=autocast, compile=mode, cuda_graphs=True)
            assert (made.autocast, made.compile, made.cuda_graphs) == (autocast, mode, True)


def test_a_wrong_option_is_known_before_anything_is_submitted(plugins):
    with pytest.raises(InvalidPlanError, match="autocast"):
        plugins.select_hardware(Resources("ml.g5.xlarge"), ProviderRef("cuda", {"autocast": "double"}))


def test_it_counts_and_says_what_the_driver_lists(machine):
    machine(GPUS, CUDA_VISIBLE_DEVICES="2,3")
    hardware = CudaHardware()
    assert hardware.device_count() == 2
    assert hardware.describe() == "2 of 4 GPUs (Tesla T4), as CUDA_VISIBLE_DEVICES='2,3' says"


@pytest.mark.parametrize("instance_type", ["local", "local_gpu"])
def test_this_machine_must_have_a_gpu_where_it_is_meant(machine, instance_type):
    machine()
    way_out = "leave hardware and instance_type='local_gpu' out"
    with pytest.raises(InvalidPlanError, match=f"^no GPU found: nvidia-smi is not on the PATH; {way_out}$"):
        CudaHardware().check(Resources(instance_type))


def test_another_machine_may_have_what_this_one_has_not(machine):
    machine()
    CudaHardware().check(Resources("ml.p4d.24xlarge", 2))


def test_hosts_on_this_machine_cannot_share_its_gpus(machine):
    machine(GPUS)
    CudaHardware().check(Resources("local_gpu", 1))
    with pytest.raises(InvalidPlanError, match="^2 hosts on this machine .* NCCL refuses: .*'torchrun': {}"):
        CudaHardware().check(Resources("local_gpu", 2))


def test_gpus_that_are_hidden_are_not_there(machine):
    machine(GPUS, CUDA_VISIBLE_DEVICES="")
    with pytest.raises(InvalidPlanError, match="as CUDA_VISIBLE_DEVICES='' says; leave hardware"):
        CudaHardware().check(Resources("local_gpu"))
