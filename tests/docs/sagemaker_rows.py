"""What SageMaker's documentation shows its reader, line by line, and what becomes of it in modelyard.

``docs/reference/sagemaker-compat.md`` is made of this table; `test_sagemaker_compat` holds that the names
exist, that the tests exist which show it, and that the page is up to date.
"""

from typing import NamedTuple

WORKS, DIFFERS, REFUSED = "works", "works, differently", "refused"


class Row(NamedTuple):
    """One line. ``names``: ``module:qualname(parameter)``; ``shown``: ``file::test`` below ``tests``."""

    feature: str
    status: str
    said: str
    names: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


SECTIONS: dict[str, tuple[Row, ...]] = {}

SAID_ONLY = frozenset(
    {
        "`estimator.delete_endpoint()`",
        "`/opt/ml/checkpoints`, `checkpoint_s3_uri`",
        "`model_server_workers`",
        "what a custom image must have installed",
    }
)
"""What the documentation has in no call of its own: everything else is shown by a test of `seeds` as well."""

_PT = "modelyard.pytorch:PyTorch"
_EST = "modelyard.estimator:Estimator"
_MODEL = "modelyard.pytorch:PyTorchModel"
_PRED = "modelyard.predictor:Predictor"
_SESSION = "modelyard.session:Session"
_CODE = "integration/test_sdk_v2_code.py::"
_V2 = "unit/test_v2_surface.py::"
_E = "unit/test_estimator.py::"
_HANDLER = "unit/serving/model/test_handler.py::"
_TOOLKIT = "unit/training/test_profiles_toolkit.py::"
_S0, _S1, _S2, _S3, _S4 = (f"seeds/test_seed_00{seed}.py::test_" for seed in range(5))
_SEEN = f"{_CODE}test_a_script_sees_what_the_documentation_says"
_NOTED = f"{_V2}test_they_do_not_hinder_a_job_of_this_machine_and_are_noted"
_V1 = f"{_V2}test_code_for_v1_trains_serves_and_predicts_here"
_AWS = 'With `instance_type="local"` it is noted that nothing there needs it.'

