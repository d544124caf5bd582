"""AWS's images, by version, region and kind of machine."""

import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.plugins.backends.sagemaker.images import inference_image, layout_is_old, training_image


@pytest.mark.parametrize(
    ("arguments", "uri"),
    [
        (
            ("2.5.1", None, "ml.g5.xlarge", "us-west-2"),
            "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.5.1-gpu-py311",
        ),
        (
            ("2.5", "py311", "ml.m5.xlarge", "eu-south-1"),
            "692866216735.dkr.ecr.eu-south-1.amazonaws.com/pytorch-training:2.5.1-cpu-py311",
        ),
        (
            ("1.13.1", None, "ml.p4d.24xlarge", "cn-north-1"),
            "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/pytorch-training:1.13.1-gpu-py39",
        ),
        (
            ("1.0", "py3", "ml.p2.xlarge", "us-west-2"),
            "520713654638.dkr.ecr.us-west-2.amazonaws.com/sagemaker-pytorch:1.0.0-gpu-py3",
        ),
        (
            ("0.4.0", "py2", "ml.c4.xlarge", "af-south-1"),
            "313743910680.dkr.ecr.af-south-1.amazonaws.com/sagemaker-pytorch:0.4.0-cpu-py2",
        ),
    ],
)
def test_an_image_for_training(arguments, uri):
    assert training_image(*arguments) == uri


def test_an_image_for_trainium():
    uri = (
        "763104351884.dkr.ecr.us-east-1.amazonaws.com/"
        "pytorch-training-neuron:1.11.0-neuron-py38-sdk2.4.0-ubuntu20.04"
    )
    assert training_image("1.11", "py38", "ml.trn1.2xlarge", "us-east-1") == uri
    with pytest.raises(InvalidPlanError, match="Neuron SDK: give its URI as image_uri"):
        inference_image("1.11", "py38", "ml.inf1.xlarge", "us-east-1")


def test_an_image_for_an_endpoint():
    uri = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312"
    assert inference_image("2.6", "py312", "ml.c5.xlarge", "us-east-1") == uri


def test_an_image_for_elastic_inference():
    uri = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference-eia:1.5.1-cpu-py3"
    assert inference_image("1.5.1", None, "ml.m5.xlarge", "us-east-1", "ml.eia2.medium") == uri


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("9.9", None, "ml.m5.xlarge", "us-east-1"), "no training image of AWS's.*'9.9'.*image_uri"),
        (("2.5.1", "py2", "ml.m5.xlarge", "us-east-1"), "has py311, not py2.*image_uri"),
        (("2.5.1", None, "ml.trn1.2xlarge", "us-east-1"), "Neuron SDK: give its URI as image_uri"),
        (("2.5.1", None, "ml.c7g.xlarge", "us-east-1"), "for ARM: give its URI as image_uri"),
        (("2.5.1", None, "ml.m5.xlarge", "us-iso-east-1"), "images in us-iso-east-1 are not known"),
    ],
)
def test_what_is_not_known_asks_for_the_image(arguments, said):
    with pytest.raises(InvalidPlanError, match=said):
        training_image(*arguments)


def test_versions_that_aws_has_for_training_alone_are_told_apart():
    assert training_image("2.8.0", None, "ml.m5.xlarge", "us-east-1").endswith(":2.8.0-cpu-py312")
    with pytest.raises(InvalidPlanError, match="no inference image"):
        inference_image("2.8.0", None, "ml.m5.xlarge", "us-east-1")


@pytest.mark.parametrize(("version", "old"), [("1.1", True), ("1.1.0", True), ("1.2", False), (None, False)])
def test_the_layout_of_models_changed_with_1_2(version, old):
    assert layout_is_old(version) is old


@pytest.mark.parametrize(("python", "tag"), [(None, "2.6.0-cpu-py312"), ("py3", "1.8.1-cpu-py3")])
def test_without_a_version_it_is_the_newest_that_trains_and_serves(python, tag):
    for image in (training_image, inference_image):
        assert image(None, python, "ml.m5.xlarge", "us-east-1").endswith(f":{tag}")
