"""The records of jobs and endpoints: one SQLite file that any number of processes share.

A transition is one conditional UPDATE, so a terminal state never changes and of two writers one
wins. A lease says whether a record's process still lives: an exclusive lock on a file in the
record's folder, held from the reservation on, first by the client and then by the guard. The kernel
gives it up when its holder dies, however it dies; so nothing here depends on process ids, which are
used again, or on clocks.
"""

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from modelyard.core.errors import StorageError
from modelyard.core.layout import JobLayout
from modelyard.plugins.backends.local.home import private_dir

_BUSY_SECONDS = 60.0
"""How long to wait for the others who write: each needs a moment, and a disk may let many wait."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    status  TEXT NOT NULL,
    reason  TEXT NOT NULL DEFAULT '',
    folder  TEXT NOT NULL,
    plan    TEXT NOT NULL,
    details TEXT NOT NULL DEFAULT '{}',
    created REAL NOT NULL,
    changed REAL NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS one_job ON records (name) WHERE kind = 'job';
CREATE UNIQUE INDEX IF NOT EXISTS one_live_endpoint ON records (name)
    WHERE kind = 'endpoint' AND status NOT IN ('Failed', 'Deleted');
PRAGMA user_version = 1;
"""

_TERMINAL = ("Completed", "Failed", "Stopped", "Deleted")
_LEASE = "lease"
LOG = "log.txt"
SHARED = "shared"
"""The folder of a job with downloads that all of its hosts read."""


