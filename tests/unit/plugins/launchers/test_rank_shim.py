"""The shim in the shells that may be /bin/sh, with real pipes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from modelyard.plugins.launchers.rank import as_rank
from modelyard.testing.launchers import ARGUMENTS

SHELLS = [path for path in map(shutil.which, ("dash", "bash", "sh")) if path]
SECONDS = 60

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
BOTH = "import sys; print('out'); print('err', file=sys.stderr)"


@pytest.fixture(params=SHELLS, ids=lambda path: Path(path).name)
def rank(request):
    """Run a command as a rank, in one of the shells, and return how it ended."""

    def run(*argv, **environ):
        return subprocess.run(
            (request.param, *as_rank(argv)[1:]),
            env={"PATH": os.environ["PATH"], **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return run


@pytest.fixture
def streams(tmp_path):
    """Pipes for local rank 1, as the supervisor makes them, in a folder with a space in its name."""
    folder = tmp_path / "rank streams"
    folder.mkdir()
    for name in ("1.out", "1.err"):
        os.mkfifo(folder / name)
    return folder


@contextmanager
def reading(streams):
    """Read local rank 1's pipes; ``read()`` returns what they hold, and that nobody writes any more."""
    with ExitStack() as stack:
        opened = []
        for name in ("1.out", "1.err"):
            opened.append(os.open(streams / name, os.O_RDONLY | os.O_NONBLOCK))
            stack.callback(os.close, opened[-1])
        yield lambda: tuple(to_the_end(descriptor) for descriptor in opened)


def to_the_end(descriptor):
    """Return everything up to the end, which a pipe has once all its writers are gone."""
    found = b""
    while chunk := os.read(descriptor, 65536):
        found += chunk
    return found.decode()


# -- who it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {
            "OMPI_COMM_WORLD_RANK": "5",
            "OMPI_COMM_WORLD_SIZE": "8",
            "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
        },
        {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"},
        {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "PMI_RANK": "9"},
    ],
    ids=["open-mpi", "mpich", "torchrun"],
)
def test_torch_is_told_the_rank_by_its_own_names(rank, given):
    environ = json.loads(rank(sys.executable, "-c", TELL, **given).stdout)[1]
    assert {name: environ[name] for name in NAMES} == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
    }


def test_pmix_alone_says_the_rank(rank):
    environ = json.loads(rank(sys.executable, "-c", TELL, PMIX_RANK="5").stdout)[1]
    assert {name: environ.get(name) for name in NAMES} == dict.fromkeys(NAMES) | {"RANK": "5"}


def test_nothing_is_set_where_nothing_says_it(rank):
    environ = json.loads(rank(sys.executable, "-c", TELL).stdout)[1]
    assert not set(environ) & set(NAMES)


# -- what it runs ------------------------------------------------------------------------------


def test_every_argument_arrives_as_it_is(rank):
    arguments = (*ARGUMENTS, "--", "*", "\\n", "tab\there", "\nends\n")
    assert json.loads(rank(sys.executable, "-c", TELL, *arguments).stdout)[0] == list(arguments)


def test_the_rank_takes_the_place_of_the_shell(rank):
    ended = rank(sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert ended.returncode == -signal.SIGKILL
    assert rank("sh", "-c", "exit 3").returncode == 3


def test_a_program_that_is_absent_is_named(rank):
    ended = rank("./no-such-tool")
    assert ended.returncode == 127
    assert "no-such-tool" in ended.stderr


# -- its streams -------------------------------------------------------------------------------


def test_its_streams_go_to_its_own_pipes_and_say_first_whose_they_are(rank, streams):
    with reading(streams) as read:
        ended = rank(sys.executable, "-c", BOTH, MODELYARD_STREAMS=str(streams), RANK="5", LOCAL_RANK="1")
        assert read() == ("\x01rank 5\nout\n", "\x01rank 5\nerr\n")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 0)


def test_the_local_rank_of_mpi_chooses_the_pipes(rank, streams):
    with reading(streams) as read:
        rank("echo", "here", MODELYARD_STREAMS=str(streams), PMI_RANK="3", MPI_LOCALRANKID="1")
        assert read()[0] == "\x01rank 3\nhere\n"


def test_a_rank_that_starts_again_uses_the_same_pipes(rank, streams):
    with reading(streams) as read:
        for word in ("first", "second"):
            rank("echo", word, MODELYARD_STREAMS=str(streams), RANK="5", LOCAL_RANK="1")
        assert read()[0] == "\x01rank 5\nfirst\n\x01rank 5\nsecond\n"


def test_its_descriptors_are_the_streams_alone_and_what_it_inherited(streams):
    # MPICH talks to its ranks over a descriptor that they inherit.
    inherited, end = os.pipe()
    command = as_rank(
        (sys.executable, "-c", f"import os; os.write({end}, b'kept'); print(os.listdir('/proc/self/fd'))")
    )
    try:
        with reading(streams) as read:
            subprocess.run(
                command,
                env={"MODELYARD_STREAMS": str(streams), "LOCAL_RANK": "1"},
                stdin=subprocess.DEVNULL,
                pass_fds=(end,),
                timeout=SECONDS,
                check=True,
            )
            shown = read()[0].partition("\n")[2]
        assert os.read(inherited, 10) == b"kept"
    finally:
        os.close(inherited)
        os.close(end)
    # The one more is that of the listing itself.
    assert len(json.loads(shown.replace("'", '"'))) == 5


def test_a_reader_that_goes_is_noticed(rank, streams):
    """As with any pipe: what writes on gets SIGPIPE, and does not wait for ever."""
    with reading(streams):
        pass
    ended = rank("sh", "-c", "while :; do echo more; done", MODELYARD_STREAMS=str(streams), LOCAL_RANK="1")
    assert ended.returncode == -signal.SIGPIPE


@pytest.mark.parametrize("missing", ["1.out", "1.err"])
def test_streams_stay_where_a_pipe_is_missing_or_is_a_file(rank, streams, missing):
    for is_file in (False, True):
        (streams / missing).unlink()
        if is_file:
            (streams / missing).write_text("kept", "utf-8")
        ended = rank(sys.executable, "-c", BOTH, MODELYARD_STREAMS=str(streams), LOCAL_RANK="1")
        assert (ended.stdout, ended.stderr) == ("out\n", "err\n")
        (streams / missing).touch()
    assert (streams / missing).read_text("utf-8") == "kept"


def test_streams_stay_where_nobody_asks_for_others(rank):
    ended = rank(sys.executable, "-c", BOTH, LOCAL_RANK="1")
    assert (ended.stdout, ended.stderr) == ("out\n", "err\n")
