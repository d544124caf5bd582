"""What SDK v1's chapter tells its reader to write, as one program."""

import numpy as np
from sagemaker.predictor import RealTimePredictor, json_deserializer, json_serializer
from sagemaker.pytorch import PyTorch, PyTorchModel

pytorch_estimator = PyTorch(
    entry_point="pytorch-train.py",
    role="SageMakerRole",
    train_instance_type="ml.p3.2xlarge",
    train_instance_count=1,
    framework_version="1.0.0",
)
pytorch_estimator.fit("s3://bucket/path/to/training/data")

pytorch_estimator = PyTorch(
    "pytorch-train.py",
    train_instance_type="ml.p3.2xlarge",
    train_instance_count=1,
    framework_version="1.0.0",
    hyperparameters={"epochs": 20, "batch-size": 64, "learning-rate": 0.1},
)
pytorch_estimator.fit(
    {
        "train": "s3://my-data-bucket/path/to/my/training/data",
        "test": "s3://my-data-bucket/path/to/my/test/data",
    }
)

pytorch_estimator = PyTorch(
    entry_point="train_and_deploy.py",
    train_instance_type="ml.p3.2xlarge",
    train_instance_count=1,
    framework_version="1.0.0",
)
pytorch_estimator.fit("s3://my_bucket/my_training_data/", wait=True, logs=False)
predictor = pytorch_estimator.deploy(instance_type="ml.m4.xlarge", initial_instance_count=1)
data = np.array([[1.0, 2.0]], dtype=np.float32)
response = predictor.predict(data)
assert isinstance(response, np.ndarray)
assert response.tolist() == [[1.0, 2.0]]
same = RealTimePredictor(predictor.name, serializer=json_serializer, deserializer=json_deserializer)
same.content_type = same.accept = "application/json"
assert same.predict([[1.0, 2.0]]) == [[1.0, 2.0]]
predictor.delete_endpoint()

my_training_job_name = "MyAwesomePyTorchTrainingJob"
pytorch_estimator = PyTorch.attach(my_training_job_name)
predictor = pytorch_estimator.deploy(instance_type="ml.m4.xlarge", initial_instance_count=1)
predictor.delete_endpoint()

pytorch_model = PyTorchModel(
    model_data="s3://bucket/model.tar.gz", role="SageMakerRole", entry_point="transform_script.py"
)
predictor = pytorch_model.deploy(instance_type="ml.c4.xlarge", initial_instance_count=1)
predictor.delete_endpoint()