SECTIONS["Training"] = (
    Row(
        "`PyTorch(...)`",
        WORKS,
        "Also as `modelyard.PyTorch`.",
        (_PT, "modelyard:PyTorch"),
        (
            _SEEN,
            f"{_S0}training_a_script_by_an_estimator",
            f"{_S1}an_estimator_with_hyperparameters_and_two_channels",
        ),
    ),
    Row(
        "`entry_point`, by position or name",
        WORKS,
        "",
        (f"{_PT}(entry_point)",),
        (
            _SEEN,
            f"{_S0}training_a_script_by_an_estimator",
        ),
    ),
    Row(
        "`role`, a name or an ARN",
        WORKS,
        "Never asked for here; on SageMaker a name is looked up.",
        (f"{_EST}(role)",),
        (
            _SEEN,
            "aws/test_session.py::test_a_role_by_its_name",
            f"{_S0}training_a_script_by_an_estimator",
            f"{_S1}a_model_of_ones_own_is_deployed_with_the_role_of_this_code",
        ),
    ),
    Row(
        "`instance_count`, `train_instance_count`",
        WORKS,
        "Names of SDK v1 give a `DeprecationWarning` with the new name.",
        (f"{_EST}(instance_count)", f"{_EST}(train_instance_count)"),
        (
            _V1,
            f"{_CODE}test_several_hosts_run_the_script_and_meet_at_the_first",
            f"{_S0}an_instance_count_above_one_is_a_job_of_several_machines",
        ),
    ),
    Row(
        "`instance_type`, `train_instance_type`",
        WORKS,
        "Decides where the job runs: `local` here, `ml.*` on SageMaker.",
        (f"{_EST}(instance_type)", f"{_EST}(train_instance_type)"),
        (
            _V1,
            f"{_E}test_an_instance_type_that_nobody_offers",
            f"{_S0}training_a_script_by_an_estimator",
        ),
    ),
    Row(
        "`source_dir`, a folder or an archive, structure kept",
        WORKS,
        "Absolute paths inside it are taken as well.",
        (f"{_EST}(source_dir)",),
        (
            _SEEN,
            "unit/plugins/packagers/test_tarball.py::test_archive_as_source_is_taken_whole",
            f"{_S0}the_structure_of_source_dir_is_kept_and_hyperparameters_are_texts",
        ),
    ),
    Row(
        "`dependencies`, beside the entry point",
        WORKS,
        "In training and in serving; SDK v2 puts them elsewhere for serving.",
        (f"{_EST}(dependencies)", f"{_MODEL}(dependencies)"),
        (
            _SEEN,
            "unit/plugins/packagers/test_tarball.py::test_dependencies",
            f"{_S0}dependencies_are_beside_the_entry_point",
        ),
    ),
    Row(
        "`hyperparameters` become arguments",
        WORKS,
        "Sent as JSON and decoded in the job, as SageMaker's toolkit has it.",
        (f"{_EST}(hyperparameters)", f"{_EST}.hyperparameters", f"{_EST}.set_hyperparameters"),
        (
            _SEEN,
            f"{_S0}running_the_script_with_hyperparameters_and_two_channels",
        ),
    ),
    Row(
        "boolean hyperparameters: an explicit True or False",
        WORKS,
        "The script gets the text `True` or `False`. `type=bool`, as the documentation has it, makes True of "
        'both: compare with `"True"` instead.',
        (),
        (
            _SEEN,
            f"{_TOOLKIT}test_a_hyperparameter_is_one_token_after_its_flag",
            f"{_S0}boolean_hyperparameters_are_given_explicitly",
        ),
    ),
    Row(
        "`framework_version`, also without the patch",
        WORKS,
        "Chooses the image on SageMaker, and the layout of the model; here it is recorded.",
        (f"{_EST}(framework_version)", f"{_MODEL}(framework_version)"),
        (
            _SEEN,
            f"{_S0}py_version_selects_the_image_and_the_patch_may_be_left_out",
        ),
    ),
    Row(
        "`py_version`",
        DIFFERS,
        "May be left out, where SDK v2 raises an error. Here the job has this Python.",
        (f"{_EST}(py_version)", f"{_MODEL}(py_version)"),
        (
            _SEEN,
            f"{_S0}py_version_selects_the_image_and_the_patch_may_be_left_out",
        ),
    ),
    Row(
        "`py2`, Python 2.7",
        DIFFERS,
        "AWS's images of it are chosen on SageMaker; no Python 2.7 is run here: the script must do for this "
        "Python.",
        (f"{_EST}(py_version)",),
        (
            _SEEN,
            f"{_S0}py_version_selects_the_image_and_the_patch_may_be_left_out",
        ),
    ),
    Row(
        "`volume_size`, `train_volume_size`",
        WORKS,
        _AWS,
        (f"{_EST}(volume_size)", f"{_EST}(train_volume_size)"),
        (
            _NOTED,
            _V1,
            f"{_S0}optional_arguments_arrive_at_the_service",
        ),
    ),
    Row(
        "`max_run`, `train_max_run`",
        WORKS,
        "Here there is no limit where none is given.",
        (f"{_EST}(max_run)", f"{_EST}(train_max_run)"),
        (
            _V1,
            "integration/test_several_hosts.py::test_job_that_takes_too_long_is_stopped",
            f"{_S0}optional_arguments_arrive_at_the_service",
        ),
    ),
    Row(
        "`input_mode`: File, Pipe, FastFile",
        WORKS,
        "All three here too; SDK v2's local mode has File alone.",
        (f"{_EST}(input_mode)",),
        (
            _SEEN,
            "unit/plugins/backends/local/test_channels.py::test_modes_side_by_side",
            f"{_S0}optional_arguments_arrive_at_the_service",
        ),
    ),
    Row(
        "Pipe: a FIFO `<channel>_<epoch>`",
        WORKS,
        "",
        (),
        (
            "unit/plugins/backends/local/test_pipes.py::test_there_is_always_another_epoch",
            f"{_S3}a_pipe_gives_the_data_once_for_each_epoch",
        ),
    ),
    Row(
        "`output_path`, the default bucket made on demand",
        WORKS,
        "Here a folder, by default the job's own. On SageMaker the bucket must be this account's.",
        (f"{_EST}(output_path)",),
        (
            _SEEN,
            "aws/test_session.py::test_the_default_bucket_is_made_and_known_again",
            f"{_S0}without_output_path_and_job_name_there_are_defaults",
        ),
    ),
    Row(
        "`output_kms_key`",
        WORKS,
        _AWS,
        (f"{_EST}(output_kms_key)",),
        (
            _NOTED,
            f"{_S0}optional_arguments_arrive_at_the_service",
        ),
    ),
    Row(
        "`job_name`, `base_job_name`",
        WORKS,
        "`job_name` in the constructor as well, which SDK v2 swallows.",
        (f"{_EST}(job_name)", f"{_EST}(base_job_name)", f"{_EST}.fit(job_name)"),
        (
            _SEEN,
            f"{_E}test_names",
            f"{_S0}optional_arguments_arrive_at_the_service",
        ),
    ),
    Row(
        "`image_uri`, `image_name`, `image`",
        DIFFERS,
        "For SageMaker, any image. This machine runs no images: a script that is given is run by "
        "this Python, and an image alone is refused (see the generic `Estimator`).",
        (f"{_EST}(image_uri)", f"{_EST}(image_name)", f"{_MODEL}(image)"),
        (
            f"{_V2}test_an_image_alone_runs_where_images_run",
            f"{_V2}test_an_image_is_not_run_by_this_machine",
            f"{_S0}optional_arguments_arrive_at_the_service",
        ),
    ),
    Row(
        "`code_location`",
        WORKS,
        _AWS,
        (f"{_EST}(code_location)", f"{_MODEL}(code_location)"),
        (
            _NOTED,
            f"{_S0}the_arguments_of_a_model",
        ),
    ),
    Row(
        "`container_log_level`",
        WORKS,
        "Of an endpoint here as well; of a job on SageMaker.",
        (f"{_EST}(container_log_level)", f"{_MODEL}(container_log_level)"),
        (
            f"{_V2}test_workers_and_the_log_level_are_variables_of_the_endpoint",
            f"{_S0}the_arguments_of_a_model",
        ),
    ),
    Row(
        "`enable_cloudwatch_metrics`",
        DIFFERS,
        "Taken, with a warning that it has no effect: CloudWatch has these metrics anyway.",
        (f"{_EST}(enable_cloudwatch_metrics)", f"{_MODEL}(enable_cloudwatch_metrics)"),
        (
            "unit/compat/test_names.py::test_what_has_no_effect_is_taken_and_says_so",
            f"{_S0}the_arguments_of_a_model",
        ),
    ),
    Row(
        "`sagemaker_session`",
        WORKS,
        "A `modelyard.Session`, which gives region, profile and bucket, or a `LocalSession`, which "
        "means this machine. Credentials of its own are refused: plans are saved.",
        (
            f"{_EST}(sagemaker_session)",
            f"{_MODEL}(sagemaker_session)",
            f"{_PRED}(sagemaker_session)",
            _SESSION,
        ),
        (
            f"{_V2}test_a_local_session_means_this_machine_whatever_the_instance_type",
            f"{_V2}test_a_session_gives_its_bucket_and_leaves_the_choice_to_the_instance_type",
            f"{_S0}the_arguments_of_a_model",
        ),
    ),
    Row(
        "`tensorboard_output_config`",
        WORKS,
        _AWS,
        (f"{_EST}(tensorboard_output_config)", "modelyard.debugger:TensorBoardOutputConfig"),
        (
            "unit/core/test_backend_keywords.py::test_values_are_kept_as_json_knows_them",
            f"{_S1}tensorboards_output_goes_where_the_estimator_says",
        ),
    ),
    Row(
        "`fit(...)` with a path or a dict of channels; the default channel is `train`",
        DIFFERS,
        "The documentation says `train` and SDK v2 says `training`: a lone path is found by both names. On "
        "SageMaker it is brought once, as `training`.",
        (f"{_EST}.fit(inputs)",),
        (
            f"{_E}test_a_lone_path_is_train_and_training",
            _SEEN,
            f"{_S0}inputs_are_a_location_or_a_dict_of_them",
        ),
    ),
    Row(
        "`fit(wait=..., logs=...)`",
        WORKS,
        '`logs` also as `"All"` or `"None"`.',
        (f"{_EST}.fit(wait)", f"{_EST}.fit(logs)"),
        (
            f"{_V2}test_logs_as_v2_spells_it",
            f"{_E}test_fit_without_wait_returns_at_once",
            f"{_S0}wait_and_logs_have_defaults_and_can_be_switched_off",
        ),
    ),
    Row(
        "`file://` inputs",
        WORKS,
        "Plain paths as well. For SageMaker they are uploaded.",
        (f"{_EST}.fit(inputs)",),
        (
            _SEEN,
            f"{_S3}fit_deploy_predict",
        ),
    ),
    Row(
        "`TrainingInput`, `s3_input`, `FileSystemInput`, `ShuffleConfig`",
        DIFFERS,
        "What a plan does not carry is refused: compression, RecordIO wrapping, manifests, instance "
        "groups. File systems of AWS are for SageMaker. SDK v3's `Input` is not there.",
        (
            "modelyard.inputs:TrainingInput",
            "modelyard:TrainingInput",
            "modelyard.inputs:FileSystemInput",
            "modelyard.inputs:ShuffleConfig",
            "modelyard.inputs:s3_input",
        ),
        (
            _SEEN,
            "unit/test_inputs.py::test_a_file_system_is_a_uri_in_the_plan",
            f"{_S1}what_sdk_v3_adds_is_not_there",
        ),
    ),
    Row(
        "`Session().upload_data(...)`",
        WORKS,
        "`download_data`, `read_s3_file`, `list_s3_files` and `upload_string_as_file_body` too. A "
        "`LocalSession` without a bucket returns the data's own URI.",
        (
            f"{_SESSION}.upload_data(key_prefix)",
            f"{_SESSION}.download_data",
            f"{_SESSION}.read_s3_file",
            f"{_SESSION}.list_s3_files",
            f"{_SESSION}.default_bucket",
        ),
        (
            "aws/test_session.py::test_a_folder_goes_up_and_comes_down",
            "aws/test_session.py::test_uploaded_data_train_here_too",
            f"{_S3}train_and_host_in_amazon_sagemaker",
        ),
    ),
    Row(
        "the generic `Estimator` with an image of one's own",
        DIFFERS,
        "On SageMaker as it is. Here the variables of its Dockerfile, `SAGEMAKER_PROGRAM` and "
        "`SAGEMAKER_SUBMIT_DIRECTORY`, name the script that runs in its place; without them it is refused.",
        (f"{_EST}(image_uri)",),
        (
            f"{_CODE}test_the_program_of_an_image_runs_by_the_variables_of_its_dockerfile",
            f"{_V2}test_an_image_is_not_run_by_this_machine",
            f"{_S3}fit_deploy_predict",
            f"{_S3}train_and_host_in_amazon_sagemaker",
        ),
    ),
    Row(
        "`attach(job_name[, session])`: waits, shows the log",
        WORKS,
        "Without a session this machine is asked first, then SageMaker. The log is shown, which SDK "
        "v2 does not do.",
        (f"{_EST}.attach(training_job_name)", f"{_EST}.attach(sagemaker_session)"),
        (
            f"{_CODE}test_a_job_is_attached_to_deployed_and_asked",
            f"{_V2}test_they_survive_attach",
            f"{_S0}attaching_to_a_job_and_deploying_it",
            f"{_S2}attach_an_estimator_to_an_existing_training_job",
        ),
    ),
    Row(
        "`logs()`, `latest_training_job`, `model_data`",
        WORKS,
        "`model_data` before a job is an error that says so. `latest_training_job.describe()` is a value "
        "with `status`, `reason` and `plan`; what SageMaker's API says is the answer of "
        "`Session().describe_training_job(name)`.",
        (f"{_EST}.logs", f"{_EST}.latest_training_job", f"{_EST}.model_data"),
        (
            f"{_E}test_the_latest_job_can_be_stopped_and_read",
            f"{_E}test_before_fit_there_is_no_job",
            f"{_S2}prepare_a_training_script_and_save_the_model",
        ),
    ),
    Row(
        "`deploy` after `fit` and `attach`",
        WORKS,
        "",
        (f"{_EST}.deploy(initial_instance_count)", f"{_EST}.deploy(instance_type)"),
        (
            _V1,
            f"{_CODE}test_a_job_is_attached_to_deployed_and_asked",
            f"{_S0}deploying_an_estimator_and_predicting",
            f"{_S2}attach_an_estimator_to_an_existing_training_job",
        ),
    ),
    Row(
        "`estimator.delete_endpoint()`",
        WORKS,
        "As in SDK v1; in v2 it does nothing.",
        (f"{_EST}.delete_endpoint",),
        (f"{_V2}test_an_endpoint_gets_what_it_needs_of_the_jobs_options",),
    ),
    Row(
        "`get_execution_role()`",
        WORKS,
        "Without credentials an error that says how to do without a role.",
        ("modelyard:get_execution_role", "modelyard.session:get_execution_role"),
        (
            "aws/test_session.py::test_the_role_that_this_code_runs_with",
            "unit/test_session.py::test_a_role_without_credentials_is_an_error_with_the_way_out",
            f"{_S3}set_up_the_iam_role",
        ),
    ),
)

