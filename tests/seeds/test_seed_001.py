"""SDK v2's chapter "Use PyTorch with the SageMaker Python SDK", block by block.

What the chapter leaves undefined, and what stands for it here:

- the scripts ``pytorch-train.py``, ``train_and_deploy.py``, ``train_ptddp.py``, ``inference.py`` and
  ``train_torch_distributed.py``, the data and the model in the buckets, and the job
  ``MyAwesomePyTorchTrainingJob``: made by the tests;
- ``role``, which some of its calls leave out: the role that the code runs with;
- ``data``: an array and a list; ``Your_Model``: a model of one parameter; "train": counting lines of data;
- ``parser`` in "Save the Model", which nothing has made: an ``argparse.ArgumentParser()``; ``model`` and
  ``model_dir`` before ``torch.jit.save``;
- ``args.distributed``, ``args.hosts``, ``args.current_host`` and ``args.backend``: arguments of the script,
  the hosts from ``SM_HOSTS`` and ``SM_CURRENT_HOST``; ``os``, which the block does not import;
- the signatures ``def model_fn(model_dir, context)``, ``input_fn``, ``predict_fn`` and ``output_fn``: no
  bodies;
- of the recipe ``output_path``, ``role``, ``sagemaker_session``, ``tensorboard_output_config`` and, in the
  first call, ``recipe_overrides``, which is called ``overrides`` above it.

Misspelt: ``train(input_data_config=[train_input, test_input)``, which has no closing bracket. Wrong: ``data``
in Elastic Inference's two ``predict_fn``, which is ``input_data``, and which return nothing; ``model.pth``
without the model's folder in its ``model_fn``; ``type=bool`` makes True of the text ``False`` as well, which
is Python's; ``py38`` for PyTorch 1.13.1, which AWS publishes for ``py39`` alone; and 1.8.0 with an
accelerator, which AWS has published for 1.3.1 and 1.5.1.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.seeds.seed_support import (
    ARGUMENTS,
    BY_HOST,
    MODEL,
    PICKLED_INPUT,
    PREDICT_FN,
    PREDICT_FN_FOR_GPUS,
    SAVE,
    archive,
    channels_of,
    check_attach,
    check_inputs,
    check_pickled_input,
    check_wait_and_logs,
    output_of,
    users,
    weights,
)
from tests.seeds.seed_support import MODEL_FN_WITH_CONTEXT as MODEL_FN

import modelyard
from modelyard import get_execution_role
from modelyard.core.errors import EndpointFailedError, InvalidPlanError, PackagingError
from modelyard.debugger import TensorBoardOutputConfig
from modelyard.predictor import Predictor
from modelyard.pytorch import PyTorch, PyTorchModel
from modelyard.session import Session

# -- Prepare a PyTorch training script ---------------------------------------------------------


def test_a_script_gets_its_environment_and_its_arguments(machine):
    (machine / "pytorch-train.py").write_text(ARGUMENTS)
    (machine / "test").mkdir()
    (machine / "test" / "tests.txt").touch()
    estimator = PyTorch(
        "pytorch-train.py",
        instance_type="local",
        instance_count=1,
        framework_version="1.8.0",
        py_version="py3",
        hyperparameters={"epochs": 20, "batch-size": 64, "learning-rate": 0.1, "use-cuda": True},
    )
    estimator.fit({"train": f"file://{machine}/data", "test": f"file://{machine}/test"})
    seen = json.loads(output_of(estimator, "output")["seen.json"])
    assert (seen["epochs"], seen["batch_size"], seen["learning_rate"]) == (20, 64, 0.1)
    assert seen["use_cuda"] is True
    assert seen["gpus"].isdecimal()
    assert (seen["trained on"], seen["tested on"]) == (["lines.txt"], ["tests.txt"])
    assert output_of(estimator) == {"model.txt": b"a model"}


@pytest.mark.torch
def test_a_model_is_saved_to_model_dir(machine):
    (machine / "pytorch-train.py").write_text(MODEL + SAVE)
    estimator = PyTorch("pytorch-train.py", instance_type="local", output_path=f"file://{machine}/out")
    estimator.fit(f"file://{machine}/data")
    assert estimator.model_data.startswith(f"file://{machine}/out/")
    assert set(output_of(estimator)) == {"model.pth"}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_saved_for_elastic_inference_and_served_by_its_defaults(serve, machine):
    import torch

    model_dir = str(machine)
    model = torch.jit.script(torch.nn.Flatten())
    model_path = str(Path(model_dir, "model.pt"))
    torch.jit.save(model, model_path)
    predictor = serve("", {"model.pt": Path(model_path).read_bytes()}, accelerator_type="ml.eia2.medium")
    assert predictor.predict(np.ones((1, 2, 2), np.float32)).tolist() == [[1, 1, 1, 1]]
    predictor.delete_endpoint()


def test_requirements_are_beside_the_script_in_source_dir(account, folder):
    (folder / "src").mkdir()
    (folder / "src" / "pytorch-train.py").touch()
    (folder / "src" / "requirements.txt").write_text("sagemaker\nsagemaker-training\n")
    estimator = PyTorch(
        "pytorch-train.py",
        source_dir="src",
        instance_type="ml.m5.xlarge",
        framework_version="1.8.0",
        py_version="py3",
    )
    estimator.fit()
    said = account.asked("CreateTrainingJob")["HyperParameters"]
    sent = account.files(json.loads(said["sagemaker_submit_directory"]))
    assert sent["requirements.txt"] == b"sagemaker\nsagemaker-training\n"
    # What a model of the job is deployed with has them in code/, as PyTorch 1.3.1 and newer want them.
    job = account.double.jobs[estimator.latest_training_job.name]
    account.put(job.artifacts, archive(folder / "model.tar.gz", {"model.pth": b"weights"}).read_bytes())
    estimator.deploy(instance_type="ml.m5.xlarge", initial_instance_count=1).delete_endpoint()
    model = account.asked("CreateModel")["PrimaryContainer"]["ModelDataUrl"]
    assert set(account.files(model)) == {"model.pth", "code/pytorch-train.py", "code/requirements.txt"}


# -- Create an estimator -----------------------------------------------------------------------


@pytest.mark.cuda
def test_an_estimator_with_hyperparameters_and_two_channels(account, folder):
    (folder / "pytorch-train.py").write_text(ARGUMENTS)
    account.put("s3://my-data-bucket/path/to/my/training/data/lines.txt")
    account.put("s3://my-data-bucket/path/to/my/test/data/lines.txt")
    pytorch_estimator = PyTorch(
        "pytorch-train.py",
        instance_type="ml.p3.2xlarge",
        instance_count=1,
        framework_version="1.8.0",
        py_version="py3",
        hyperparameters={"epochs": 20, "batch-size": 64, "learning-rate": 0.1},
    )
    pytorch_estimator.fit(
        {
            "train": "s3://my-data-bucket/path/to/my/training/data",
            "test": "s3://my-data-bucket/path/to/my/test/data",
        }
    )
    said = account.asked("CreateTrainingJob")
    assert said["AlgorithmSpecification"]["TrainingImage"].endswith("/pytorch-training:1.8.0-gpu-py3")
    assert said["ResourceConfig"]["InstanceType"] == "ml.p3.2xlarge"
    assert said["ResourceConfig"]["InstanceCount"] == 1
    assert said["RoleArn"].endswith("/SageMakerRole")
    assert users(said["HyperParameters"]) == {"epochs": 20, "batch-size": 64, "learning-rate": 0.1}
    assert channels_of(said) == {
        "train": "s3://my-data-bucket/path/to/my/training/data",
        "test": "s3://my-data-bucket/path/to/my/test/data",
    }


# -- Amazon SageMaker HyperPod recipes ---------------------------------------------------------


def test_a_recipe_is_refused_with_the_way_out():
    recipe_overrides = {
        "run": {"results_dir": "/opt/ml/model"},
        "exp_manager": {
            "exp_dir": "",
            "explicit_log_dir": "/opt/ml/output/tensorboard",
            "checkpoint_dir": "/opt/ml/checkpoints",
        },
        "model": {
            "data": {
                "train_dir": "/opt/ml/input/data/train",
                "val_dir": "/opt/ml/input/data/val",
            },
        },
    }
    with pytest.raises(
        InvalidPlanError, match="^training_recipe: recipes are not resolved here; give the recipe's script as"
    ):
        PyTorch(
            output_path="s3://my-data-bucket/out",
            base_job_name="llama-recipe",
            role="SageMakerRole",
            instance_type="ml.p5.48xlarge",
            training_recipe="hf_llama3_8b_seq8k_gpu_p5x16_pretrain",
            recipe_overrides=recipe_overrides,
            sagemaker_session=Session(),
            tensorboard_output_config=TensorBoardOutputConfig(s3_output_path="s3://my-data-bucket/out"),
        )
    with pytest.raises(InvalidPlanError, match="^recipe_overrides: recipes are not resolved here"):
        PyTorch("pytorch-train.py", recipe_overrides=recipe_overrides)


@pytest.mark.cuda
def test_tensorboards_output_goes_where_the_estimator_says(account, folder):
    """An argument of the recipe's estimator, and of any other."""
    (folder / "pytorch-train.py").touch()
    pytorch_estimator = PyTorch(
        "pytorch-train.py",
        output_path="s3://my-data-bucket/out",
        base_job_name="llama-recipe",
        instance_type="ml.p3.2xlarge",
        framework_version="1.8.0",
        tensorboard_output_config=TensorBoardOutputConfig(s3_output_path="s3://my-data-bucket/tensorboard"),
    )
    account.put("s3://my-data-bucket/there")
    pytorch_estimator.fit()
    said = account.asked("CreateTrainingJob")
    assert said["TensorBoardOutputConfig"] == {"S3OutputPath": "s3://my-data-bucket/tensorboard"}
    assert said["OutputDataConfig"]["S3OutputPath"] == "s3://my-data-bucket/out"
    assert said["TrainingJobName"].startswith("llama-recipe-20")


