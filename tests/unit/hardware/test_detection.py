"""Counting devices by asking the programs of their drivers, which small scripts stand in for."""

import json
import os
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.hardware import detection
from modelyard.hardware.detection import Found, core_numbers, gpus, neuron_cores

H100 = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-6f1d2c3b-94f0-4be7-8d2e-5a8c8a2d0b11)\n"
A10G = "".join(
    f"GPU {number}: NVIDIA A10G (UUID: GPU-{number}a2d7f64-aaaa-bbbb-cccc-1234567890ab)\n"
    for number in range(8)
)
TWO = (
    "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-11111111-2222-3333-4444-555555555555)\n"
    "GPU 1: Tesla T4 (UUID: GPU-11119999-2222-3333-4444-555555555555)\n"
)
CUT = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaaaaaa-2222-3333-4444-555555555555)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 2g.10gb     Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbbbbbb-2222-3333-4444-555555555555)
  MIG 7g.40gb     Device  0: (UUID: MIG-f6e1a2b3-1111-5222-8333-d2f129440000)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-cccccccc-2222-3333-4444-555555555555)
"""
OLD_MIG = """\
GPU 0: A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 1g.5gb Device 0: (UUID: MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/7/0)
"""


BOTH = "2 GPUs (NVIDIA A100-SXM4-40GB, Tesla T4)"


# -- NVIDIA: what the driver says --------------------------------------------------------------


@pytest.mark.parametrize(
    ("listing", "found"),
    [
        (H100, Found(1, "1 GPU (NVIDIA H100 80GB HBM3)")),
        (A10G, Found(8, "8 GPUs (NVIDIA A10G)")),
        (TWO, Found(2, BOTH)),
        ("", Found(0, "no GPU found: nvidia-smi lists none")),
        ("No devices found.\n", Found(0, "no GPU found: nvidia-smi lists none")),
        ("\N{SNOWMAN} garbage\nof two lines", Found(0, "no GPU found: nvidia-smi lists none")),
        (b"\xff\x00\xfe GPU 0: binary\n\x80", Found(0, "no GPU found: nvidia-smi lists none")),
    ],
    ids=["one", "eight", "two kinds", "nothing", "none", "garbage", "binary"],
)
def test_what_the_driver_lists_is_counted(drivers, listing, found):
    drivers.says("nvidia-smi", listing)
    assert gpus(drivers.environ) == found


def test_a_gpu_whose_name_is_binary_is_fit_to_be_shown(drivers):
    drivers.says("nvidia-smi", b"GPU 0: A\x1b[31m\xff\x00 (UUID: GPU-1)\n")
    assert gpus(drivers.environ) == Found(1, "1 GPU (A?[31m\N{REPLACEMENT CHARACTER}?)")


def test_gpus_without_a_uuid_are_gpus(drivers):
    drivers.says("nvidia-smi", "GPU 0: Tesla T4\nGPU 1: Tesla T4\n")
    assert gpus(drivers.environ).count == 2


FAILED = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\nMake sure that\n"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"out": FAILED, "code": 9}, FAILED.splitlines()[0]),
        ({"out": H100, "err": "GPU is lost\n", "code": 15}, "GPU is lost"),
        ({"code": 3}, "exit code 3"),
        ({"err": "x" * 500, "code": 1}, "x" * 200),
        ({"err": b"\x1b[1mred\xff", "code": 1}, "?[1mred\N{REPLACEMENT CHARACTER}"),
    ],
    ids=["on its output", "on its errors", "no word", "a long word", "binary"],
)
def test_a_driver_that_fails_is_quoted(drivers, said, reason):
    drivers.says("nvidia-smi", **said)
    assert gpus(drivers.environ) == Found(0, f"no GPU found: nvidia-smi fails: {reason}")


@pytest.mark.parametrize("environ", [{}, {"PATH": ""}, {"PATH": "/nowhere/at/all"}, {"PATH": "a\0b"}])
def test_a_machine_without_a_driver(environ):
    assert gpus(environ) == Found(0, "no GPU found: nvidia-smi is not on the PATH")


def test_a_program_that_may_not_be_run_is_not_there(drivers):
    drivers.script("nvidia-smi", "#!/bin/sh\n", mode=0o644)
    assert gpus(drivers.environ) == Found(0, "no GPU found: nvidia-smi is not on the PATH")


@pytest.mark.parametrize(
    ("content", "reason"),
    [("GPU 0: no program", "Exec format error"), ("#!/nowhere/sh\n", "No such file or directory")],
)
def test_a_program_that_cannot_be_run_says_why(drivers, content, reason):
    drivers.script("nvidia-smi", content)
    assert gpus(drivers.environ) == Found(0, f"no GPU found: nvidia-smi cannot be run: {reason}")


def test_a_driver_that_hangs_is_left_and_nothing_of_it_stays(drivers, monkeypatch):
    monkeypatch.setattr(detection, "_PATIENCE", 0.5)
    os.mkfifo(drivers.folder / "never")
    drivers.script("child", f"#!/bin/sh\nread line < '{drivers.folder}/never'\n")
    # Its child holds its streams, whose end would be waited for.
    drivers.script("nvidia-smi", f"#!/bin/sh\n'{drivers.folder}/child' &\nwait\n")
    assert gpus(drivers.environ) == Found(0, "no GPU found: nvidia-smi does not answer within 0.5 s")
    deadline = time.monotonic() + 20
    while left := [process for process in psutil.process_iter(["cmdline"]) if _runs(process, drivers.folder)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def _runs(process, folder):
    return any(str(folder) in argument for argument in process.info["cmdline"] or ())


def test_the_driver_is_asked_once(drivers):
    drivers.script(
        "nvidia-smi", f"#!/bin/sh\necho asked >> '{drivers.folder}/log'\ncat '{drivers.folder}/out'\n"
    )
    (drivers.folder / "out").write_text(A10G)
    counts = [gpus({**drivers.environ, "CUDA_VISIBLE_DEVICES": visible}).count for visible in ("0", "0,1")]
    assert counts == [1, 2]
    assert (drivers.folder / "log").read_text() == "asked\n"


# -- NVIDIA: what the user hides ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        ("0,1,2,3,4,5,6,7", 8),
        ("7,6,5,4,3,2,1,0", 8),
        ("0,2", 2),
        (" 0 , 2 ", 2),
        ("3", 1),
        ("0,8,1", 1),  # CUDA stops at the first that there is not.
        ("8", 0),
        ("0,-1,1", 1),
        ("0,,1", 1),
        ("-1", 0),
        ("", 0),
        ("NoDevFiles", 0),
        ("0,0", 0),
        ("0,1,0", 0),
        ("1gpu2,2ampere", 2),
        ("GPU-0a2d7f64-aaaa-bbbb-cccc-1234567890ab", 1),
        ("GPU-0,GPU-5a2", 2),
        ("GPU-", 0),  # It might be any of them.
        ("GPU-0,GPU-0a2", 0),
        ("GPU-9,GPU-1", 0),
        ("GPU-1,0", 1),
        ("MIG-c7384736", 0),
        ("9" * 5000, 0),
    ],
)
def test_the_variable_counts(drivers, visible, count):
    drivers.says("nvidia-smi", A10G)
    assert gpus({**drivers.environ, "CUDA_VISIBLE_DEVICES": visible}).count == count


@pytest.mark.parametrize(
    ("visible", "said"),
    [
        ("1", f"1 of {BOTH}, as CUDA_VISIBLE_DEVICES='1' says"),
        ("0,1", BOTH),
        (
            "",
            f"no GPU found: none of {BOTH}, as CUDA_VISIBLE_DEVICES='' says",
        ),
        (
            "\n",
            f"no GPU found: none of {BOTH}, as CUDA_VISIBLE_DEVICES='\\n' says",
        ),
    ],
)
def test_the_variable_is_named_where_it_hides_some(drivers, visible, said):
    drivers.says("nvidia-smi", TWO)
    assert gpus({**drivers.environ, "CUDA_VISIBLE_DEVICES": visible}).said == said


@pytest.mark.parametrize(
    ("visible", "count", "said"),
    [
        (None, 1, "1 of the pieces (MIG) of 3 GPUs (NVIDIA A100-SXM4-40GB)"),
        ("0", 1, "1 of the pieces (MIG) of "),
        ("0,1,2", 1, "1 of the pieces (MIG) of "),
        ("2", 1, "1 of 3 GPUs (NVIDIA A100-SXM4-40GB), as"),
        ("GPU-c", 1, "1 of 3 GPUs (NVIDIA A100-SXM4-40GB), as"),
        ("MIG-c7384736-a75d-5afc-978f-d2f1294409fd", 1, "1 of the pieces (MIG) of "),
        ("MIG-c7384736,MIG-a28ad590", 1, "1 of the pieces (MIG) of "),
        ("MIG-c7384736,MIG-c7384736", 0, "no GPU found: none of 3 GPUs"),
        ("MIG-0", 0, "no GPU found: none of 3 GPUs"),
    ],
)
def test_a_gpu_that_is_cut_up_counts_once(drivers, visible, count, said):
    drivers.says("nvidia-smi", CUT)
    told = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = gpus({**drivers.environ, **told})
    assert found.count == count
    assert found.said.startswith(said)


@pytest.mark.parametrize("visible", [None, "MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/7/0"])
def test_a_piece_of_an_old_driver_counts(drivers, visible):
    drivers.says("nvidia-smi", OLD_MIG)
    told = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert gpus({**drivers.environ, **told}).count == 1


UUIDS = ["GPU-aa", "GPU-ab", "GPU-b"]
TOKENS = [
    "0",
    "1",
    " 2",
    "3",
    "64",
    "-1",
    "",
    "x",
    "1x",
    "+1",
    "-0",
    *UUIDS,
    "GPU-a",
    "GPU-",
    "GPU-c",
    " GPU-b",
]


@pytest.mark.torch
@given(st.lists(st.sampled_from(TOKENS), max_size=5).map(",".join))
def test_it_counts_as_torch_does(variable):
    """By torch's own reading of the variable, which a machine without a GPU cannot be asked for otherwise."""
    from torch import cuda

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", variable)
        named = cuda._parse_visible_devices()
        listing = "".join(f"GPU {number}: T4 (UUID: {uuid})\n" for number, uuid in enumerate(UUIDS))
        patch.setattr(detection, "_ask", lambda argv, path: listing)
        if named and isinstance(named[0], str):
            count = len(cuda._transform_uuid_to_ordinals(named, UUIDS))
        else:
            count = next((place for place, number in enumerate(named) if number >= len(UUIDS)), len(named))
        assert gpus({"CUDA_VISIBLE_DEVICES": variable}).count == count


