"""Which file of a model's folder is the model, told by its name and its first bytes, without torch."""

import enum
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from modelyard.core.errors import UserCodeError

HOW_TO_PACK = (
    "The archive must hold the model's files at its top and the script in code/: make it inside the model's "
    "folder (cd my_model && tar czvf ../model.tar.gz *), not from its parent, and look with "
    "tar tvf model.tar.gz"
)
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".mar")

_SUFFIXES = (".pt", ".pth", ".pt2", ".safetensors")
_LEGACY_PICKLE = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""How files of ``torch.save`` began before torch 1.6: a pickled magic number."""
_SHOWN = 8


class ModelFormat(enum.Enum):
    """What a file holds."""

    TORCHSCRIPT = "TorchScript"
    EXPORTED = "torch.export"
    SAFETENSORS = "safetensors"
    PICKLE = "torch.save"
    UNKNOWN = "unknown"

    @property
    def is_weights(self) -> bool:
        """Whether it is tensors alone, which need a class."""
        return self in {ModelFormat.SAFETENSORS, ModelFormat.PICKLE}


@attrs.frozen
class ModelFile:
    """The one file that is the model."""

    path: Path
    format: ModelFormat


def without_a_class(path: Path) -> UserCodeError:
    """Return the error for weights of which nothing says what they belong to."""
    return UserCodeError(
        f"{path.name} is not a TorchScript model, it holds weights alone: define or import their class in "
        "the inference script (with several classes, or one that takes arguments, add a line such as "
        "model_class = lambda: Net(10)), or define model_fn(model_dir) there"
    )


def model_file(model_dir: Path) -> ModelFile:
    """Return the model: ``model.pt``, or another file of that stem, or else the only file of a known kind.

    Known are ``.pt``, ``.pth``, ``.pt2`` and ``.safetensors``. Raises `UserCodeError` where there is
    none, or more than one.
    """
    named = [path for suffix in _SUFFIXES if (path := model_dir / f"model{suffix}").is_file()]
    known = named[:1] or sorted(path for path in visible(model_dir) if is_model_file(path))
    if len(known) == 1:
        return ModelFile(known[0], _format(known[0]))
    raise UserCodeError(
        "without a model_fn the model folder must hold model.pt, or else exactly one file that ends in "
        f"{', '.join(_SUFFIXES)}; it holds {listed(path.name for path in known) or 'none'}. "
        f"{_astray(model_dir) if not known else ''}Define model_fn(model_dir) in the inference script"
    )


def is_model_file(path: Path) -> bool:
    """Tell whether a file has the name of a model."""
    return path.suffix in _SUFFIXES and path.is_file()


def visible(folder: Path) -> list[Path]:
    """Return what is in a folder, without what macOS and others hide in archives; sorted."""
    return sorted(path for path in folder.iterdir() if not _is_hidden(path.name))


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield every file at or below a folder, those of hidden folders left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (Path(parent, name) for name in sorted(names) if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in {"__MACOSX", "__pycache__"}


def _format(path: Path) -> ModelFormat:
    """Return what a file holds, as far as its first bytes or its table of contents tell."""
    if path.suffix == ".safetensors":
        return ModelFormat.SAFETENSORS
    if path.suffix == ".pt2":
        return ModelFormat.EXPORTED
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            legacy = file.read(len(_LEGACY_PICKLE)) == _LEGACY_PICKLE
        return ModelFormat.PICKLE if legacy else ModelFormat.UNKNOWN
    entries = {name.rpartition("/")[2] for name in zip_entries(path)}
    if "constants.pkl" in entries:
        return ModelFormat.TORCHSCRIPT
    if entries & {"archive_format", "serialized_exported_program.json"}:
        return ModelFormat.EXPORTED
    return ModelFormat.PICKLE if "data.pkl" in entries else ModelFormat.UNKNOWN


def zip_entries(path: Path) -> list[str]:
    """Return the names in a zip file, which all of torch's formats are; none for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return []


def _astray(model_dir: Path) -> str:
    """Return where the model's files are instead, and what to do about it."""
    deeper = [below(path, model_dir) for path in visible_files(model_dir) if is_model_file(path)]
    if deeper:
        return f"But there is {listed(deeper)}, which belongs at the top. {HOW_TO_PACK}. "
    packed = [path.name for path in visible(model_dir) if path.name.endswith(ARCHIVES)]
    if packed:
        return (
            f"But there is {listed(packed)}, an archive inside the archive: unpack it and pack its files "
            f"themselves. {HOW_TO_PACK}. "
        )
    if {path.name for path in visible(model_dir)} == {"code"}:
        return f"Nothing but code/ is there: the model's files were left out. {HOW_TO_PACK}. "
    return ""


def below(path: Path, folder: Path) -> str:
    """Return where in a folder a path is, with forward slashes."""
    return path.relative_to(folder).as_posix()


def listed(names: Iterable[str]) -> str:
    """Return the names as a message has them: the first few, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + more