@pytest.mark.parametrize("name", ["ModelTrainer", "Compute", "Input"])
def test_what_sdk_v3_adds_is_not_there(name):
    """``ModelTrainer.from_recipe(...).train(...)`` is SDK v3's, and its recipe has been deleted by AWS."""
    with pytest.raises(AttributeError, match=f"module 'modelyard' has no attribute '{name}'"):
        getattr(modelyard, name)


# -- Call the estimator's fit method -----------------------------------------------------------


@pytest.fixture
def estimator(folder):
    """Return an estimator of a script that has nothing to do."""
    (folder / "pytorch-train.py").touch()
    return PyTorch("pytorch-train.py", instance_type="ml.m5.xlarge", framework_version="1.8.0")


def test_inputs_are_a_location_or_a_dict_of_them(account, estimator):
    check_inputs(account, estimator)


def test_wait_and_logs_have_defaults_and_can_be_switched_off(account, estimator, capsys):
    check_wait_and_logs(account, estimator, capsys)


# -- Distributed PyTorch training --------------------------------------------------------------


def sums(machine, capsys, distribution=None, script=BY_HOST):
    """Run the script on two hosts of this machine; tell of each whether it has the sum of both."""
    (machine / "train_ptddp.py").write_text(script)
    PyTorch(
        entry_point="train_ptddp.py",
        role="SageMakerRole",
        framework_version="1.12.0",
        py_version="py38",
        instance_count=2,
        instance_type="local",
        distribution=distribution,
    ).fit()
    shown = capsys.readouterr().out
    return [f"the sum on {host} is 3.0" in shown for host in ("algo-1", "algo-2")]


