from modelyard.plugins.storage.file import FileStorage
from modelyard.testing.storages import StorageContract


class TestFileStorage(StorageContract):
    storage = FileStorage()

    def root_uri(self, tmp_path):
        return (tmp_path / "a root, ünd more").as_uri()
