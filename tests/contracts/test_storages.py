import pytest

from modelyard.plugins.storage.file import FileStorage
from modelyard.plugins.storage.s3 import S3Storage
from modelyard.testing import StorageContract


class TestFileStorage(StorageContract):
    storage = FileStorage()

    def root_uri(self, tmp_path):
        return (tmp_path / "a root, ünd more").as_uri()


class TestS3Storage(StorageContract):
    storage = S3Storage()

    @pytest.fixture(autouse=True)
    def _service(self, bucket):
        self.bucket = bucket

    def root_uri(self, tmp_path):
        return f"s3://{self.bucket}/a root, ünd more/?#%20"