@pytest.mark.torch
def test_a_script_initialises_its_process_group_by_its_host(machine, capsys):
    assert sums(machine, capsys) == [True, True]


def ddp(version, option):
    """Return the estimator of the chapter's two examples."""
    return PyTorch(
        entry_point="train_ptddp.py",
        role="SageMakerRole",
        framework_version=version,
        py_version="py38",
        instance_count=2,
        instance_type="ml.p4d.24xlarge",
        distribution={option: {"enabled": True}},
    )


@pytest.mark.cuda
def test_ddp_by_mpirun(account, folder):
    (folder / "train_ptddp.py").touch()
    pt_estimator = ddp("1.12.0", "pytorchddp")
    assert pt_estimator.plan().launcher.name == "mpirun"
    pt_estimator.fit()
    said = account.asked("CreateTrainingJob")
    assert said["AlgorithmSpecification"]["TrainingImage"].endswith("/pytorch-training:1.12.0-gpu-py38")
    assert said["ResourceConfig"]["InstanceCount"] == 2
    # By this name AWS's images run mpirun for DDP, as SDK v2 tells them.
    assert said["HyperParameters"]["sagemaker_distributed_dataparallel_enabled"] == "true"
    assert said["HyperParameters"]["sagemaker_instance_type"] == '"ml.p4d.24xlarge"'


