"""Buckets, the objects in them, and what files and folders a prefix stands for."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from modelyard.core.errors import StorageError, did_you_mean
from modelyard.core.redaction import without_login
from modelyard.plugins._aws import code_of, default_owner

MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
"""Codes for an object that is not there."""

FORBIDDEN = frozenset({"403", "AccessDenied", "AllAccessDisabled"})

NO_BUCKET = "NoSuchBucket"

_SHOWN = 3


@attrs.frozen
class Bucket:
    """A bucket, as seen by a client. ``owner``: the account whose it must be; empty for anybody's."""

    client: Any
    name: str
    owner: str = ""

    def call(self, operation: str, **arguments: Any) -> Any:
        """Call an operation on the bucket, by the method's name."""
        return getattr(self.client, operation)(Bucket=self.name, **self._checked, **arguments)

    def pages(self, operation: str, **arguments: Any) -> Iterator[Any]:
        """Yield the answers of an operation that lists something."""
        pages = self.client.get_paginator(operation)
        yield from pages.paginate(Bucket=self.name, **self._checked, **arguments)

    def head(self, key: str, **arguments: Any) -> Any:
        """Return what the service says of an object, None where there is none."""
        try:
            return self.call("head_object", Key=key, ChecksumMode="ENABLED", **arguments)
        except Exception as error:
            if code_of(error) in MISSING:
                return None
            raise

    def objects(self, prefix: str) -> Iterator["S3Object"]:
        """Yield the objects whose keys begin so, by key."""
        for page in self.pages("list_objects_v2", Prefix=prefix):
            for item in page.get("Contents", ()):
                yield S3Object(item["Key"], item["Size"], item["ETag"])

    @property
    def _checked(self) -> dict[str, str]:
        return {"ExpectedBucketOwner": self.owner} if self.owner else {}


@attrs.frozen
class S3Object:
    """An object in a bucket."""

    key: str
    size: int
    etag: str


@attrs.frozen
class Place:
    """Where a URI leads: an object, or all objects whose keys begin with ``folder``."""

    bucket: str
    key: str

    @classmethod
    def of(cls, uri: str) -> "Place":
        """Return the place that a URI names: everything after the bucket is the key, as it is.

        Raises `StorageError`.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        faults = {
            "is not an s3:// URI": scheme.lower() != "s3",
            "names no bucket": not re.fullmatch(r"[\w.-]{1,255}", bucket, re.ASCII),
            "has a NUL in it": "\0" in key,
            "is no UTF-8": not is_text(key),
        }
        if fault := next((fault for fault, present in faults.items() if present), ""):
            raise StorageError(f"{without_login(uri)!r} {fault}; the form is s3://bucket/key")
        return cls(bucket, key)

    @property
    def uri(self) -> str:
        """The URI, without a slash at its end."""
        return f"s3://{self.bucket}/{self.key}".removesuffix("/")

    @property
    def folder(self) -> str:
        """What the keys of a tree at this place begin with."""
        name = self.key.removesuffix("/")
        return f"{name}/" if name else ""

    @property
    def default_owner(self) -> str:
        """The account whose default bucket it is by its name; empty for any other name."""
        return default_owner(self.bucket)


@attrs.frozen
class Tree:
    """What a prefix stands for: files by their paths below it, and folders with nothing in them."""

    files: tuple[tuple[str, S3Object], ...]
    folders: tuple[str, ...]

    @classmethod
    def of_one(cls, item: S3Object, place: Place) -> "Tree":
        """Return the tree with one file, which has the last part of the key as its name."""
        name = item.key.rpartition("/")[2]
        _refuse([] if _is_inside(name) else [item.key], place, "no path inside a folder")
        return cls(((name, item),), ())

    @classmethod
    def of(cls, objects: Sequence[S3Object], place: Place) -> "Tree":
        """Return the tree of the objects below a place.

        An empty object of a folder's name, with or without a slash, is how consoles and other tools
        mark a folder. Raises `StorageError` for keys that no file can have.
        """
        items = [(item.key.removeprefix(place.folder), item) for item in objects]
        parents = {above for path, _ in items for above in _above(path)}
        marks = {
            path for path, item in items if not item.size and (path in parents or path[-1:] in {"", "/"})
        }
        files = [(path, item) for path, item in items if path not in marks]
        folders = {path.rstrip("/") for path in marks} - {""}
        paths = [path for path, _ in files]
        in_use = parents | folders
        _refuse(
            [f"{place.folder}{path}" for path in paths if path in in_use], place, "both a file and a folder"
        )
        outside = [path for path in [*paths, *folders] if not _is_inside(path)]
        _refuse([f"{place.folder}{path}" for path in outside], place, "no path inside a folder")
        return cls(tuple(files), tuple(sorted(folders)))


def is_text(name: str) -> bool:
    """Tell whether a key can be called so, which is UTF-8; names of files are any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _is_inside(path: str) -> bool:
    return all(part not in {"", ".", ".."} and "\0" not in part for part in path.split("/"))


def _refuse(keys: Sequence[str], place: Place, what: str) -> None:
    if keys:
        shown = ", ".join(map(repr, keys[:_SHOWN]))
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        raise StorageError(f"{place.uri!r} cannot be downloaded: these keys are {what}: {shown}{more}")


def nothing_at(bucket: Bucket, place: Place) -> StorageError:
    """Return the error for a place without objects, with the nearest names that are there."""
    missing, above = _first_missing(bucket, place)
    known = [item.removeprefix(above).rstrip("/") for item in _children(bucket, above)]
    hint = did_you_mean(missing, [name for name in known if name])
    return StorageError(
        f"there is nothing at {place.uri!r}: no {missing!r} in 's3://{place.bucket}/{above}'{hint}"
    )


def _first_missing(bucket: Bucket, place: Place) -> tuple[str, str]:
    """Return the first part of a key below which there is nothing, and the prefix in which it is not."""
    parts = place.key.removesuffix("/").split("/")
    for depth in range(len(parts) - 1, 0, -1):
        above = "/".join(parts[:depth]) + "/"
        if bucket.call("list_objects_v2", Prefix=above, MaxKeys=1).get("KeyCount"):
            return parts[depth], above
    return parts[0], ""


def _children(bucket: Bucket, prefix: str) -> Iterator[str]:
    """Yield the names right below a prefix, as many as one answer holds."""
    page = bucket.call("list_objects_v2", Prefix=prefix, Delimiter="/")
    yield from (item["Key"] for item in page.get("Contents", ()))
    yield from (item["Prefix"] for item in page.get("CommonPrefixes", ()))
