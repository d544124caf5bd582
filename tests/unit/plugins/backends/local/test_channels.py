"""Channels in their places: each input mode, on one host and on several."""

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelyard.core.carrier import PluginCarrier
from modelyard.core.errors import InvalidPlanError, StorageError
from modelyard.core.hookspecs import hookimpl
from modelyard.core.layout import JobLayout
from modelyard.core.namespaces import unavailable
from modelyard.core.plans import Channel, InputMode, ProviderRef, Replication
from modelyard.plugins.backends.local import pipes
from modelyard.plugins.backends.local.channels import channel_config, stage
from modelyard.plugins.backends.local.rooms import furnished
from modelyard.plugins.storage.file import FileStorage
from modelyard.testing.trees import names_in, read_tree, write_tree

TREE = {f"{folder}/{number}.csv": f"{folder}{number}".encode() for folder in "ab" for number in range(3)}
SHARES = [
    {"a/0.csv": b"a0", "a/2.csv": b"a2", "b/1.csv": b"b1"},
    {"a/1.csv": b"a1", "b/0.csv": b"b0", "b/2.csv": b"b2"},
]
MODES = tuple(InputMode)


@pytest.fixture
def data(tmp_path):
    return write_tree(tmp_path / "data", TREE)


@pytest.fixture
def job(tmp_path, plugins):
    """Give `stage`, for hosts in folders of their own, and the number of downloads of ``away://`` URIs."""
    downloads = Counter()

    class Away(FileStorage):
        name = "away"
        schemes = ("away",)

        def download(self, uri, into):
            downloads[uri] += 1
            write_tree(into, TREE)

    plugins.register(SimpleNamespace(modelyard_register_storages=hookimpl(lambda: (Away,))), "away")
    carrier = PluginCarrier.of(plugins, ProviderRef("tarball"), lambda packager, into: None)

    def run(*channels, hosts=1, no_mounts=""):
        layouts = [JobLayout(tmp_path / f"algo-{number + 1}") for number in range(hosts)]
        for layout in layouts:
            layout.create()
        staged = stage(channels, layouts, carrier, shared=tmp_path / "shared", no_mounts=no_mounts)
        return SimpleNamespace(
            hosts=staged.hosts,
            notes=staged.notes,
            layouts=layouts,
            trees=lambda name="train": [read_tree(layout.channel(name)) for layout in layouts],
            streams=[
                pipes._streams(pipes._settings(layout)) if host.feeder else []
                for layout, host in zip(layouts, staged.hosts, strict=True)
            ],
        )

    return SimpleNamespace(stage=run, downloads=downloads)


def channel(uri, mode=InputMode.FILE, name="train", **options):
    return Channel(name, uri if isinstance(uri, str) else uri.as_uri(), input_mode=mode, **options)


def sharded(uri, mode=InputMode.FILE):
    return channel(uri, mode, replication=Replication.SHARDED)


def nothing_is_wanted(staged):
    return all(not host.data and not host.feeder for host in staged.hosts) and not staged.notes


# -- File --------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [1, 3])
def test_each_host_has_a_copy_of_its_own(job, data, hosts):
    staged = job.stage(channel(data), hosts=hosts)
    assert staged.trees() == [TREE] * hosts
    for layout in staged.layouts:
        for name in TREE:
            layout.channel("train").joinpath(name).write_bytes(layout.base.name.encode())
    assert staged.trees() == [dict.fromkeys(TREE, layout.base.name.encode()) for layout in staged.layouts]
    assert read_tree(data) == TREE
    assert nothing_is_wanted(staged)


@pytest.mark.parametrize("replication", Replication)
def test_what_lies_elsewhere_is_downloaded_once(job, tmp_path, replication):
    job.stage(
        channel("away://x", replication=replication),
        channel("away://x", name="training", replication=replication),
        hosts=3,
    )
    assert job.downloads == {"away://x": 1}
    assert not (tmp_path / "shared").exists()


def test_channels_of_the_same_data_are_one_folder(job, data):
    staged = job.stage(channel(data), channel(data, name="training"), hosts=2)
    assert staged.trees("training") == [TREE] * 2
    assert [str(layout.channel("training").readlink()) for layout in staged.layouts] == ["train"] * 2


def test_a_share_and_the_whole_of_the_same_data_are_two(job, data):
    staged = job.stage(channel(data, name="whole"), sharded(data), hosts=2)
    assert (staged.trees("whole"), staged.trees()) == ([TREE] * 2, SHARES)


# -- sharding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_files_are_dealt_out(job, data, where):
    staged = job.stage(sharded(data if where == "here" else "away://x"), hosts=2)
    assert staged.trees() == SHARES
    assert read_tree(data) == TREE


def test_a_host_has_the_folders_of_its_own_files(job, tmp_path):
    data = write_tree(tmp_path / "two", {"a/1": b"", "b/1": b""})
    staged = job.stage(sharded(data), hosts=2)
    assert [names_in(layout.channel("train")) for layout in staged.layouts] == [["a", "a/1"], ["b", "b/1"]]


