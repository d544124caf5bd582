"""Sessions where AWS is not asked: what they say to estimators, and what they say without it."""

import builtins
import traceback
from types import SimpleNamespace

import pytest

from modelyard.core.errors import InvalidPlanError, ModelyardError, StorageError
from modelyard.core.places import Place
from modelyard.core.plans import ProviderRef
from modelyard.local import LocalSession, file_input
from modelyard.session import Session, get_execution_role


@pytest.fixture
def no_aws(monkeypatch, tmp_path):
    """A machine on which boto3 finds no credentials and no region."""
    pytest.importorskip("boto3", reason="boto3 is not installed")
    for name in (
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def no_boto3(monkeypatch):
    """A machine on which boto3 is not installed."""
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] in ("boto3", "botocore"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)


def boto(region=None, profile="default", credentials=None):
    return SimpleNamespace(
        region_name=region, profile_name=profile, _session=SimpleNamespace(_credentials=credentials)
    )


def test_a_session_stands_for_sagemaker_with_what_it_was_given():
    assert Session().place == Place(ProviderRef("sagemaker"))
    session = Session(boto("eu-west-1", "work"), default_bucket="mine", default_bucket_prefix="team")
    assert session.place.backend.options == {
        "region": "eu-west-1",
        "profile": "work",
        "default_bucket": "mine",
        "default_bucket_prefix": "team",
    }
    assert not session.place.decides


def test_a_local_session_decides_for_this_machine(plugins):
    assert LocalSession(plugins=plugins).place == Place(ProviderRef("local"), plugins, decides=True)


def test_credentials_of_its_own_would_be_lost():
    with pytest.raises(
        InvalidPlanError, match="boto_session has credentials of its own, and plans are saved"
    ):
        Session(boto(credentials=SimpleNamespace(method="explicit")))


def test_boto3s_own_credentials_are_noticed(no_aws):
    import boto3

    with pytest.raises(InvalidPlanError, match="credentials of its own"):
        Session(boto3.Session(aws_access_key_id="a", aws_secret_access_key="b"))
    assert Session(boto3.Session(region_name="eu-west-1")).place.backend.options == {"region": "eu-west-1"}


def test_typos_are_errors():
    with pytest.raises(
        TypeError, match="Session.. has no keyword 'default_buckt'; did you mean 'default_bucket'"
    ):
        Session(default_buckt="x")
    with pytest.raises(TypeError, match="LocalSession.. has no keyword 'boto_sesion'"):
        LocalSession(boto_sesion=None)


@pytest.mark.parametrize(
    "ask",
    [
        lambda session: session.default_bucket(),
        lambda session: session.account_id(),
        lambda session: session.upload_data(__file__),
        lambda session: session.read_s3_file("bucket", "key"),
        lambda session: session.list_s3_files("bucket", "prefix"),
        lambda session: session.upload_string_as_file_body("body", "bucket", "key"),
        lambda session: session.expand_role("role"),
        lambda session: session.describe_training_job("job"),
    ],
)
def test_without_credentials_each_says_what_to_set(no_aws, ask):
    with pytest.raises(StorageError, match="set AWS_(PROFILE|DEFAULT_REGION)|Set AWS_DEFAULT_REGION"):
        ask(Session())


def test_without_boto3_it_says_what_to_install(no_boto3):
    session = Session(default_bucket="mine")
    assert session.default_bucket() == "mine"
    with pytest.raises(StorageError, match=r"boto3 is not installed: pip install 'modelyard\[aws\]'"):
        session.account_id()
    with pytest.raises(InvalidPlanError, match="boto3 is not installed.*needs no role"):
        get_execution_role()


def test_a_role_without_credentials_is_an_error_with_the_way_out(no_aws):
    with pytest.raises(
        ValueError, match=r"no execution role here: .*; a job of this machine .* needs no role"
    ):
        get_execution_role()
    with pytest.raises(InvalidPlanError, match="no role is made for you"):
        get_execution_role(use_default=True)


@pytest.mark.parametrize("ask", [get_execution_role, lambda: Session().account_id()])
def test_what_boto3_raises_is_told_without_its_own_frames(no_aws, ask):
    with pytest.raises(ModelyardError, match="AWS_PROFILE|AWS_DEFAULT_REGION") as raised:
        ask()
    told = "".join(traceback.format_exception(raised.value))
    assert "botocore" not in told
    assert told.count("Traceback") == 1


def test_a_role_that_has_a_path_is_an_arn_already():
    assert Session().expand_role("arn:aws:iam::1:role/me") == "arn:aws:iam::1:role/me"


def test_local_data_stay_where_they_are(tmp_path):
    assert LocalSession().upload_data(tmp_path, key_prefix="x") == tmp_path.as_uri()
    with pytest.raises(StorageError, match="there is nothing at '/absent'"):
        LocalSession().upload_data("/absent")


def test_a_channel_of_v2s_local_mode():
    given = file_input("file:///data", content_type="text/csv")
    assert (given.s3_data, given.content_type) == ("file:///data", "text/csv")
