"""The options of the backend: what is refused, and how SDK v2's forms are read."""

import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef, Resources
from modelyard.plugins.backends.sagemaker.backend import SageMakerBackend
from modelyard.plugins.backends.sagemaker.settings import Settings


@pytest.mark.parametrize(
    "tags", [[{"Key": "team", "Value": "vision"}], {"team": "vision"}, [["team", "vision"]]]
)
def test_tags_have_several_forms(tags):
    assert Settings(tags=tags).tags == (("team", "vision"),)


@pytest.mark.parametrize("option", ["tags", "subnets", "security_group_ids", "instance_groups"])
def test_none_asks_for_nothing(option):
    assert getattr(Settings(**{option: None}), option) == ()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"volume_size": "30"}, "volume_size must be a whole number of at least 1, not '30'"),
        ({"volume_size": True}, "volume_size must be a whole number"),
        ({"image_uri": ""}, "image_uri must be a text, not ''"),
        ({"use_spot_instances": 1}, "use_spot_instances must be True or False, not 1"),
        ({"use_spot_instances": True}, "use_spot_instances needs max_wait"),
        ({"max_wait": 60}, "max_wait is for use_spot_instances=True alone"),
        ({"subnets": ["subnet-1"]}, "subnets and security_group_ids go together"),
        ({"subnets": "subnet-1"}, "a list of texts is expected, not 'subnet-1'"),
        ({"tags": "team"}, "tags must be a dict, or a list"),
        ({"tags": [{"Key": "team"}]}, "a tag is {'Key': 'team', 'Value': 'vision'}"),
        ({"tags": {"team": 1}}, "keys and values of tags must be texts"),
        ({"code_location": "bucket/code"}, "code_location must be a folder on S3"),
        ({"checkpoint_local_path": "here"}, "checkpoint_local_path is a folder of the container"),
        ({"data_capture_config": "on"}, "a dict by the names of SageMaker's API"),
        ({"poll_seconds": 0}, "poll_seconds is a number of seconds above 0"),
        ({"max_attempts": 0}, "max_attempts must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(InvalidPlanError, match=said):
        Settings(**options)


def test_every_instance_type_of_the_service_selects_it():
    plugins = PluginManager.builtin()
    ref = plugins.select_backend(Resources("ml.p4d.24xlarge"))
    assert isinstance(plugins.backends.create(ref), SageMakerBackend)


def test_options_survive_a_saved_plan():
    options = {"tags": {"team": "vision"}, "subnets": ["a"], "security_group_ids": ["b"], "volume_size": 5}
    saved = ProviderRef.from_json(ProviderRef("sagemaker", options).to_json())
    assert SageMakerBackend(**saved.options) == SageMakerBackend(**options)
