"""The plugins that are installed, found without a word on standard output."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelyard.core.manager import PluginManager


def discovered(environ: Mapping[str, str] | None = None) -> "PluginManager":
    """Return a manager with all plugins loaded and asked what they provide, by the settings in `environ`.

    What they print meanwhile, or a program that they start, goes to standard error: standard output
    belongs to the command, and may be JSON.
    """
    from modelyard.core.manager import PluginManager

    with _stdout_to_stderr():
        plugins = PluginManager.discover(environ)
        _ = plugins.statuses
    return plugins


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what is written to Python's standard output, and to the descriptor 1, to standard error."""
    print(end="", flush=True)
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as restoring:
        with contextlib.suppress(OSError):  # One of them may be closed.
            kept = os.dup(1)
            restoring.callback(os.close, kept)
            os.dup2(2, 1)
            restoring.callback(os.dup2, kept, 1)
            if stdout is not None:  # Who kept it may have written to it, and not flushed.
                restoring.callback(stdout.flush)
        yield
        print(end="", flush=True)