def test_one_host_has_all_files(job, data):
    assert job.stage(sharded(data)).trees() == [TREE]


@pytest.mark.parametrize("mode", MODES)
def test_more_hosts_than_files(job, data, mode):
    with pytest.raises(
        InvalidPlanError, match=r"channel 'train': 7 hosts cannot share 6 file\(s\) in file://"
    ):
        job.stage(sharded(data, mode), hosts=7)


# -- Pipe --------------------------------------------------------------------------------------


def test_a_stream_reads_the_data_in_place(job, data):
    staged = job.stage(channel(data, InputMode.PIPE, shuffle_seed=3), hosts=2)
    assert names_in(staged.layouts[0].data) == names_in(staged.layouts[1].data) == ["train_0"]
    for (stream,), layout in zip(staged.streams, staged.layouts, strict=True):
        assert (stream.fifo, stream.source, stream.seed) == (str(layout.channel("train")), str(data), 3)
        assert (stream.host, stream.hosts, sorted(stream.files)) == (0, 1, sorted(TREE))
        first = (data / "a/0.csv").stat()
        assert list(stream.files["a/0.csv"]) == [first.st_size, first.st_mtime_ns]


def test_a_stream_of_one_file(job, data):
    ((stream,),) = job.stage(channel(data / "a/1.csv", InputMode.PIPE)).streams
    assert (stream.source, list(stream.files)) == (str(data / "a"), ["1.csv"])


def test_streams_share_the_files(job, data):
    staged = job.stage(sharded(data, InputMode.PIPE), hosts=2)
    assert [stream.order(0) for (stream,) in staged.streams] == [sorted(share) for share in SHARES]


def test_a_stream_of_what_lies_elsewhere_is_downloaded_once(job, tmp_path):
    both = [channel("away://x", InputMode.PIPE, name) for name in ("train", "training")]
    staged = job.stage(*both, hosts=2)
    assert {stream.source for host in staged.streams for stream in host} == {str(tmp_path / "shared/train")}
    assert job.downloads == {"away://x": 1}


def test_the_feeder_of_a_host_reads_what_was_staged(job, data, modelyard_home):
    staged = job.stage(sharded(data, InputMode.PIPE), channel(data, name="files"), hosts=2)
    assert staged.trees("files") == [TREE] * 2
    for host, layout, share in zip(staged.hosts, staged.layouts, SHARES, strict=True):
        with subprocess.Popen(host.feeder, stdout=subprocess.PIPE) as feeder:
            assert (layout.data / "train_0").read_bytes() == b"".join(share.values())
            feeder.terminate()


def test_links_are_followed(job, tmp_path, data):
    folder = write_tree(tmp_path / "links", {"z": b"z"})
    (folder / "y").symlink_to(data)
    ((stream,),) = job.stage(channel(folder, InputMode.PIPE)).streams
    assert sorted(stream.files) == [*(f"y/{name}" for name in sorted(TREE)), "z"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: (folder / "round").symlink_to(folder), "is a link that leads back to"),
        (lambda folder: (folder / "gone").symlink_to("nowhere"), "leads nowhere"),
        (lambda folder: os.mkfifo(folder / "pipe"), "a pipe or a device"),
    ],
)
def test_what_cannot_be_streamed(job, data, make, said):
    make(data)
    with pytest.raises(StorageError, match=said):
        job.stage(channel(data, InputMode.PIPE))


def test_a_stream_of_nothing(job, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidPlanError, match="channel 'train': there is no file in file://.*/empty"):
        job.stage(channel(tmp_path / "empty", InputMode.PIPE))


def test_a_channel_in_the_way_of_a_pipe(job, data):
    with pytest.raises(
        InvalidPlanError, match="channel 'train_12' has the name of a pipe of channel 'train'"
    ):
        job.stage(channel(data, InputMode.PIPE), channel(data, name="train_12"))
    job.stage(channel(data), channel(data, name="train_12"), channel(data, InputMode.PIPE, "train_x"))


# -- FastFile ----------------------------------------------------------------------------------


READ = "from modelyard.testing.trees import read_tree; print(read_tree(base))"
WRITE = """
said = []
for name in ("a/0.csv", "a/new.csv"):
    try:
        (base / name).write_bytes(b"damaged")
    except OSError as error:
        said.append(os.strerror(error.errno))
print(said)
"""
IN_A_ROOM = """
import os, sys
from pathlib import Path
from modelyard.core.namespaces import Room, enter
enter(Room.from_json(sys.argv[1]))
base = Path(sys.argv[2])
"""


def seen(staged, program=READ):
    """Return what a program prints about the channel `base` of each host, in the host's room."""
    said = []
    for host, layout in zip(staged.hosts, staged.layouts, strict=True):
        room = furnished(layout, opt_ml=False, data=host.data)
        if why := unavailable(room):
            pytest.skip(why)
        argv = [sys.executable, "-c", IN_A_ROOM + program, room.to_json(), str(layout.channel("train"))]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        said.append(ast.literal_eval(done.stdout))
    return said


