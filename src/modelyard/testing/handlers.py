"""An endpoint's handler without a server: a request goes in, a response comes out."""

import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from modelyard.core.contracts import Hardware
from modelyard.core.http import Handler
from modelyard.core.manager import PluginManager
from modelyard.serving.model import folder as model_folder
from modelyard.serving.model.handler import Options, build_handler
from modelyard.testing.stand_in import StandInHardware
from modelyard.testing.trees import new_folder, write_tree

GIVEN: dict[str, Mapping[str, Callable[..., Any]]] = {}
"""The functions of a test, by the folder of the script that fetches them."""

_SCRIPT = """
from pathlib import Path

from modelyard.testing.handlers import GIVEN

globals().update(GIVEN[str(Path(__file__).parent)])
"""


class HandlerMaker:
    """Makes handlers: what each request to an endpoint passes through, codecs and middleware included.

    ``plugins``: whose codecs, hardware and middleware there are; ``scratch``: where models are made.
    """

    def __init__(self, plugins: PluginManager, scratch: Path) -> None:
        self.plugins = plugins
        self._scratch = scratch
        self._numbers = count()
        self.folders: list[Path] = []

    def __call__(
        self,
        model: Path | str | None = None,
        *,
        hardware: Hardware | str | None = None,
        options: Mapping[str, Any] | None = None,
        **functions: Callable[..., Any],
    ) -> Handler:
        """Return the handler of a model: ``handler(Request(body, content_type, accept))`` answers.

        `model`: a folder as it is unpacked from an archive, or the text of an inference script, or None
        where its `functions` are given by name: ``predict_fn=lambda value, model: value``. Without
        ``model_fn`` the model is None then. `hardware`: its name; without one values stay as codecs
        decode them, and torch is not needed. `options`: those of the endpoint, such as
        ``default_accept`` and ``batch_size``. Raises `UserCodeError` where the model cannot be loaded.
        """
        folder = model if isinstance(model, Path) else self._written(model, functions)
        self.folders.append(folder.absolute())
        unpack = self.plugins.packagers.create("tarball").unpack
        found = model_folder.find(folder, unpack, new_folder(self._scratch / f"own-{next(self._numbers)}"))
        device = self.plugins.hardware.create(hardware) if isinstance(hardware, str) else hardware
        return build_handler(found, self.plugins, device or StandInHardware(), Options(**(options or {})))

    def _written(self, script: str | None, functions: Mapping[str, Callable[..., Any]]) -> Path:
        if script is not None and functions:
            raise TypeError(f"give a script or functions, not both: {', '.join(sorted(functions))}")
        folder = new_folder(self._scratch / f"model-{next(self._numbers)}")
        code = new_folder(folder / "code")
        text = _SCRIPT if script is None else textwrap.dedent(script)
        write_tree(code, {"inference.py": text.encode()})
        if script is None:
            GIVEN[str(code)] = {"model_fn": lambda _: None, **functions}
        return folder

    def forget(self) -> None:
        """Take the scripts' modules and functions out of this process."""
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and any(Path(file).is_relative_to(folder) for folder in self.folders):
                del sys.modules[name]
        for folder in self.folders:
            GIVEN.pop(str(folder / "code"), None)


@contextmanager
def handlers(plugins: PluginManager, scratch: Path) -> Iterator[HandlerMaker]:
    """Give what makes handlers, and undo what loading a model does to its process."""
    folder, path, maker = Path.cwd(), sys.path[:], HandlerMaker(plugins, scratch)
    try:
        yield maker
    finally:
        os.chdir(folder)
        sys.path[:] = path
        maker.forget()