# -- Neuron ------------------------------------------------------------------------------------


def device(number, cores, **more):
    return {"neuron_device": number, "bdf": "00:1e.0", "connected_to": None, "nc_count": cores, **more}


TRN1 = [device(number, 2, memory_size=34359738368, neuron_processes=[]) for number in range(16)]
TRN2 = [device(number, 8, logical_neuroncore_config=2) for number in range(16)]
TRN3 = {
    "instance_type": "trn3",
    "logical-neuroncore-config": 2,
    "mlas": [{"devices": [device(0, 8), device(1, 8)]}],
}
BUSY = [device(0, 2, neuron_processes=[{"pid": 1, "command": "python", "neuroncore_ids": [0, 1]}])]


@pytest.mark.parametrize("unless", ["--output-format", "--json-output"], ids=["old", "new"])
@pytest.mark.parametrize(
    ("listing", "found"),
    [
        (TRN1, Found(32, "32 NeuronCores")),
        (TRN2, Found(64, "64 NeuronCores")),
        (TRN3, Found(8, "8 NeuronCores")),
        (BUSY, Found(2, "2 NeuronCores")),
        ([device(0, 1)], Found(1, "1 NeuronCore")),
        ([], Found(0, "no NeuronCore found: neuron-ls lists none")),
        ([device(0, -4)], Found(0, "no NeuronCore found: neuron-ls lists none")),
        ("text", Found(0, "no NeuronCore found: neuron-ls lists none")),
    ],
    ids=["trn1", "trn2", "deep", "busy", "one", "none", "below none", "text"],
)
def test_the_runtimes_cores_are_counted(drivers, unless, listing, found):
    drivers.says("neuron-ls", json.dumps(listing), unless=unless)
    assert neuron_cores(drivers.environ) == found


