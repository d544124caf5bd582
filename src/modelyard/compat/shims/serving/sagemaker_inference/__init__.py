"""modelyard's stand-in for SageMaker's inference toolkit: what inference scripts use of it."""

from modelyard_shim import Lacking

_lacking = Lacking(
    "sagemaker_inference",
    ("content_types", "decoder", "default_inference_handler", "encoder", "errors"),
    "sagemaker-inference",
)
__getattr__ = _lacking.attribute_of(__name__)
