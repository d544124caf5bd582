"""From an exception at start to the line of the user's code that raised it."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from modelyard.core.errors import UserCodeError
from modelyard.serving.model.folder import ModelFolder


@contextlib.contextmanager
def blamed(what: str, folder: ModelFolder) -> Iterator[None]:
    """Turn any exception of the block into a `UserCodeError` with the user's line that raised it."""
    try:
        yield
    except UserCodeError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        users = [frame for frame in frames if folder.holds(Path(frame.filename))]
        where = [f" ({Path(f.filename).name}, line {f.lineno}, in {f.name})" for f in users[-1:]]
        said = f"{what} raised {type(error).__name__}: {error}{''.join(where)}{folder.advice(error)}"
        raise UserCodeError(said) from error