@attrs.frozen
class Record:
    """One job or endpoint. ``details``: what becomes known later (pid, port, ...)."""

    id: int
    kind: str
    name: str
    status: str
    reason: str
    folder: Path
    plan: str
    details: Mapping[str, Any]
    created: float
    changed: float

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended."""
        return self.status in _TERMINAL

    @property
    def log(self) -> Path:
        """The file with everything that its processes wrote."""
        return self.folder / LOG


class RecordGoneError(StorageError):
    """A record was taken back: what it was of could not be started."""


class Records:
    """The records below one home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._file = home / "state.db"

    # -- reading -------------------------------------------------------------------------------

    def find(self, kind: str, name: str) -> Record | None:
        """Return the newest record of that name, reconciled with what still lives."""
        if not self._file.exists():
            return None
        with self._database() as database:
            row = _newest(database, kind, name)
        return next(self._all_reconciled(filter(None, [row])), None)

    def all(self, kind: str) -> tuple[Record, ...]:
        """Return every record of a kind, the oldest first, reconciled with what still lives."""
        if not self._file.exists():
            return ()
        with self._database() as database:
            rows = database.execute("SELECT * FROM records WHERE kind = ? ORDER BY id", (kind,)).fetchall()
        return tuple(self._all_reconciled(map(_record, rows)))

    def get(self, record_id: int) -> Record:
        """Return the record with that id, as it is written. Raises `RecordGoneError`."""
        with self._database() as database:
            return _by_id(database, record_id)

    def current(self, record_id: int) -> Record:
        """Return the record with that id, reconciled with what still lives. Raises `RecordGoneError`."""
        return self._reconciled(self.get(record_id))

    # -- writing -------------------------------------------------------------------------------

    def add(self, kind: str, name: str, status: str, plan: str) -> tuple[Record, int] | None:
        """Return a new record and the descriptor of its lease, or None where the name is taken.

        The record's folder is made. The caller holds the lease until it closes the descriptor or
        hands it to a guard.
        """
        private_dir(self.home)
        found = self.find(kind, name)  # Also reconciles: a dead endpoint's name is free again.
        if found and (kind == "job" or not found.is_terminal):
            return None
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            now = time.time()
            try:
                cursor = database.execute(
                    "INSERT INTO records (kind, name, status, folder, plan, created, changed) "
                    "VALUES (?, ?, ?, '', ?, ?, ?)",
                    (kind, name, status, plan, now, now),
                )
            except sqlite3.IntegrityError:
                return None
            folder = self._folder(kind, name, cursor.lastrowid or 0)
            if folder is None:
                return None
            lease = _take_lease(folder)
            (folder / LOG).touch(0o600)  # Whoever attaches from now on finds it.
            database.execute("UPDATE records SET folder = ? WHERE id = ?", (str(folder), cursor.lastrowid))
            record = _by_id(database, cursor.lastrowid or 0)
            database.execute("COMMIT")
        return self._mirrored(record), lease

    def discard(self, record: Record) -> None:
        """Remove a record of something that was never started. Its folder is the caller's to remove."""
        with self._database() as database:
            database.execute("DELETE FROM records WHERE id = ?", (record.id,))

    def move(
        self, record_id: int, to: str, *, since: Iterable[str], reason: str = "", **details: object
    ) -> Record:
        """Change the state to `to` if it is one of `since` now; return the record as it then is.

        Raises `RecordGoneError`.
        """
        allowed = tuple(since)
        with self._database(durable=to in _TERMINAL) as database:
            database.execute("BEGIN IMMEDIATE")
            marks = ", ".join("?" for _ in allowed)
            cursor = database.execute(
                f"UPDATE records SET status = ?, reason = ?, changed = ?, "  # noqa: S608 - only marks
                f"details = json_patch(details, ?) WHERE id = ? AND status IN ({marks})",
                (to, reason, time.time(), json.dumps(details), record_id, *allowed),
            )
            record = _by_id(database, record_id)
            database.execute("COMMIT")
        return self._mirrored(record) if cursor.rowcount else record

    def annotate(self, record_id: int, **details: object) -> None:
        """Add to a record's details, whatever its state."""
        with self._database() as database:
            database.execute(
                "UPDATE records SET details = json_patch(details, ?) WHERE id = ?",
                (json.dumps(details), record_id),
            )

    def _mirrored(self, record: Record) -> Record:
        """Return the record, its mirror up to date: one writer at a time, so that the newest state stays."""
        # The mirror is for people: a folder that they removed, or a full disk, changes no state.
        with contextlib.suppress(OSError):
            descriptor = os.open(record.folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                mirror(self.get(record.id))
            finally:
                os.close(descriptor)
        return record

    # -- what still lives ----------------------------------------------------------------------

    def _all_reconciled(self, found: Iterable[Record]) -> Iterator[Record]:
        """Yield the records reconciled, without those that were taken back since they were read."""
        for record in found:
            with contextlib.suppress(RecordGoneError):
                yield self._reconciled(record)

    def _reconciled(self, record: Record) -> Record:
        """Return the record; Failed if it should be running and nobody holds its lease."""
        if record.is_terminal or lease_is_held(record.folder):
            return record
        # Its last holder may have ended it properly since the record was read.
        record = self.move(
            record.id,
            "Failed",
            since=(record.status,),
            reason="its supervising process was killed, or the machine was restarted",
        )
        discard_lent(record)
        return record

    def _folder(self, kind: str, name: str, record_id: int) -> Path | None:
        """Return a new folder, or None where a job of lost records has left one of that name."""
        # A job's name is used once; an endpoint's may be used again, so its id is added.
        folder = self.home / f"{kind}s" / (name if kind == "job" else f"{name}.{record_id}")
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            return None
        return folder

    @contextlib.contextmanager
    def _database(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Yield a connection of its own to each use: no thread and no fork can share one by mistake."""
        if not self._file.exists():
            self._create()
        try:
            with contextlib.closing(
                sqlite3.connect(self._file, timeout=_BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.row_factory = sqlite3.Row
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                yield connection
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"the records in '{self.home}' cannot be read or written: {error}; is the disk full?"
            ) from error

    def _create(self) -> None:
        """Make the database beside its place and move it there, so that nobody sees it half made.

        SQLite's own time-out does not cover the change to WAL.
        """
        new = self._file.with_suffix(".new")
        lock = os.open(self.home / "state.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._file.exists():
                return
            for left in self.home.glob(f"{new.name}*"):
                left.unlink()
            new.touch(0o600)
            with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            new.rename(self._file)
        finally:
            os.close(lock)


def lease_is_held(folder: Path) -> bool:
    """Tell whether a living process holds the lease of a record's folder."""
    try:
        descriptor = os.open(folder / _LEASE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def discard_lent(record: Record) -> None:
    """Remove what a program was only lent: copies of data, packages, the unpacked model, ``TMPDIR``."""
    if record.kind == "job":
        layouts = [JobLayout(host) for host in record.folder.glob("algo-*")]
        lent = [record.folder / SHARED]
        lent += [folder for layout in layouts for folder in (layout.data, layout.environment)]
    else:
        lent = [JobLayout(record.folder).model]
    for folder in filter(None, (*lent, record.details.get("scratch"))):
        shutil.rmtree(folder, ignore_errors=True)


def mirror(record: Record) -> None:
    """Write a record for people to read, whole or not at all: ``job.json`` or ``endpoint.json``."""
    path = record.folder / f"{record.kind}.json"
    content = attrs.asdict(record) | {
        "folder": str(record.folder),
        "plan": json.loads(record.plan),
        "details": dict(record.details),
    }
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", encoding="utf-8", opener=_private) as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _take_lease(folder: Path) -> int:
    descriptor = os.open(folder / _LEASE, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _newest(database: sqlite3.Connection, kind: str, name: str) -> Record | None:
    row = database.execute(
        "SELECT * FROM records WHERE kind = ? AND name = ? ORDER BY id DESC LIMIT 1", (kind, name)
    ).fetchone()
    return _record(row) if row else None


def _by_id(database: sqlite3.Connection, record_id: int) -> Record:
    row = database.execute("SELECT * FROM records WHERE id = ?", (record_id,)).fetchone()
    if row is None:
        raise RecordGoneError("it was being started, which has failed: there is none of that name any more")
    return _record(row)


def _record(row: sqlite3.Row) -> Record:
    return Record(**{**dict(row), "folder": Path(row["folder"]), "details": json.loads(row["details"])})