SECTIONS["The container's contract, in training"] = (
    Row(
        "`SM_MODEL_DIR`, `SM_OUTPUT_DATA_DIR`",
        WORKS,
        "",
        (),
        (
            _SEEN,
            f"{_S0}preparing_the_script_environment_variables_and_arguments",
        ),
    ),
    Row(
        "`SM_NUM_GPUS`, `SM_CHANNEL_<NAME>`",
        WORKS,
        "",
        (),
        (
            _SEEN,
            f"{_TOOLKIT}test_every_variable_byte_for_byte",
            f"{_S0}preparing_the_script_environment_variables_and_arguments",
        ),
    ),
    Row(
        "hosts and current host, `MASTER_ADDR`, `MASTER_PORT`",
        WORKS,
        "",
        (),
        (
            f"{_CODE}test_several_hosts_run_the_script_and_meet_at_the_first",
            f"{_S0}a_script_on_several_hosts_initialises_its_process_group",
        ),
    ),
    Row(
        "`/opt/ml`: hyperparameters as strings, resources, channels",
        WORKS,
        "On Linux the job's processes see their folder there; elsewhere the variables say where it is.",
        (),
        (
            _SEEN,
            f"{_S3}the_files_that_a_job_finds_in_opt_ml",
        ),
    ),
    Row(
        "`/opt/ml/output/failure` becomes the reason",
        WORKS,
        "Without such a file the exception is the reason.",
        (),
        (
            "unit/training/test_failure.py::test_the_users_own_reason_is_kept_and_clipped_for_whoever_asks",
            f"{_S3}a_failure_file_is_the_reason_of_the_failure",
        ),
    ),
    Row(
        "the model's folder becomes `model.tar.gz`, the output's `output.tar.gz`",
        WORKS,
        "",
        (),
        (
            _SEEN,
            f"{_S0}saving_a_model_to_model_dir",
            f"{_S2}prepare_a_training_script_and_save_the_model",
        ),
    ),
    Row(
        "the argument `train` or `serve`, the entry point of an image",
        WORKS,
        "`train` and `serve` are console scripts: an image that has modelyard installed has them.",
        ("modelyard.training.__main__:main", "modelyard.serving.__main__:in_container"),
        (
            "integration/test_serve_in_container.py::test_the_console_script_is_the_program",
            f"{_S3}train_and_host_in_amazon_sagemaker",
        ),
    ),
    Row(
        "`SAGEMAKER_PROGRAM`, `SAGEMAKER_SUBMIT_DIRECTORY`",
        WORKS,
        "",
        (),
        (
            "unit/training/test_environment.py::test_the_environments_program_wins",
            f"{_S3}fit_deploy_predict",
        ),
    ),
    Row(
        "`requirements.txt` in the source",
        WORKS,
        "Into an environment of the job's own: yours stays as it is.",
        (),
        (
            "unit/training/test_packages.py::test_what_is_newer_is_installed_beside_the_users_environment_and_goes_first",
            f"{_S0}requirements_are_in_the_source_that_is_sent",
        ),
    ),
    Row(
        "a main guard; one script for training and serving",
        WORKS,
        "",
        (),
        (
            _V1,
            f"{_S0}deploying_an_estimator_and_predicting",
        ),
    ),
    Row(
        "`/opt/ml/checkpoints`, `checkpoint_s3_uri`",
        WORKS,
        "",
        (f"{_EST}(checkpoint_s3_uri)",),
        ("integration/test_several_hosts.py::test_checkpoints_are_found_by_the_next_job",),
    ),
)

