"""What a caller gives as inputs, and the channels that a plan gets."""

import inspect
from pathlib import Path

import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.core.plans import Channel, InputMode, Replication
from modelyard.inputs import ShuffleConfig, TrainingInput, channels

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
