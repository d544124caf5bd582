"""The backend keeps the contract, with the double running what SageMaker's containers would run."""

import attrs
import pytest
from tests.aws.sagemaker.conftest import ROLE, made

from modelyard.plugins.backends.sagemaker.backend import SageMakerBackend
from modelyard.testing.backends import BackendContract


class TestSageMakerBackend(BackendContract):
    backend_class = SageMakerBackend
    instance_type = "ml.m5.xlarge"

    @pytest.fixture
    def backend(self, double, role):
        from tests.aws.sagemaker.double.containers import Containers

        containers = Containers(double)
        double.plays, double.serves = containers.train, containers.serve
        return made()

    def _job_plan(self, *args):
        return attrs.evolve(super()._job_plan(*args), role=ROLE, framework_version="2.5.1")

    def _endpoint_plan(self, *args):
        return attrs.evolve(super()._endpoint_plan(*args), role=ROLE, framework_version="2.5.1")
