"""Which hardware a job or an endpoint gets, what is said of it, and what it is without its libraries."""

import os
import re
import subprocess
import sys

import pytest
from tests.model_server import ECHO

from modelyard import PyTorch, PyTorchModel
from modelyard.core.errors import EndpointFailedError, InvalidPlanError, UnknownProviderError
from modelyard.core.manager import PluginManager
from modelyard.core.plans import Resources
from modelyard.hardware import detection
from modelyard.hardware.detection import Found
from modelyard.serving.program import _hardware
from modelyard.serving.settings import ServerSettings

NO_GPU = Found(0, "no GPU found: nvidia-smi is not on the PATH")
NO_CORE = Found(0, "no NeuronCore found: neuron-ls is not on the PATH")
GPU = Found(2, "2 GPUs (NVIDIA A10G)")
CORES = Found(2, "2 NeuronCores")


@pytest.fixture
def machine(monkeypatch):
    """Have this process find these devices on its machine."""

    def make(gpus=NO_GPU, cores=NO_CORE):
        monkeypatch.setattr(detection, "gpus", lambda: gpus)
        monkeypatch.setattr(detection, "neuron_cores", lambda: cores)

    make()
    return make


@pytest.fixture
def plugins():
    return PluginManager.builtin()


@pytest.mark.parametrize(("runtime", "chosen"), [("NEURON", "trainium"), ("CPU", "cpu")])
def test_xlas_runtime_on_the_cpu_is_no_accelerator_that_this_machine_has(
    machine, plugins, monkeypatch, runtime, chosen
):
    machine(cores=CORES)
    monkeypatch.setenv("PJRT_DEVICE", runtime)
    assert plugins.select_hardware(Resources()).name == chosen


# -- by type -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instance_type", "hardware"),
    [
        ("ml.c5.xlarge", "cpu"),
        ("ml.m5.24xlarge", "cpu"),
        ("ml.r5.large", "cpu"),
        ("ml.t3.medium", "cpu"),
        pytest.param("ml.p3.2xlarge", "cuda", marks=pytest.mark.cuda),
        pytest.param("ml.p5.48xlarge", "cuda", marks=pytest.mark.cuda),
        pytest.param("ml.g6e.xlarge", "cuda", marks=pytest.mark.cuda),
        ("ml.trn1.32xlarge", "trainium"),
        ("ml.trn2.48xlarge", "trainium"),
        ("ml.inf2.xlarge", "trainium"),
    ],
)
@pytest.mark.usefixtures("machine")
def test_sagemakers_instances_have_their_hardware_whatever_this_machine_has(plugins, instance_type, hardware):
    assert plugins.select_hardware(Resources(instance_type)).name == hardware
    assert plugins.select_hardware(Resources(instance_type, 2)).name == hardware


@pytest.mark.parametrize(
    ("gpus", "cores", "hardware"),
    [
        (NO_GPU, NO_CORE, "cpu"),
        pytest.param(GPU, NO_CORE, "cuda", marks=pytest.mark.cuda),
        (NO_GPU, CORES, "trainium"),
        pytest.param(GPU, CORES, "cuda", marks=pytest.mark.cuda),
    ],
)
def test_local_is_what_this_machine_has(plugins, machine, gpus, cores, hardware):
    machine(gpus, cores)
    assert plugins.select_hardware(Resources()).name == hardware
    assert plugins.select_hardware(Resources(), "cpu").name == "cpu"


def test_hosts_that_share_this_machine_do_not_get_its_accelerators(plugins, machine):
    machine(GPU, CORES)
    assert plugins.select_hardware(Resources("local", 2)).name == "cpu"


@pytest.mark.cuda
def test_local_gpu_needs_one(plugins, machine):
    with pytest.raises(
        InvalidPlanError, match="^no GPU found: nvidia-smi is not on the PATH; leave .*'local_gpu' out"
    ):
        plugins.select_hardware(Resources("local_gpu"))
    machine(GPU)
    assert plugins.select_hardware(Resources("local_gpu")).name == "cuda"


@pytest.mark.parametrize("instance_type", ["local", "ml.c5.xlarge", "ml.g5.xlarge"])
def test_an_accelerator_is_elastic_inference(plugins, machine, instance_type):
    machine(GPU)
    assert plugins.select_hardware(Resources(instance_type, 1, "ml.eia2.medium")).name == "elastic_inference"


@pytest.mark.usefixtures("machine")
def test_an_accelerator_that_nobody_knows(plugins):
    with pytest.raises(UnknownProviderError, match="no hardware offers accelerator_type 'ml.eai2.medium'"):
        plugins.select_hardware(Resources("local", 1, "ml.eai2.medium"))