@pytest.mark.cuda
def test_ddp_by_torchrun(account, folder):
    (folder / "train_ptddp.py").touch()
    pt_estimator = ddp("1.13.1", "torch_distributed")
    assert pt_estimator.plan().launcher.name == "torchrun"
    # The chapter makes this estimator and does not fit it: AWS has no such image.
    with pytest.raises(InvalidPlanError, match="PyTorch 1.13.1 has py39, not py38: change py_version, or"):
        pt_estimator.fit()
    pt_estimator.py_version = "py39"
    pt_estimator.fit()
    said = account.asked("CreateTrainingJob")
    assert said["AlgorithmSpecification"]["TrainingImage"].endswith("/pytorch-training:1.13.1-gpu-py39")
    assert said["HyperParameters"]["sagemaker_torch_distributed_enabled"] == "true"


@pytest.mark.torch
@pytest.mark.parametrize("option", ["pytorchddp", "torch_distributed"])
def test_ddp_runs_on_this_machine_too(machine, capsys, option):
    beside = shutil.which("mpirun", path=str(Path(sys.executable).parent))
    if option == "pytorchddp" and not (beside or shutil.which("mpirun")):
        pytest.skip("no mpirun is installed")
    script = BY_HOST.replace("if args.distributed:", "if False:").replace(
        "    total =", "    dist.init_process_group('gloo')\n    total ="
    )
    assert sums(machine, capsys, {option: {"enabled": True}}, script) == [True, True]


# -- Distributed training with PyTorch Neuron on Trn1 instances --------------------------------


@pytest.mark.skip(
    reason="needs NeuronCores: XLA's runtime on the CPU makes a world of its own of each process, as "
    "modelyard.hardware.trainium says; tests/xla has what runs there"
)
def test_a_script_initialises_its_process_group_with_xla():
    """``dist.init_process_group('xla')``."""


@pytest.mark.parametrize(("count", "instance_type"), [(1, "ml.trn1.2xlarge"), (2, "ml.trn1.32xlarge")])
def test_trainium_by_torchrun(account, folder, count, instance_type):
    (folder / "train_torch_distributed.py").touch()
    account.put("s3://bucket/path/to/training/data/lines.txt")
    pt_estimator = PyTorch(
        entry_point="train_torch_distributed.py",
        role="SageMakerRole",
        framework_version="1.11.0",
        py_version="py38",
        instance_count=count,
        instance_type=instance_type,
        distribution={"torch_distributed": {"enabled": True}},
    )
    pt_estimator.fit("s3://bucket/path/to/training/data")
    said = account.asked("CreateTrainingJob")
    assert said["AlgorithmSpecification"]["TrainingImage"].endswith(
        "/pytorch-training-neuron:1.11.0-neuron-py38-sdk2.4.0-ubuntu20.04"
    )
    assert said["ResourceConfig"]["InstanceType"] == instance_type
    assert said["ResourceConfig"]["InstanceCount"] == count
    assert said["HyperParameters"]["sagemaker_torch_distributed_enabled"] == "true"
    assert said["HyperParameters"]["sagemaker_instance_type"] == f'"{instance_type}"'