_MPI = f"{_E}test_what_sdk_v2_spells_for_mpi_selects_mpirun"

SECTIONS["Distributed training"] = (
    Row(
        "`instance_count` above 1: the script on each host",
        WORKS,
        "Here as processes of this machine.",
        (),
        (
            f"{_CODE}test_several_hosts_run_the_script_and_meet_at_the_first",
            f"{_S0}a_script_on_several_hosts_initialises_its_process_group",
        ),
    ),
    Row(
        '`distribution={"pytorchddp": ...}`, by `mpirun`',
        WORKS,
        "Any version of torch.",
        (f"{_EST}(distribution)",),
        (
            _MPI,
            f"{_V2}test_the_distribution_is_told_to_a_backend_that_asks",
            f"{_S1}ddp_by_mpirun",
            f"{_S1}ddp_runs_on_this_machine_too",
        ),
    ),
    Row(
        '`distribution={"torch_distributed": ...}`, by `torchrun`',
        WORKS,
        "On CPUs and here too, which SDK v2 refuses.",
        (),
        (
            "integration/test_torchrun.py::test_two_processes_and_two_hosts_train_the_same_model",
            f"{_S1}ddp_by_torchrun",
            f"{_S1}ddp_runs_on_this_machine_too",
        ),
    ),
    Row(
        "Trainium: the `xla` backend, `ml.trn1.*`",
        WORKS,
        "Needs such a machine, or SageMaker, where AWS's image is known for PyTorch 1.11.0: for others give "
        "`image_uri`.",
        (),
        (
            "integration/test_hardware_selection.py::test_sagemakers_instances_have_their_hardware_whatever_this_machine_has",
            f"{_S1}trainium_by_torchrun",
        ),
    ),
    Row(
        "the backends gloo, tcp, nccl, xla",
        WORKS,
        "`tcp`, which torch no longer has, is gloo.",
        (),
        (
            "integration/test_hardware_selection.py::test_a_script_that_asks_for_tcp_gets_gloo_and_is_told_once",
            f"{_S0}a_script_on_several_hosts_initialises_its_process_group",
        ),
    ),
)

