"""What a model archive holds: the model's files, the user's code, its script and its requirements.

Two layouts. PyTorch 1.2 and later: the model's files at the top, the code in ``code/``. Before: the
model's files alone, the code in ``sourcedir.tar.gz``, which ``SAGEMAKER_SUBMIT_DIRECTORY`` names or
which lies beside them. What SageMaker's pages list as mistakes of packaging is told by its name, with
the way out.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from modelyard.core.carrier import ARCHIVE, as_uri, local_path
from modelyard.core.errors import UserCodeError, did_you_mean
from modelyard.core.log import get_logger
from modelyard.core.model_files import ARCHIVES, HOW_TO_PACK, below, visible, visible_files
from modelyard.core.packages import REQUIREMENTS, asks_for_packages
from modelyard.core.redaction import without_login

CODE = "code"
PROGRAM = "inference.py"
SOURCE = "sourcedir.tar.gz"

Unpack = Callable[[Path, Path], None]
"""A packager's `unpack`: from an archive into a new folder."""

_log = get_logger(__name__)


@attrs.frozen
class ModelFolder:
    """What there is to serve.

    ``root``: the model's files, what ``model_fn`` is given; ``code``: the user's code, `root` itself
    where it lies among them; ``program``: the inference script, None to leave all to the defaults;
    ``requirements``: what is to be installed before anything is imported, None for nothing.
    """

    root: Path
    code: Path
    program: Path | None = None
    requirements: Path | None = None

    @property
    def import_path(self) -> tuple[Path, ...]:
        """The folders that the script's imports are looked for in, the first one first."""
        if self.program is None:
            return ()
        tops = [folder for folder in (self.code, self.root) if self.program.is_relative_to(folder)]
        return tuple(dict.fromkeys((self.program.parent, *tops[:1])))

    def holds(self, path: Path) -> bool:
        """Tell whether a file is the user's."""
        return path.is_relative_to(self.root) or path.is_relative_to(self.code)

    def defines(self, cls: type) -> bool:
        """Tell whether a class is the user's."""
        module = sys.modules.get(cls.__module__)
        file = getattr(module, "__file__", None)
        return file is not None and self.holds(Path(file))

    def advice(self, error: BaseException) -> str:
        """Return where a file of the model is that the user's code did not find; empty where it is not.

        The pages' advice for a ``FileNotFoundError``, as the end of a message.
        """
        sought = error.filename if isinstance(error, FileNotFoundError) else None
        if not isinstance(sought, str) or Path(sought).exists():
            return ""
        name = Path(sought).name
        found = [below(path, self.root) for path in visible_files(self.root) if path.name == name]
        return f"; there is {found[0]}. {HOW_TO_PACK}" if found else ""


def find(
    model_dir: Path, unpack: Unpack, own: Path, *, program: str = "", submitted: str = ""
) -> ModelFolder:
    """Look through an unpacked model archive.

    `unpack`: opens ``sourcedir.tar.gz``, into a folder in `own`, the endpoint's own folder; `program`:
    the value of ``SAGEMAKER_PROGRAM``: ``foo.py``, ``foo`` or ``dir/foo.py``, else ``inference.py`` if
    there is one; `submitted`: of ``SAGEMAKER_SUBMIT_DIRECTORY``, which ``code/`` makes superfluous.
    Raises `UserCodeError` where the archive is packed in a way that cannot be served, and what
    `unpack` raises.
    """
    root = model_dir.absolute()
    if not root.is_dir():
        raise UserCodeError(f"there is no model: the folder '{root}' does not exist")
    top = _top(root)
    if (top / CODE).is_dir():
        return _described(_unwrapped(root, top), top / CODE, "code/", program)
    if given := _submitted(submitted, root, program):
        # The model is not unwrapped: the script may know its only folder by its name.
        return _described(root, _opened(given, unpack, own), given.name, program)
    _check(top)
    root = _unwrapped(root, top)
    if (root / SOURCE).is_file():
        return _described(root, _opened(root / SOURCE, unpack, own), SOURCE, program)
    return _described(root, root, "code/", program)


def _described(root: Path, code: Path, place: str, program: str) -> ModelFolder:
    """Return the folder with its script and its requirements; `place`: how the user knows `code`."""
    script = _script(root, code, place, program)
    return ModelFolder(root, code, script, _requirements(root, code, script))


# -- the two layouts -------------------------------------------------------------------------------


def _top(root: Path) -> Path:
    """Return the only folder in `root` where an archive was made from its parent, else `root`."""
    entries = visible(root)
    wrapped = len(entries) == 1 and entries[0].is_dir() and entries[0].name != CODE
    return entries[0] if wrapped else root


def _unwrapped(root: Path, top: Path) -> Path:
    """Return `top`; say so where it is another folder than `root`. TorchServe unwraps as well."""
    if top != root:
        said = "the archive was made from the parent of the model's folder"
        _log.warning(said, folder=top.name, advice=HOW_TO_PACK)
    return top


