"""What the serializers and deserializers of SDK v2 have in common: a registered codec under their names."""

from collections.abc import Callable
from functools import cached_property

from modelyard.core.codecs import CodecTable
from modelyard.core.contracts import Codec
from modelyard.core.manager import PluginManager

TOOLKIT = "2.0.25"
"""Of SageMaker's inference toolkit: what its codecs do with CSV is what SDK v2 does."""


class CodecFacade:
    """A facade that asks the installed plugins for its codec when it first needs one."""

    @cached_property
    def _codecs(self) -> CodecTable:
        return CodecTable.of(PluginManager.discover().codecs)

    @cached_property
    def _toolkit_codecs(self) -> CodecTable:
        return CodecTable.of(PluginManager.discover().codecs, strict=TOOLKIT)

    def _codec(self, media_type: str) -> Codec:
        return self._codecs.reading(media_type)


def reader(stream: object) -> Callable[[], object] | None:
    """Return the ``read`` of a file or a stream, None for anything else."""
    read = getattr(stream, "read", None)
    return read if callable(read) else None
