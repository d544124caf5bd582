"""The feeder, as a process that writes into real named pipes, and what is read from them."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from tests.processes import has_ended

from modelyard.core.layout import JobLayout
from modelyard.plugins.backends.local import pipes
from modelyard.plugins.backends.local.pipes import Stream
from modelyard.testing.trees import read_tree, write_tree

TREE = {"b.csv": b"2\n", "a.csv": b"1\n", "a/z.csv": b"4\n", "empty": b"", "a0.csv": b"3\n"}
IN_ORDER = b"1\n4\n3\n2\n"  # a.csv, a/z.csv, a0.csv, b.csv: as S3 sorts keys.
BIG = os.urandom(1 << 20) * 8
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="what it looks at is Linux's")


@pytest.fixture
def job(tmp_path, modelyard_home):
    """Give a host's folder and `start`, which feeds it; nothing that was started survives the test."""
    layout, started = JobLayout(tmp_path / "algo-1"), []
    layout.create()

    def stream(folder, name="train", **options):
        files = {
            path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in folder.rglob("*")
            if path.is_file()
        }
        return Stream(str(layout.channel(name)), str(folder), files, **options)

    def start(*streams):
        argv = pipes.prepare(layout, streams)
        started.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        return started[-1]

    def read(name, size=-1):
        with (layout.data / name).open("rb") as pipe:
            return pipe.read(size)

    yield SimpleNamespace(layout=layout, stream=stream, start=start, read=read)
    for feeder in started:
        feeder.kill()
        feeder.wait()
        feeder.stdout.close()


@pytest.fixture
def data(tmp_path):
    return write_tree(tmp_path / "data", TREE)


def names_in_data(job):
    return sorted(path.name for path in job.layout.data.iterdir())


def eventually(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.01)


# -- the order of the files --------------------------------------------------------------------


def stream_of(files, **options):
    return Stream("/data/train", "/source", dict.fromkeys(files, (0, 0)), **options)


def test_without_a_seed_files_come_by_name():
    stream = stream_of(["b", "a/c", "a.c", "a"])
    assert stream.order(0) == stream.order(7) == ["a", "a.c", "a/c", "b"]


def test_the_order_of_a_seed_is_fixed():
    """A value that may not change: who trains again with a seed gets the same data."""
    stream = stream_of("abcdef", seed=17)
    assert ["".join(stream.order(epoch)) for epoch in range(3)] == ["defcba", "adfecb", "eabcdf"]


def test_each_epoch_and_each_seed_has_an_order_of_its_own():
    files = [f"{number:03}" for number in range(100)]
    orders = [stream_of(files, seed=seed).order(epoch) for seed in range(5) for epoch in range(5)]
    assert len({tuple(order) for order in orders}) == 25
    assert all(sorted(order) == files for order in orders)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("hosts", [1, 2, 3, 7])
def test_hosts_share_the_files_of_every_epoch(seed, hosts):
    files = [f"{number:02}" for number in range(20)]
    for epoch in range(4):
        shares = [stream_of(files, seed=seed, host=host, hosts=hosts).order(epoch) for host in range(hosts)]
        assert sorted(file for share in shares for file in share) == files
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_names_that_are_not_utf8_can_be_shuffled():
    odd = os.fsdecode(b"caf\xe9")
    assert sorted(stream_of([odd, "a"], seed=1).order(0)) == ["a", odd]


# -- epochs ------------------------------------------------------------------------------------