@pytest.mark.parametrize(
    ("config", "count"), [("1", 128), ("2", 64), ("4", 32), ("0", 64), ("many", 64), ("9" * 5000, 64)]
)
def test_the_users_grouping_of_cores_wins(drivers, config, count):
    drivers.says("neuron-ls", json.dumps(TRN2))
    assert neuron_cores({**drivers.environ, "NEURON_LOGICAL_NC_CONFIG": config}).count == count


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [
        ("0-3", (0, 1, 2, 3)),
        ("5", (5,)),
        ("1, 3-4", (1, 3, 4)),
        ("4,4,3-4", (3, 4)),
        ("30-40", (30, 31)),
        ("0-31", tuple(range(32))),
        ("0-" + "9" * 5000, ()),
        ("0-999999999", tuple(range(32))),
        ("40", ()),
        ("3-1", ()),
        ("-1", ()),
        ("", ()),
        ("all", ()),
        ("9" * 5000, ()),
    ],
)
def test_the_cores_that_the_user_names(drivers, visible, numbers):
    drivers.says("neuron-ls", json.dumps(TRN1))
    environ = {**drivers.environ, "NEURON_RT_VISIBLE_CORES": visible}
    assert (neuron_cores(environ).count, core_numbers(environ)) == (len(numbers), numbers)