def test_data_is_seen_in_place(job, data):
    staged = job.stage(channel(data, InputMode.FAST_FILE), hosts=2)
    assert [dict(host.data) for host in staged.hosts] == [
        {layout.channel("train"): data} for layout in staged.layouts
    ]
    assert staged.trees() == [{}, {}], "nothing is copied"
    assert seen(staged) == [TREE] * 2


def test_one_file_is_seen_in_the_channels_folder(job, data):
    staged = job.stage(channel(data / "a/1.csv", InputMode.FAST_FILE))
    assert seen(staged) == [{"1.csv": b"a1"}]


@pytest.mark.parametrize("replication", Replication)
def test_one_file_has_the_name_of_the_link_to_it(job, data, tmp_path, replication):
    link = tmp_path / "latest.csv"
    link.symlink_to(data / "a/1.csv")
    staged = job.stage(channel(link, InputMode.FAST_FILE, replication=replication))
    assert list(staged.hosts[0].data.values()) == [data / "a/1.csv"]
    assert seen(staged) == [{"latest.csv": b"a1"}]


def test_a_share_is_seen_in_place(job, data):
    staged = job.stage(sharded(data, InputMode.FAST_FILE), hosts=2)
    assert [len(host.data) for host in staged.hosts] == [1, 1], "however many files there are"
    assert seen(staged) == SHARES


def test_what_lies_elsewhere_is_seen_where_it_was_downloaded(job, tmp_path):
    staged = job.stage(channel("away://x", InputMode.FAST_FILE), hosts=2)
    assert {source for host in staged.hosts for source in host.data.values()} == {tmp_path / "shared/train"}
    assert job.downloads == {"away://x": 1}


def test_what_is_seen_in_place_cannot_be_written(job, data):
    staged = job.stage(channel(data, InputMode.FAST_FILE))
    assert seen(staged, WRITE) == [["Read-only file system"] * 2]
    assert read_tree(data) == TREE


def test_a_file_of_a_share_cannot_be_written(job, data):
    """Its folder is the job's own, so a file beside it can."""
    staged = job.stage(sharded(data, InputMode.FAST_FILE))
    assert seen(staged, WRITE) == [["Read-only file system"]]
    assert read_tree(data) == TREE


@pytest.mark.parametrize("replication", Replication)
def test_without_mounts_it_is_copied_and_said(job, data, replication):
    given = channel(data, InputMode.FAST_FILE, replication=replication)
    staged = job.stage(given, hosts=2, no_mounts="the kernel does not want to")
    assert staged.trees() == ([TREE] * 2 if replication is Replication.FULL else SHARES)
    assert [dict(host.data) for host in staged.hosts] == [{}, {}]
    assert staged.notes == (
        "channel 'train' is copied, not read in place (FastFile): the kernel does not want to",
    )


def test_data_with_links_is_copied(job, data, tmp_path):
    """A mount protects what is in the folder, and not what its links lead to."""
    other = write_tree(tmp_path / "other", {"precious": b"0"})
    (data / "a/link").symlink_to(other / "precious")
    staged = job.stage(channel(data, InputMode.FAST_FILE))
    assert "there are links in" in staged.notes[0]
    staged.layouts[0].channel("train").joinpath("a/link").write_bytes(b"damaged")
    assert read_tree(other) == {"precious": b"0"}


def test_a_link_to_the_data_itself_is_no_reason_to_copy(job, data, tmp_path):
    (tmp_path / "link").symlink_to(data)
    staged = job.stage(channel(tmp_path / "link", InputMode.FAST_FILE))
    assert (list(staged.hosts[0].data.values()), staged.notes) == ([data], ())


# -- all of them -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_data_that_is_not_there(job, data, mode):
    with pytest.raises(StorageError, match=f"there is nothing at '{data.parent}/dat'.*did you mean 'data'"):
        job.stage(channel(data.parent / "dat", mode))


def test_modes_side_by_side(job, data):
    staged = job.stage(*(channel(data, mode, mode.value) for mode in MODES))
    (layout,), (host,) = staged.layouts, staged.hosts
    assert names_in(layout.data)[:2] == ["FastFile", "File"]
    assert "Pipe_0" in names_in(layout.data)
    assert (list(host.data), Path(host.feeder[-1]).parent) == ([layout.channel("FastFile")], layout.config)


def test_what_the_script_is_told():
    told = channel_config(Channel("train", "s3://x", "text/csv", InputMode.PIPE, Replication.SHARDED))
    assert told == {
        "TrainingInputMode": "Pipe",
        "S3DistributionType": "ShardedByS3Key",
        "RecordWrapperType": "None",
        "ContentType": "text/csv",
    }
    assert channel_config(Channel("train", "s3://x")) == {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
