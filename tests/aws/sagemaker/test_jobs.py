"""Training jobs of the backend against the service double and moto's S3, IAM and STS."""

import io
import json
import os
import tarfile
import threading
from functools import partial

import attrs
import pytest
from tests.aws.proxy import Proxy, refused
from tests.aws.sagemaker.conftest import made
from tests.aws.sagemaker.double.players import completes, fails, stops_when_told

from modelyard.core.errors import (
    InvalidPlanError,
    JobError,
    JobExistsError,
    JobNotFoundError,
    StorageError,
)
from modelyard.core.plans import (
    Channel,
    InputMode,
    JobStatus,
    MetricDefinition,
    ProviderRef,
    Replication,
    Resources,
    SourceCode,
)
from modelyard.inputs import channels

BUCKET = "sagemaker-us-east-1-123456789012"


@pytest.fixture
def objects(s3):
    """Return what lists the keys of the default bucket."""

    def keys(prefix=""):
        return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]

    return keys


# -- jobs that run -----------------------------------------------------------------------------


def test_a_job_completes_with_its_log_and_its_model(double, submit, job_plan, s3):
    double.plays = completes
    handle = submit(job_plan())
    lines = list(handle.logs(follow=True))
    description = handle.describe()
    assert description.status is JobStatus.COMPLETED
    assert description.model_data == f"s3://{BUCKET}/{handle.name}/output/model.tar.gz"
    assert s3.get_object(Bucket=BUCKET, Key=f"{handle.name}/output/model.tar.gz")["Body"].read() == b"a model"
    assert "hello from algo-1" in lines
    steps = [line.removeprefix("modelyard: ") for line in lines if line.startswith("modelyard: ")]
    assert steps[0] == "Starting: Starting the training job..."
    assert steps[-1] == "Completed: Training job completed"
    assert description.created <= description.ended


def test_a_model_that_is_not_compressed_is_a_folder(double, submit, job_plan):
    handle = submit(job_plan(), made(disable_output_compression=True))
    job = double.jobs[handle.name]
    job.complete()
    job.artifacts = f"{job.output}/model"
    assert handle.describe().model_data == f"s3://{BUCKET}/{handle.name}/output/model/"


def test_the_source_is_where_the_image_looks_for_it(double, submit, job_plan, s3):
    submit(job_plan())
    told = double.asked("CreateTrainingJob")[0]["HyperParameters"]
    uri = json.loads(told["sagemaker_submit_directory"])
    key = uri.removeprefix(f"s3://{BUCKET}/")
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        assert tar.getnames() == ["train.py"]
    assert json.loads(told["sagemaker_program"]) == "train.py"


def test_an_image_with_its_own_script_gets_no_source(double, submit, job_plan, s3, bucket):
    plan = job_plan(source=None, hyperparameters={"epochs": 3}, output_path=f"s3://{bucket}")
    handle = submit(plan, made(image_uri="mine:1", code_location=f"s3://{bucket}"))
    assert handle.describe().plan.source is None
    [request] = double.asked("CreateTrainingJob")
    assert request["HyperParameters"] == {"epochs": "3"}
    assert request["AlgorithmSpecification"]["TrainingImage"] == "mine:1"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_source_on_s3_is_taken_as_it_is(double, submit, job_plan):
    source = SourceCode("train.py", "s3://code/sourcedir.tar.gz")
    handle = submit(job_plan(source=source))
    assert handle.describe().source_data == "s3://code/sourcedir.tar.gz"
    assert handle.describe().plan.source == source


@pytest.mark.parametrize(
    "source",
    [SourceCode("train.py", "s3://code/folder"), SourceCode("train.py", "s3://code/a.tar.gz", ["more"])],
)
def test_a_source_on_s3_is_an_archive_with_everything(submit, job_plan, source):
    with pytest.raises(InvalidPlanError, match="on S3 it is an archive"):
        submit(job_plan(source=source))