# -- Deploy PyTorch models ---------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.cuda
def test_an_estimator_is_deployed_and_predicts(containers, folder):
    (folder / "train_and_deploy.py").write_text(MODEL + MODEL_FN + SAVE)
    containers.put("s3://my_bucket/my_training_data/lines.txt")
    pytorch_estimator = PyTorch(
        entry_point="train_and_deploy.py",
        instance_type="ml.p3.2xlarge",
        instance_count=1,
        framework_version="1.8.0",
        py_version="py3",
    )
    pytorch_estimator.fit("s3://my_bucket/my_training_data/")
    predictor = pytorch_estimator.deploy(instance_type="ml.m4.xlarge", initial_instance_count=1)
    assert isinstance(predictor, Predictor)
    for data in (np.array([[1.0, 2.0]], dtype=np.float32), [[1.0, 2.0]]):
        response = predictor.predict(data)
        assert isinstance(response, np.ndarray)
        assert response.tolist() == [[3.0, 6.0]]
    assert predictor.name in containers.double.endpoints
    # From 1.2 on the script is in code/ of the model's archive.
    container = containers.asked("CreateModel")["PrimaryContainer"]
    assert container["Image"].endswith("/pytorch-inference:1.8.0-cpu-py3")
    assert set(containers.files(container["ModelDataUrl"])) == {"model.pth", "code/train_and_deploy.py"}
    predictor.delete_endpoint()


@pytest.fixture
def fitted(account, folder):
    """Return an estimator of a version, whose job has completed with a model."""
    (folder / "train_and_deploy.py").write_text("def model_fn(model_dir): ...")

    def fit(version):
        estimator = PyTorch(
            entry_point="train_and_deploy.py",
            instance_type="ml.m4.xlarge",
            instance_count=1,
            framework_version=version,
            py_version="py3",
        )
        estimator.fit()
        content = archive(folder / "model.tar.gz", {"model.pth": b"weights"}).read_bytes()
        account.put(estimator.model_data, content)
        return estimator

    return fit


def test_elastic_inference_is_asked_for_where_there_is_an_image(account, fitted):
    pytorch_estimator = fitted("1.3.1")
    predictor = pytorch_estimator.deploy(
        instance_type="ml.m4.xlarge", initial_instance_count=1, accelerator_type="ml.eia2.medium"
    )
    (variant,) = account.asked("CreateEndpointConfig")["ProductionVariants"]
    assert variant["AcceleratorType"] == "ml.eia2.medium"
    image = account.asked("CreateModel")["PrimaryContainer"]["Image"]
    assert image.endswith("/pytorch-inference-eia:1.3.1-cpu-py3")
    predictor.delete_endpoint()


def test_elastic_inference_of_another_version_says_which_there_are(account, fitted):
    """The chapter's estimator is of 1.8.0, which AWS never had for Elastic Inference."""
    pytorch_estimator = fitted("1.8.0")
    with pytest.raises(InvalidPlanError, match="no inference-eia image of AWS's is known for .*'1.8.0'"):
        pytorch_estimator.deploy(
            instance_type="ml.m4.xlarge", initial_instance_count=1, accelerator_type="ml.eia2.medium"
        )
    assert account.double.models == {}


def test_the_layout_of_the_archives_is_that_of_the_version(account, fitted):
    script = b"def model_fn(model_dir): ..."
    fitted("1.2.0").deploy(instance_type="ml.m4.xlarge", initial_instance_count=1).delete_endpoint()
    new = account.asked("CreateModel")["PrimaryContainer"]
    assert account.files(new["ModelDataUrl"]) == {"model.pth": b"weights", "code/train_and_deploy.py": script}
    fitted("1.1.0").deploy(instance_type="ml.m4.xlarge", initial_instance_count=1).delete_endpoint()
    old = account.asked("CreateModel")["PrimaryContainer"]
    source = old["Environment"]["SAGEMAKER_SUBMIT_DIRECTORY"]
    assert source.endswith("/sourcedir.tar.gz")
    assert account.files(source) == {"train_and_deploy.py": script}
    assert account.files(old["ModelDataUrl"]) == {"model.pth": b"weights"}


# -- The SageMaker PyTorch model server --------------------------------------------------------


