"""modelyard's stand-in for SageMaker's training toolkit: what training scripts use of it."""

from modelyard_shim import Lacking

_lacking = Lacking("sagemaker_training", ("environment", "logging_config", "params"), "sagemaker-training")
__getattr__ = _lacking.attribute_of(__name__)