def test_the_same_source_is_sent_once(submit, job_plan, tmp_path, bucket, s3):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    backend = made(code_location=f"s3://{bucket}")
    first, second = submit(job_plan(), backend), submit(job_plan(), backend)
    assert first.describe().source_data == second.describe().source_data
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 1
    (tmp_path / "src" / "more.py").write_text("")
    assert submit(job_plan(), backend).describe().source_data != first.describe().source_data


def test_lines_of_several_hosts_come_by_their_time(double, submit, job_plan):
    double.plays = completes
    handle = submit(job_plan(resources=Resources("ml.g5.xlarge", 3)))
    told = [line for line in handle.logs(follow=True) if not line.startswith("modelyard: ")]
    assert told == [f"[algo-{n}] hello from algo-{n}" for n in (1, 2, 3)]


def test_a_long_log_comes_whole_and_in_order(double, submit, job_plan):
    handle = submit(job_plan())
    job = double.jobs[handle.name]
    job.to("Training")
    follower = handle.logs(follow=True)
    seen = []

    def write():
        for number in range(1000):
            job.log(f"line {number}")
        job.complete()

    writer = threading.Thread(target=write)
    writer.start()
    seen = [line for line in follower if line.startswith("line")]
    writer.join()
    assert seen == [f"line {number}" for number in range(1000)]
    assert [line for line in handle.logs() if line.startswith("line")] == seen


def test_the_log_of_a_job_that_has_printed_nothing_is_empty(submit, job_plan):
    assert list(submit(job_plan()).logs()) == []


def test_a_log_that_cannot_be_read_does_not_end_the_waiting(double, submit, job_plan):
    handle = submit(job_plan())
    double.fail_next("DescribeLogStreams", "AccessDeniedException", "not for you", times=1000)
    follower = handle.logs(follow=True)
    told = next(line for line in follower if "cannot read the log" in line)
    assert "not for you" in told
    double.jobs[handle.name].complete()
    assert [line for line in follower if "cannot read" in line] == []
    assert handle.describe().status is JobStatus.COMPLETED
    with pytest.raises(JobError, match="cannot read the log.*not for you"):
        list(handle.logs())


def test_a_connection_that_breaks_while_the_log_is_read_loses_no_line(double, submit, job_plan):
    handle = submit(job_plan())
    job = double.jobs[handle.name]
    job.log(*(f"line {number}" for number in range(250)))
    for operation in ("GetLogEvents", "GetLogEvents", "DescribeTrainingJob"):
        double.lose_next_answer(operation)
    double.fail_next("GetLogEvents", "ThrottlingException", "Rate exceeded")
    job.complete()
    assert [line for line in handle.logs(follow=True) if line.startswith("line")] == [
        f"line {number}" for number in range(250)
    ]


def test_a_host_whose_log_cannot_be_read_costs_no_line_of_another(double, submit, job_plan):
    handle = submit(job_plan(resources=Resources("ml.g5.xlarge", 2)))
    job = double.jobs[handle.name]
    for host in ("algo-1", "algo-2"):
        job.log(*(f"line {number}" for number in range(150)), host=host)
    job.complete()
    refused = partial(double.fail_next, "GetLogEvents", "AccessDeniedException", "not for you")
    double.after_next("GetLogEvents", refused)
    lines = list(handle.logs(follow=True))
    assert any("not for you" in line for line in lines)
    for host in ("algo-1", "algo-2"):
        mine = [line.partition("] ")[2] for line in lines if line.startswith(f"[{host}]")]
        assert mine == [f"line {number}" for number in range(150)]


def test_who_waits_in_vain_is_told_that_the_job_goes_on(double, submit, job_plan):
    handle = submit(job_plan())
    double.fail_next("DescribeTrainingJob", "ExpiredTokenException", "it is too old")
    with pytest.raises(JobError, match=rf"too old.*The job goes on: PyTorch.attach\('{handle.name}'\)"):
        list(handle.logs(follow=True))
    assert double.jobs[handle.name].status == "InProgress"


