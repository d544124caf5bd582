"""The names of media types."""

from modelyard_shim.formats import ANY, CSV, JSON, NPY, NPZ, OCTET_STREAM, UTF8_TYPES

from sagemaker_inference import _lacking

__all__ = ["ANY", "CSV", "JSON", "NPY", "NPZ", "OCTET_STREAM", "UTF8_TYPES"]

__getattr__ = _lacking.attribute_of(__name__)
