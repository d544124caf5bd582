"""What a caller gives as inputs, and the channels that a plan gets."""

import inspect
from pathlib import Path

import pytest

from modelyard.core.errors import InvalidPlanError, StorageError
from modelyard.core.plans import Channel, InputMode, Replication
from modelyard.estimator import PyTorch
from modelyard.inputs import FileSystemInput, ShuffleConfig, TrainingInput, channels

# -- training inputs ---------------------------------------------------------------------------


def test_the_keywords_have_the_order_of_sdk_v2():
    assert list(inspect.signature(TrainingInput).parameters) == [
        "s3_data",
        "distribution",
        "compression",
        "content_type",
        "record_wrapping",
        "s3_data_type",
        "instance_groups",
        "input_mode",
        "attribute_names",
        "target_attribute_name",
        "shuffle_config",
    ]


def test_everything_that_a_training_input_says_is_in_the_channel():
    given = TrainingInput(
        "s3://bucket/train",
        distribution="ShardedByS3Key",
        content_type="text/csv",
        input_mode="Pipe",
        shuffle_config=ShuffleConfig(17),
    )
    assert channels({"train": given}) == (
        Channel("train", "s3://bucket/train", "text/csv", InputMode.PIPE, Replication.SHARDED, 17),
    )


@pytest.mark.parametrize("location", ["/data", Path("/data"), "file:///data"])
def test_a_training_input_that_says_nothing_is_a_plain_path(location):
    assert channels({"train": TrainingInput(location)}) == channels({"train": location})


def test_what_asks_for_nothing_is_taken():
    given = TrainingInput(
        "/data",
        distribution=None,
        compression="None",
        record_wrapping="None",
        s3_data_type="S3Prefix",
        instance_groups=[],
        attribute_names=[],
    )
    assert channels({"train": given}) == (Channel("train", "file:///data"),)


@pytest.mark.parametrize(
    ("keyword", "value", "possible", "instead"),
    [
        ("compression", "Gzip", "None", "have it decompress them"),
        ("record_wrapping", "RecordIO", "None", "write them as RecordIO"),
        ("s3_data_type", "ManifestFile", "'S3Prefix'", "manifests are not read"),
        ("s3_data_type", "AugmentedManifestFile", "'S3Prefix'", "manifests are not read"),
        ("instance_groups", ["fast"], "None", "all hosts are of one type"),
        ("attribute_names", ["source-ref"], "None", "augmented manifests are not read"),
        ("target_attribute_name", "label", "None", "augmented manifests are not read"),
    ],
)
def test_what_a_plan_cannot_carry_is_refused(keyword, value, possible, instead):
    with pytest.raises(InvalidPlanError) as caught:
        TrainingInput("/data", **{keyword: value})
    assert str(caught.value).startswith(f"{keyword} must be {possible}, not {value!r}: ")
    assert instead in str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("distribution", "ShardedByKey", r"'ShardedByKey'; did you mean 'ShardedByS3Key'\?"),
        ("input_mode", "Fastfile", r"'Fastfile'; did you mean 'FastFile'\?"),
        ("input_mode", 3, "3. Known: FastFile, File, Pipe"),
    ],
)
def test_a_value_that_is_none_of_the_possible_ones(keyword, value, said):
    with pytest.raises(InvalidPlanError, match=f"{keyword} cannot be {said}"):
        TrainingInput("/data", **{keyword: value})


def test_an_unknown_keyword():
    with pytest.raises(
        TypeError, match=r"TrainingInput\(\) has no keyword 'shuffle_conf'; did you mean 'shuffle_config'"
    ):
        TrainingInput("/data", shuffle_conf=ShuffleConfig(1))


@pytest.mark.parametrize("seed", ["1", 1.0, None, True])
def test_seeds_that_cannot_be(seed):
    with pytest.raises(InvalidPlanError, match="seed must be a whole number"):
        ShuffleConfig(seed)


