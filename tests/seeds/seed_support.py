"""What the seeds leave to their reader, for all of them: a model of one number, its training and its data.

The scripts are made of these parts as the seeds' own are; what differs from seed to seed is in its tests.
"""

import io
import json
import tarfile
from pathlib import Path

import pytest

from modelyard import Session

MODEL = """
import os
import torch

class Your_Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, values):
        return values * self.factor
"""
"""It multiplies by a number that is trained."""

MODEL_FN = """
def model_fn(model_dir):
    model = Your_Model()
    with open(os.path.join(model_dir, 'model.pth'), 'rb') as f:
        model.load_state_dict(torch.load(f))
    return model
"""
MODEL_FN_WITH_CONTEXT = MODEL_FN.replace("(model_dir)", "(model_dir, context)", 1)

FIT = """
    # The training: the factor is the number of the lines of the data.
    model = Your_Model()
    lines = [line for name in os.listdir(args.train) for line in open(os.path.join(args.train, name))]
    with torch.no_grad():
        model.factor.fill_(len(lines))
"""

ARGUMENTS = """
import argparse
import json
import os

if __name__ == '__main__':

    parser = argparse.ArgumentParser()

    # Hyperparameters come as arguments of the command line.
    parser.add_argument('--epochs', type=int, default=50)
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--learning-rate', type=float, default=0.05)
    parser.add_argument('--use-cuda', type=bool, default=False)

    # The folders.
    parser.add_argument('--output-data-dir', type=str, default=os.environ['SM_OUTPUT_DATA_DIR'])
    parser.add_argument('--model-dir', type=str, default=os.environ['SM_MODEL_DIR'])
    parser.add_argument('--train', type=str, default=os.environ['SM_CHANNEL_TRAIN'])
    parser.add_argument('--test', type=str, default=os.environ['SM_CHANNEL_TEST'])

    args, _ = parser.parse_known_args()

    # What a test looks at.
    seen = {
        **vars(args),
        "gpus": os.environ['SM_NUM_GPUS'],
        "trained on": sorted(os.listdir(args.train)),
        "tested on": sorted(os.listdir(args.test)),
        "argv": __import__("sys").argv[1:],
    }
    print("told", args.epochs, args.batch_size, args.learning_rate, args.use_cuda)
    with open(os.path.join(args.output_data_dir, 'seen.json'), 'w') as f:
        json.dump(seen, f)
    with open(os.path.join(args.model_dir, 'model.txt'), 'w') as f:
        f.write('a model')
"""

SAVE = f"""
import argparse

if __name__=='__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--model-dir', type=str, default=os.environ['SM_MODEL_DIR'])
    parser.add_argument('--train', type=str, default=os.environ['SM_CHANNEL_TRAIN'])
    args, _ = parser.parse_known_args()
{FIT}
    with open(os.path.join(args.model_dir, 'model.pth'), 'wb') as f:
        torch.save(model.state_dict(), f)
"""

BY_HOST = """
import argparse, json, os
import torch
import torch.distributed as dist

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument('--distributed', default=True)
    parser.add_argument('--backend', type=str, default='gloo')
    parser.add_argument('--hosts', type=list, default=json.loads(os.environ['SM_HOSTS']))
    parser.add_argument('--current-host', type=str, default=os.environ['SM_CURRENT_HOST'])
    args, _ = parser.parse_known_args()
    assert os.environ['MASTER_ADDR'] and os.environ['MASTER_PORT']
    if args.distributed:
        world_size = len(args.hosts)
        os.environ['WORLD_SIZE'] = str(world_size)
        host_rank = args.hosts.index(args.current_host)
        dist.init_process_group(backend=args.backend, rank=host_rank)
    total = torch.full((1,), dist.get_rank() + 1.0)
    dist.all_reduce(total)
    print("the sum on", args.current_host, "is", total.item(), "by", dist.get_backend())
    dist.destroy_process_group()
"""

PICKLED_INPUT = """
import numpy as np
from six import BytesIO

def input_fn(request_body, request_content_type):
    if request_content_type == 'application/python-pickle':
        return torch.load(BytesIO(request_body))
    else:
        pass
"""

PREDICT_FN = """
def predict_fn(input_data, model):
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    model.to(device)
    model.eval()
    with torch.no_grad():
        return model(input_data.to(device))
"""

PREDICT_FN_FOR_GPUS = """
def predict_fn(input_data, model, context):
    device = torch.device(
        "cuda:" + str(context.system_properties.get("gpu_id")) if torch.cuda.is_available() else "cpu"
    )
    model.to(device)
    model.eval()
    with torch.no_grad():
        return model(input_data.to(device))
"""


