"""``from modelyard.local.local_session import LocalSession``: the import path of SDK v1 and v2."""

from modelyard.inputs import TrainingInput
from modelyard.session import LocalSession


def file_input(fileUri: str, content_type: str | None = None) -> TrainingInput:  # noqa: N803 - SDK v2's name
    """Return a channel's data on this machine, as SDK v2's local mode has them."""
    return TrainingInput(fileUri, content_type=content_type)


__all__ = ["LocalSession", "file_input"]