_RECIPES = (
    "The documentation's recipe was deleted from AWS's repository in December 2025, and of those that are "
    "there none lets an SDK choose the image and the script any more. Give the script as `entry_point`, with "
    "the recipe beside it."
)
_NO_RECIPES = ("unit/compat/test_names.py::test_what_there_is_not_is_refused_with_the_way_out",)

SECTIONS["Recipes"] = (
    Row(
        "`training_recipe`",
        REFUSED,
        _RECIPES,
        (),
        (*_NO_RECIPES, f"{_S1}a_recipe_is_refused_with_the_way_out"),
    ),
    Row(
        "`recipe_overrides`",
        REFUSED,
        _RECIPES,
        (),
        (*_NO_RECIPES, f"{_S1}a_recipe_is_refused_with_the_way_out"),
    ),
    Row(
        "`entry_point` ignored with a recipe",
        REFUSED,
        "See `training_recipe`.",
        (),
        (*_NO_RECIPES, f"{_S1}a_recipe_is_refused_with_the_way_out"),
    ),
    Row(
        "image, distribution and hosts from the recipe",
        REFUSED,
        "See `training_recipe`.",
        (),
        (*_NO_RECIPES, f"{_S1}a_recipe_is_refused_with_the_way_out"),
    ),
    Row(
        "`source_dir` is the current folder by default, and a copy of the script is saved in it",
        REFUSED,
        "See `training_recipe`. Nothing is ever written into a folder of yours.",
        (),
        (*_NO_RECIPES, f"{_S1}a_recipe_is_refused_with_the_way_out"),
    ),
    Row(
        "`requirements.txt` of a recipe",
        WORKS,
        "In `source_dir`, as for any script.",
        (),
        (
            "unit/training/test_packages.py::test_requirements_may_name_files_of_the_source",
            f"{_S1}requirements_are_beside_the_script_in_source_dir",
        ),
    ),
    Row(
        "`ModelTrainer.from_recipe(...).train(...)`",
        REFUSED,
        "`ModelTrainer` is SDK v3's; `PyTorch(...).fit(...)` says the same.",
        (),
        (f"{_S1}what_sdk_v3_adds_is_not_there",),
    ),
    Row(
        "`Compute(instance_type=...)`",
        REFUSED,
        "SDK v3's; give `instance_type` itself.",
        (),
        (f"{_S1}what_sdk_v3_adds_is_not_there",),
    ),
)

