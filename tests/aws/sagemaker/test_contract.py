"""The backend keeps the contract, with the double running what SageMaker's containers would run."""

import attrs
import pytest
from tests.aws.sagemaker.conftest import ROLE, made

from modelyard.plugins.backends.sagemaker.backend import SageMakerBackend
from modelyard.testing import BackendContract


class TestSageMakerBackend(BackendContract):
    backend_class = SageMakerBackend
    instance_type = "ml.m5.xlarge"

    @pytest.fixture
    def backend(self, double, role):
        from tests.aws.sagemaker.double.containers import Containers

        containers = Containers(double)
        double.plays, double.serves = containers.train, containers.serve
        return made()

    def adapt_plan(self, plan):
        return attrs.evolve(plan, role=ROLE, framework_version="2.5.1")
