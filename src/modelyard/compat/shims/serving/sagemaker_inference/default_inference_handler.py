"""The default functions, for scripts that call them from their own."""

from typing import Any

from sagemaker_inference import _lacking, decoder, encoder

__getattr__ = _lacking.attribute_of(__name__)


class DefaultInferenceHandler:
    """Decodes and encodes; the model is the script's affair."""

    def default_model_fn(self, model_dir: str) -> Any:
        """Raise: a script has to load its own model."""
        raise NotImplementedError("write a model_fn(model_dir) that loads the model")

    def default_input_fn(self, input_data: str | bytes, content_type: str) -> Any:
        """Return the array that a request's body holds."""
        return decoder.decode(input_data, content_type)

    def default_predict_fn(self, data: Any, model: Any) -> Any:
        """Raise: a script has to call its own model."""
        raise NotImplementedError("write a predict_fn(data, model) that calls the model")

    def default_output_fn(self, prediction: Any, accept: str) -> tuple[str | bytes, str]:
        """Return the body of the answer, and its media type."""
        return encoder.encode(prediction, accept), accept