@pytest.mark.torch
def test_model_fn_gets_the_context_and_the_defaults_serve(serve):
    predictor = serve(MODEL + MODEL_FN, {"model.pth": weights()}, entry_point="inference.py")
    assert predictor.content_type == "application/x-npy"
    assert predictor.predict(np.array([[1.0, 2.0]], np.float32)).tolist() == [[3.0, 6.0]]
    invoke = predictor.handle.invoke
    for sent, kind in ((b"[[1, 2]]", "application/json"), (b"1,2\n", "text/csv")):
        answer = invoke(sent, content_type=kind, accept="application/json")
        assert (json.loads(answer.body), answer.content_type) == ([[3.0, 6.0]], "application/json")
    answer = invoke(b"1,2\n3,4\n", content_type="text/csv", accept="text/csv")
    assert answer.body.split() == [b"3.0,6.0", b"9.0,12.0"]
    predictor.delete_endpoint()


def test_a_request_goes_through_the_three_functions_with_the_context(serve):
    predictor = serve(
        """
def model_fn(model_dir, context):
    return sorted(name for name in ("gpu_id", "batch_size") if name in context.system_properties)

def input_fn(request_body, request_content_type, context):
    return [type(request_body).__name__, request_content_type, context.system_properties["batch_size"]]

def predict_fn(input_object, model, context):
    return [*input_object, *model, context.system_properties["gpu_id"]]

def output_fn(prediction, response_content_type, context):
    return " ".join(map(str, [*prediction, response_content_type]))
""",
        entry_point="inference.py",
    )
    answer = predictor.handle.invoke(b"\x00", content_type="application/octet-stream", accept="text/plain")
    assert answer.body == b"bytes application/octet-stream 1 batch_size gpu_id None text/plain"
    predictor.delete_endpoint()


@pytest.mark.torch
@pytest.mark.parametrize("predict_fn", [PREDICT_FN, PREDICT_FN_FOR_GPUS], ids=["one GPU", "several GPUs"])
def test_input_fn_loads_a_pickled_tensor_and_predict_fn_chooses_the_device(serve, predict_fn):
    check_pickled_input(serve, MODEL + MODEL_FN + PICKLED_INPUT + predict_fn)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_elastic_inferences_model_fn_and_predict_fn(serve, machine):
    """Of the branch for 1.5.1 and its ``predict_fn`` with ``torcheia`` nothing is left that could run it."""
    import torch

    torch.jit.save(torch.jit.script(torch.nn.Flatten()), str(machine / "model.pth"))
    predictor = serve(
        """
import os
import numpy as np
import torch

def model_fn(model_dir):
    model = torch.jit.load(os.path.join(model_dir, 'model.pth'), map_location=torch.device('cpu'))
    if torch.__version__ == '1.5.1':
        import torcheia
        model = model.eval()
        model = torcheia.jit.attach_eia(model, 0)
    return model

def predict_fn(input_data, model):
    device = torch.device("cpu")
    model = model.to(device)
    input_data = input_data.to(device)
    model.eval()
    with torch.jit.optimized_execution(True):
        return model(input_data)
""",
        {"model.pth": (machine / "model.pth").read_bytes()},
        entry_point="inference.py",
        accelerator_type="ml.eia2.medium",
    )
    assert predictor.predict(np.ones((1, 2, 2), np.float32)).tolist() == [[1, 1, 1, 1]]
    predictor.delete_endpoint()


@pytest.mark.skip(
    reason="torcheia and the accelerators are gone, and no torch of today takes target_device; the calls are "
    "held by unit/hardware/test_elastic_inference.py"
)
def test_elastic_inferences_predict_fn_on_an_accelerator():
    """``optimized_execution(True, {"target_device": "eia:0"})``, and ``import torcheia``."""


# -- Bring your own model ----------------------------------------------------------------------


