"""The storage ``s3`` on a server that checks signatures, and that has no writes on condition."""

import secrets

import pytest
from tests.aws import swift as servers

from modelyard.core.errors import StorageError
from modelyard.plugins.storage.s3 import S3Storage
from modelyard.testing.storages import StorageContract
from modelyard.testing.trees import read_tree, write_tree

PART = 5 << 20


@pytest.fixture(scope="module")
def swift(tmp_path_factory):
    pytest.importorskip("boto3", reason="boto3 is not installed")
    if (programs := servers.programs()) is None:
        pytest.skip("OpenStack Swift is not installed")
    with servers.Swift(tmp_path_factory.mktemp("swift"), programs) as running:
        yield running


@pytest.fixture
def bucket(swift, surroundings, monkeypatch):
    """Return the name of a new bucket on Swift, where boto3 looks from now on."""
    from botocore.session import Session

    monkeypatch.setenv("AWS_ENDPOINT_URL", swift.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    name = f"bucket-{secrets.token_hex(6)}"
    Session().create_client("s3").create_bucket(Bucket=name)
    return name


class TestOnSwift(StorageContract):
    storage = S3Storage()

    @pytest.fixture(autouse=True)
    def _service(self, bucket):
        self.bucket = bucket

    def root_uri(self, tmp_path):
        return f"s3://{self.bucket}/a root, ünd more"


def test_a_large_file_goes_in_parts_and_comes_whole(bucket, tmp_path):
    body = secrets.token_bytes(2 * PART + 1000)
    write_tree(tmp_path / "data", {"large": body, "small": b"1"})
    storage = S3Storage(part_size=PART)
    storage.prepare(f"s3://{bucket}/output")
    for _ in range(2):
        storage.upload(tmp_path / "data", f"s3://{bucket}/data")
    storage.download(f"s3://{bucket}/data", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"large": body, "small": b"1"}
    write_tree(tmp_path / "data", {"large": body[:-1] + bytes([body[-1] ^ 1])})
    with pytest.raises(StorageError, match="data/large' is there already, with other content"):
        storage.upload(tmp_path / "data", f"s3://{bucket}/data")


def test_a_wrong_secret_is_refused(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="SignatureDoesNotMatch.*look at AWS_PROFILE"):
        S3Storage().download(f"s3://{bucket}/data/", tmp_path / "into")
