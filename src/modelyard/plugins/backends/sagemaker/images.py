"""AWS's own PyTorch images, by the versions of PyTorch that it publishes.

As of September 2026, by the table of SDK v2 2.257.7. The table is small on purpose: an image that is not
in it is named by ``image_uri``.
"""

import re
from collections.abc import Mapping

from modelyard.core.errors import InvalidPlanError, did_you_mean
from modelyard.core.log import get_logger

_log = get_logger(__name__)

_TRAINING, _INFERENCE, _WITH_ACCELERATOR = "training", "inference", "inference-eia"

VERSIONS: Mapping[str, tuple[str, ...]] = {
    "0.4.0": ("py2", "py3"),
    "1.0.0": ("py2", "py3"),
    "1.1.0": ("py2", "py3"),
    "1.2.0": ("py2", "py3"),
    "1.3.1": ("py2", "py3"),
    "1.4.0": ("py3", "py36"),
    "1.5.0": ("py3", "py36"),
    "1.6.0": ("py3", "py36"),
    "1.7.1": ("py3", "py36"),
    "1.8.0": ("py3", "py36"),
    "1.8.1": ("py3", "py36"),
    "1.9.0": ("py38",),
    "1.9.1": ("py38",),
    "1.10.0": ("py38",),
    "1.10.2": ("py38",),
    "1.11.0": ("py38",),
    "1.12.0": ("py38",),
    "1.12.1": ("py38",),
    "1.13.1": ("py39",),
    "2.0.0": ("py310",),
    "2.0.1": ("py310",),
    "2.1.0": ("py310",),
    "2.2.0": ("py310",),
    "2.3.0": ("py311",),
    "2.4.0": ("py311",),
    "2.5.1": ("py311",),
    "2.6.0": ("py312",),
    "2.7.1": ("py312",),
    "2.8.0": ("py312",),
}
"""The Pythons of each version, the one that is taken where none is asked for last."""

TRAINING_ONLY = ("2.7.1", "2.8.0")
WITH_ACCELERATOR = ("1.3.1", "1.5.1")
"""Versions for Elastic Inference, of Python 3."""

FOR_TRAINIUM: Mapping[str, str] = {"1.11.0": "1.11.0-neuron-py38-sdk2.4.0-ubuntu20.04"}
"""The tags of the images with AWS's Neuron SDK, which are for training on ``ml.trn*``."""

OF_THE_TOOLKITS_OWN = ("0.4.0", "1.0.0", "1.1.0")
"""Images from before the Deep Learning Containers: of another registry, for models of the older layout."""

_ACCOUNT = "763104351884"
_ACCOUNTS = {
    "af-south-1": "626614931356",
    "ap-east-1": "871362719292",
    "ap-east-2": "975050140332",
    "ap-northeast-3": "364406365360",
    "ap-south-2": "772153158452",
    "ap-southeast-3": "907027046896",
    "ap-southeast-4": "457447274322",
    "ap-southeast-5": "550225433462",
    "ap-southeast-6": "633930458069",
    "ap-southeast-7": "590183813437",
    "ca-west-1": "204538143572",
    "cn-north-1": "727897471807",
    "cn-northwest-1": "727897471807",
    "eu-central-2": "380420809688",
    "eu-south-1": "692866216735",
    "eu-south-2": "503227376785",
    "il-central-1": "780543022126",
    "me-central-1": "914824155844",
    "me-south-1": "217643126080",
    "mx-central-1": "637423239942",
    "us-gov-east-1": "446045086412",
    "us-gov-west-1": "442386744353",
}
"""Regions whose images are in an account of their own."""

_OLD_ACCOUNT = "520713654638"
_OLD_ACCOUNTS = {
    "af-south-1": "313743910680",
    "ap-east-1": "057415533634",
    "cn-north-1": "422961961927",
    "cn-northwest-1": "423003514399",
    "eu-south-1": "048378556238",
    "me-south-1": "724002660598",
    "us-gov-west-1": "246785580436",
}


_ELSEWHERE = re.compile(r"(us-iso|eu-iso|eusc-)")
_NEURON = re.compile(r"ml\.(trn|inf)\d")
_TRAINIUM = re.compile(r"ml\.trn\d")
_GRAVITON = re.compile(r"ml\.[cmrt]\d+g[a-z]*\.")
_GPU = re.compile(r"ml\.[pg]\d")