def test_a_job_that_fails_says_why(double, submit, job_plan):
    double.plays = fails
    handle = submit(job_plan())
    assert "about to fail" in list(handle.logs(follow=True))
    description = handle.describe()
    assert description.status is JobStatus.FAILED
    assert "ValueError: the loss is NaN" in description.reason
    assert description.model_data is None
    assert "/aws/sagemaker/TrainingJobs" in description.log


def test_a_job_is_stopped(double, submit, job_plan):
    double.plays = stops_when_told
    handle = submit(job_plan())
    handle.stop()
    assert handle.describe().status is JobStatus.STOPPED
    assert handle.describe().reason == "it was stopped on request"
    handle.stop()
    assert double.counts["StopTrainingJob"] == 1


def test_a_job_that_does_not_stop_is_an_error_that_says_so(double, submit, job_plan):
    handle = submit(job_plan(), made(stop_seconds=0.05))
    with pytest.raises(JobError, match="still Stopping 0.05 s after"):
        handle.stop()


@pytest.mark.parametrize(
    ("secondary", "reason"),
    [
        ("MaxRuntimeExceeded", "it ran longer than max_run, 60 s"),
        ("MaxWaitTimeExceeded", "longer than max_wait, None s"),
        ("Interrupted", "its spot instance was taken away"),
    ],
)
def test_a_job_that_the_service_stopped_says_why(double, submit, job_plan, secondary, reason):
    handle = submit(job_plan(max_run=60))
    double.jobs[handle.name].stopped(secondary)
    assert reason in handle.describe().reason


def test_metrics_are_found_in_the_log(double, submit, job_plan):
    handle = submit(job_plan(metrics=[MetricDefinition("loss", r"loss=([0-9.]+)")]))
    double.jobs[handle.name].log("loss=0.5", "nothing", "loss=0.25", at=1_700_000_000.5)
    found = handle.metrics()
    assert [(metric.name, metric.value, metric.host) for metric in found] == [
        ("loss", 0.5, "algo-1"),
        ("loss", 0.25, "algo-1"),
    ]
    assert found[0].time == 1_700_000_000.5


# -- data --------------------------------------------------------------------------------------


def test_files_of_this_machine_are_uploaded_once_for_all_channels(
    double, submit, job_plan, tmp_path, objects
):
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "a.txt").write_text("a")
    (data / "deep" / "b.txt").write_text("b")
    plan = job_plan(channels=[Channel("train", data.as_uri()), Channel("also", data.as_uri())])
    submit(plan)
    inputs = double.asked("CreateTrainingJob")[0]["InputDataConfig"]
    assert [channel["ChannelName"] for channel in inputs] == ["train", "also"]
    uris = {channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in inputs}
    assert uris == {f"s3://{BUCKET}/{plan.job_name}/input/train/"}
    assert objects(f"{plan.job_name}/") == [
        f"{plan.job_name}/input/train/a.txt",
        f"{plan.job_name}/input/train/deep/b.txt",
    ]


def test_a_lone_input_is_fetched_once_and_found_by_both_names(
    backend, double, submit, job_plan, tmp_path, objects
):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    plan = job_plan(channels=channels(tmp_path / "data"), environment={"MODE": "fast"})
    submit(plan)
    [request] = double.asked("CreateTrainingJob")
    [channel] = request["InputDataConfig"]
    assert channel["ChannelName"] == "training"
    assert request["Environment"] == {"MODE": "fast", "SM_CHANNEL_TRAIN": "/opt/ml/input/data/training"}
    assert len(objects(f"{plan.job_name}/")) == 1
    found = backend.job(plan.job_name).describe().plan
    assert [channel.name for channel in found.channels] == ["train", "training"]
    assert dict(found.environment) == {"MODE": "fast"}


@pytest.mark.parametrize(
    ("changes", "launcher"), [({"content_type": "text/csv"}, "process"), ({}, "mpirun")], ids=["other", "mpi"]
)
def test_inputs_that_differ_and_those_of_mpirun_are_two(
    double, submit, job_plan, data_on_s3, changes, launcher
):
    train, training = channels(data_on_s3)
    inputs = [train, attrs.evolve(training, **changes)]
    submit(job_plan(channels=inputs, launcher=ProviderRef(launcher)))
    [request] = double.asked("CreateTrainingJob")
    assert [channel["ChannelName"] for channel in request["InputDataConfig"]] == ["train", "training"]
    assert "Environment" not in request