SECTIONS["Inference"] = (
    Row(
        "`deploy(initial_instance_count=..., instance_type=...)`",
        WORKS,
        "Here on one host.",
        (f"{_MODEL}.deploy(initial_instance_count)", f"{_MODEL}.deploy(instance_type)"),
        (
            f"{_CODE}test_a_model_of_ones_own_is_served_in_either_layout",
            f"{_S0}deploying_an_estimator_and_predicting",
        ),
    ),
    Row(
        "`deploy(1, 'local')`",
        WORKS,
        "",
        (),
        (
            _V1,
            f"{_S3}fit_deploy_predict",
        ),
    ),
    Row(
        "`accelerator_type`: Elastic Inference",
        DIFFERS,
        "AWS has ended the service. Here the accelerator's way of loading and calling the model runs "
        "on the CPU; on SageMaker AWS refuses it.",
        (f"{_EST}.deploy(accelerator_type)", f"{_MODEL}.deploy(accelerator_type)"),
        (
            "integration/test_hardware_selection.py::test_an_accelerator_is_elastic_inference",
            "unit/hardware/test_elastic_inference.py::test_it_says_that_the_service_has_ended",
            f"{_S1}elastic_inference_is_asked_for_where_there_is_an_image",
            f"{_S1}torchscript_is_saved_for_elastic_inference_and_served_by_its_defaults",
        ),
    ),
    Row(
        "`PyTorchModel(model_data, role, entry_point, ...)`",
        WORKS,
        "Without versions too, which SDK v2 refuses. `model_data` may be a folder.",
        (
            f"{_MODEL}(model_data)",
            f"{_MODEL}(role)",
            f"{_MODEL}(entry_point)",
            f"{_MODEL}(predictor_cls)",
            f"{_MODEL}(env)",
            f"{_MODEL}(name)",
            f"{_MODEL}(source_dir)",
        ),
        (
            f"{_CODE}test_a_model_of_ones_own_is_served_in_either_layout",
            f"{_V2}test_predictor_cls_makes_the_predictor",
            f"{_S0}deploying_an_endpoint_from_model_data",
            f"{_S0}the_arguments_of_a_model",
        ),
    ),
    Row(
        "code packed into `model.tar.gz` from 1.2 on, `sourcedir.tar.gz` before",
        WORKS,
        "Here both versions are served from `code/`; on SageMaker in the layout that the image expects.",
        (),
        (
            f"{_CODE}test_a_model_of_ones_own_is_served_in_either_layout",
            f"{_S1}the_layout_of_the_archives_is_that_of_the_version",
        ),
    ),
    Row(
        "`model.tar.gz` with `code/inference.py` and `code/requirements.txt`",
        WORKS,
        "",
        (),
        (
            "unit/serving/model/test_folder.py::test_code_beside_the_models_files",
            "unit/serving/model/test_packages.py::test_the_program_starts_anew_in_an_environment_of_its_own",
            f"{_S1}a_model_is_packed_inside_its_folder_and_served",
        ),
    ),
    Row(
        "mistakes in packing",
        DIFFERS,
        "An archive that was made from the parent folder, with its code, is served all the same where "
        "modelyard is the model server. With a script given beside it the model stays in its folder: a "
        "script that looks for it there is served, and the error of one that does not says where the model "
        "is and how to pack it.",
        (),
        (
            f"{_HANDLER}test_an_archive_that_was_made_from_the_parent_is_unwrapped",
            f"{_S1}an_archive_made_from_the_parent_with_its_code_is_served",
            f"{_S1}an_archive_made_from_the_parent_and_a_script_beside_it_say_how_to_pack",
        ),
    ),
    Row(
        "`model_fn(model_dir[, context])`",
        WORKS,
        "",
        (),
        (
            f"{_HANDLER}test_model_fn_may_ask_for_the_context",
            f"{_S1}model_fn_gets_the_context_and_the_defaults_serve",
        ),
    ),
    Row(
        "`input_fn(body, content_type[, context])`",
        WORKS,
        "",
        (),
        (
            f"{_HANDLER}test_json_and_csv_are_text",
            f"{_S1}a_request_goes_through_the_three_functions_with_the_context",
        ),
    ),
    Row(
        "`predict_fn(data, model[, context])`",
        WORKS,
        "",
        (),
        (
            f"{_CODE}test_a_job_is_attached_to_deployed_and_asked",
            f"{_S1}a_request_goes_through_the_three_functions_with_the_context",
        ),
    ),
    Row(
        "`output_fn(prediction, accept[, context])`",
        WORKS,
        "",
        (),
        (
            f"{_HANDLER}test_what_output_fn_returns_is_the_body",
            f"{_S1}a_request_goes_through_the_three_functions_with_the_context",
        ),
    ),
    Row(
        "the default functions: JSON, CSV and NPY",
        WORKS,
        "",
        (),
        (
            f"{_HANDLER}test_text_becomes_float32",
            f"{_S2}the_default_functions_take_and_give_json_csv_and_npy",
        ),
    ),
    Row(
        "`context.system_properties`: GPU, batch size",
        WORKS,
        "",
        (),
        (
            f"{_CODE}test_a_job_is_attached_to_deployed_and_asked",
            f"{_S4}every_function_may_ask_for_the_context",
        ),
    ),
    Row(
        "Elastic Inference's own `model_fn` and `predict_fn`, `torcheia`",
        DIFFERS,
        "As `accelerator_type`.",
        (),
        (
            "unit/hardware/test_elastic_inference.py::test_the_calls_of_the_second_generation",
            f"{_S1}elastic_inferences_model_fn_and_predict_fn",
        ),
    ),
    Row(
        "by default the model is called",
        WORKS,
        "",
        (),
        (
            _V1,
            f"{_S0}a_model_is_loaded_by_model_fn_and_served_by_the_defaults",
        ),
    ),
    Row(
        "`/ping`, `/invocations`, Content-Type and Accept",
        WORKS,
        "",
        (),
        (
            "integration/test_serve_in_container.py::test_as_the_first_process_it_serves_replaces_a_worker_and_stops",
            f"{_S3}fit_deploy_predict",
        ),
    ),
    Row(
        "one image for training and serving",
        WORKS,
        "See `train` and `serve`.",
        (),
        (
            f"{_V2}test_its_model_is_served_by_the_same_image",
            f"{_S3}train_and_host_in_amazon_sagemaker",
        ),
    ),
    Row(
        "`RealTimePredictor`",
        WORKS,
        "With a `DeprecationWarning`.",
        ("modelyard.predictor:RealTimePredictor",),
        (
            "unit/test_predictor.py::test_the_predictor_of_v1",
            f"{_S0}a_model_is_loaded_by_model_fn_and_served_by_the_defaults",
        ),
    ),
    Row(
        "`predict(...)`: arrays and lists to arrays",
        WORKS,
        "Also of a bare `Predictor(name)`, which in SDK v2 sends bytes.",
        (f"{_PRED}.predict(data)", f"{_PRED}.predict(initial_args)", "modelyard.pytorch:PyTorchPredictor"),
        (
            _V1,
            f"{_CODE}test_a_job_is_attached_to_deployed_and_asked",
            f"{_S0}deploying_an_estimator_and_predicting",
            f"{_S2}predict_takes_python_lists_too",
        ),
    ),
    Row(
        "`accept`, `content_type`, `serializer`, `deserializer` can be set",
        WORKS,
        "SDK v1's functions too. Without them the codec of the content type is used. Pickles are "
        "never loaded.",
        (
            f"{_PRED}.accept",
            f"{_PRED}.content_type",
            f"{_PRED}.serializer",
            f"{_PRED}.deserializer",
            "modelyard.serializers:NumpySerializer",
            "modelyard.deserializers:NumpyDeserializer",
        ),
        (
            _V1,
            "unit/test_predictor.py::test_a_serializer_and_a_deserializer_say_what_is_sent_and_asked_for",
            f"{_S3}fit_deploy_predict",
        ),
    ),
    Row(
        "`json_serializer`, `json_deserializer` from `predictor`",
        WORKS,
        "With a `DeprecationWarning`; so are `csv_serializer`, `npy_serializer` and their like.",
        (
            "modelyard.predictor:json_serializer",
            "modelyard.predictor:json_deserializer",
            "modelyard.predictor:csv_serializer",
            "modelyard.predictor:npy_serializer",
            "modelyard.predictor:numpy_deserializer",
        ),
        (
            _V1,
            f"{_S3}fit_deploy_predict",
        ),
    ),
    Row(
        "`predictor.name`, `.endpoint`, `.endpoint_name`",
        WORKS,
        "All three are the name; `.handle` is the endpoint.",
        (f"{_PRED}.name", f"{_PRED}.endpoint", f"{_PRED}.endpoint_name", f"{_PRED}.handle"),
        (
            "unit/test_predictor.py::test_its_name_under_every_name",
            f"{_S0}deploying_an_estimator_and_predicting",
        ),
    ),
    Row(
        "`predictor.delete_endpoint()`, `.delete_model()`",
        WORKS,
        "The configuration and the model that `deploy` made go with the endpoint, always. `update_endpoint` "
        "changes one on SageMaker.",
        (f"{_PRED}.delete_endpoint", f"{_PRED}.delete_model", f"{_PRED}.update_endpoint"),
        (
            "unit/test_predictor.py::test_everything_of_an_endpoint_can_be_deleted",
            f"{_S3}fit_deploy_predict",
        ),
    ),
    Row(
        "`model_server_workers`",
        WORKS,
        "Becomes `SAGEMAKER_MODEL_SERVER_WORKERS`.",
        (f"{_MODEL}(model_server_workers)", f"{_EST}.deploy(model_server_workers)"),
        (f"{_V2}test_workers_and_the_log_level_are_variables_of_the_endpoint",),
    ),
)

