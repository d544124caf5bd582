"""The backend: its options, and who does the work."""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from modelyard.core.contracts import Carrier, EndpointDescription, JobDescription
from modelyard.core.plans import EndpointPlan, TrainingPlan
from modelyard.plugins.backends.sagemaker.settings import Settings

if TYPE_CHECKING:
    from modelyard.plugins.backends.sagemaker.endpoint import SageMakerEndpointHandle
    from modelyard.plugins.backends.sagemaker.job import SageMakerJobHandle
    from modelyard.plugins.backends.sagemaker.work import Work


class SageMakerBackend(Settings):
    """Runs jobs and endpoints on AWS SageMaker, on AWS's own PyTorch images or on the user's.

    Credentials and region come from where boto3 finds them; ``profile``, ``region`` and
    ``endpoint_url`` say otherwise. ``default_bucket`` (``sagemaker-<region>-<account>``) is made where
    there is none, and only used if it is this account's; archives go below ``code_location``, or below
    ``default_bucket_prefix`` in the default bucket. ``image_uri``: instead of the image that
    ``framework_version`` selects.

    By the names, and with the defaults, of SDK v2: ``tags``, ``subnets``, ``security_group_ids``,
    ``enable_network_isolation``, ``volume_size`` (30 GB for a job), ``container_log_level``; for jobs
    ``volume_kms_key``, ``output_kms_key``, ``use_spot_instances``, ``max_wait``, ``max_retry_attempts``,
    ``keep_alive_period_in_seconds``, ``encrypt_inter_container_traffic``, ``enable_sagemaker_metrics``,
    ``checkpoint_local_path``, ``disable_output_compression``, ``model_uri``, ``model_channel_name``,
    ``instance_groups``, ``training_plan``, ``training_repository_access_mode``,
    ``training_repository_credentials_provider_arn``, ``container_entry_point``, ``container_arguments``,
    ``enable_remote_debug``, ``enable_infra_check``, ``enable_session_tag_chaining``,
    ``tensorboard_output_config``, ``debugger_hook_config``, ``profiler_config``, ``experiment_config``;
    for endpoints ``kms_key``, ``model_kms_key``, ``compress_model`` (False: the files are uploaded and
    served without an archive, as a model is that is a folder on S3, ``s3://bucket/model/``),
    ``model_server_workers``, ``model_data_download_timeout``,
    ``container_startup_health_check_timeout``, ``inference_ami_version``, ``data_capture_config``,
    ``serverless_inference_config``, ``async_inference_config``, ``managed_instance_scaling``,
    ``routing_config``, ``explainer_config``, ``image_config``. What ends with ``_config`` is a dict by the
    names of SageMaker's API.

    ``strategy``: the key of ``distribution={...}``, where the launcher alone does not tell which;
    ``distribution_instance_groups``: on which of the instance groups.

    ``poll_seconds``: between two questions about a job or an endpoint; ``stop_seconds``: how long one may
    take to change its state; ``invoke_timeout``: to answer; ``max_attempts``: how often a request is
    sent; ``list_limit``: how many jobs and endpoints are listed, the newest.
    """

    name: ClassVar[str] = "sagemaker"
    instance_types: ClassVar[tuple[str, ...]] = ("ml.*",)

    @cached_property
    def _work(self) -> "Work":
        # Imported for a backend that is used: every program that asks what there is imports this class.
        from modelyard.plugins.backends.sagemaker.work import Work

        return Work(self)

    def submit(self, plan: TrainingPlan, carrier: Carrier, *, attached: bool = True) -> "SageMakerJobHandle":
        """Upload the source and the data, and have the job created.

        The job belongs to the service: it goes on when this process ends, `attached` or not. Raises what
        packing and uploading raise, `InvalidPlanError` and `JobExistsError`; no job and no data is left
        behind then, only the source's archive, which the next job finds there. Where nobody can tell whether
        there is a job now, the error says so, and its data is left.
        """
        return self._work.submit(plan, carrier)

    def job(self, name: str) -> "SageMakerJobHandle":
        """Return the job of that name, whoever made it. Raises `JobNotFoundError`."""
        return self._work.job(name)

    def jobs(self) -> Iterator[JobDescription]:
        """Yield the newest jobs of the account and region, as many as ``list_limit``, the oldest first."""
        return self._work.jobs()

    def deploy(self, plan: EndpointPlan, carrier: Carrier) -> "SageMakerEndpointHandle":
        """Upload the model and have the endpoint created: a model, a configuration, the endpoint.

        A failed endpoint of that name makes way. Raises what packing and uploading raise,
        `InvalidPlanError` and `EndpointExistsError`; what was created is deleted again then.
        """
        return self._work.deploy(plan, carrier)

    def endpoint(self, name: str) -> "SageMakerEndpointHandle":
        """Return the live endpoint of that name, whoever made it. Raises `EndpointNotFoundError`."""
        return self._work.endpoint(name)

    def endpoints(self) -> Iterator[EndpointDescription]:
        """Yield the newest endpoints, as many as ``list_limit``, the oldest first."""
        return self._work.endpoints()