def test_a_single_file_is_a_channel(double, submit, job_plan, tmp_path):
    (tmp_path / "a.csv").write_text("1,2")
    plan = job_plan(channels=[Channel("train", (tmp_path / "a.csv").as_uri())])
    submit(plan)
    [channel] = double.asked("CreateTrainingJob")[0]["InputDataConfig"]
    uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
    assert uri == f"s3://{BUCKET}/{plan.job_name}/input/train/a.csv"


def test_data_of_a_job_that_was_refused_is_removed_again(double, submit, job_plan, tmp_path, objects):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    plan = job_plan(channels=[Channel("train", (tmp_path / "data").as_uri())])
    double.fail_next("CreateTrainingJob", "ResourceLimitExceeded", "0 instances of ml.g5.xlarge")
    with pytest.raises(JobError, match=r"0 instances of ml\.g5\.xlarge.*higher quota"):
        submit(plan)
    assert objects(f"{plan.job_name}/") == []


def test_data_that_was_there_before_stays(double, submit, job_plan, tmp_path, objects, s3):
    submit(job_plan())  # Makes the bucket.
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    (tmp_path / "data" / "b.txt").write_text("b")
    plan = job_plan(channels=[Channel("train", (tmp_path / "data").as_uri())])
    theirs = f"{plan.job_name}/input/train/a.txt"
    s3.put_object(Bucket=BUCKET, Key=theirs, Body=b"a")
    double.fail_next("CreateTrainingJob", "ResourceLimitExceeded")
    with pytest.raises(JobError):
        submit(plan)
    assert objects(f"{plan.job_name}/") == [theirs]


def test_data_of_a_job_that_may_be_there_is_kept(double, submit, job_plan, tmp_path, objects):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    plan = job_plan(channels=[Channel("train", (tmp_path / "data").as_uri())])
    for _ in range(3):
        double.lose_next_answer("CreateTrainingJob")
    refused = partial(double.fail_next, "DescribeTrainingJob", "AccessDeniedException", "not for you")
    double.after_next("CreateTrainingJob", refused)
    with pytest.raises(JobError, match=rf"is not known.*undo it with: aws .* stop-.*-name {plan.job_name}"):
        submit(plan)
    assert list(double.jobs) == [plan.job_name]
    assert objects(f"{plan.job_name}/") == [f"{plan.job_name}/input/train/a.txt"]


