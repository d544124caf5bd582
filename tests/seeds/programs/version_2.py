"""What SDK v2's chapter tells its reader to write, as one program."""

import numpy as np
from sagemaker import get_execution_role
from sagemaker.pytorch import PyTorch, PyTorchModel

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

for version, option in (("1.12.0", "pytorchddp"), ("1.13.1", "torch_distributed")):
    pt_estimator = PyTorch(
        entry_point="train_ptddp.py",
        role="SageMakerRole",
        framework_version=version,
        py_version="py38",
        instance_count=2,
        instance_type="ml.p4d.24xlarge",
        distribution={option: {"enabled": True}},
    )

for count, instance_type in ((1, "ml.trn1.2xlarge"), (2, "ml.trn1.32xlarge")):
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

pytorch_estimator = PyTorch(
    entry_point="train_and_deploy.py",
    instance_type="ml.p3.2xlarge",
    instance_count=1,
    framework_version="1.8.0",
    py_version="py3",
)
pytorch_estimator.fit("s3://my_bucket/my_training_data/")
predictor = pytorch_estimator.deploy(instance_type="ml.m4.xlarge", initial_instance_count=1)
for data in (np.array([[1.0, 2.0]], dtype=np.float32), [[1.0, 2.0]]):
    response = predictor.predict(data)
    assert isinstance(response, np.ndarray)
    assert response.tolist() == [[1.0, 2.0]]
predictor.update_endpoint(initial_instance_count=2, instance_type="ml.m4.xlarge")
predictor.delete_endpoint()

role = get_execution_role()
pytorch_model = PyTorchModel(
    model_data="s3://my-bucket/my-path/model.tar.gz", role=role, entry_point="inference.py"
)
predictor = pytorch_model.deploy(instance_type="ml.c4.xlarge", initial_instance_count=1)
predictor.delete_endpoint()

my_training_job_name = "MyAwesomePyTorchTrainingJob"
pytorch_estimator = PyTorch.attach(my_training_job_name)
predictor = pytorch_estimator.deploy(instance_type="ml.m4.xlarge", initial_instance_count=1)
predictor.delete_endpoint()
