"""Rooms: each is entered by a process of its own, as root and as nobody, in the real file system."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.core.namespaces import Mount, Room, unavailable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")

NOBODY = 65534
PREAMBLE = """
import ctypes, encodings.idna, os, socket, subprocess, sys
from pathlib import Path
from modelyard.core.namespaces import Room, enter

# All is imported by now, for this interpreter may be where nobody is allowed to look.
room, user = Room.from_json(sys.argv[1]), int(sys.argv[2])
if user != os.geteuid():
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # What only exec does: let it have its own /proc/self.

def refusal(path):
    try:
        Path(path).write_text("written")
    except OSError as error:
        return error.strerror
"""
READ_ONLY = "Read-only file system"


@pytest.fixture(params=["root", "nobody"])
def user(request):
    """The number of the user who enters; skipped where the kernel allows that user nothing."""
    if request.param == "root" and os.geteuid():
        pytest.skip("only root can try what root can do")
    needed = ["--mount"] if request.param == "root" else ["--user", "--mount"]
    kernel_allows(*needed, user=NOBODY if request.param == "nobody" and os.geteuid() == 0 else None)
    return NOBODY if request.param == "nobody" and os.geteuid() == 0 else os.geteuid()


def kernel_allows(*needed, user=None):
    if not shutil.which("unshare"):
        pytest.skip("util-linux's unshare, which asks what the kernel allows, is not installed")
    asked = subprocess.run(
        ["unshare", *needed, "true"], capture_output=True, check=False, text=True, user=user, group=user
    )
    if asked.returncode:
        pytest.skip(f"the kernel does not allow it: {asked.stderr.strip()}")


@pytest.fixture
def folder(user):
    """A folder of the user's with ``base/file``; pytest's own are for the eyes of one user only."""
    with tempfile.TemporaryDirectory(prefix="modelyard-rooms-") as made:
        (base := Path(made, "base")).mkdir()
        (base / "file").write_text("content")
        for path in (made, base, base / "file"):
            os.chown(path, user, user)
        yield Path(made)


def argv(code, room, user):
    return [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), room.to_json(), str(user)]


@pytest.fixture
def inside(user, folder):
    """Run code in a process that has entered a room, and return what it prints."""

    def run(code, *mounts):
        done = subprocess.run(
            argv("enter(room)\n" + textwrap.dedent(code), Room(mounts), user),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_a_folder_is_seen_at_a_place_that_does_not_exist_and_only_inside(inside, folder, user):
    (folder / "shared" / "kept").mkdir(parents=True)
    (folder / "shared" / "kept").chmod(0o700)
    os.chown(folder / "shared" / "kept", user, user)
    (folder / "shared" / "kept" / "note").write_text("kept")
    (folder / "shared" / "text").write_text("text")
    (folder / "shared" / "link").symlink_to("text")
    os.mkfifo(folder / "shared" / "pipe")
    before = sorted(path.name for path in (folder / "shared").iterdir())
    target = folder / "shared" / "opt" / "ml"
    assert inside(
        """
        shared = Path("shared")
        print((shared / "opt/ml/file").read_text())
        print(*sorted(path.name for path in shared.iterdir()))
        print((shared / "kept/note").read_text(), (shared / "text").read_text(), os.readlink(shared / "link"))
        print((shared / "pipe").is_fifo())
        (shared / "opt/ml/new").write_text("new")
        """,
        Mount(str(folder / "base"), str(target)),
    ) == ["content", "kept link opt pipe text", "kept text text", "True"]
    assert sorted(path.name for path in (folder / "shared").iterdir()) == before
    assert (folder / "base" / "new").read_text() == "new", "what is written there is in the folder"


def test_a_folder_that_had_to_be_added_to_takes_nothing_that_would_be_lost(inside, folder):
    (folder / "shared").mkdir(mode=0o777)
    mount = Mount(str(folder / "base"), str(folder / "shared" / "opt" / "ml"))
    assert inside("print(refusal('shared/lost'))", mount) == [READ_ONLY]


def test_even_a_folder_below_the_root_can_be_added(inside, folder):
    target = Path(f"/modelyard-test-{os.getpid()}", "ml")
    assert inside(
        f"""
        print(Path("{target}/file").read_text())
        print(Path.cwd(), Path("base/file").read_text())
        print(subprocess.run(["/bin/sh", "-c", "echo $0", "a program starts"], text=True, stdout=-1).stdout)
        """,
        Mount(str(folder / "base"), str(target)),
    ) == ["content", f"{folder} content", "a program starts", ""]
    assert not target.parent.exists()


def test_what_was_there_is_covered_and_stays(inside, folder):
    (folder / "there").mkdir()
    (folder / "there" / "own").write_text("own")
    mount = Mount(str(folder / "base"), str(folder / "there"))
    assert inside("print(os.listdir('there'))", mount) == ["['file']"]
    assert [path.name for path in (folder / "there").iterdir()] == ["own"]


def test_a_file_is_shown_in_place_of_a_file(inside, folder):
    (folder / "names").write_text("127.3.7.1 algo-1\n")
    mount = Mount(str(folder / "names"), "/etc/hosts")
    assert inside("print(socket.gethostbyname('algo-1')); print(Path('/etc/hosts').read_text())", mount) == [
        "127.3.7.1",
        "127.3.7.1 algo-1",
        "",
    ]
    assert "127.3.7.1 algo-1" not in Path("/etc/hosts").read_text()


def test_read_only_holds_for_root_and_below_and_not_for_the_source(inside, folder):
    (folder / "deeper").mkdir()
    (folder / "base" / "sub").mkdir()
    (folder / "seen").mkdir()
    assert (
        inside(
            """
        for path in ("seen/file", "seen/new", "seen/sub/new", "base/new"):
            print(refusal(path))
        """,
            Mount(str(folder / "deeper"), str(folder / "base" / "sub")),
            Mount(str(folder / "base"), str(folder / "seen"), read_only=True),
        )[:3]
        == [READ_ONLY] * 3
    )
    assert (folder / "base" / "new").read_text() == "written"
    assert (folder / "base" / "file").read_text() == "content"


def test_a_later_mount_shows_an_earlier_one(inside, folder):
    (folder / "data").mkdir()
    (folder / "data" / "numbers").write_text("1 2 3")
    (folder / "base" / "channel").mkdir()
    (folder / "seen").mkdir()
    assert inside(
        """
        numbers = Path("seen/channel/numbers")
        print(numbers.read_text(), refusal(numbers), refusal("seen/file"))
        """,
        Mount(str(folder / "data"), str(folder / "base" / "channel"), read_only=True),
        Mount(str(folder / "base"), str(folder / "seen")),
    ) == [f"1 2 3 {READ_ONLY} None"]


def test_nothing_is_seen_outside_while_the_process_lives(user, folder):
    (folder / "seen").mkdir()
    room = Room((Mount(str(folder / "base"), str(folder / "seen")),))
    command = argv("enter(room); print(os.listdir('seen'), flush=True); input()", room, user)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, **pipes) as process:
        assert process.stdout.readline() == "['file']\n"
        assert not any((folder / "seen").iterdir())
        assert str(folder) not in Path("/proc/self/mountinfo").read_text()
        process.communicate("end\n")
    assert process.returncode == 0


def test_one_stays_who_one_is(inside, folder, user):
    gid = user if user == NOBODY else os.getegid()
    (folder / "seen").mkdir()
    mount = Mount(str(folder / "base"), str(folder / "seen"))
    assert inside("Path('seen/mine').touch(); print(os.getuid(), os.getgid())", mount) == [f"{user} {gid}"]
    made = (folder / "base" / "mine").stat()
    assert (made.st_uid, made.st_gid) == (user, gid)


def test_the_signal_of_a_parents_death_stays_set(user, folder):
    """Whichever comes first: a program may enter its room after it was told with whom it is to end."""
    code = """
        libc, number = ctypes.CDLL(None), ctypes.c_int()
        libc.prctl(1, 15, 0, 0, 0)
        enter(room)
        libc.prctl(2, ctypes.byref(number), 0, 0, 0)
        print(number.value)
    """
    room = Room((Mount(str(folder), str(folder / "seen")),))
    assert subprocess.check_output(argv(code, room, user), text=True) == "15\n"


def test_what_cannot_be_shown_is_named_with_the_reason(user, folder):
    room = Room((Mount(str(folder / "absent"), "/opt/ml"),))
    done = subprocess.run(argv("enter(room)", room, user), capture_output=True, text=True, check=False)
    said = f"OSError: cannot show {folder}/absent at /opt/ml: No such file or directory"
    assert done.stderr.splitlines()[-1] == said


@pytest.mark.parametrize("user", ["root"], indirect=True)
def test_root_of_a_container_without_its_capabilities_is_like_any_user(user, folder):
    if not shutil.which("setpriv"):
        pytest.skip("util-linux's setpriv is not installed")
    kernel_allows("--user", "--mount")
    room = Room((Mount(str(folder / "base"), str(folder / "seen")),))
    command = argv("enter(room); print(os.listdir('seen'))", room, user)
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", "--", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.stdout == "['file']\n", done.stderr


def test_where_the_kernel_forbids_it_the_setting_that_stands_in_the_way_is_named():
    kernel_allows("--user", "--mount")
    if not shutil.which("setpriv"):
        pytest.skip("util-linux's setpriv is not installed")
    program = f"{sys.executable} -m modelyard.core.namespaces '{{}}'"
    without_capabilities = f"exec setpriv --inh-caps=-all --bounding-set=-all {program}"
    forbid = f"echo 0 > /proc/sys/user/max_user_namespaces && {without_capabilities}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "/bin/sh", "-c", forbid],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "cannot make a private mount namespace: No space left on device; "
        "`sysctl -w user.max_user_namespaces=15000`, as root, allows it\n"
    )


def test_a_room_that_can_be_entered_is_available(tmp_path):
    kernel_allows(*(["--user"] if os.geteuid() else []), "--mount")
    assert unavailable(Room((Mount(str(tmp_path), str(tmp_path / "seen")),))) == ""
    assert not (tmp_path / "seen").exists()


def test_a_room_that_cannot_be_entered_says_why(tmp_path):
    room = Room((Mount(str(tmp_path / "absent"), str(tmp_path)),))
    assert unavailable(room).startswith("cannot ")
    assert unavailable(room) == unavailable(Room(room.mounts))


def test_a_trial_that_could_not_be_made_is_made_again(tmp_path, monkeypatch):
    room = Room((Mount(str(tmp_path / "absent"), str(tmp_path)),))

    def busy(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", busy)
        assert unavailable(room) == "trying it failed: [Errno 11] Resource temporarily unavailable"
    assert unavailable(room).startswith("cannot ")


def test_a_room_is_handed_over_as_json():
    room = Room((Mount("/data", "/opt/ml/input/data/train", read_only=True), Mount("/base", "/opt/ml")))
    assert Room.from_json(room.to_json()) == room
    with pytest.raises(InvalidPlanError, match="'mount'; did you mean 'mounts'"):
        Room.from_json('{"mount": []}')
