"""A plan's files, moved by the packager that the plan names and the storages of its URIs."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes, urlsplit

import attrs

from modelyard.core.contracts import Bundle, KeepingStorage, Packager, Splice, SplicingPackager, Storage
from modelyard.core.errors import StorageError, did_you_mean
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef, SourceCode
from modelyard.core.redaction import without_login

ARCHIVE = ".tar.gz"

Options = Mapping[str, Mapping[str, object]]
"""Options of storages, by the scheme that they are for."""


@attrs.frozen
class PluginCarrier:
    """The `Carrier` of a plan. ``packing``: writes the plan's own archive into a folder."""

    plugins: PluginManager
    packager: Packager
    packing: Callable[["PluginCarrier", Path], Bundle]
    options: Options = attrs.field(factory=dict, kw_only=True)

    @classmethod
    def of(
        cls,
        plugins: PluginManager,
        packager: ProviderRef,
        packing: Callable[["PluginCarrier", Path], Bundle],
        source: "SourceHere | None" = None,
    ) -> "PluginCarrier":
        """Return a carrier with the packager that a plan names.

        With `source`, that of a model, it is a `SplicingCarrier` where the packager can splice.
        """
        made = plugins.packagers.create(packager)
        if source is not None and isinstance(made, SplicingPackager):
            return _SplicingPluginCarrier(plugins, made, packing, made, source)
        return cls(plugins, made, packing)

    def using(self, scheme: str, options: Mapping[str, object]) -> Self:
        """Return this carrier with options for the storage of a scheme."""
        return attrs.evolve(self, options={**self.options, scheme: options})

    def pack(self, into: Path) -> Bundle:
        """Write the plan's archive into the folder `into`."""
        return self.packing(self, into)

    def unpack(self, archive: Path, into: Path) -> None:
        """Unpack an archive into the new or empty folder `into`."""
        self.packager.unpack(archive, into)

    def download(self, uri: str, into: Path) -> None:
        """Bring what is at `uri` into the folder `into`."""
        self._storage(uri).download(uri, into)

    def upload(self, path: Path, uri: str) -> str:
        """Write the file or tree at `path` to `uri`."""
        return self._storage(uri).upload(path, uri)

    def upload_once(self, path: Path, uri: str) -> None:
        """Write the file `path` to a `uri` that names its content, unless something is there."""
        storage = self._storage(uri)
        if isinstance(storage, KeepingStorage):
            storage.upload_if_absent(path, uri)
        else:
            storage.upload(path, uri)

    def prepare(self, uri: str) -> None:
        """Make sure that an upload below `uri` can succeed."""
        self._storage(uri).prepare(uri)

    def fetched(self, uri: str, folder: Path) -> AbstractContextManager[Path]:
        """Give what is at `uri`: where it lies on this machine, else a download below `folder`."""
        return fetched(self.plugins, uri, folder, self.options)

    def _storage(self, uri: str) -> Storage:
        return storage_for(self.plugins, uri, self.options)


SourceHere = Callable[[PluginCarrier, Path], AbstractContextManager[SourceCode | None]]
"""Gives the source of a plan with its files on this machine, those of other places in a folder."""


@attrs.frozen
class _SplicingPluginCarrier(PluginCarrier):
    """A carrier that is a `SplicingCarrier` too. ``splicer``: the packager."""

    splicer: SplicingPackager
    source: SourceHere

    def code_ends(self, head: bytes) -> int | None:
        """Return how many bytes of an archive `splice` needs."""
        return self.splicer.code_ends(head)

    def splice(self, head: bytes, size: int, trailer: bytes, *, at_least: int = 0) -> Splice | None:
        """Return what to put around a range of an archive to give it the plan's code."""
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="modelyard-") as scratch, self.source(self, Path(scratch)) as source:
            if source is None:
                return None
            return self.splicer.splice(head, size, trailer, source, at_least=at_least)


def storage_for(plugins: PluginManager, uri: str, options: Options | None = None) -> Storage:
    """Return the storage of a URI's scheme. Raises `StorageError` where no plugin has one."""
    scheme = urlsplit(uri).scheme
    provider = plugins.storages.declaring("schemes", scheme)
    if provider is None:
        hint = did_you_mean(scheme, plugins.storages.declared("schemes"))
        shown = without_login(uri)
        raise StorageError(
            f"no storage reads {shown!r}: unknown scheme {scheme!r}{hint}{plugins.storages.note()}"
        )
    return provider.create((options or {}).get(scheme))


def as_uri(location: str | os.PathLike[str]) -> str:
    """Return a URI as it is, and a path as the ``file://`` URI of its absolute form.

    A string is a URI if it has ``://`` in it; a path object never is.
    """
    if isinstance(location, str) and "://" in location:
        return location
    return Path(location).expanduser().absolute().as_uri()


def local_path(uri: str) -> Path | None:
    """Return the path of a ``file://`` URI of this machine, None for any other URI."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    return Path(os.fsdecode(unquote_to_bytes(parts.path)))


@contextmanager
def fetched(plugins: PluginManager, uri: str, folder: Path, options: Options | None = None) -> Iterator[Path]:
    """Give what is at `uri`: where it lies on this machine, else a download below `folder`.

    A download is there for as long as the block lasts.
    """
    if path := local_path(uri):
        yield path
        return
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="download-", dir=folder) as name:
        content = Path(name, "content")
        storage_for(plugins, uri, options).download(uri, content)
        # Not looked for by the URI's last part: whether that is percent-encoded, the storage knows.
        found = list(content.iterdir())
        yield found[0] if uri.endswith(ARCHIVE) and len(found) == 1 else content
