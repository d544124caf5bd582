"""The options of the backend: SDK v2's keywords that mean something on SageMaker alone, checked by name."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from modelyard.core.errors import InvalidPlanError
from modelyard.core.values import freeze

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


TRAINING_VOLUME = 30
"""Gigabytes of a training job's volume where nothing is said, as with SDK v2."""


def text() -> Any:
    """Return the field of an option that is a text, or None."""
    return attrs.field(default=None, validator=attrs.validators.optional(_text))


def switch() -> Any:
    """Return the field of an option that is on, off, or left to the service."""
    return attrs.field(default=None, validator=attrs.validators.optional(_bool))


def number(at_least: int) -> Any:
    """Return the field of an option that is a whole number, or None."""
    return attrs.field(default=None, validator=attrs.validators.optional(_whole(at_least)))


def seconds(default: float) -> Any:
    """Return the field of an option that is a time."""
    return attrs.field(default=default, validator=_seconds)


def texts() -> Any:
    """Return the field of an option that is a list of texts."""
    return attrs.field(default=(), converter=_texts)


def s3_folder() -> Any:
    """Return the field of an option that is a folder on S3, or None."""
    return attrs.field(default=None, validator=attrs.validators.optional(_s3))


def request() -> Any:
    """Return the field of an option that is part of a request, by the service's own names."""
    return attrs.field(default=None, converter=attrs.converters.optional(_request))


def requests() -> Any:
    """Return the field of an option that is a list of parts of a request."""
    return attrs.field(default=(), converter=_requests)


def tag_list() -> Any:
    """Return the field of the tags: a mapping, or SDK v2's list of ``{"Key": ..., "Value": ...}``."""
    return attrs.field(default=(), converter=_tags)


