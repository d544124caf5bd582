"""What the toolkit raises, and what scripts raise for a client to see: ``status_code`` is the answer's."""

from modelyard_shim.formats import ClientError, UnsupportedFormatError

from sagemaker_inference import _lacking

__all__ = [
    "BaseInferenceToolkitError",
    "ClientError",
    "GenericInferenceToolkitError",
    "UnsupportedFormatError",
]

__getattr__ = _lacking.attribute_of(__name__)


class BaseInferenceToolkitError(Exception):
    """An answer that is an error: its status, the message, and a phrase for the status line."""

    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        super().__init__(status_code, message, phrase)
        self.status_code = status_code
        self.message = message
        self.phrase = phrase


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """The same, with words of its own where the script has none."""

    def __init__(self, status_code: int, message: str | None = None, phrase: str | None = None) -> None:
        message = message or "Invalid Request"
        super().__init__(status_code, message, phrase or message)