SECTIONS["This machine, and images of one's own"] = (
    Row(
        "`instance_type='local'`, `'local_gpu'`",
        DIFFERS,
        "Processes instead of containers: no Docker, no account, no role, any number of endpoints.",
        ("modelyard.local:LocalSession",),
        (
            _V1,
            "integration/test_hardware_selection.py::test_local_gpu_needs_one",
            f"{_S3}fit_deploy_predict",
        ),
    ),
    Row(
        "an image from a Dockerfile, `build_and_push`",
        DIFFERS,
        "Docker's matter and AWS's; the image runs on SageMaker.",
        (),
        (
            f"{_V2}test_an_image_alone_runs_where_images_run",
            f"{_S3}train_and_host_in_amazon_sagemaker",
        ),
    ),
    Row(
        "`local_gpu` where `nvidia-smi` finds one",
        WORKS,
        "`local` finds it by itself.",
        (),
        (
            "integration/test_hardware_selection.py::test_local_is_what_this_machine_has",
            f"{_S3}fit_deploy_predict",
        ),
    ),
    Row(
        "a `file://` folder as input",
        WORKS,
        "The script gets a copy: it cannot damage yours.",
        (),
        (
            _V1,
            f"{_S3}fit_deploy_predict",
        ),
    ),
    Row(
        "what a custom image must have installed",
        DIFFERS,
        "modelyard instead of `sagemaker` and `sagemaker-training`, or SageMaker's own toolkits: "
        "both run the same scripts.",
        (),
        ("unit/compat/test_shims.py::test_the_training_environment_is_the_jobs",),
    ),
)