def test_what_is_asked_for_wins(plugins, machine):
    machine(GPU)
    assert plugins.select_hardware(Resources("ml.p3.2xlarge", 1, "ml.eia2.medium"), "cpu").name == "cpu"
    with pytest.raises(UnknownProviderError, match="no hardware is called 'cpo'; did you mean 'cpu'"):
        plugins.select_hardware(Resources(), "cpo")


# -- through the facades -----------------------------------------------------------------------


@pytest.mark.usefixtures("machine")
def test_fit_says_what_it_found_and_why(project, modelyard_home, monkeypatch, capsys):
    monkeypatch.setattr(detection, "cores", lambda: 3)
    estimator = PyTorch("train.py", source_dir=project / "src")
    estimator.fit({"train": project / "data"})
    started, found = capsys.readouterr().out.splitlines()[:2]
    assert re.fullmatch(r"training job \S+ started", started)
    assert found == "hardware cpu: 3 CPUs; no GPU found: nvidia-smi is not on the PATH"
    estimator.fit({"train": project / "data"}, logs=False)
    assert "CPUs" not in capsys.readouterr().out


def test_the_log_of_a_job_is_the_scripts_alone(project, modelyard_home):
    estimator = PyTorch("train.py", source_dir=project / "src")
    estimator.fit({"train": project / "data"}, logs=False)
    assert "CPU" not in "\n".join(estimator.latest_training_job.logs())


@pytest.mark.cuda
@pytest.mark.usefixtures("machine")
def test_fit_on_a_gpu_that_is_not_there_starts_nothing(project, modelyard_home):
    for asked in ({"instance_type": "local_gpu"}, {"hardware": "cuda"}):
        with pytest.raises(InvalidPlanError, match="no GPU found: nvidia-smi is not on the PATH; leave"):
            PyTorch("train.py", source_dir=project / "src", **asked).fit({"train": project / "data"})
    assert not list(modelyard_home.glob("jobs/*"))


ENVIRONMENT = """
import json, os

def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    names = ("SAGEMAKER_INFERENCE_ACCELERATOR_PRESENT", "NEURON_RT_VISIBLE_CORES", "PJRT_DEVICE")
    return json.dumps({name: os.environ[name] for name in names if name in os.environ}), "application/json"
"""

JSON = {"content_type": "application/json", "accept": "application/json"}


@pytest.fixture
def model(project):
    """Return a model without weights, whose script answers with the worker's variables."""
    import tarfile

    (project / "src" / "told.py").write_text(ENVIRONMENT)
    with tarfile.open(project / "model.tar.gz", "w:gz"):
        pass
    return PyTorchModel((project / "model.tar.gz").as_uri(), entry_point=project / "src" / "told.py")


def test_the_workers_of_an_accelerators_endpoint_are_told_of_it(model, modelyard_home, plugins):
    with model.deploy(1, "local", accelerator_type="ml.eia2.medium") as predictor:
        assert predictor.predict([1], **JSON) == {"SAGEMAKER_INFERENCE_ACCELERATOR_PRESENT": "true"}
        endpoint = plugins.backends.create("local").endpoint(predictor.endpoint_name)
        log = "\n".join(endpoint.logs())
    assert re.search(
        r"listening .*hardware='?elastic_inference.*found=.*AWS has ended Elastic Inference", log
    ), log
    assert log.count("AWS has ended") == 1


def test_an_endpoint_without_an_accelerator_is_not(model, modelyard_home):
    with model.deploy(1, "local", hardware="cpu") as predictor:
        assert predictor.predict([1], **JSON) == {}


