"""The user's source: into the job's code folder, and how its entry point is run there."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from modelyard.core.carrier import ARCHIVE, as_uri, fetched, local_path
from modelyard.core.contracts import EntryForm, EntryPoint, Packager
from modelyard.core.errors import InvalidPlanError, did_you_mean
from modelyard.core.layout import JobLayout
from modelyard.core.manager import PluginManager
from modelyard.core.plans import SourceCode
from modelyard.training import aside, packages
from modelyard.training.environment import TrainingEnvironment

_ELF = b"\x7fELF"
_SHEBANG = b"#!"
_LINE = 256
"""Bytes that the kernel reads of a first line."""


def fetch(env: TrainingEnvironment, plugins: PluginManager, packager: Callable[[], Packager]) -> None:
    """Bring the submitted source into the code folder: an archive's content, a folder's, or one file.

    It is what a path or the URI of any storage names. A folder comes as a client would pack it. What
    the code folder held before is set aside; a source that is the code folder itself stays as it is,
    and no `packager` is asked for.
    Raises `InvalidPlanError`, `PackagingError` and `StorageError`.
    """
    uri, layout = as_uri(env.submit_directory), env.layout
    if not _is_elsewhere(uri, layout):
        return
    from tempfile import TemporaryDirectory

    with (
        fetched(plugins, uri, layout.input) as found,
        TemporaryDirectory(prefix="source-", dir=layout.base) as scratch,
    ):
        # Unpacked before the old code goes: the new may be a part of it.
        content = Path(scratch, "content")
        opener = packager()
        opener.unpack(_archive(env, found, opener, Path(scratch)), content)
        _set_aside(layout.code)
        _move(content, layout.code)


def entry_point(env: TrainingEnvironment, arguments: tuple[str, ...], interpreter: str) -> EntryPoint:
    """Return how the program runs: as a module, a Python or shell script, or by itself.

    In a source that pip installs, a script inside a package runs as the package's module, so that its
    relative imports work. Raises `InvalidPlanError` for a program that is not there, is outside of the
    code folder, or cannot be run.
    """
    code = env.layout.code
    source = SourceCode(env.program, str(code))
    if module := source.module:
        _check_module(source, code)
        return EntryPoint(module, arguments, code, EntryForm.MODULE, interpreter)
    program = source.program
    path = code / program
    if not path.is_file():
        raise InvalidPlanError(_absent(program, code))
    if path.suffix != ".py":
        return EntryPoint(program, arguments, code, _form(path), interpreter)
    if packages.is_project(code) and (module := _module(path)):
        return EntryPoint(module, arguments, code, EntryForm.MODULE, interpreter)
    return EntryPoint(program, arguments, code, EntryForm.SCRIPT, interpreter)


def check_interpreter(entry: EntryPoint) -> None:
    """Raise `InvalidPlanError` for a program whose ``#!`` names what is not there, as no system tells.

    Only once pip has run, which may have brought it.
    """
    if entry.form is not EntryForm.EXECUTABLE:
        return
    first = _first_line(entry.code_dir / entry.program)
    if not first.startswith(_SHEBANG):
        return
    named = os.fsdecode((first.removeprefix(_SHEBANG).split() or [b""])[0])
    if not named or not os.access(entry.code_dir / named, os.X_OK):
        raise InvalidPlanError(
            f"{entry.program!r} is to be run by {named!r}, as its first line says, which is not there or "
            "cannot be run: install it, or name another interpreter, such as '#!/usr/bin/env python3'"
        )


# -- fetching --------------------------------------------------------------------------------------


def _is_elsewhere(uri: str, layout: JobLayout) -> bool:
    """Tell whether a source is to be fetched.

    Raises `InvalidPlanError` for one that is not there, or has the job itself in it.
    """
    path = local_path(uri)
    if path is None:
        return True
    if not path.exists():
        raise InvalidPlanError(f"the source '{path}' does not exist: see sagemaker_submit_directory")
    real, base = path.resolve(), layout.base.resolve()
    if base.is_relative_to(real):
        raise InvalidPlanError(
            f"the source '{path}' has the job's own folder '{base}' in it: "
            "name the folder of the source alone, or set SAGEMAKER_BASE_DIR to a folder outside of it"
        )
    return real != layout.code.resolve()


def _archive(env: TrainingEnvironment, found: Path, packager: Packager, scratch: Path) -> Path:
    """Return the archive at `found`, or one made from the folder or the file that is there."""
    if found.is_dir():
        return packager.pack_source(SourceCode(env.program, str(found)), scratch).path
    if found.name.endswith(ARCHIVE):
        return found
    return packager.pack_source(SourceCode(str(found)), scratch).path


def _set_aside(folder: Path) -> None:
    """Rename a folder that is not empty: an image's own code, or that of an earlier run, is kept.

    Raises `InvalidPlanError` for one that is a mount, or has a mount in it that is in the way.
    """
    if not any(folder.iterdir()):
        return
    try:
        aside.set_aside(folder)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        raise InvalidPlanError(
            f"what is mounted at '{error.filename}' is in the way of the source, and nothing of it is moved: "
            "mount it elsewhere and name that folder with SAGEMAKER_SUBMIT_DIRECTORY, or name none to run "
            f"what is in '{folder}'"
        ) from error


def _move(content: Path, folder: Path) -> None:
    """Move what is in one folder into another, which may be a mount that cannot be replaced."""
    import shutil

    folder.mkdir(exist_ok=True)
    for item in content.iterdir():
        shutil.move(item, folder / item.name)


# -- the program -----------------------------------------------------------------------------------


def _check_module(source: SourceCode, code: Path) -> None:
    """Raise `InvalidPlanError` for a module that is neither in the code folder nor installed."""
    from importlib.util import find_spec

    try:
        source.check_module(frozenset(_files(code)))
    except InvalidPlanError:
        if find_spec(str(source.module).partition(".")[0]) is None:
            raise


def _module(path: Path) -> str | None:
    """Return the dotted name of a script inside a package, None for one that is in none."""
    parts = [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts) if len(parts) > 1 else None


def _form(path: Path) -> EntryForm:
    """Return how a program that is no Python file is run, and make it executable where it must be."""
    first = _first_line(path)
    runs_itself = first.startswith((_SHEBANG, _ELF))
    if not runs_itself and path.suffix != ".sh":
        raise InvalidPlanError(
            f"cannot tell how to run {path.name!r}: name a file that ends in .py or .sh, start it with "
            "'#!' and its interpreter, or run a module as '-m package.module'"
        )
    if first.endswith(b"\r\n") and not first.startswith(_ELF):
        raise InvalidPlanError(
            f"the lines of {path.name!r} end as on Windows, which no shell understands: "
            "save it with the line ends of Unix (dos2unix)"
        )
    if not runs_itself:
        return EntryForm.SHELL
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | 0o100)
    return EntryForm.EXECUTABLE


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(_LINE)


def _absent(program: str, code: Path) -> str:
    if (code / program).is_dir():
        return f"the program {program!r} is a folder: name a script in it, or a module as '-m package.module'"
    return f"the program {program!r} is not in {code}{did_you_mean(program, _files(code))}"


def _files(code: Path) -> Iterator[str]:
    """Yield the names of the source's files, those that are hidden left out."""
    for folder, folders, names in os.walk(code):
        folders[:] = (name for name in folders if not name.startswith((".", "__pycache__")))
        for name in names:
            yield Path(folder, name).relative_to(code).as_posix()
