"""What the notebook on containers of one's own does on SageMaker, as one program."""

import boto3
import numpy as np
import sagemaker as sage
from sagemaker import get_execution_role
from sagemaker.estimator import Estimator
from sagemaker.predictor import json_deserializer, json_serializer

role = get_execution_role()
prefix = "DEMO-pytorch-cifar10"
sess = sage.Session()
WORK_DIRECTORY = "cifar-10-data"
data_location = sess.upload_data(WORK_DIRECTORY, key_prefix=prefix)

client = boto3.client("sts")
account = client.get_caller_identity()["Account"]
my_session = boto3.session.Session()
region = my_session.region_name
algorithm_name = "pytorch-extending-our-containers-cifar10-example"
ecr_image = f"{account}.dkr.ecr.{region}.amazonaws.com/{algorithm_name}:latest"

hyperparameters = {"epochs": 1}
instance_type = "ml.m4.xlarge"
estimator = Estimator(
    role=role,
    train_instance_count=1,
    train_instance_type=instance_type,
    image_name=ecr_image,
    hyperparameters=hyperparameters,
)
estimator.fit(data_location)
predictor = estimator.deploy(1, instance_type)

predictor.accept = "application/json"
predictor.content_type = "application/json"
predictor.serializer = json_serializer
predictor.deserializer = json_deserializer
images = np.zeros((4, 3, 2, 2), dtype=np.float32)
outputs = predictor.predict(images)
assert np.array(outputs).shape == (4, 3, 2, 2)
predictor.delete_endpoint()