def test_a_job_whose_making_is_interrupted_is_stopped(double, submit, job_plan, monkeypatch):
    from modelyard.plugins.backends.sagemaker.service import Service

    call = Service._call

    def interrupted(self, verb, kind):
        def made(**request):
            answer = call(self, verb, kind)(**request)
            if verb == "create":
                raise KeyboardInterrupt
            return answer

        return made

    monkeypatch.setattr(Service, "_call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        submit(job_plan())
    [job] = double.jobs.values()
    assert job.status == "Stopping"


def test_data_that_is_not_there_is_an_error(submit, job_plan, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="there are no files at .*empty"):
        submit(job_plan(channels=[Channel("train", (tmp_path / "empty").as_uri())]))


def test_data_on_s3_that_is_not_there_is_told_at_once(double, submit, job_plan, bucket, data_on_s3):
    for uri in (f"{data_on_s3}/tarin", f"s3://{bucket}-of-nobody/data"):
        with pytest.raises(
            StorageError, match=f"there are no objects at {uri}|cannot look at .*NoSuchBucket"
        ):
            submit(job_plan(channels=[Channel("train", uri)]))
    assert not double.asked("CreateTrainingJob")


def test_data_that_leads_in_a_circle_is_an_error(submit, job_plan, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    with pytest.raises(StorageError, match="loop' is a link that leads back"):
        submit(job_plan(channels=[Channel("train", (tmp_path / "data").as_uri())]))


def test_data_that_is_no_file_is_an_error(submit, job_plan, tmp_path):
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / "pipe")
    with pytest.raises(StorageError, match="pipe' is a socket, a pipe"):
        submit(job_plan(channels=[Channel("train", (tmp_path / "data").as_uri())]))


def test_a_token_that_expires_while_data_is_sent_leaves_none(
    double, submit, job_plan, tmp_path, objects, monkeypatch
):
    (tmp_path / "data").mkdir()
    for name in "abc":
        (tmp_path / "data" / name).write_text(name)
    plan = job_plan(channels=[Channel("train", (tmp_path / "data").as_uri())])
    with Proxy(double.s3_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        expired = refused(400, "ExpiredToken", "The provided token has expired.")
        proxy.when(lambda seen: seen.method == "PUT" and seen.path.endswith("/c"), expired, times=9)
        with pytest.raises(StorageError, match=r"cannot write 's3://.*credentials have expired"):
            submit(plan)
    assert objects(f"{plan.job_name}/") == []
    assert double.jobs == {}


def test_a_default_bucket_of_somebody_else_is_not_used(submit, job_plan, double, monkeypatch):
    with Proxy(double.s3_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        proxy.when(lambda seen: seen.method == "HEAD" and seen.path == f"/{BUCKET}", refused(403, "x"))
        with pytest.raises(StorageError, match=rf"{BUCKET}': it belongs to another account.*default_bucket"):
            submit(job_plan())
        [head] = [seen for seen in proxy.seen if seen.path == f"/{BUCKET}"]
    assert head.headers["x-amz-expected-bucket-owner"] == "123456789012"
    assert double.jobs == {}


def test_data_of_another_kind_is_refused(submit, job_plan):
    with pytest.raises(InvalidPlanError, match=r"reads s3:// and this machine's files.*http://host/data"):
        submit(job_plan(channels=[Channel("train", "http://host/data")]))


@pytest.mark.parametrize("field", ["output_path", "checkpoint_uri"])
def test_a_job_writes_to_s3_alone(submit, job_plan, field):
    with pytest.raises(InvalidPlanError, match=r"is on S3, 's3://bucket/prefix', not 'file:///tmp/x'"):
        submit(job_plan(**{field: "file:///tmp/x"}))


def test_everything_goes_below_the_code_location(double, submit, job_plan, bucket, s3):
    submit(job_plan(output_path=f"s3://{bucket}/out"), made(code_location=f"s3://{bucket}/code/"))
    [item] = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert item["Key"].startswith("code/source/")
    assert double.asked("CreateTrainingJob")[0]["OutputDataConfig"] == {"S3OutputPath": f"s3://{bucket}/out"}


def test_uploads_are_encrypted_with_the_key_of_the_output(double, submit, job_plan, bucket, s3):
    submit(job_plan(), made(code_location=f"s3://{bucket}", output_kms_key="alias/mine"))
    [item] = s3.list_objects_v2(Bucket=bucket)["Contents"]
    head = s3.head_object(Bucket=bucket, Key=item["Key"])
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/mine")
    assert double.asked("CreateTrainingJob")[0]["OutputDataConfig"]["KmsKeyId"] == "alias/mine"


def test_a_default_bucket_can_have_another_name_and_a_prefix(double, submit, job_plan, s3):
    submit(job_plan(), made(default_bucket="mine-and-new", default_bucket_prefix="team/a"))
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="mine-and-new")["Contents"]]
    assert all(key.startswith("team/a/source/") for key in keys)
    output = double.asked("CreateTrainingJob")[0]["OutputDataConfig"]["S3OutputPath"]
    assert output == "s3://mine-and-new/team/a/"


# -- names -------------------------------------------------------------------------------------


def test_a_name_is_used_once(submit, job_plan, double):
    plan = job_plan()
    submit(plan)
    with pytest.raises(JobExistsError, match="use another job_name, or PyTorch.attach"):
        submit(plan)
    assert double.counts["CreateTrainingJob"] == 1


def test_a_name_that_somebody_takes_meanwhile_is_taken(submit, job_plan, double):
    double.fail_next("CreateTrainingJob", "ResourceInUse", "Training job names must be unique")
    with pytest.raises(JobExistsError):
        submit(job_plan())


@pytest.mark.parametrize("lost", [True, False])
def test_a_job_whose_answer_was_lost_is_there_once(submit, job_plan, double, lost):
    if lost:
        double.lose_next_answer("CreateTrainingJob")
    else:
        double.fail_next("CreateTrainingJob", "InternalFailure", status=500, done=True)
    handle = submit(job_plan())
    assert list(double.jobs) == [handle.name]
    assert double.counts["CreateTrainingJob"] == 2


def test_a_job_whose_answers_are_all_lost_is_not_lost(submit, job_plan, double):
    for _ in range(3):
        double.lose_next_answer("CreateTrainingJob")
    handle = submit(job_plan())
    assert list(double.jobs) == [handle.name]


def test_a_service_that_has_only_faults_has_no_job(submit, job_plan, double):
    double.fail_next("CreateTrainingJob", "InternalFailure", "out of order", 500, times=3)
    with pytest.raises(JobError, match="out of order"):
        submit(job_plan())
    assert double.jobs == {}


def test_throttling_is_waited_for(submit, job_plan, double):
    double.fail_next("CreateTrainingJob", "ThrottlingException", "Rate exceeded", times=2)
    assert submit(job_plan()).describe().status is JobStatus.IN_PROGRESS


def test_throttling_without_end_is_an_error_and_no_job(submit, job_plan, double):
    double.fail_next("CreateTrainingJob", "ThrottlingException", "Rate exceeded", times=3)
    with pytest.raises(JobError, match="Rate exceeded"):
        submit(job_plan())
    assert double.jobs == {}


def test_an_unknown_job_is_not_found(backend):
    with pytest.raises(JobNotFoundError, match="'no-such-job' on SageMaker in us-east-1"):
        backend.job("no-such-job")


def test_jobs_are_listed_the_oldest_first(backend, submit, job_plan):
    names = [submit(job_plan()).name for _ in range(3)]
    assert [job.name for job in backend.jobs()] == names
    assert [job.name for job in made(list_limit=2).jobs()] == names[1:]


def test_many_questions_are_few_requests(double, submit, job_plan):
    handle = submit(job_plan(), made(poll_seconds=60))
    before = double.counts["DescribeTrainingJob"]
    for _ in range(100):
        handle.describe()
    assert double.counts["DescribeTrainingJob"] == before + 1


# -- whose job ---------------------------------------------------------------------------------


def test_a_role_is_found_by_its_name(double, submit, job_plan):
    submit(job_plan())
    arn = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"
    assert double.asked("CreateTrainingJob")[0]["RoleArn"] == arn


def test_a_role_that_is_not_there_is_an_error(submit, job_plan, double):
    with pytest.raises(
        InvalidPlanError, match=r"no role 'Nobody' in the account 123456789012.*iam list-roles"
    ):
        submit(job_plan(role="Nobody"))
    assert double.jobs == {}


def test_an_arn_that_nobody_may_assume_is_an_error(submit, job_plan, double):
    with pytest.raises(InvalidPlanError, match="Could not assume role"):
        submit(job_plan(role="arn:aws:iam::123456789012:role/Nobody"))
    assert double.jobs == {}


def test_without_a_role_the_caller_must_have_one(submit, job_plan):
    with pytest.raises(InvalidPlanError, match="SageMaker needs a role"):
        submit(job_plan(role=None))


def test_no_region_is_an_error_that_says_where_to_set_one(submit, job_plan, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(InvalidPlanError, match="no AWS region is chosen: set AWS_DEFAULT_REGION"):
        submit(job_plan())


def test_no_credentials_are_an_error_that_says_where_to_set_them(submit, job_plan, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    said = r"^cannot start training job .*Unable to locate credentials.*aws configure"
    with pytest.raises(InvalidPlanError, match=said):
        submit(job_plan())


def test_a_profile_that_is_not_there_is_an_error(submit, job_plan):
    with pytest.raises(InvalidPlanError, match=r"profile \(nobody\).*list-profiles"):
        submit(job_plan(), made(profile="nobody"))


def test_all_that_is_uploaded_goes_by_the_backends_profile(
    double, submit, job_plan, tmp_path, monkeypatch, bucket
):
    key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    credentials = tmp_path / "credentials"
    credentials.write_text(
        f"[mine]\naws_access_key_id = AKIAMINE\naws_secret_access_key = {secret}\n"
        f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    plan = job_plan(channels=[Channel("train", (tmp_path / "data").as_uri())])
    with Proxy(double.s3_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        submit(plan, made(profile="mine", code_location=f"s3://{bucket}", region="us-east-1"))
        signed = {seen.headers["authorization"].partition("/")[0] for seen in proxy.seen}
        assert len([seen for seen in proxy.seen if seen.method == "PUT"]) >= 2
    assert signed == {"AWS4-HMAC-SHA256 Credential=AKIAMINE"}


def test_who_logs_in_again_is_known_without_a_new_process(submit, job_plan, double, monkeypatch, tmp_path):
    credentials = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with Proxy(double.s3_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        for number in (1, 2):
            credentials.write_text(
                f"[default]\naws_access_key_id = AKIA{number}\naws_secret_access_key = {'x' * number}\n"
            )
            os.utime(credentials, ns=(number, number))
            submit(job_plan())
            assert f"Credential=AKIA{number}/" in proxy.seen[-1].headers["authorization"]


@pytest.mark.parametrize("operation", ["CreateTrainingJob", "DescribeTrainingJob"])
def test_an_expired_token_is_an_error_with_the_way_out(submit, job_plan, double, operation):
    double.fail_next(operation, "ExpiredTokenException", "The security token included has expired")
    with pytest.raises(JobError, match="credentials have expired"):
        submit(job_plan())
    assert double.jobs == {}


def test_a_region_is_an_option(double, submit, job_plan):
    submit(job_plan(), made(region="eu-central-1", default_bucket="in-the-middle"))
    request = double.asked("CreateTrainingJob")[0]
    assert json.loads(request["HyperParameters"]["sagemaker_region"]) == "eu-central-1"
    assert ".dkr.ecr.eu-central-1." in request["AlgorithmSpecification"]["TrainingImage"]


# -- attaching ---------------------------------------------------------------------------------


def test_a_job_comes_back_as_it_was_asked_for(backend, submit, job_plan, double, bucket, data_on_s3):
    double.plays = completes
    plan = job_plan(
        hyperparameters={"epochs": 3, "name": "adam", "rate": 0.1, "on": True, "layers": (1, 2)},
        channels=[
            Channel("train", f"{data_on_s3}/train", "text/csv", InputMode.PIPE, Replication.SHARDED, 7),
            Channel("test", f"{data_on_s3}/test"),
        ],
        environment={"MODE": "fast", "API_TOKEN": "hunter2"},
        output_path=f"s3://{bucket}/here",
        checkpoint_uri=f"s3://{bucket}/checkpoints",
        max_run=3600,
        metrics=[MetricDefinition("loss", "loss=([0-9.]+)")],
        launcher=ProviderRef("torchrun"),
        resources=Resources("ml.g5.xlarge", 2),
    )
    options = {
        "volume_size": 50,
        "use_spot_instances": True,
        "max_wait": 7200,
        "subnets": ["subnet-1"],
        "security_group_ids": ["sg-1"],
        "encrypt_inter_container_traffic": True,
    }
    handle = submit(plan, made(**options))
    mine, theirs = handle.describe(), backend.job(plan.job_name).describe()
    assert mine.plan == theirs.plan
    found = theirs.plan
    for field in ("hyperparameters", "channels", "output_path", "checkpoint_uri", "max_run", "metrics"):
        assert getattr(found, field) == getattr(plan, field), field
    for field in ("hardware", "launcher", "packager", "resources", "framework_version"):
        assert getattr(found, field) == getattr(plan, field), field
    assert (found.py_version, found.source.program) == ("py311", "train.py")
    assert dict(found.environment) == {"MODE": "fast", "API_TOKEN": "********"}
    assert {**options, "subnets": ("subnet-1",), "security_group_ids": ("sg-1",)}.items() <= (
        found.backend.options.items()
    )
    assert made(**found.backend.options).volume_size == 50


@pytest.mark.parametrize(
    ("tag", "named"),
    [
        ("2.5.1-gpu-py311", False),
        ("2.5.1-gpu-py311-cu124-ubuntu22.04-sagemaker", False),
        ("2.5.1-cpu-py311", True),
    ],
)
def test_an_image_that_the_versions_select_is_not_named(submit, job_plan, tag, named):
    image = f"763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:{tag}"
    found = submit(job_plan(), made(image_uri=image)).describe().plan
    assert (found.framework_version, found.py_version) == ("2.5.1", "py311")
    assert ("image_uri" in found.backend.options) is named


def test_the_options_of_a_job_ask_for_such_a_job_again(submit, job_plan, double):
    options = {
        "container_entry_point": ["bash", "-c"],
        "container_arguments": ["train"],
        "training_repository_access_mode": "Vpc",
        "training_repository_credentials_provider_arn": "arn:aws:lambda:us-east-1:123456789012:function:f",
        "enable_remote_debug": True,
        "enable_infra_check": True,
        "model_uri": "s3://models/model.tar.gz",
        "model_channel_name": "start",
        "debugger_hook_config": {"S3OutputPath": "s3://out/debug"},
        "profiler_config": {"S3OutputPath": "s3://out/profile"},
        "experiment_config": {"TrialName": "trial"},
        "distribution_instance_groups": ["a"],
        "instance_groups": [{"InstanceGroupName": "a", "InstanceType": "ml.g5.xlarge", "InstanceCount": 1}],
        "keep_alive_period_in_seconds": 60,
    }
    found = submit(job_plan(resources=Resources("ml.g5.xlarge")), made(**options)).describe().plan
    submit(job_plan(resources=found.resources), made(**found.backend.options))
    first, second = double.asked("CreateTrainingJob")
    for one in (first, second):
        for own in ("TrainingJobName", "HyperParameters"):
            one.pop(own)
    assert first == second


def test_a_job_of_another_client_can_be_described(backend, double):
    double.carry_out(
        "SageMaker",
        "CreateTrainingJob",
        {
            "TrainingJobName": "by-hand",
            "AlgorithmSpecification": {
                "TrainingImage": "811284229777.dkr.ecr.us-east-1.amazonaws.com/xgboost:1",
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "auc", "Regex": "no group"}],
            },
            "RoleArn": "arn:aws:iam::123456789012:role/service-role/SageMakerRole",
            "HyperParameters": {"num_round": "5", "objective": "binary:logistic", "a=b": "1"},
            "InputDataConfig": [
                {
                    "ChannelName": "train",
                    "DataSource": {
                        "FileSystemDataSource": {
                            "FileSystemId": "fs-01234567890abcdef",
                            "FileSystemType": "FSxLustre",
                            "FileSystemAccessMode": "ro",
                            "DirectoryPath": "/data",
                        }
                    },
                }
            ],
            "OutputDataConfig": {"S3OutputPath": "s3://out"},
            "ResourceConfig": {
                "InstanceGroups": [
                    {"InstanceGroupName": "a", "InstanceType": "ml.p3.2xlarge", "InstanceCount": 1},
                    {"InstanceGroupName": "b", "InstanceType": "ml.c5.xlarge", "InstanceCount": 2},
                ],
                "VolumeSizeInGB": 10,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        },
    )
    plan = backend.job("by-hand").describe().plan
    assert dict(plan.hyperparameters) == {"num_round": 5, "objective": "binary:logistic"}
    assert plan.channels == (Channel("train", "fsxlustre://fs-01234567890abcdef/data?mode=ro"),)
    assert plan.resources == Resources("ml.p3.2xlarge", 3)
    assert plan.metrics == ()
    assert plan.framework_version is None