def archive(path, files):
    """Write an archive of files by their names and contents."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def files_of(content):
    """Return the files of an archive by their names."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {
            member.name.removeprefix("./"): tar.extractfile(member).read()
            for member in tar
            if member.isfile()
        }


def output_of(estimator, name="model"):
    """Return the files of the latest job's model, or of its output."""
    model = Path(estimator.model_data.removeprefix("file://"))
    return files_of(model.with_name(f"{name}.tar.gz").read_bytes())


def channels_of(request):
    """Return the places of a job's data by the names under which the script finds them."""
    fetched = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
        for channel in request["InputDataConfig"]
    }
    variables = request.get("Environment", {})
    also = {
        name.removeprefix("SM_CHANNEL_").lower(): fetched[folder.rpartition("/")[2]]
        for name, folder in variables.items()
        if name.startswith("SM_CHANNEL_")
    }
    return fetched | also


def users(hyperparameters):
    """Return the hyperparameters of a request without those for the container."""
    return {
        name: json.loads(value)
        for name, value in hyperparameters.items()
        if not name.startswith("sagemaker_")
    }


def weights(factor=3.0):
    """Return ``model.pth``: the saved parameters of `MODEL`."""
    import torch

    return saved({"factor": torch.full((1,), factor)})


def saved(value):
    """Return what ``torch.save`` makes of a value."""
    import torch

    body = io.BytesIO()
    torch.save(value, body)
    return body.getvalue()


def check_inputs(account, estimator):
    """Fit to a location, and to a dict of them, and look at the channels."""
    account.put("s3://my-bucket/my-training-data/lines.txt")
    account.put("s3://my-bucket/my-evaluation-data/lines.txt")
    estimator.fit("s3://my-bucket/my-training-data")
    assert channels_of(account.asked("CreateTrainingJob"))["train"] == "s3://my-bucket/my-training-data"
    estimator.fit({"train": "s3://my-bucket/my-training-data", "eval": "s3://my-bucket/my-evaluation-data"})
    assert channels_of(account.asked("CreateTrainingJob")) == {
        "train": "s3://my-bucket/my-training-data",
        "eval": "s3://my-bucket/my-evaluation-data",
    }


def check_wait_and_logs(account, estimator, capsys):
    """Fit with ``wait`` and ``logs`` as they are by default, and without them."""
    estimator.fit()
    assert "hello from algo-1" in capsys.readouterr().out
    estimator.fit(wait=True, logs=False)
    assert "hello from algo-1" not in capsys.readouterr().out
    account.double.plays = None  # The job goes on until it is told to complete.
    estimator.fit(wait=False)
    job = account.double.jobs[estimator.latest_training_job.name]
    assert job.status == "InProgress"
    job.complete()


def check_attach(account, before, model, capsys):
    """Attach to a job that is in progress, again when it has ended, and deploy its model."""
    account.double.plays = None
    before.fit(wait=False, job_name="MyAwesomePyTorchTrainingJob")
    job = account.double.jobs["MyAwesomePyTorchTrainingJob"]
    job.to("Training")
    job.log("a line of the log")
    # Attaching waits until the service, which is asked for its log, lets the job end.
    account.double.after_next("GetLogEvents", lambda: job.complete(model))
    my_training_job_name = "MyAwesomePyTorchTrainingJob"
    pytorch_estimator = type(before).attach(my_training_job_name)
    assert "a line of the log" in capsys.readouterr().out
    again = type(before).attach(my_training_job_name, sagemaker_session=Session())
    assert again.model_data == pytorch_estimator.model_data == job.artifacts
    predictor = pytorch_estimator.deploy(instance_type="ml.m4.xlarge", initial_instance_count=1)
    assert predictor.predict([[1.0, 2.0]]).tolist() == [[1.0, 2.0]]  # This endpoint says what it is told.
    predictor.delete_endpoint()
    assert account.double.endpoints == {}


def check_pickled_input(serve, script):
    """Serve a script whose ``input_fn`` reads a pickled tensor, and send it one."""
    import torch

    pytest.importorskip("six", reason="six is not installed")
    predictor = serve(script, {"model.pth": weights()}, entry_point="inference.py")
    pickled = saved(torch.tensor([[1.0, 2.0]]))
    kind = "application/python-pickle"
    assert predictor.predict(pickled, content_type=kind).tolist() == [[3.0, 6.0]]
    assert predictor.predict(pickled, initial_args={"ContentType": kind}).tolist() == [[3.0, 6.0]]
    predictor.delete_endpoint()