def training_image(version: str | None, python: str | None, instance_type: str, region: str) -> str:
    """Return the URI of AWS's image for a training job. Raises `InvalidPlanError`."""
    return _image(_TRAINING, VERSIONS, version, python, instance_type, region)


def inference_image(
    version: str | None, python: str | None, instance_type: str, region: str, accelerator: str | None = None
) -> str:
    """Return the URI of AWS's image for an endpoint. Raises `InvalidPlanError`."""
    if accelerator:
        known: Mapping[str, tuple[str, ...]] = dict.fromkeys(WITH_ACCELERATOR, ("py3",))
        return _image(_WITH_ACCELERATOR, known, version, python, instance_type, region)
    known = {known: pythons for known, pythons in VERSIONS.items() if known not in TRAINING_ONLY}
    return _image(_INFERENCE, known, version, python, instance_type, region)


def layout_is_old(version: str | None) -> bool:
    """Tell whether the images of a version want the code beside the model's archive, not in it."""
    return _full(version, VERSIONS) in OF_THE_TOOLKITS_OWN if version else False


def _image(
    scope: str,
    known: Mapping[str, tuple[str, ...]],
    version: str | None,
    python: str | None,
    instance_type: str,
    region: str,
) -> str:
    if version is None:
        version = _newest(known, python)
        _log.warning("no framework_version was given: the newest of AWS's images is taken", version=version)
    if _ELSEWHERE.match(region):
        raise InvalidPlanError(f"AWS's images in {region} are not known here: give one as image_uri")
    full, python = _published(scope, known, version, python)
    account, repository = _ACCOUNTS.get(region, _ACCOUNT), f"pytorch-{scope}"
    if scope == _TRAINING and full in FOR_TRAINIUM and _TRAINIUM.match(instance_type):
        tag, repository = FOR_TRAINIUM[full], f"{repository}-neuron"
    else:
        tag = f"{full}-{_processor(instance_type)}-{python}"
    if full in OF_THE_TOOLKITS_OWN:
        account, repository = _OLD_ACCOUNTS.get(region, _OLD_ACCOUNT), "sagemaker-pytorch"
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{account}.dkr.ecr.{region}.{domain}/{repository}:{tag}"


def _published(
    scope: str, known: Mapping[str, tuple[str, ...]], version: str, python: str | None
) -> tuple[str, str]:
    """Return the full version and the Python of an image. Raises `InvalidPlanError` for what is not known."""
    full = _full(version, known)
    if full not in known:
        raise InvalidPlanError(
            f"no {scope} image of AWS's is known for framework_version {version!r}"
            f"{did_you_mean(version, known)}. For any other give its URI as image_uri"
        )
    pythons = known[full]
    if python is not None and python not in pythons:
        raise InvalidPlanError(
            f"AWS's image of PyTorch {full} has {' or '.join(pythons)}, not {python}: change py_version, or "
            "give an image as image_uri"
        )
    return full, python or pythons[-1]


def _newest(known: Mapping[str, tuple[str, ...]], python: str | None) -> str:
    """Return the newest version that is for training and serving, and has that Python if any has it."""
    both = [version for version in known if version not in TRAINING_ONLY]
    return next((version for version in reversed(both) if python in known[version]), both[-1])


def _full(version: str, known: Mapping[str, object]) -> str:
    """Return the newest version that begins with `version`, such as 2.5.1 for 2.5; else it as it is."""
    newest = [one for one in known if one == version or one.startswith(f"{version}.")]
    return newest[-1] if newest else version


def _processor(instance_type: str) -> str:
    """Return which kind of image an instance type takes. Raises `InvalidPlanError` for another kind."""
    if _NEURON.match(instance_type):
        raise InvalidPlanError(
            f"{instance_type!r} needs an image with AWS's Neuron SDK: give its URI as image_uri"
        )
    if _GRAVITON.match(instance_type):
        raise InvalidPlanError(f"{instance_type!r} needs an image for ARM: give its URI as image_uri")
    return "gpu" if _GPU.match(instance_type) else "cpu"