def _text(_backend: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidPlanError(f"{attribute.name} must be a text, not {value!r}")


def _bool(_backend: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidPlanError(f"{attribute.name} must be True or False, not {value!r}")


def _whole(at_least: int) -> Validator:
    def check(_backend: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if type(value) is not int or value < at_least:
            raise InvalidPlanError(
                f"{attribute.name} must be a whole number of at least {at_least}, not {value!r}"
            )

    return check


def _seconds(_backend: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise InvalidPlanError(f"{attribute.name} is a number of seconds above 0, not {value!r}")


def _s3(_backend: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"s3://[^/]+(/.*)?", value):
        raise InvalidPlanError(
            f"{attribute.name} must be a folder on S3, 's3://bucket/prefix', not {value!r}"
        )


def _texts(value: Sequence[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise InvalidPlanError(f"a list of texts is expected, not {value!r}")
    return tuple(value)


def _request(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidPlanError(f"a dict by the names of SageMaker's API is expected, not {value!r}")
    frozen: Mapping[str, Any] = freeze(value)
    return frozen


def _requests(value: Iterable[object] | None) -> tuple[Mapping[str, Any], ...]:
    return tuple(_request(item) for item in value or ())


def _tags(value: object) -> tuple[tuple[str, str], ...]:
    pairs: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = map(_pair, value)
    elif value is not None:
        raise InvalidPlanError(
            f"tags must be a dict, or a list of {{'Key': ..., 'Value': ...}}, not {value!r}"
        )
    found = tuple(pairs)
    if wrong := [pair for pair in found if not all(isinstance(item, str) for item in pair)]:
        raise InvalidPlanError(f"the keys and values of tags must be texts, not {wrong[0]!r}")
    return found  # type: ignore[return-value]


def _pair(tag: object) -> tuple[object, object]:
    if isinstance(tag, Mapping) and set(tag) == {"Key", "Value"}:
        return tag["Key"], tag["Value"]
    if isinstance(tag, (list, tuple)) and len(tag) == 2:  # As a saved plan has them.
        return tag[0], tag[1]
    raise InvalidPlanError(f"a tag is {{'Key': 'team', 'Value': 'vision'}}, not {tag!r}")


@attrs.frozen
class Settings:
    """The options of `SageMakerBackend`, whose docstring explains them."""

    # Whose account, and where.
    region: str | None = text()
    profile: str | None = text()
    endpoint_url: str | None = text()
    default_bucket: str | None = text()
    default_bucket_prefix: str | None = text()
    code_location: str | None = s3_folder()

    # Jobs and endpoints.
    image_uri: str | None = text()
    tags: tuple[tuple[str, str], ...] = tag_list()
    subnets: tuple[str, ...] = texts()
    security_group_ids: tuple[str, ...] = texts()
    enable_network_isolation: bool | None = switch()
    volume_size: int | None = number(1)
    container_log_level: int = attrs.field(default=20, validator=_whole(0))

    # Jobs.
    volume_kms_key: str | None = text()
    output_kms_key: str | None = text()
    use_spot_instances: bool | None = switch()
    max_wait: int | None = number(1)
    max_retry_attempts: int | None = number(1)
    keep_alive_period_in_seconds: int | None = number(0)
    encrypt_inter_container_traffic: bool | None = switch()
    enable_sagemaker_metrics: bool | None = switch()
    checkpoint_local_path: str | None = text()
    disable_output_compression: bool | None = switch()
    model_uri: str | None = text()
    model_channel_name: str = attrs.field(default="model", validator=_text)
    strategy: str | None = text()
    instance_groups: tuple[Mapping[str, Any], ...] = requests()
    distribution_instance_groups: tuple[str, ...] = texts()
    training_plan: str | None = text()
    training_repository_access_mode: str | None = text()
    training_repository_credentials_provider_arn: str | None = text()
    container_entry_point: tuple[str, ...] = texts()
    container_arguments: tuple[str, ...] = texts()
    enable_remote_debug: bool | None = switch()
    enable_infra_check: bool | None = switch()
    enable_session_tag_chaining: bool | None = switch()
    tensorboard_output_config: Mapping[str, Any] | None = request()
    debugger_hook_config: Mapping[str, Any] | None = request()
    profiler_config: Mapping[str, Any] | None = request()
    experiment_config: Mapping[str, Any] | None = request()

    # Endpoints.
    kms_key: str | None = text()
    model_kms_key: str | None = text()
    compress_model: bool | None = switch()
    model_server_workers: int | None = number(1)
    model_data_download_timeout: int | None = number(60)
    container_startup_health_check_timeout: int | None = number(60)
    inference_ami_version: str | None = text()
    data_capture_config: Mapping[str, Any] | None = request()
    serverless_inference_config: Mapping[str, Any] | None = request()
    async_inference_config: Mapping[str, Any] | None = request()
    managed_instance_scaling: Mapping[str, Any] | None = request()
    routing_config: Mapping[str, Any] | None = request()
    explainer_config: Mapping[str, Any] | None = request()
    image_config: Mapping[str, Any] | None = request()

    # How the service is asked.
    poll_seconds: float = seconds(2.0)
    stop_seconds: float = seconds(1800.0)
    invoke_timeout: float = seconds(70.0)
    max_attempts: int = attrs.field(default=8, validator=_whole(1))
    list_limit: int = attrs.field(default=50, validator=_whole(1))

    def __attrs_post_init__(self) -> None:
        if bool(self.subnets) != bool(self.security_group_ids):
            raise InvalidPlanError("subnets and security_group_ids go together: give both, or none")
        if self.max_wait is not None and not self.use_spot_instances:
            raise InvalidPlanError("max_wait is for use_spot_instances=True alone: leave it out")
        if self.use_spot_instances and self.max_wait is None:
            raise InvalidPlanError(
                "use_spot_instances needs max_wait: the seconds from the start of waiting for an instance "
                "to the end of the job, at least max_run"
            )
        if self.checkpoint_local_path and not self.checkpoint_local_path.startswith("/"):
            raise InvalidPlanError(
                f"checkpoint_local_path is a folder of the container, such as '/opt/ml/checkpoints', not "
                f"{self.checkpoint_local_path!r}"
            )