def test_a_shuffle_config_is_one():
    with pytest.raises(TypeError, match="'shuffle_config' must be <class 'modelyard.inputs.ShuffleConfig'>"):
        TrainingInput("/data", shuffle_config=17)


# -- channels ----------------------------------------------------------------------------------


def test_a_lone_training_input_is_train_and_training():
    made = channels(TrainingInput("/data", content_type="text/csv"))
    assert made == tuple(Channel(name, "file:///data", "text/csv") for name in ("train", "training"))


@pytest.mark.parametrize("mode", ["FastFile", InputMode.FAST_FILE])
def test_the_jobs_mode_is_that_of_channels_without_their_own(mode):
    made = channels(
        {"a": "/data", "b": TrainingInput("/data"), "c": TrainingInput("/data", input_mode="File")},
        input_mode=mode,
    )
    assert [channel.input_mode.value for channel in made] == ["FastFile", "FastFile", "File"]


@pytest.mark.parametrize("inputs", [None, "/data"])
def test_a_mode_of_the_job_that_cannot_be(inputs):
    with pytest.raises(InvalidPlanError, match=r"input_mode cannot be 'pipe'; did you mean 'Pipe'\?"):
        channels(inputs, input_mode="pipe")


def test_a_shuffle_seed_goes_with_the_jobs_mode():
    given = {"train": TrainingInput("/data", shuffle_config=ShuffleConfig(0))}
    (channel,) = channels(given, input_mode="Pipe")
    assert channel.shuffle_seed == 0
    with pytest.raises(
        InvalidPlanError, match="channel 'train': shuffle_config needs input_mode='Pipe', not 'File'"
    ):
        channels(given)


@pytest.mark.parametrize("location", [3, None, ""])
def test_a_training_input_without_a_location(location):
    with pytest.raises(InvalidPlanError, match="channel 'train' must be a path or a URI, not"):
        channels({"train": TrainingInput(location)})


def test_channels_survive_json():
    (channel,) = channels(
        {"train": TrainingInput("/d", "ShardedByS3Key", input_mode="Pipe", shuffle_config=ShuffleConfig(3))}
    )
    assert Channel.from_json(channel.to_json()) == channel


# -- file systems of AWS -----------------------------------------------------------------------


def test_a_file_system_is_a_uri_in_the_plan():
    given = FileSystemInput("fs-0123", "FSxLustre", "/da ta", "rw", "text/csv")
    (channel,) = channels({"train": given}, input_mode="FastFile")
    assert channel == Channel("train", "fsxlustre://fs-0123/da%20ta?mode=rw", "text/csv", InputMode.FAST_FILE)
    alone = channels(FileSystemInput("fs-1", "EFS", "/"))
    assert alone == (Channel("train", "efs://fs-1/?mode=ro"), Channel("training", "efs://fs-1/?mode=ro"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_system_type": "NFS"}, "file_system_type cannot be 'NFS'"),
        ({"file_system_access_mode": "w"}, "file_system_access_mode is 'ro' or 'rw', not 'w'"),
        ({"directory_path": "data"}, "directory_path begins with '/', as '/data'"),
    ],
)
def test_file_systems_that_cannot_be(changes, message):
    given = {"file_system_id": "fs-1", "file_system_type": "EFS", "directory_path": "/data"}
    with pytest.raises(InvalidPlanError, match=message):
        FileSystemInput(**{**given, **changes})
    with pytest.raises(TypeError, match="no keyword 'directry_path'; did you mean 'directory_path'"):
        FileSystemInput(**given, directry_path="/x")


def test_a_job_of_this_machine_mounts_no_file_system_of_aws(plugins, modelyard_home, tmp_path):
    (tmp_path / "train.py").touch()
    made = PyTorch(tmp_path / "train.py", plugins=plugins)
    with pytest.raises(
        StorageError, match="no storage reads 'efs://fs-1/data.mode=ro': unknown scheme 'efs'"
    ):
        made.fit(FileSystemInput("fs-1", "EFS", "/data"))