def _submitted(location: str, root: Path, program: str) -> Path | None:
    """Return the archive or the folder of code that was submitted beside the model, if there is one.

    SDK v2 names a folder of the model's own, also where that does not exist. Raises `UserCodeError`.
    """
    if not location:
        return None
    path = local_path(as_uri(location))
    if path is None:
        if (root / SOURCE).is_file() or any(p.is_file() for p in _candidates((root,), program or PROGRAM)):
            return None
        raise UserCodeError(
            f"SAGEMAKER_SUBMIT_DIRECTORY is {without_login(location)!r}, which is not on this machine: "
            "put the script into code/ of the model archive, or download it and name the file"
        )
    if path.is_file() or (path.is_dir() and not path.is_relative_to(root)):
        return path
    if path.name.endswith(ARCHIVE):
        raise UserCodeError(f"SAGEMAKER_SUBMIT_DIRECTORY names '{path}', which does not exist")
    return None


def _opened(code: Path, unpack: Unpack, own: Path) -> Path:
    """Return a folder of code, or the content of an archive in a folder that bears the archive's digest.

    So a second look, also of a program that starts again, finds it there.
    """
    if code.is_dir():
        return code
    with code.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = own / f"source-{digest[:16]}"
    if not folder.is_dir():
        own.mkdir(parents=True, exist_ok=True)
        unpack(code, folder)
    return folder


def _check(root: Path) -> None:
    """Raise `UserCodeError` for an archive of nothing, and for one of nothing but another archive."""
    entries = visible(root)
    if not entries:
        raise UserCodeError(f"the model archive is empty. {HOW_TO_PACK}")
    packed = [path.name for path in entries if path.is_file() and path.name.endswith(ARCHIVES)]
    if len(packed) == len(entries) and packed != [SOURCE]:
        raise UserCodeError(
            f"the model archive holds nothing but {', '.join(packed)}, an archive inside the archive: unpack "
            f"it and pack its files themselves. {HOW_TO_PACK}"
        )


# -- the script ------------------------------------------------------------------------------------


def _script(root: Path, code: Path, place: str, program: str) -> Path | None:
    """Return the inference script, None where the archive has none and none is named."""
    name = program or PROGRAM
    found = next((path for path in _candidates((code, root), name) if path.is_file()), None)
    if found and found.suffix != ".py":
        raise UserCodeError(f"{found.name} is not a Python file: the program of an endpoint must end in .py")
    if found:
        return found
    scripts = _scripts(root, code)
    if program or _is_meant(root, code, scripts):
        raise UserCodeError(
            f"{name} is neither in {place} nor at the top of the model archive"
            f"{_instead(name, root, code, scripts)}. {HOW_TO_PACK}"
        )
    return None


def _candidates(folders: tuple[Path, ...], name: str) -> Iterator[Path]:
    names = (name,) if name.endswith(".py") else (f"{name}.py", name)
    return (folder / spelled for folder in dict.fromkeys(folders) for spelled in names)


def _scripts(root: Path, code: Path) -> list[Path]:
    """Return every Python file of the code and of the model."""
    files = [*visible_files(code), *visible_files(root)]
    return [path for path in dict.fromkeys(files) if path.suffix == ".py"]


def _is_meant(root: Path, code: Path, scripts: list[Path]) -> bool:
    """Tell whether code is there that lacks its script, which has another name or is in another place."""
    return any(path.name == PROGRAM or (code != root and path.parent == code) for path in scripts)


def _instead(name: str, root: Path, code: Path, scripts: list[Path]) -> str:
    """Return what is there instead of the script of that name, and what to do about it."""
    base = Path(name).name.removesuffix(".py") + ".py"
    astray = next((path for path in scripts if path.name == base), None)
    if astray is None:
        known = [below(path, code if path.is_relative_to(code) else root) for path in scripts]
        if not known:
            return ", and no other Python file is"
        how = "entry_point, --program or SAGEMAKER_PROGRAM"
        return f"{did_you_mean(name, known)}. Name the one that is meant by {how}"
    if astray.is_relative_to(code) and code != root:
        inner = below(astray, code)
        return f": it is deeper, at {inner} in there. Move it up, or name it so: SAGEMAKER_PROGRAM={inner}"
    return f": it is at {below(astray, root)}"


# -- requirements ----------------------------------------------------------------------------------


def _requirements(root: Path, code: Path, script: Path | None) -> Path | None:
    """Return the requirements that lie beside the code, if they ask for anything."""
    path = code / REQUIREMENTS
    if code == root and script is None:
        return None
    if code == root / CODE and not path.is_file() and (root / REQUIREMENTS).is_file():
        _log.warning("requirements.txt is not installed: move it into code/, beside the script")
    return path if asks_for_packages(path) else None
