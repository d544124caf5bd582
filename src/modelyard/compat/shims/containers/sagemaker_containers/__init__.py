"""modelyard's stand-in for the toolkit of SageMaker's older images, before ``sagemaker_training``."""

from modelyard_shim import Environment, Lacking

_lacking = Lacking("sagemaker_containers", ("training_env", "beta.framework"), "sagemaker-containers")
__getattr__ = _lacking.attribute_of(__name__)


def training_env() -> Environment:
    """Return the training environment of the job."""
    return Environment()
