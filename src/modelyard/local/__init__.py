"""``from modelyard.local import LocalSession``: the import path of SDK v1 and v2."""

from modelyard.local.local_session import LocalSession, file_input

__all__ = ["LocalSession", "file_input"]