def test_the_first_pipe_is_there_before_the_feeder(job, data):
    pipes.prepare(job.layout, [job.stream(data)])
    mode = (job.layout.data / "train_0").stat().st_mode
    assert stat.S_ISFIFO(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_pipe_has_the_files_one_after_the_other(job, data):
    job.start(job.stream(data))
    assert job.read("train_0") == IN_ORDER
    assert read_tree(data) == TREE


def test_there_is_always_another_epoch(job, data):
    job.start(job.stream(data))
    for epoch in range(200):
        assert job.read(f"train_{epoch}") == IN_ORDER
        assert f"train_{epoch}" not in names_in_data(job), "or the folder would fill"
    assert names_in_data(job) == ["train_200"]


def test_much_data(job, tmp_path):
    folder = write_tree(tmp_path / "big", {"one": BIG, "two": b"\n"})
    job.start(job.stream(folder))
    assert job.read("train_0") == job.read("train_1") == BIG + b"\n"


def test_an_order_for_each_epoch(job, tmp_path):
    files = [f"{number}" for number in range(10)]
    folder = write_tree(tmp_path / "shuffled", {name: name.encode() for name in files})
    stream = job.stream(folder, seed=5)
    job.start(stream)
    seen = [job.read(f"train_{epoch}").decode() for epoch in range(3)]
    assert seen == ["".join(stream.order(epoch)) for epoch in range(3)]
    assert len(set(seen)) == 3


def test_a_hosts_share(job, data):
    job.start(job.stream(data, "first", hosts=2), job.stream(data, "second", host=1, hosts=2))
    assert (job.read("first_0"), job.read("second_0")) == (b"1\n3\n", b"4\n2\n")


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 only")
def test_odd_names(job, tmp_path):
    odd = {os.fsdecode(b"caf\xe9"): b"1", "new\nline": b"2", " ": b"0"}
    job.start(job.stream(write_tree(tmp_path / "odd data", odd)))
    assert job.read("train_0") == b"012"


# -- readers that do as they like --------------------------------------------------------------


def test_a_reader_that_stops_early_hurts_nothing(job, tmp_path):
    folder = write_tree(tmp_path / "big", {"one": BIG})
    feeder = job.start(job.stream(folder))
    for epoch in range(3):
        assert job.read(f"train_{epoch}", 10) == BIG[:10]
    assert job.read("train_3") == BIG
    eventually(lambda: names_in_data(job) == ["train_4"])
    assert feeder.poll() is None


def test_a_channel_that_is_never_read_hurts_nothing(job, data):
    job.start(job.stream(data, "idle"), job.stream(data, "train"))
    assert [job.read(f"train_{epoch}") for epoch in range(3)] == [IN_ORDER] * 3
    assert job.read("idle_0") == IN_ORDER


def test_a_channel_that_is_read_slowly_keeps_no_other_waiting(job, tmp_path, data):
    job.start(job.stream(write_tree(tmp_path / "big", {"one": BIG}), "slow"), job.stream(data, "train"))
    with (job.layout.data / "slow_0").open("rb") as slow:
        assert slow.read(1) == BIG[:1]
        assert [job.read(f"train_{epoch}") for epoch in range(3)] == [IN_ORDER] * 3
        assert slow.read() == BIG[1:]


def test_two_epochs_at_once(job, tmp_path):
    job.start(job.stream(write_tree(tmp_path / "big", {"one": BIG})))
    with (job.layout.data / "train_0").open("rb") as first:
        assert first.read(1) == BIG[:1]
        assert job.read("train_1") == BIG
        assert first.read() == BIG[1:]


def test_a_script_may_remove_a_pipe_that_it_reads(job, tmp_path):
    feeder = job.start(job.stream(write_tree(tmp_path / "big", {"one": BIG})))
    with (job.layout.data / "train_0").open("rb") as pipe:
        (job.layout.data / "train_0").unlink()
        assert pipe.read() == BIG
    assert job.read("train_1") == BIG
    assert feeder.poll() is None


def test_a_script_that_is_started_again_begins_with_epoch_0(job, data):
    feeder = job.start(job.stream(data), job.stream(data, "test"))
    write_tree(job.layout.data / "files", {"mine": b"0"})
    for epoch in range(3):
        job.read(f"train_{epoch}")
    feeder.kill()
    feeder.wait()
    pipes.renew(job.layout)
    assert names_in_data(job) == ["files", "test_0", "train_0"]
    pipes.clear(job.layout)
    assert names_in_data(job) == ["files"]


# -- data that does not stay as it was ---------------------------------------------------------


def still_open(pipe):
    """Tell whether a reader that has taken everything is kept waiting: the end of a pipe reads as b""."""
    os.set_blocking(pipe.fileno(), False)
    return pipe.read() is None


def test_a_file_that_vanished_is_named_and_the_epoch_does_not_end(job, tmp_path):
    folder = write_tree(tmp_path / "data", {"a": b"1", "b": b"2"})
    feeder = job.start(job.stream(folder))
    (folder / "b").unlink()
    with (job.layout.data / "train_0").open("rb", buffering=0) as pipe:
        said = feeder.stdout.readline()
        assert said.startswith("channel 'train', epoch 0: ")
        assert f"No such file or directory: '{folder}/b'" in said
        assert pipe.read(10) == b"1"
        assert still_open(pipe)
    assert feeder.poll() is None


@pytest.mark.parametrize("change", ["append", "truncate", "touch", "replace"])
def test_a_file_that_changed_before_it_was_sent(job, tmp_path, change):
    folder = write_tree(tmp_path / "data", {"a": b"12345"})
    feeder = job.start(job.stream(folder))
    changes = {
        "append": lambda: (folder / "a").write_bytes(b"123456"),
        "truncate": lambda: os.truncate(folder / "a", 2),
        "touch": lambda: os.utime(folder / "a", (1, 1)),
        "replace": lambda: (
            write_tree(tmp_path / "other", {"a": b"1234567"}).joinpath("a").rename(folder / "a")
        ),
    }
    changes[change]()
    with (job.layout.data / "train_0").open("rb", buffering=0) as pipe:
        said = feeder.stdout.readline()
        assert f"'{folder}/a' has changed since the job was submitted" in said
        assert "input_mode='File'" in said
        assert still_open(pipe)


@pytest.mark.parametrize("size", [len(BIG) + 1, len(BIG) // 2])
def test_a_file_that_changes_while_it_is_sent(job, tmp_path, size):
    folder = write_tree(tmp_path / "data", {"a": BIG})
    feeder = job.start(job.stream(folder))
    with (job.layout.data / "train_0").open("rb", buffering=0) as pipe:
        assert pipe.read(1) == BIG[:1]
        os.truncate(folder / "a", size)
        taken = 1
        while taken < size:
            taken += len(pipe.read(size - taken))
        assert "has changed since the job was submitted" in feeder.stdout.readline()
        assert still_open(pipe)


def test_a_channel_goes_on_when_another_one_cannot(job, tmp_path, data):
    broken = write_tree(tmp_path / "broken", {"a": b"1"})
    feeder = job.start(job.stream(broken, "broken"), job.stream(data, "train"))
    (broken / "a").unlink()
    with (job.layout.data / "broken_0").open("rb"):
        assert feeder.stdout.readline().startswith("channel 'broken', epoch 0: ")
        assert job.read("train_0") == IN_ORDER


def test_a_script_that_takes_the_name_of_a_pipe_is_told(job, data):
    feeder = job.start(job.stream(data))
    (job.layout.data / "train_1").write_text("mine")
    with (job.layout.data / "train_0").open("rb"):
        assert f"File exists: '{job.layout.data}/train_1'" in feeder.stdout.readline()
    assert (job.layout.data / "train_1").read_text() == "mine"


# -- its end -----------------------------------------------------------------------------------


def test_it_ends_at_sigterm_at_once(job, tmp_path):
    """With one reader in the middle of an epoch, and with threads that wait for readers."""
    folder = write_tree(tmp_path / "big", {"one": BIG})
    feeder = job.start(job.stream(folder), job.stream(folder, "idle"))
    with (job.layout.data / "train_0").open("rb") as pipe:
        pipe.read(1)
        feeder.terminate()
        assert feeder.wait(60) == -signal.SIGTERM


def test_it_ends_when_nobody_listens(job, tmp_path):
    folder = write_tree(tmp_path / "big", {"one": BIG})
    feeder = job.start(job.stream(folder), job.stream(folder, "idle"))
    with (job.layout.data / "train_0").open("rb") as pipe:
        pipe.read(1)
        feeder.stdout.close()
        assert feeder.wait(60) == 0


@LINUX_ONLY
def test_it_dies_with_its_guard(job, data):
    argv = pipes.prepare(job.layout, [job.stream(data)])
    guard = f"""
import os, subprocess, sys
os.environ["MODELYARD_GUARD_PID"] = str(os.getpid())
feeder = subprocess.Popen({argv!r}, stdout=subprocess.PIPE)
print(feeder.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", guard], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        feeder = psutil.Process(int(process.stdout.readline()))
        assert job.read("train_0") == IN_ORDER
        process.kill()
    eventually(lambda: has_ended(feeder))


# -- how the data moves ------------------------------------------------------------------------


@LINUX_ONLY
def test_its_memory_does_not_grow_with_the_data(job, tmp_path):
    folder = write_tree(tmp_path / "big", {"one": b""})
    os.truncate(folder / "one", 1 << 29)
    feeder = job.start(job.stream(folder))
    seen, buffer = 0, bytearray(1 << 20)
    with (job.layout.data / "train_0").open("rb", buffering=0) as pipe:
        while size := pipe.readinto(buffer):
            seen += size
    assert seen == 1 << 29
    status = Path(f"/proc/{feeder.pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 128 << 10, "KiB"


@LINUX_ONLY
def test_where_sendfile_cannot_data_moves_through_memory(tmp_path):
    """A target that is opened to append is one that sendfile refuses."""
    (tmp_path / "source").write_bytes(BIG)
    source = os.open(tmp_path / "source", os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sent = 0
    while moved := pipes._move(source, target, sent):
        sent += moved
    os.close(source)
    os.close(target)
    assert (tmp_path / "target").read_bytes() == BIG