def test_an_endpoint_on_hardware_that_is_not_here_says_why(model, modelyard_home, monkeypatch):
    monkeypatch.delenv("PJRT_DEVICE", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    reason = "hardware 'trainium' cannot serve here: no NeuronCore found: neuron-ls is not on the PATH"
    with pytest.raises(EndpointFailedError, match=reason):
        model.deploy(1, "local", hardware="trainium")


# -- in a container ----------------------------------------------------------------------------


def test_the_server_says_what_it_runs_on(serve):
    server = serve(ECHO, PATH="/nowhere").ready()
    found = server.wait_for("listening .*")
    assert re.search(
        r"hardware='?cpu .*found='\d+ CPUs?; no GPU found: nvidia-smi is not on the PATH'", found
    )


@pytest.mark.parametrize(
    ("present", "hardware"), [("true", "elastic_inference"), ("True", "cpu"), ("false", "cpu"), ("", "cpu")]
)
def test_sagemakers_variable_selects_the_accelerator(serve, present, hardware):
    server = serve(ENVIRONMENT, PATH="/nowhere", SAGEMAKER_INFERENCE_ACCELERATOR_PRESENT=present).ready()
    assert f"hardware='{hardware} " in server.wait_for("listening .*")


GPU_LISTED = "#!/bin/sh\necho 'GPU 0: NVIDIA A10G (UUID: GPU-1)'\necho 'GPU 1: NVIDIA A10G (UUID: GPU-2)'\n"


@pytest.mark.cuda
def test_a_container_with_a_driver_has_a_worker_for_each_gpu(serve, tmp_path):
    """What it loads then fails where there is no GPU in truth."""
    (tmp_path / "nvidia-smi").write_text(GPU_LISTED)
    (tmp_path / "nvidia-smi").chmod(0o755)
    server = serve(ECHO, PATH=str(tmp_path), MODELYARD_SERVE_WORKERS="")
    found = server.wait_for("listening .*")
    assert "workers=2 " in found
    assert re.search(r"hardware='?cuda .*found='2 GPUs \(NVIDIA A10G\)'", found)


# -- without its libraries -----------------------------------------------------------------------

ALONE = """
import importlib, sys

for name in ("torch", "torch_xla", "torch_neuronx", "torcheia", "numpy"):
    sys.modules[name] = None  # As if it were not installed.
from modelyard.core.contracts import Host

module, cls = sys.argv[1:]
hardware = getattr(importlib.import_module(f"modelyard.hardware.{module}"), cls)()
print(hardware.device_count(), hardware.describe())
print(sorted(hardware.environ(Host("algo-2", ("algo-1", "algo-2"), "lo", processes=2))))
"""


@pytest.mark.parametrize(
    ("module", "cls"),
    [
        ("cpu", "CpuHardware"),
        pytest.param("cuda", "CudaHardware", marks=pytest.mark.cuda),
        ("elastic_inference", "ElasticInferenceHardware"),
        ("trainium", "TrainiumHardware"),
    ],
)
def test_every_kind_counts_and_describes_without_any_library(module, cls):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, module, cls],
        env={
            **{name: value for name, value in os.environ.items() if name != "PJRT_DEVICE"},
            "PATH": "/nowhere",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counted, told = done.stdout.splitlines()
    assert counted.startswith("1 " if module in {"cpu", "elastic_inference"} else "0 no ")
    assert "GLOO_SOCKET_IFNAME" in told


# -- the old name of gloo ------------------------------------------------------------------------

TCP = """
import torch
import torch.distributed as dist

dist.init_process_group("tcp")
value = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(value)
group = dist.new_group([1], backend="tcp")
if dist.get_rank() == 1:
    dist.all_reduce(value, group=group)
print("sum", value.item(), "of", dist.get_world_size(), flush=True)
dist.destroy_process_group()
"""


@pytest.mark.torch
@pytest.mark.timeout(180)
@pytest.mark.parametrize("hosts", [1, 2])
def test_a_script_that_asks_for_tcp_gets_gloo_and_is_told_once(project, modelyard_home, hosts):
    (project / "src" / "tcp.py").write_text(TCP)
    estimator = PyTorch(
        "tcp.py",
        source_dir=project / "src",
        instance_count=hosts,
        hardware="cpu",
        distribution={"torch_distributed": {"processes_per_host": 2 // hosts}},
    )
    estimator.fit(logs=False)
    log = "\n".join(estimator.latest_training_job.logs())
    assert log.count("sum 3.0 of 2") == 2, log
    assert log.count("modelyard: the process-group backend 'tcp' is called 'gloo' today") == 1, log


@pytest.mark.cuda
def test_a_server_may_be_told_its_hardware_and_the_options(plugins, machine):
    machine(gpus=GPU)
    settings = ServerSettings(hardware_options='{"autocast": "bfloat16"}')
    assert dict(_hardware(plugins, settings, {}).options) == {"autocast": "bfloat16"}
    assert _hardware(plugins, ServerSettings(hardware="cpu"), {}).name == "cpu"
    machine()
    with pytest.raises(InvalidPlanError, match="cpu.* has no option 'autocast'"):
        _hardware(plugins, settings, {})
    with pytest.raises(InvalidPlanError, match="nvidia-smi is not on the PATH"):
        _hardware(plugins, ServerSettings(hardware="cuda"), {})