@pytest.mark.parametrize(
    ("visible", "said"),
    [
        ("0-31", "32 NeuronCores"),
        ("0-1", "2 NeuronCores (of 32, as NEURON_RT_VISIBLE_CORES='0-1' says)"),
        ("99", "no NeuronCore found: none of 32, as NEURON_RT_VISIBLE_CORES='99' says"),
    ],
)
def test_cores_that_are_hidden_are_told(drivers, visible, said):
    drivers.says("neuron-ls", json.dumps(TRN1))
    assert neuron_cores({**drivers.environ, "NEURON_RT_VISIBLE_CORES": visible}).said == said


def test_without_the_users_word_all_cores_are_there(drivers):
    drivers.says("neuron-ls", json.dumps(BUSY))
    assert core_numbers(drivers.environ) == (0, 1)
    assert core_numbers({}) == ()


@pytest.mark.parametrize(
    ("listing", "reason"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("neuron-ls: table\n+---+", "Expecting value: line 1 column 1 (char 0)"),
        (b"\xff\xfe", "Expecting value: line 1 column 1 (char 0)"),
        ('[{"nc_count": "some"}]', "invalid literal for int() with base 10: 'some'"),
        ('[{"nc_count": null}]', "invalid literal for int() with base 10: 'None'"),
        ('[{"nc_count": Infinity}]', "invalid literal for int() with base 10: 'inf'"),
        ("[" * 100_000, "maximum recursion depth exceeded"),
    ],
    ids=["nothing", "a table", "binary", "words", "null", "infinity", "deep"],
)
def test_a_listing_that_is_not_understood_says_so(drivers, listing, reason):
    drivers.says("neuron-ls", listing)
    found = neuron_cores(drivers.environ)
    assert found.count == 0
    assert found.said.startswith(f"no NeuronCore found: what neuron-ls says is not understood: {reason}")


