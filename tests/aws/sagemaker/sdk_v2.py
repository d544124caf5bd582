"""What a user of SDK v2 does, run by a Python that has it: `python sdk_v2.py BUCKET FOLDER`."""
# ruff: noqa: T201 - printing is how it tells the test

import sys
from pathlib import Path

import boto3
import sagemaker
from sagemaker.pytorch import PyTorch, PyTorchModel

bucket, folder = sys.argv[1], Path(sys.argv[2])
(folder / "src").mkdir()
(folder / "src" / "train.py").write_text("print('hello')\n")
(folder / "src" / "inference.py").write_text("def model_fn(model_dir): ...\n")
session = sagemaker.Session(boto_session=boto3.Session(), default_bucket=bucket)
role = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"

estimator = PyTorch(
    entry_point="train.py",
    source_dir=str(folder / "src"),
    role=role,
    instance_type="ml.g4dn.xlarge",
    instance_count=2,
    framework_version="2.3.0",
    py_version="py311",
    distribution={"torch_distributed": {"enabled": True}},
    hyperparameters={"epochs": 3, "name": "adam"},
    max_run=3600,
    use_spot_instances=True,
    max_wait=7200,
    tags=[{"Key": "team", "Value": "vision"}],
    sagemaker_session=session,
)
estimator.fit({"train": f"s3://{bucket}/data"}, logs="All")
print("model", estimator.model_data)
attached = PyTorch.attach(estimator.latest_training_job.name, session)
print("attached", attached.hyperparameters()["epochs"], attached.model_data == estimator.model_data)

model = PyTorchModel(
    model_data=estimator.model_data,
    role=role,
    entry_point="inference.py",
    source_dir=str(folder / "src"),
    framework_version="2.3.0",
    py_version="py311",
    sagemaker_session=session,
)
predictor = model.deploy(initial_instance_count=1, instance_type="ml.m5.xlarge")
print("answer", predictor.predict([[1.0, 2.0]]).tolist())
predictor.update_endpoint(initial_instance_count=2, instance_type="ml.m5.xlarge")
predictor.delete_endpoint()
predictor_name = predictor.endpoint_name
waiting = PyTorch(
    entry_point="train.py",
    source_dir=str(folder / "src"),
    role=role,
    instance_type="ml.m5.xlarge",
    instance_count=1,
    framework_version="2.3.0",
    py_version="py311",
    sagemaker_session=session,
)
waiting.fit(wait=False)
session.stop_training_job(waiting.latest_training_job.name)
print("stopped", waiting.latest_training_job.describe()["TrainingJobStatus"])
try:
    waiting.fit(wait=False, job_name=estimator.latest_training_job.name)
except session.sagemaker_client.exceptions.ResourceInUse as error:
    print("twice", type(error).__name__)