@pytest.mark.torch
def test_a_model_is_packed_inside_its_folder_and_served(machine):
    code = machine / "my_model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(MODEL + MODEL_FN)
    (code / "requirements.txt").write_text("numpy\n")
    (machine / "my_model" / "model.pth").write_bytes(weights())
    subprocess.run("tar czvf ../model.tar.gz *", shell=True, cwd=machine / "my_model", check=True)
    listed = subprocess.run(["tar", "tf", "model.tar.gz"], capture_output=True, text=True, check=True)
    assert sorted(listed.stdout.split()) == [
        "code/",
        "code/inference.py",
        "code/requirements.txt",
        "model.pth",
    ]
    predictor = PyTorchModel(model_data="model.tar.gz", role="SageMakerRole").deploy(1, "local")
    assert predictor.predict([[1.0, 2.0]]).tolist() == [[3.0, 6.0]]
    predictor.delete_endpoint()


@pytest.fixture
def from_the_parent(machine):
    """Return the chapter's mistake: an archive that was made from the parent of the model's folder."""
    code = machine / "my_model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(MODEL + MODEL_FN)
    (machine / "my_model" / "model.pth").write_bytes(weights())
    subprocess.run(["tar", "czf", "model.tar.gz", "my_model/"], check=True)
    return machine / "model.tar.gz"


@pytest.mark.torch
def test_an_archive_made_from_the_parent_with_its_code_is_served(from_the_parent):
    with PyTorchModel(model_data=from_the_parent, role="SageMakerRole").deploy(1, "local") as predictor:
        assert predictor.predict([[1.0, 2.0]]).tolist() == [[3.0, 6.0]]


@pytest.mark.torch
def test_an_archive_made_from_the_parent_and_a_script_beside_it_say_how_to_pack(machine, from_the_parent):
    (machine / "inference.py").write_text(MODEL + MODEL_FN)
    model = PyTorchModel(model_data=from_the_parent, role="SageMakerRole", entry_point="inference.py")
    with pytest.raises(
        EndpointFailedError, match=r"(?s)FileNotFoundError: .*; there is my_model/model\.pth\."
    ):
        model.deploy(1, "local")


def test_an_archive_that_is_none_is_called_by_its_place_on_s3(account, folder):
    (folder / "inference.py").touch()
    account.put("s3://my-bucket/my-path/model.tar.gz", b"no archive")
    model = PyTorchModel("s3://my-bucket/my-path/model.tar.gz", "SageMakerRole", "inference.py")
    with pytest.raises(PackagingError, match="'s3://my-bucket/my-path/model.tar.gz' is damaged"):
        model.deploy(1, "ml.c4.xlarge")
    assert account.double.models == {}


def test_a_model_of_ones_own_is_deployed_with_the_role_of_this_code(account, folder):
    (folder / "inference.py").write_text("def model_fn(model_dir): ...")
    content = archive(folder / "model.tar.gz", {"model.pth": b"weights"}).read_bytes()
    account.put("s3://my-bucket/my-path/model.tar.gz", content)
    role = get_execution_role()
    assert role == "arn:aws:iam::123456789012:role/service-role/SageMakerRole"
    pytorch_model = PyTorchModel(
        model_data="s3://my-bucket/my-path/model.tar.gz", role=role, entry_point="inference.py"
    )
    predictor = pytorch_model.deploy(instance_type="ml.c4.xlarge", initial_instance_count=1)
    assert predictor.predict([[1.0, 2.0]]).tolist() == [[1.0, 2.0]]  # This endpoint says what it is told.
    said = account.asked("CreateModel")
    assert said["ExecutionRoleArn"] == role
    assert set(account.files(said["PrimaryContainer"]["ModelDataUrl"])) == {"model.pth", "code/inference.py"}
    predictor.delete_endpoint()


# -- Attach an estimator to an existing training job -------------------------------------------


@pytest.mark.cuda
def test_attaching_to_a_job_waits_shows_its_log_and_deploys(account, folder, capsys):
    (folder / "train_and_deploy.py").write_text("def model_fn(model_dir): ...")
    before = PyTorch(
        "train_and_deploy.py", instance_type="ml.p3.2xlarge", framework_version="1.8.0", py_version="py3"
    )
    model = archive(folder / "model.tar.gz", {"model.pth": b"weights"}).read_bytes()
    check_attach(account, before, model, capsys)