def test_a_runtime_that_fails_is_quoted_once(drivers):
    drivers.says("neuron-ls", err="no neuron device found\nand more", code=1)
    assert neuron_cores(drivers.environ) == Found(
        0, "no NeuronCore found: neuron-ls fails: no neuron device found"
    )


def test_of_two_reasons_none_is_lost(drivers):
    drivers.says("neuron-ls", err="no neuron device found", code=1, unless="--json-output")
    assert neuron_cores(drivers.environ).said == (
        "no NeuronCore found: neuron-ls fails: no neuron device found; "
        "neuron-ls fails: unknown flag: --json-output"
    )


def test_a_machine_without_the_runtime():
    assert neuron_cores({}) == Found(0, "no NeuronCore found: neuron-ls is not on the PATH")


def test_xla_on_the_cpu_is_one_device(drivers):
    drivers.says("neuron-ls", json.dumps(TRN1))
    environ = {**drivers.environ, "PJRT_DEVICE": "CPU"}
    assert neuron_cores(environ) == Found(1, "XLA's runtime on the CPU, as PJRT_DEVICE says")
    assert neuron_cores({**drivers.environ, "PJRT_DEVICE": "NEURON"}).count == 32


# -- whatever they say -------------------------------------------------------------------------

LINES = st.one_of(
    st.text(),
    st.sampled_from(
        [*H100.splitlines(), *CUT.splitlines(), *OLD_MIG.splitlines(), "GPU ", "GPU 0: ", "MIG "]
    ),
)
LISTINGS = st.one_of(st.text(), st.lists(LINES).map("\n".join))
VISIBLE = st.one_of(
    st.text(), st.lists(st.one_of(st.integers().map(str), st.sampled_from(TOKENS))).map(",".join)
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(
            st.one_of(st.text(), st.sampled_from(["nc_count", "logical_neuroncore_config"])), inner
        ),
    ),
)


def sound(found, most):
    assert 0 <= found.count <= most
    assert found.said.isprintable()
    assert bool(found.count) != found.said.startswith("no ")


@given(LISTINGS, st.one_of(st.none(), VISIBLE))
def test_no_text_makes_the_count_of_gpus_raise(listing, visible):
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "_ask", lambda argv, path: listing)
        sound(gpus(environ), sum(line.startswith("GPU ") for line in listing.splitlines()))


@given(
    st.one_of(st.text(), JSON.map(json.dumps)),
    st.fixed_dictionaries(
        {},
        optional={
            "NEURON_RT_VISIBLE_CORES": st.one_of(
                st.text(),
                st.lists(st.sampled_from(["0", "1-3", "2-", "-", "7-99999999999", "x"])).map(",".join),
            ),
            "NEURON_LOGICAL_NC_CONFIG": st.one_of(st.text(), st.integers().map(str)),
            "PJRT_DEVICE": st.one_of(st.text(), st.just("CPU")),
        },
    ),
)
def test_no_text_makes_the_count_of_cores_raise(listing, environ):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "_ask", lambda argv, path: listing)
        found = neuron_cores(environ)
        sound(found, detection._MOST)
        assert len(core_numbers(environ)) <= found.count


@given(st.text(alphabet=st.characters(blacklist_categories=())))
def test_no_path_makes_them_raise(path):
    for found in (gpus({"PATH": path}), neuron_cores({"PATH": path})):
        assert isinstance(found, Found)


def test_the_cpus_are_those_of_this_process():
    found = detection.cpus()
    assert found.count >= 1
    assert found.said == f"{found.count} CPU{'s' if found.count > 1 else ''}"


def test_without_an_environment_the_processs_own_is_read(drivers, monkeypatch):
    drivers.says("nvidia-smi", A10G)
    monkeypatch.setenv("PATH", os.pathsep.join([str(drivers.folder), os.environ["PATH"]]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert gpus().count == 3
