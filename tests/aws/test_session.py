"""Sessions against a real server of S3, STS and IAM."""

import json
import secrets
from pathlib import Path

import pytest
from tests.aws.services import ACCOUNT, REGION

from modelyard import session as session_module
from modelyard.core.errors import StorageError
from modelyard.estimator import PyTorch
from modelyard.local import LocalSession
from modelyard.session import Session, get_execution_role


@pytest.fixture
def session(aws, plugins):
    """Return a session of the server."""
    return Session(plugins=plugins)


@pytest.fixture
def data(tmp_path):
    """A folder with two files, one of them deeper."""
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "one.txt").write_text("one")
    (tmp_path / "data" / "deep" / "two.txt").write_text("two")
    return tmp_path / "data"


def keys(s3, bucket):
    return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_the_default_bucket_is_made_and_known_again(session, s3):
    name = f"sagemaker-{REGION}-{ACCOUNT}"
    assert session.default_bucket() == name
    assert s3.head_bucket(Bucket=name)
    assert Session().default_bucket() == name


def test_region_and_account(session):
    assert (session.boto_region_name, session.account_id()) == (REGION, ACCOUNT)


def test_a_folder_goes_up_and_comes_down(session, s3, bucket, data, tmp_path):
    assert session.upload_data(data, bucket, "a/b/") == f"s3://{bucket}/a/b"
    assert keys(s3, bucket) == ["a/b/deep/two.txt", "a/b/one.txt"]
    got = session.download_data(tmp_path / "back", bucket, "a/b")
    assert sorted(got) == [str(tmp_path / "back/deep/two.txt"), str(tmp_path / "back/one.txt")]
    assert Path(got[0]).read_text() in ("one", "two")


def test_a_file_goes_up_and_comes_down(session, s3, bucket, data, tmp_path):
    assert session.upload_data(data / "one.txt", bucket, "a") == f"s3://{bucket}/a/one.txt"
    assert session.download_data(str(tmp_path / "back"), bucket, "a/one.txt") == [
        str(tmp_path / "back/one.txt")
    ]
    assert session.upload_data(data / "one.txt", bucket, "") == f"s3://{bucket}/one.txt"
    assert keys(s3, bucket) == ["a/one.txt", "one.txt"]


def test_an_upload_replaces_what_is_there(session, bucket, data):
    session.upload_data(data, bucket, "a")
    (data / "one.txt").write_text("changed")
    session.upload_data(data, bucket, "a")
    assert session.read_s3_file(bucket, "a/one.txt") == "changed"


def test_an_upload_goes_to_the_default_bucket_below_its_prefix(aws, s3, bucket, data):
    session = Session(default_bucket=bucket, default_bucket_prefix="team/x")
    assert session.upload_data(data) == f"s3://{bucket}/team/x/data"
    assert session.upload_data(data, bucket=bucket, key_prefix="own") == f"s3://{bucket}/own"
    assert "own/one.txt" in keys(s3, bucket)
    assert LocalSession(default_bucket=bucket).upload_data(data, key_prefix="y") == f"s3://{bucket}/y"


def test_what_boto3_takes_is_handed_on(session, s3, bucket, data):
    seen = []
    extra = {"ServerSideEncryption": "aws:kms", "Metadata": {"who": "me"}}
    session.upload_data(data / "one.txt", bucket, "a", seen.append, extra)
    head = s3.head_object(Bucket=bucket, Key="a/one.txt")
    assert (head["ServerSideEncryption"], head["Metadata"]) == ("aws:kms", {"who": "me"})
    assert sum(seen) == 3


def test_texts(session, s3, bucket):
    assert session.upload_string_as_file_body("ü", bucket, "a/text", kms_key="k") == f"s3://{bucket}/a/text"
    assert s3.head_object(Bucket=bucket, Key="a/text")["SSEKMSKeyId"].endswith("k")
    session.upload_string_as_file_body("plain", bucket, "a/plain")
    assert session.read_s3_file(bucket, "a/text") == "ü"
    assert session.list_s3_files(bucket, "a/") == ["a/plain", "a/text"]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s, b: s.upload_data("/absent", b), "there is nothing to upload at '/absent'"),
        (lambda s, b: s.upload_data(__file__, "no-such-bucket"), "cannot upload .*NoSuchBucket"),
        (lambda s, b: s.read_s3_file(b, "absent"), "cannot read 's3://.*absent'.*NoSuchKey"),
        (lambda s, b: s.download_data("/tmp/x", b, "absent"), "absent"),
        (lambda s, b: s.list_s3_files("no-such-bucket", ""), "cannot list .*NoSuchBucket"),
        (lambda s, b: s.expand_role("no-such-role"), "cannot find the role 'no-such-role'"),
    ],
)
def test_what_is_not_there(session, bucket, ask, message):
    with pytest.raises(StorageError, match=message):
        ask(session, bucket)


# -- roles -------------------------------------------------------------------------------------


@pytest.fixture
def role(aws, session):
    """Return the ARN of a new role with a path."""
    iam = session.boto_session.client("iam")
    name = f"role-{secrets.token_hex(4)}"
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}", Path="/service-role/")
    return made["Role"]["Arn"]


def test_a_role_by_its_name(session, role):
    assert session.expand_role(role.rpartition("/")[2]) == role


def test_a_user_is_no_role(session):
    with pytest.raises(ValueError, match="the current identity is not a role: arn:aws:sts::.*needs no role"):
        get_execution_role(session)


def test_the_role_that_this_code_runs_with(session, role, monkeypatch):
    sts = session.boto_session.client("sts")
    assumed = sts.assume_role(RoleArn=role, RoleSessionName="me")["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", assumed["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", assumed["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", assumed["SessionToken"])
    assert get_execution_role() == role


def test_a_notebook_that_is_not_known_falls_back_to_the_caller(session, tmp_path, monkeypatch):
    metadata = tmp_path / "resource-metadata.json"
    metadata.write_text(json.dumps({"ResourceName": "my-notebook"}))
    monkeypatch.setattr(session_module, "_NOTEBOOK", metadata)
    assert ":user/" in session.get_caller_identity_arn() or ":root" in session.get_caller_identity_arn()


# -- with an estimator -------------------------------------------------------------------------


def test_uploaded_data_train_here_too(session, bucket, data, tmp_path, modelyard_home, capsys):
    script = tmp_path / "train.py"
    script.write_text("import os; print('saw', sorted(os.listdir(os.environ['SM_CHANNEL_TRAIN'])))")
    where = session.upload_data(data, bucket, "training")
    PyTorch(script, role="any", sagemaker_session=session).fit(where)
    assert "saw ['deep', 'one.txt']" in capsys.readouterr().out
