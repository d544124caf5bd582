"""The program that ``modelyard serve`` runs: the server, as a child that may start itself anew."""

import signal
import socket
import sys
import traceback
from pathlib import Path
from tempfile import mkdtemp

import attrs

from modelyard.core import log, values
from modelyard.core.errors import InvalidPlanError, is_expected, said
from modelyard.core.handover import end_with_guard
from modelyard.core.manager import PluginManager


@attrs.frozen
class Task:
    """What is to be served.

    ``model``: the folder or the archive; ``folder``: where its files lie; ``own``: a folder for what is
    unpacked and installed; ``listen``: the inherited descriptor of the socket. The settings are in the
    environment.
    """

    model: str
    folder: str
    own: str
    listen: int

    def refreshed(self, place: Path) -> Path:
        """Return the folder with the model's files as they are now: an archive is unpacked in `place`."""
        return unpacked(Path(self.model), place)


def unpacked(model: Path, place: Path) -> Path:
    """Return the folder of a model: itself, or what is in its archive, unpacked in a folder in `place`.

    Raises `InvalidPlanError` where there is no model, and what unpacking raises.
    """
    if model.is_dir():
        return model
    if not model.is_file():
        raise InvalidPlanError(
            f"there is no model at '{model}': give a folder with the model's files, or a model.tar.gz"
        )
    plugins = PluginManager.discover()
    into = Path(mkdtemp(prefix="archive-", dir=place))
    plugins.packagers.create(plugins.select_packager(None)).unpack(model, into)
    return into


def main(task: Task) -> int:
    """Serve until SIGTERM or SIGINT, or until the program that has started this one ends."""
    end_with_guard()
    log.configure()
    from modelyard.serving.program import Deployment, serve
    from modelyard.serving.settings import ServerSettings

    try:
        deployment = Deployment(
            Path(task.folder),
            Path(task.own),
            ServerSettings.from_environ(),
            isolated=True,
            refresh=task.refreshed,
        )
        serve(deployment, socket.socket(fileno=task.listen))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001 - printed
        if not is_expected(error):
            traceback.print_exc()
        sys.stderr.write(f"modelyard: {said(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(values.from_json(Task, sys.argv[1])))
