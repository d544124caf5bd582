"""Folders and files shown at other places, to one process and what it starts: a mount namespace.

Nothing of it is seen outside, nothing is written to the real file system, and it is gone with the
last process in it. Root needs no more than that; other users get a user namespace with it, in which
they stay who they are. Linux only.
"""

import ctypes
import os
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path

import attrs

from modelyard.core.plans import JsonValue

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWUSER = 0x10000000
_MS_NOSUID = 2
_MS_NODEV = 4
_MS_BIND = 4096
_MS_REC = 16384
_MS_SLAVE = 1 << 19
_MNT_DETACH = 2
_SYS_MOUNT_SETATTR = 442  # The same number on every architecture that Python runs on.
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_ATTR_RDONLY = 1

_SWITCHES = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "15000"),
)
"""Below ``/proc/sys``: what distributions turn off, how that reads, and what would turn it on."""

_ROOT = Path("/")
_TRIAL_SECONDS = 30.0

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@attrs.frozen
class Mount(JsonValue):
    """``source``, a folder or a file, shown at ``target``; with ``read_only`` to root too.

    A ``target`` that does not exist is made, for those inside only: what is in the nearest folder
    above it stays in place, and nothing else can be added to that folder.
    """

    source: str
    target: str
    read_only: bool = False


@attrs.frozen
class Room(JsonValue):
    """What a process is to see; the mounts are made in their order, so a later one shows earlier ones.

    ``hostname``: what the machine is called in there, its own name where it is empty.
    """

    mounts: tuple[Mount, ...] = ()
    hostname: str = ""


def unavailable(room: Room) -> str:
    """Return why no process can enter `room` here; empty where one can.

    Found out by a process that tries. The kernel, the distribution's settings and the container
    around this process all have a say.
    """
    try:
        return _found_out(room)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"trying it failed: {error}"


@cache
def _found_out(room: Room) -> str:
    """Return what a process says that tries; where none can be started now, the next call tries again."""
    argv = [sys.executable, "-P", "-m", __name__, room.to_json()]
    tried = subprocess.run(argv, capture_output=True, text=True, timeout=_TRIAL_SECONDS, check=False)
    if tried.returncode == 0:
        return ""
    said = tried.stderr.strip().splitlines() or [f"the process that tried ended with {tried.returncode}"]
    return said[-1]


def enter(room: Room) -> None:
    """Move this process, which must have one thread, into a namespace of its own with the room's mounts.

    The working directory stays the same by name. Raises `OSError`, with what could not be done and
    why; the process is then in no state to go on.
    """
    here = Path.cwd()
    _leave(_CLONE_NEWNS | (_CLONE_NEWUTS if room.hostname else 0))
    if room.hostname:
        name = room.hostname.encode()
        _call("sethostname", name, ctypes.c_size_t(len(name)))
    for mount in room.mounts:
        try:
            _show(mount)
        except OSError as error:
            raise OSError(f"cannot show {mount.source} at {mount.target}: {_why(error)}") from error
    os.chdir(here)


def _leave(shared: int) -> None:
    """Leave what is `shared` with the rest of the machine: its mounts, and maybe its name."""
    user, group = os.geteuid(), os.getegid()
    try:
        try:
            _call("unshare", shared)
        except PermissionError:
            _call("unshare", _CLONE_NEWUSER | shared)
            # Without it the kernel lets nobody map a group: one could leave a group that denies access.
            Path("/proc/self/setgroups").write_text("deny", "utf-8")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1", "utf-8")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1", "utf-8")
        # What is mounted outside later, by an automounter say, is still seen in here; never the reverse.
        _mount(None, _ROOT, _MS_REC | _MS_SLAVE)
    except OSError as error:
        raise OSError(f"cannot make a private mount namespace: {_why(error)}{_way_out()}") from error


def _show(mount: Mount) -> None:
    source, target = Path(mount.source).resolve(strict=True), Path(mount.target).resolve()
    if not target.exists():
        _add(target, source.stat().st_mode)
    _mount(source, target, _MS_BIND | _MS_REC)
    if mount.read_only:
        _forbid_writing(target, _AT_RECURSIVE)


def _add(target: Path, mode: int) -> None:
    """Make `target`, with what is missing above it, and leave the real file system as it is."""
    there = next(folder for folder in target.parents if folder.exists())
    _cover(there)
    target.parent.mkdir(parents=True, exist_ok=True)
    _make_place(target, mode)
    _forbid_writing(there)  # Better an error than a file that is gone with the last process.


def _cover(folder: Path) -> None:
    """Lay a small file system over `folder`, and everything that is in the folder into it."""
    inside = {path.name: os.open(path, os.O_PATH | os.O_NOFOLLOW) for path in folder.iterdir()}
    mode = stat.S_IMODE(folder.stat().st_mode)
    at = folder if folder != _ROOT else _any_folder()
    _mount(Path("tmpfs"), at, _MS_NOSUID | _MS_NODEV, kind="tmpfs", options=f"mode={mode:o}")
    for name, descriptor in inside.items():
        _bring_back(descriptor, at / name)
        os.close(descriptor)
    if folder == _ROOT:
        _change_root(at)


def _bring_back(descriptor: int, place: Path) -> None:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISLNK(mode):
        place.symlink_to(os.readlink("", dir_fd=descriptor))
        return
    _make_place(place, mode)
    _mount(Path(f"/proc/self/fd/{descriptor}"), place, _MS_BIND | _MS_REC)


def _make_place(path: Path, mode: int) -> None:
    """Make what something of the file type `mode` can be mounted on."""
    if stat.S_ISDIR(mode):
        path.mkdir()
    else:
        path.touch()


def _change_root(at: Path) -> None:
    """Make the file system at `at`, into which ``/`` was brought, the root of this process."""
    # `at` was brought too, and with it the file system that covers it.
    _call("umount2", bytes(at / at.name), _MNT_DETACH)
    os.chdir(at)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", _MNT_DETACH)
    os.chdir(_ROOT)


def _any_folder() -> Path:
    """Return a folder of the root that can be covered for a moment; names of descriptors are in /proc."""
    folders = (path for path in _ROOT.iterdir() if path.is_dir() and not path.is_symlink())
    return next(path for path in folders if path.name != "proc")


def _mount(source: Path | None, target: Path, flags: int, *, kind: str = "", options: str = "") -> None:
    paths = source and bytes(source), bytes(target)
    _call("mount", *paths, kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None)


def _forbid_writing(target: Path, flags: int = 0) -> None:
    """Make a mount read-only, its other attributes kept (Linux 5.12)."""
    attributes = (ctypes.c_uint64 * 4)(_ATTR_RDONLY, 0, 0, 0)
    number, size = ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_size_t(ctypes.sizeof(attributes))
    _call("syscall", number, _AT_FDCWD, bytes(target), flags, ctypes.byref(attributes), size)


def _call(name: str, *arguments: object) -> None:
    if _libc is None:
        raise OSError("mount namespaces are a feature of Linux")
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _way_out() -> str:
    """Return the end of an error message: the setting of this machine that stands in the way."""
    for name, off, on in _SWITCHES:
        setting = Path("/proc/sys", name)
        if setting.is_file() and setting.read_text("utf-8").strip() == off:
            return f"; `sysctl -w {name.replace('/', '.')}={on}`, as root, allows it"
    return ""


def main() -> int:
    """Enter the room that the first argument describes, say why that fails, and end."""
    try:
        enter(Room.from_json(sys.argv[1]))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
