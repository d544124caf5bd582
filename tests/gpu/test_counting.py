"""What the driver's program lists, against what CUDA itself shows a process."""

import os
import re
import subprocess
import sys

import pytest

from modelyard.hardware import detection

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

DRIVER = """
import ctypes
cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
cuda.cuInit(0)
cuda.cuDeviceGetCount(ctypes.byref(count))
print(count.value)
"""
TORCH = "import torch; print(torch.cuda.device_count())"

VISIBLE = {
    "not set": lambda uuids: None,
    "none": lambda uuids: "",
    "the first": lambda uuids: "0",
    "the last two": lambda uuids: ",".join(map(str, range(len(uuids))[-2:])),
    "one twice": lambda uuids: "0,0",
    "one and no other": lambda uuids: "0,-1,0",
    "what is not there": lambda uuids: "99",
    "one, and what is not there": lambda uuids: "0,99",
    "by their ids": lambda uuids: ",".join(uuids),
    "by the beginning of an id": lambda uuids: uuids[0][:12],
    "with spaces": lambda uuids: " 0 , 0",
    "a word": lambda uuids: "NoDevFiles",
}


@pytest.fixture(scope="module")
def uuids():
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True)
    return re.findall(r"^GPU .*UUID: (GPU-[^)]+)\)", listed.stdout, re.MULTILINE)


def environ(visible):
    kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return kept if visible is None else {**kept, "CUDA_VISIBLE_DEVICES": visible}


def counted(program, visible):
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environ(visible),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return int(done.stdout)


@pytest.mark.parametrize("visible", VISIBLE.values(), ids=VISIBLE)
def test_as_many_are_counted_as_cuda_shows(uuids, visible):
    visible = visible(uuids)
    assert detection.gpus(environ(visible)).count == counted(DRIVER, visible)


@pytest.mark.parametrize("which", ["not set", "none", "the first", "by their ids"])
def test_as_many_are_counted_as_torch_sees(uuids, which):
    visible = VISIBLE[which](uuids)
    assert detection.gpus(environ(visible)).count == counted(TORCH, visible)
