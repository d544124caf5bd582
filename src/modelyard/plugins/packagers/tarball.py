"""The packager of ``sourcedir.tar.gz`` and ``model.tar.gz``, in the layout that SageMaker reads.

What it takes to read and to write archives is imported when it is needed: a job only reads one, and
its script waits for that.
"""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import attrs

from modelyard.core.contracts import Bundle, Splice
from modelyard.core.errors import InvalidPlanError
from modelyard.core.plans import SourceCode

if TYPE_CHECKING:
    from modelyard.plugins.packagers.packing import Packing
    from modelyard.plugins.packagers.safe_tar import Limits


def _check_level(_packager: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    if type(value) is not int or value not in range(10):
        raise InvalidPlanError(f"{attribute.name} must be a whole number from 0 to 9, not {value!r}")


def _check_limit(_packager: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    if type(value) is not int or value < 1:
        raise InvalidPlanError(f"{attribute.name} must be a whole number of at least 1, not {value!r}")


@attrs.frozen
class TarballPackager:
    """Archives as ``.tar.gz``: the same content gives the same bytes, whenever and wherever packed.

    ``compression_level``: gzip's, from 0 (store) to 9; weights hardly shrink and level 9 takes twice
    the time of 1. At 1, models are compressed by isal where it is installed (the extra ``fast``): other
    bytes, the same digest. The other options limit what an archive may unpack to: ``max_unpacked_bytes``
    (None: the free disk space less 1 GiB), ``max_entries``, and ``max_ratio``, bytes per byte of the
    archive beyond 64 MiB.
    """

    name: ClassVar[str] = "tarball"

    compression_level: int = attrs.field(default=1, validator=_check_level)
    max_unpacked_bytes: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_check_limit)
    )
    max_entries: int = attrs.field(default=10_000, validator=_check_limit)
    max_ratio: int = attrs.field(default=200, validator=_check_limit)

    def pack_source(self, source: SourceCode, into: Path) -> Bundle:
        """Write ``sourcedir.tar.gz``: the content of the source folder and, beside it, the dependencies.

        Folders of version control, caches, environments and secrets are left out (``EXCLUDES`` in the
        module ``ignoring``), and what the folder's ``.modelyardignore`` says, but nothing of a
        ``source_dir`` that is an archive itself. Raises `PackagingError`.
        """
        return self._packing.source(source, into)

    def pack_model(self, model: Path, source: SourceCode | None, into: Path) -> Bundle:
        """Write ``model.tar.gz``: the model's files on top and the source in ``code/``.

        As with SDK v2, a source folder replaces the model's own ``code/`` and an entry point alone
        is laid over it. Unlike there, dependencies are put beside the entry point, where training
        has them too, and not into ``code/lib/``. The model of an archive is copied without being
        decompressed where that is certain to be right (module ``original``). Raises `PackagingError`.
        """
        return self._packing.model(model, source, into)

    def code_ends(self, head: bytes) -> int | None:
        """Return how many bytes of a model archive have to be known to `splice` it.

        `head`: its first 4 KiB. None where only reading all of the archive can tell what is in it.
        """
        from modelyard.plugins.packagers.splice import parse_index

        index = parse_index(head)
        return index.start if index and not index.has_much_code else None

    def splice(
        self, head: bytes, size: int, trailer: bytes, source: SourceCode, *, at_least: int = 0
    ) -> Splice | None:
        """Return what to put around a range of a model archive, wherever it is, to give it other code.

        `head`: its first `code_ends` bytes; `size`: of all of it; `trailer`: its last 8 bytes;
        `at_least`: bytes to put before the range, for a storage whose first part must be that large.
        The result is as if `pack_model` had made it, the padding aside. None where only reading all of
        the archive can tell whether that is right. Raises `PackagingError`.
        """
        return self._packing.splice(Path("model.tar.gz"), head, size, trailer, source, at_least)

    def pack_tree(self, folder: Path, archive: Path) -> Bundle:
        """Write the content of `folder` to `archive`. Raises `PackagingError`.

        What a job leaves is taken whole: links are followed wherever they lead, nothing is left out,
        and `max_entries` does not apply, for nobody wants to lose a trained model over any of these.
        """
        return self._packing.tree(folder, archive)

    def unpack(self, archive: Path, into: Path) -> None:
        """Unpack a ``.tar`` or ``.tar.gz`` into the new or empty folder `into`.

        Raises `UnsafeArchiveError` for links out, devices, bombs and the like, and `PackagingError`
        for damage anywhere in the file.
        """
        from modelyard.plugins.packagers.safe_tar import unpack_archive

        unpack_archive(archive, into, self._limits)

    @property
    def _packing(self) -> "Packing":
        from modelyard.plugins.packagers.packing import Packing

        return Packing(self.compression_level, self._limits)

    @property
    def _limits(self) -> "Limits":
        from modelyard.plugins.packagers.safe_tar import Limits

        return Limits(self.max_unpacked_bytes, self.max_entries, self.max_ratio)
