"""The contract test kit: one class of tests per noun, for built-ins and third parties alike.

Subclass a contract, say what to test, and pytest runs every promise of the noun against it::

    from modelyard.testing import CodecContract


    class TestMyCodec(CodecContract):
        codec = MyCodec()
        values = ([1.5, 2.5], "text")

What a provider need not be able to do is a switch of its contract, ``can_...``: what it cannot is
skipped, and the reason says so. Fixtures for plugins' own tests are in `modelyard.testing.fixtures`.
Needs pytest (the extra ``test``). The names are imported when they are first used.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from modelyard.testing.backends import BackendContract
    from modelyard.testing.codecs import CodecContract
    from modelyard.testing.hardware import HardwareContract
    from modelyard.testing.launchers import LauncherContract
    from modelyard.testing.packagers import PackagerContract
    from modelyard.testing.plugins import PluginContract
    from modelyard.testing.storages import StorageContract

_HOMES = {
    "BackendContract": "modelyard.testing.backends",
    "CodecContract": "modelyard.testing.codecs",
    "HardwareContract": "modelyard.testing.hardware",
    "LauncherContract": "modelyard.testing.launchers",
    "PackagerContract": "modelyard.testing.packagers",
    "PluginContract": "modelyard.testing.plugins",
    "StorageContract": "modelyard.testing.storages",
}

__all__ = [
    "BackendContract",
    "CodecContract",
    "HardwareContract",
    "LauncherContract",
    "PackagerContract",
    "PluginContract",
    "StorageContract",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
