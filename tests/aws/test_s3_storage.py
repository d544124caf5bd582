"""The storage ``s3`` against a real server, with and without faults on the way."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from typing import Any

import attrs
import pytest
from tests.aws import proxy as fault
from tests.aws.services import ACCOUNT

from modelyard.core.errors import InvalidPlanError, StorageError
from modelyard.plugins.storage.s3 import S3Storage
from modelyard.plugins.storage.s3_download import PARTIAL
from modelyard.testing.trees import names_in, read_tree, write_tree

MIB = 1 << 20
PART = 5 * MIB
LARGE = random.Random(7).randbytes(2 * PART + 1000)
"""Three parts."""


@pytest.fixture
def storage(aws):
    return S3Storage(part_size=PART, attempts=3)


@attrs.frozen
class Store:
    """A bucket, as another client sees it."""

    s3: Any
    bucket: str

    def put(self, objects, **arguments):
        for key, body in objects.items():
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, **arguments)

    def put_in_parts(self, key, sizes):
        """Upload zeros in parts of these sizes."""
        place = {"Bucket": self.bucket, "Key": key}
        place["UploadId"] = self.s3.create_multipart_upload(**place)["UploadId"]
        parts = [
            {
                "PartNumber": number,
                "ETag": self.s3.upload_part(**place, PartNumber=number, Body=bytes(size))["ETag"],
            }
            for number, size in enumerate(sizes, 1)
        ]
        self.s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})

    def get(self, key):
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def keys(self):
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())]

    def unfinished(self):
        uploads = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        return [item["Key"] for item in uploads]


@pytest.fixture
def store(s3, bucket):
    return Store(s3, bucket)


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large.bin"
    path.write_bytes(LARGE)
    return path


def is_get(seen):
    return seen.method == "GET" and "list-type" not in seen.query and seen.path.count("/") > 1


def is_part(seen):
    return seen.method == "PUT" and "partNumber" in seen.query


# -- URIs and options ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("file:///data", "is not an s3:// URI"),
        ("s3:bucket/key", "is not an s3:// URI"),
        ("s3://", "names no bucket"),
        ("s3:///key", "names no bucket"),
        ("s3://no spaces/key", "names no bucket"),
        ("s3://bucket/a\0b", "has a NUL in it"),
    ],
)
@pytest.mark.parametrize("call", ["download", "upload", "prepare"])
def test_uris_that_are_refused(tmp_path, uri, fault, call):
    storage = S3Storage()
    calls = {
        "download": lambda: storage.download(uri, tmp_path / "into"),
        "upload": lambda: storage.upload(tmp_path, uri),
        "prepare": lambda: storage.prepare(uri),
    }
    with pytest.raises(StorageError) as caught:
        calls[call]()
    assert repr(uri) in str(caught.value)
    assert fault in str(caught.value)


def test_a_login_in_a_uri_is_not_repeated(tmp_path):
    with pytest.raises(StorageError, match="names no bucket") as caught:
        S3Storage().download("s3://me:hunter2@bucket/key", tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"part_size": 5 * MIB - 1}, {"concurrency": 0}, {"attempts": 0}, {"timeout": 0}]
)
def test_options_that_cannot_be(options):
    with pytest.raises(InvalidPlanError, match=next(iter(options))):
        S3Storage(**options)


# -- download --------------------------------------------------------------------------------------


def test_an_object_in_parts_comes_whole(storage, store, tmp_path):
    store.put({"models/large.bin": LARGE})
    storage.download(f"s3://{store.bucket}/models/large.bin", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"large.bin": LARGE}


def test_a_whole_bucket(storage, store, tmp_path):
    store.put({"a": b"1", "b/c": b"2"})
    storage.download(f"s3://{store.bucket}", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"a": b"1", "b/c": b"2"}


def test_a_prefix_ends_where_a_folder_does(storage, store, tmp_path):
    store.put({"data/a": b"1", "data-old/a": b"2", "data2": b"3"})
    storage.download(f"s3://{store.bucket}/data", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"a": b"1"}


def test_a_slash_at_the_end_asks_for_the_folder(storage, store, tmp_path):
    store.put({"data": b"file", "data/a": b"1"})
    storage.download(f"s3://{store.bucket}/data/", tmp_path / "folder")
    storage.download(f"s3://{store.bucket}/data", tmp_path / "file")
    assert read_tree(tmp_path / "folder") == {"a": b"1"}
    assert read_tree(tmp_path / "file") == {"data": b"file"}


def test_marks_of_folders_become_folders(storage, store, tmp_path):
    store.put(
        {
            "data": b"",
            "data/": b"",
            "data/empty/": b"",
            "data/full": b"",
            "data/full/a": b"1",
            "data/none": b"",
        }
    )
    storage.download(f"s3://{store.bucket}/data", tmp_path / "into")
    assert names_in(tmp_path / "into") == ["empty", "full", "full/a", "none"]
    assert (tmp_path / "into/empty").is_dir()
    assert read_tree(tmp_path / "into") == {"full/a": b"1", "none": b""}


def test_more_keys_than_one_answer_lists(storage, store, proxy, tmp_path):
    objects = {f"many/{number}": b"x" for number in range(5)}
    store.put(objects)
    proxy.when(lambda seen: "list-type" in seen.query, fault.listing(2), times=-1)
    storage.download(f"s3://{store.bucket}/many", tmp_path / "into")
    assert len(names_in(tmp_path / "into")) == 5
    assert proxy.count("GET", **{"list-type": "2"}) == 3


@pytest.mark.parametrize(
    "key",
    ["data/../up", "data/a/../../up", "data//etc/passwd", "data/./a", "data/a//b", "data/..", "data/x/../"],
)
def test_a_key_that_climbs_out_is_refused(storage, store, tmp_path, key):
    store.put({"data/good": b"1", key: b"bad"})
    with pytest.raises(StorageError, match="no path inside a folder") as caught:
        storage.download(f"s3://{store.bucket}/data", tmp_path / "deep/er/into")
    assert repr(key) in str(caught.value)
    assert names_in(tmp_path / "deep/er") in ([], ["into"])


def test_a_key_that_is_a_file_and_a_folder_is_refused(storage, store, tmp_path):
    store.put({"data/a": b"file", "data/a/b": b"1"})
    with pytest.raises(StorageError, match="both a file and a folder: 'data/a'"):
        storage.download(f"s3://{store.bucket}/data", tmp_path / "into")


def test_nothing_below_a_prefix_with_near_names(storage, store, tmp_path):
    store.put({"data/train.csv": b"1", "data/images/a.png": b"2", "models/m": b"3"})
    with pytest.raises(StorageError) as caught:
        storage.download(f"s3://{store.bucket}/data/trian.csv", tmp_path / "into")
    assert str(caught.value) == (
        f"there is nothing at 's3://{store.bucket}/data/trian.csv': no 'trian.csv' in "
        f"'s3://{store.bucket}/data/'; did you mean 'train.csv'? Known: images, train.csv"
    )
    with pytest.raises(StorageError, match=f"no 'model' in 's3://{store.bucket}/'; did you mean 'models'"):
        storage.download(f"s3://{store.bucket}/model/deep/er/", tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_an_empty_bucket(storage, store, tmp_path):
    with pytest.raises(StorageError, match=f"there is nothing at 's3://{store.bucket}'"):
        storage.download(f"s3://{store.bucket}", tmp_path / "into")


def test_a_bucket_that_is_not_there(storage, store, tmp_path):
    with pytest.raises(
        StorageError, match=f"there is no bucket '{store.bucket}x'; did you mean '{store.bucket}'"
    ):
        storage.download(f"s3://{store.bucket}x/data", tmp_path / "into")


def test_a_link_in_the_way_is_replaced_and_not_followed(storage, store, tmp_path):
    store.put({"data/a": b"new"})
    write_tree(tmp_path / "precious", {"file": b"mine"})
    (tmp_path / "into").mkdir()
    (tmp_path / "into/a").symlink_to(tmp_path / "precious/file")
    storage.download(f"s3://{store.bucket}/data", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"a": b"new"}
    assert read_tree(tmp_path / "precious") == {"file": b"mine"}


def test_what_is_there_already_is_not_fetched_again(storage, store, proxy, tmp_path):
    store.put({"data/small": b"1", "data/large": LARGE})
    store.put_in_parts("data/parts", [PART, PART, 17])
    storage.download(f"s3://{store.bucket}/data", tmp_path / "into")
    before = sum(map(is_get, proxy.seen))
    (tmp_path / "into/small").write_bytes(b"2")
    storage.download(f"s3://{store.bucket}/data", tmp_path / "into")
    assert sum(map(is_get, proxy.seen)) == before + 1
    assert read_tree(tmp_path / "into") == {"small": b"1", "large": LARGE, "parts": bytes(2 * PART + 17)}


def test_a_body_that_breaks_off_is_read_on_from_there(storage, store, proxy, tmp_path):
    store.put({"large": LARGE})
    proxy.when(lambda seen: seen.headers.get("range", "").startswith("bytes=0-"), fault.cut(2 * MIB))
    proxy.when(lambda seen: seen.headers.get("range", "").startswith(f"bytes={2 * MIB}-"), fault.cut(MIB))
    storage.download(f"s3://{store.bucket}/large", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"large": LARGE}
    starts = [0, 2 * MIB, 3 * MIB, PART, 2 * PART]
    ends = [PART, PART, PART, 2 * PART, len(LARGE)]
    asked = {seen.headers["range"] for seen in proxy.seen if is_get(seen)}
    assert asked == {f"bytes={start}-{end - 1}" for start, end in zip(starts, ends, strict=True)}


def test_a_small_object_that_breaks_off_is_read_on(storage, store, proxy, tmp_path):
    store.put({"small": LARGE[:MIB]})
    proxy.when(is_get, fault.cut(1000))
    storage.download(f"s3://{store.bucket}/small", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"small": LARGE[:MIB]}
    assert [seen.headers.get("range") for seen in proxy.seen if is_get(seen)] == [
        None,
        f"bytes=1000-{MIB - 1}",
    ]


def test_a_body_that_stands_still_is_given_up_and_read_on(store, proxy, tmp_path):
    store.put({"small": LARGE[:MIB]})
    proxy.when(is_get, fault.stalled(1000))
    # The service may stand still, too, on a machine that does other things.
    S3Storage(timeout=0.5, attempts=20).download(f"s3://{store.bucket}/small", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"small": LARGE[:MIB]}


def test_a_body_that_breaks_off_each_time_is_an_error(storage, store, proxy, tmp_path):
    store.put({"small": LARGE[:MIB]})
    proxy.when(is_get, fault.cut(0), times=-1)
    with pytest.raises(StorageError, match="'small' breaks off again and again"):
        storage.download(f"s3://{store.bucket}/small", tmp_path / "into")
    assert sum(map(is_get, proxy.seen)) == 3
    assert names_in(tmp_path / "into") == []


def test_a_key_where_parts_go_is_refused(storage, store, tmp_path):
    store.put({f"data/{PARTIAL}/a": b"1"})
    with pytest.raises(StorageError, match="is where parts of files go"):
        storage.download(f"s3://{store.bucket}/data", tmp_path / "into")
    assert names_in(tmp_path / "into") == []


def test_a_download_that_failed_goes_on_where_it_was(storage, store, proxy, tmp_path):
    store.put({"large": LARGE})
    calm = S3Storage(part_size=PART, attempts=1, concurrency=1)
    proxy.when(is_get, fault.cut(0), after=2)
    with pytest.raises(StorageError, match="breaks off"):
        calm.download(f"s3://{store.bucket}/large", tmp_path / "into")
    assert [name for name in names_in(tmp_path / "into") if not name.startswith(PARTIAL)] == []
    before = len(proxy.seen)
    storage.download(f"s3://{store.bucket}/large", tmp_path / "into")
    assert [seen.headers["range"] for seen in proxy.seen[before:] if is_get(seen)] == [
        f"bytes={2 * PART}-{len(LARGE) - 1}"
    ]
    assert read_tree(tmp_path / "into") == {"large": LARGE}
    assert names_in(tmp_path / "into") == ["large"]


def test_a_download_that_failed_does_not_go_on_with_another_version(storage, store, proxy, tmp_path):
    store.put({"large": LARGE})
    proxy.when(is_get, fault.cut(0), after=2)
    with pytest.raises(StorageError, match="breaks off"):
        S3Storage(part_size=PART, attempts=1, concurrency=1).download(
            f"s3://{store.bucket}/large", tmp_path / "into"
        )
    store.put({"large": LARGE[::-1]})
    storage.download(f"s3://{store.bucket}/large", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"large": LARGE[::-1]}
    assert names_in(tmp_path / "into") == ["large"]


def test_an_object_that_changes_meanwhile_is_an_error(store, proxy, tmp_path):
    store.put({"large": LARGE})

    def replaced(handler, passed_on):
        store.put({"large": LARGE[::-1]})
        fault.whole(handler, passed_on)

    proxy.when(is_get, replaced, after=1)
    with pytest.raises(StorageError, match="'large' changed, or was deleted, while it was downloaded"):
        S3Storage(part_size=PART, concurrency=1).download(f"s3://{store.bucket}/large", tmp_path / "into")


def test_an_object_that_changes_before_its_first_byte_is_an_error(storage, store, proxy, tmp_path):
    store.put({"large": LARGE})

    def replaced(handler, passed_on):
        fault.whole(handler, passed_on)
        store.put({"large": LARGE[::-1]})

    proxy.when(lambda seen: "list-type" in seen.query, replaced)
    with pytest.raises(StorageError, match="'large' changed, or was deleted, while it was downloaded"):
        storage.download(f"s3://{store.bucket}", tmp_path / "into")
    assert names_in(tmp_path / "into") == []


def test_an_empty_object_whose_etag_is_no_digest(storage, store, proxy, tmp_path):
    """As S3 has it of those that a key of KMS encrypts, which moto does not."""

    def of_kms(handler, passed_on):
        answer = passed_on()
        empty = hashlib.md5(usedforsecurity=False).hexdigest().encode()
        handler.answer(attrs.evolve(answer, body=answer.body.replace(empty, b"0" * len(empty))))

    store.put({"data/empty": b"", "data/a": b"1"})
    proxy.when(lambda seen: "list-type" in seen.query, of_kms)
    storage.download(f"s3://{store.bucket}/data", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"empty": b"", "a": b"1"}


def test_a_damaged_small_body_is_read_again(storage, store, proxy, tmp_path):
    store.put({"small": LARGE[:MIB]})
    proxy.when(is_get, fault.damaged(77))
    storage.download(f"s3://{store.bucket}/small", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"small": LARGE[:MIB]}


@pytest.mark.parametrize("encryption", [{}, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/mine"}])
def test_a_damaged_part_is_noticed_and_fetched_again(storage, store, proxy, large, tmp_path, encryption):
    S3Storage(part_size=PART, kms_key=encryption.get("SSEKMSKeyId", "")).upload(
        large, f"s3://{store.bucket}/large"
    )
    proxy.when(is_get, fault.damaged(77), after=1)
    with pytest.raises(StorageError, match="'large' came damaged: its checksum is not the service's"):
        storage.download(f"s3://{store.bucket}/large", tmp_path / "into")
    assert [name for name in names_in(tmp_path / "into") if not name.startswith(PARTIAL)] == []
    storage.download(f"s3://{store.bucket}/large", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"large": LARGE}


def test_parts_of_several_sizes_are_checked(storage, store, proxy, tmp_path):
    store.put_in_parts("odd", [PART, 6 * MIB, 17])
    storage.download(f"s3://{store.bucket}/odd", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"odd": bytes(PART + 6 * MIB + 17)}
    proxy.when(is_get, fault.damaged(77))
    with pytest.raises(StorageError, match="came damaged"):
        storage.download(f"s3://{store.bucket}/odd", tmp_path / "other")


def test_a_full_disk_is_noticed_before_it_is_full(storage, store, tmp_path):
    if sys.platform != "linux" or os.geteuid() or not _mounted(tmp_path / "small"):
        pytest.skip("a small file system can be made by root on Linux only")
    try:
        store.put({"data/large": LARGE})
        with pytest.raises(
            StorageError, match=r"10,486,760 bytes to download and [\d,]+ free in .*elsewhere"
        ):
            storage.download(f"s3://{store.bucket}/data", tmp_path / "small/into")
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)


def test_a_disk_that_fills_up_meanwhile(storage, store, proxy, tmp_path):
    if sys.platform != "linux" or os.geteuid() or not _mounted(tmp_path / "small"):
        pytest.skip("a small file system can be made by root on Linux only")

    def filled(handler, passed_on):
        free = shutil.disk_usage(tmp_path / "small").free
        (tmp_path / "small/other").write_bytes(bytes(free - 64 * 1024))
        fault.whole(handler, passed_on)

    try:
        store.put({"data/a": LARGE[:MIB]})
        proxy.when(is_get, filled)
        with pytest.raises(
            StorageError, match="No space left on device.*; free some space, or write elsewhere"
        ):
            storage.download(f"s3://{store.bucket}/data", tmp_path / "small/into")
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)


def _mounted(folder):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder]
    return not subprocess.run(command, check=False, capture_output=True).returncode


# -- upload ----------------------------------------------------------------------------------------


def test_a_large_file_goes_in_parts_with_checksums(storage, store, proxy, s3, large):
    assert (
        storage.upload(large, f"s3://{store.bucket}/models/large.bin")
        == f"s3://{store.bucket}/models/large.bin"
    )
    assert store.get("models/large.bin") == LARGE
    assert sorted(seen.query["partNumber"] for seen in proxy.seen if is_part(seen)) == ["1", "2", "3"]
    assert all("x-amz-checksum-sha256" in seen.headers for seen in proxy.seen if is_part(seen))
    answer = s3.get_object(Bucket=store.bucket, Key="models/large.bin", ChecksumMode="ENABLED")
    answer["Body"].close()
    assert answer["ChecksumSHA256"].endswith("-3")
    assert store.unfinished() == []


def test_an_empty_folder_comes_back(storage, store, tmp_path):
    write_tree(tmp_path / "data", {"a": b"1"})
    (tmp_path / "data/empty/inner").mkdir(parents=True)
    storage.upload(tmp_path / "data", f"s3://{store.bucket}/data")
    storage.upload(tmp_path / "data", f"s3://{store.bucket}/data/")
    storage.download(f"s3://{store.bucket}/data", tmp_path / "into")
    assert names_in(tmp_path / "into") == ["a", "empty", "empty/inner"]


def test_links_are_followed_and_circles_refused(storage, store, tmp_path):
    write_tree(tmp_path / "outside", {"b": b"3"})
    write_tree(tmp_path / "data", {"a": b"1"})
    (tmp_path / "data/link").symlink_to(tmp_path / "outside")
    storage.upload(tmp_path / "data", f"s3://{store.bucket}/data")
    storage.download(f"s3://{store.bucket}/data", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"a": b"1", "link/b": b"3"}
    (tmp_path / "data/circle").symlink_to(".")
    with pytest.raises(StorageError, match="is a link that leads back to"):
        storage.upload(tmp_path / "data", f"s3://{store.bucket}/other")


def test_a_pipe_is_not_uploaded(storage, store, tmp_path):
    write_tree(tmp_path / "data", {"a": b"1"})
    os.mkfifo(tmp_path / "data/pipe")
    for path in (tmp_path / "data", tmp_path / "data/pipe"):
        with pytest.raises(StorageError, match="pipe' is a socket, a pipe or a device"):
            storage.upload(path, f"s3://{store.bucket}/data")
    assert store.keys() == []


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 only")
def test_a_name_that_no_key_can_have_is_refused(storage, store, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    tree = write_tree(tmp_path / "tree", {"a": b"1", name: b"2"})
    with pytest.raises(StorageError, match=r"caf\\udce9' cannot be uploaded: its name is no UTF-8"):
        storage.upload(tree, f"s3://{store.bucket}/data")
    with pytest.raises(StorageError, match="is no UTF-8"):
        storage.upload(tree / "a", f"s3://{store.bucket}/{name}")
    assert store.keys() == []


def test_a_folder_is_not_hidden_behind_a_file(storage, store, tmp_path):
    store.put({"data": b"file", "data-old/a": b"1", "marked": b""})
    tree = write_tree(tmp_path / "tree", {"a": b"1"})
    for uri in (f"s3://{store.bucket}/data", f"s3://{store.bucket}/data/"):
        with pytest.raises(StorageError, match="data' is there already, and is a file"):
            storage.upload(tree, uri)
    assert store.keys() == ["data", "data-old/a", "marked"]
    for name in ("marked", "data-ol"):
        storage.download(storage.upload(tree, f"s3://{store.bucket}/{name}"), tmp_path / name)
        assert read_tree(tmp_path / name) == {"a": b"1"}


@pytest.mark.parametrize("at", ["", "/", "/folder/"])
def test_a_file_needs_a_name(storage, store, large, at):
    with pytest.raises(StorageError, match=r"the URI needs its name, as in 's3://.*/large.bin'"):
        storage.upload(large, f"s3://{store.bucket}{at}")


def test_other_content_is_not_overwritten_and_nothing_is_written(storage, store, tmp_path):
    store.put({"data/b": b"mine"})
    write_tree(tmp_path / "data", {"a": b"1", "b": b"2222"})
    with pytest.raises(
        StorageError, match=f"'s3://{store.bucket}/data/b' is there already, with other content"
    ):
        storage.upload(tmp_path / "data", f"s3://{store.bucket}/data")
    assert store.keys() == ["data/b"]
    with pytest.raises(StorageError, match="remove it, or write elsewhere"):
        storage.upload(tmp_path / "data/b", f"s3://{store.bucket}/data/b")
    assert store.get("data/b") == b"mine"


@pytest.mark.parametrize(
    "sizes", [[PART, PART, 1000], [PART, 5 * MIB + 999, 1], [6 * MIB, PART - MIB + 1000]]
)
def test_the_same_in_parts_of_any_sizes_is_not_sent_again(storage, store, proxy, tmp_path, sizes):
    store.put_in_parts("model", sizes)
    (tmp_path / "model").write_bytes(bytes(sum(sizes)))
    storage.upload(tmp_path / "model", f"s3://{store.bucket}/model")
    assert (
        proxy.count("PUT")
        == proxy.count("POST")
        == proxy.count("DELETE")
        == sum(map(is_get, proxy.seen))
        == 0
    )
    (tmp_path / "model").write_bytes(bytes(sum(sizes) - 1) + b"1")
    with pytest.raises(StorageError, match="with other content"):
        storage.upload(tmp_path / "model", f"s3://{store.bucket}/model")


def test_the_same_with_no_checksum_at_all_is_found_by_reading(storage, store, s3, proxy, tmp_path, large):
    """What is encrypted by KMS has no MD5 as its ETag, and these clients send no other checksum."""
    from botocore.config import Config
    from botocore.session import Session

    plain = Session().create_client(
        "s3", endpoint_url=s3.meta.endpoint_url, config=Config(request_checksum_calculation="when_required")
    )
    plain.put_object(Bucket=store.bucket, Key="model", Body=LARGE, ServerSideEncryption="aws:kms")
    storage.upload(large, f"s3://{store.bucket}/model")
    assert sum(map(is_get, proxy.seen)) == 1
    large.write_bytes(LARGE[:-1] + b"?")
    with pytest.raises(StorageError, match="with other content"):
        storage.upload(large, f"s3://{store.bucket}/model")


def test_who_comes_second_does_not_overwrite(storage, store, proxy, large, tmp_path):
    """The other's object appears between the look and the write."""
    write_tree(tmp_path, {"small": b"1"})

    def overtaken(handler, passed_on):
        store.put({"small": b"theirs", "large": b"theirs"})
        fault.whole(handler, passed_on)

    proxy.when(lambda seen: seen.method == "PUT" and not is_part(seen), overtaken)
    with pytest.raises(StorageError, match="'s3://.*/small' is there already, with other content"):
        storage.upload(tmp_path / "small", f"s3://{store.bucket}/small")
    assert store.get("small") == b"theirs"


def test_who_comes_second_with_a_large_file_does_not_overwrite(storage, store, proxy, large):
    def overtaken(handler, passed_on):
        store.put({"large": b"theirs"})
        fault.whole(handler, passed_on)

    proxy.when(lambda seen: seen.method == "POST" and "uploadId" in seen.query, overtaken)
    with pytest.raises(StorageError, match="'s3://.*/large' is there already, with other content"):
        storage.upload(large, f"s3://{store.bucket}/large")
    assert store.get("large") == b"theirs"
    assert store.unfinished() == []


@pytest.mark.parametrize("theirs", [LARGE, LARGE[::-1]], ids=["the same", "other content"])
def test_an_upload_that_somebody_else_has_ended_is_looked_at_again(store, proxy, s3, large, theirs):
    """Who uploads the same file at the same time goes on with the parts that are there, and is done first."""

    def ended(handler, passed_on):
        (upload,) = s3.list_multipart_uploads(Bucket=store.bucket)["Uploads"]
        s3.abort_multipart_upload(Bucket=store.bucket, Key="large", UploadId=upload["UploadId"])
        store.put({"large": theirs})
        fault.refused(404, "NoSuchUpload")(handler, passed_on)

    proxy.when(is_part, ended, after=1)
    storage = S3Storage(part_size=PART, concurrency=1)
    if theirs == LARGE:
        assert storage.upload(large, f"s3://{store.bucket}/large") == f"s3://{store.bucket}/large"
    else:
        with pytest.raises(StorageError, match="large' is there already, with other content"):
            storage.upload(large, f"s3://{store.bucket}/large")
    assert store.get("large") == theirs
    assert store.unfinished() == []


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_an_answer_that_is_lost_costs_nothing(storage, store, proxy, large, tmp_path, method):
    """The request is repeated by boto3 and finds what it has done itself."""
    write_tree(tmp_path, {"small": b"1"})
    proxy.when(lambda seen: seen.method == method and "uploads" not in seen.query, fault.answer_lost)
    storage.upload(tmp_path / "small", f"s3://{store.bucket}/small")
    storage.upload(large, f"s3://{store.bucket}/large")
    assert (store.get("small"), store.get("large")) == (b"1", LARGE)
    assert store.unfinished() == []


@pytest.mark.parametrize(
    "bad", [fault.dropped, fault.refused(500, "InternalError"), fault.refused(503, "SlowDown")]
)
def test_faults_that_pass_are_waited_for(storage, store, proxy, large, bad, tmp_path):
    proxy.when(lambda seen: True, bad, times=2)
    proxy.when(is_part, bad)
    storage.upload(large, f"s3://{store.bucket}/large")
    storage.download(f"s3://{store.bucket}/large", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"large": LARGE}


@pytest.mark.parametrize(
    ("status", "code", "way_out"),
    [
        (503, "SlowDown", "the service asks for fewer requests: wait a moment"),
        (400, "ExpiredToken", "the credentials have expired: get new ones"),
        (403, "AccessDenied", "ask for the permission"),
        (400, "KMS.DisabledException", "look at the key"),
    ],
)
def test_an_upload_that_fails_leaves_nothing(store, proxy, large, status, code, way_out):
    proxy.when(is_part, fault.refused(status, code), times=-1, after=1)
    with pytest.raises(StorageError, match=f"cannot write 's3://.*{code}.*{way_out}"):
        S3Storage(part_size=PART, attempts=2).upload(large, f"s3://{store.bucket}/large")
    assert store.keys() == store.unfinished() == []


def test_a_token_that_expires_leaves_what_the_next_upload_goes_on_with(storage, store, proxy, large):
    expired = fault.refused(400, "ExpiredToken", "The provided token has expired.")
    proxy.when(lambda seen: is_part(seen) and seen.query["partNumber"] != "1", expired, times=2)
    proxy.when(lambda seen: seen.method == "DELETE", expired)
    with pytest.raises(StorageError) as caught:
        S3Storage(part_size=PART, concurrency=1).upload(large, f"s3://{store.bucket}/large")
    assert "the credentials have expired" in str(caught.value)
    assert f"aws s3api abort-multipart-upload --bucket {store.bucket} --key 'large' --upload-id" in str(
        caught.value
    )
    assert store.unfinished() == ["large"]
    before = len(proxy.seen)
    storage.upload(large, f"s3://{store.bucket}/large")
    assert sorted(seen.query["partNumber"] for seen in proxy.seen[before:] if is_part(seen)) == ["2", "3"]
    assert store.get("large") == LARGE
    assert store.unfinished() == []


def test_an_upload_of_another_file_is_not_gone_on_with(storage, store, proxy, s3, large):
    upload = s3.create_multipart_upload(Bucket=store.bucket, Key="large", ChecksumAlgorithm="SHA256")[
        "UploadId"
    ]
    s3.upload_part(
        Bucket=store.bucket,
        Key="large",
        UploadId=upload,
        PartNumber=1,
        Body=LARGE[1 : PART + 1],
        ChecksumAlgorithm="SHA256",
    )
    storage.upload(large, f"s3://{store.bucket}/large")
    assert store.get("large") == LARGE
    assert sorted(seen.query["partNumber"] for seen in proxy.seen if is_part(seen)) == ["1", "2", "3"]
    assert store.unfinished() == ["large"]


def test_an_upload_of_the_same_file_with_a_key_is_left_to_whoever_began_it(store, s3, large):
    storage, at = S3Storage(part_size=PART, kms_key="alias/mine"), {"Bucket": store.bucket, "Key": "large"}
    other = s3.create_multipart_upload(**at, ChecksumAlgorithm="SHA256")["UploadId"]
    part = s3.upload_part(**at, UploadId=other, PartNumber=1, Body=LARGE[:PART], ChecksumAlgorithm="SHA256")
    storage.upload(large, f"s3://{store.bucket}/large")
    assert store.get("large") == LARGE
    [left] = s3.list_parts(**at, UploadId=other)["Parts"]
    assert left["ETag"] == part["ETag"]


@pytest.fixture
def uploader(store, proxy, large):
    """A process that uploads a large file, part by part, once its standard input ends."""
    program = f"""
    import sys
    from pathlib import Path
    from modelyard.plugins.storage.s3 import S3Storage
    sys.stdin.read()
    S3Storage(part_size={PART}, concurrency=1).upload(Path({str(large)!r}), "s3://{store.bucket}/large")
    """
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], **pipes) as process:
        yield process
        process.kill()


def test_an_uploader_that_is_killed_is_gone_on_from(storage, store, proxy, large, uploader):
    """The second of the parts is answered by killing the one who sends it."""

    def killed(handler, passed_on):
        uploader.kill()
        handler.hang_up()

    proxy.when(lambda seen: is_part(seen) and seen.query["partNumber"] == "2", killed)
    uploader.communicate(timeout=60)
    assert uploader.returncode == -9
    assert (store.keys(), store.unfinished()) == ([], ["large"])
    before = len(proxy.seen)
    storage.upload(large, f"s3://{store.bucket}/large")
    assert sorted(seen.query["partNumber"] for seen in proxy.seen[before:] if is_part(seen)) == ["2", "3"]
    assert store.get("large") == LARGE
    assert store.unfinished() == []


def test_ctrl_c_leaves_nothing(store, proxy, uploader):
    def interrupted(handler, passed_on):
        uploader.send_signal(signal.SIGINT)
        fault.whole(handler, passed_on)

    proxy.when(is_part, interrupted)
    assert uploader.communicate(timeout=60)[1].endswith("KeyboardInterrupt\n")
    assert store.keys() == store.unfinished() == []


def test_a_file_that_changes_meanwhile_is_an_error(storage, store, proxy, large):
    def changed(handler, passed_on):
        with large.open("r+b") as file:
            file.write(b"changed")
        os.utime(large, ns=(1, 1))
        fault.whole(handler, passed_on)

    proxy.when(is_part, changed)
    with pytest.raises(StorageError, match="large.bin' changed while it was uploaded"):
        storage.upload(large, f"s3://{store.bucket}/large")
    assert store.keys() == store.unfinished() == []


@pytest.mark.parametrize("size", [5, len(LARGE)])
def test_uploads_are_encrypted_by_the_key(monkeypatch, store, s3, tmp_path, size):
    monkeypatch.setenv("MODELYARD_S3_KMS_KEY", "alias/mine")
    (tmp_path / "model").write_bytes(LARGE[:size])
    S3Storage(part_size=PART).upload(tmp_path / "model", f"s3://{store.bucket}/model")
    head = s3.head_object(Bucket=store.bucket, Key="model")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/mine")
    S3Storage(part_size=PART).upload(tmp_path / "model", f"s3://{store.bucket}/model")


def test_without_checksums_the_md5_is_sent(monkeypatch, store, proxy, large, tmp_path):
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    write_tree(tmp_path, {"small": b"1"})
    storage = S3Storage(part_size=PART)
    for path in (large, tmp_path / "small"):
        storage.upload(path, f"s3://{store.bucket}/{path.name}")
        storage.upload(path, f"s3://{store.bucket}/{path.name}")
    sent = [seen for seen in proxy.seen if seen.method == "PUT" and seen.size]
    assert len(sent) == 4
    assert all("content-md5" in seen.headers and "x-amz-checksum-sha256" not in seen.headers for seen in sent)
    assert (store.get("large.bin"), store.get("small")) == (LARGE, b"1")


def test_a_service_without_conditions_is_not_asked_twice(storage, store, proxy, large, tmp_path):
    proxy.when(lambda seen: "if-none-match" in seen.headers, fault.refused(501, "NotImplemented"), times=-1)
    write_tree(tmp_path / "data", {"a": b"1", "large": LARGE})
    S3Storage(part_size=PART, concurrency=1).upload(tmp_path / "data", f"s3://{store.bucket}/data")
    assert (store.get("data/a"), store.get("data/large")) == (b"1", LARGE)
    assert sum("if-none-match" in seen.headers for seen in proxy.seen) == 1
    store.put({"data/a": b"theirs"})
    with pytest.raises(StorageError, match="with other content"):
        storage.upload(tmp_path / "data/a", f"s3://{store.bucket}/data/a")


def test_who_may_not_read_can_still_write_what_is_new(storage, store, proxy, tmp_path):
    proxy.when(lambda seen: seen.method == "HEAD", fault.refused(403, "Forbidden"), times=-1)
    write_tree(tmp_path, {"small": b"1"})
    store.put({"taken": b"theirs"})
    storage.upload(tmp_path / "small", f"s3://{store.bucket}/small")
    with pytest.raises(StorageError, match="something is there that cannot be read"):
        storage.upload(tmp_path / "small", f"s3://{store.bucket}/taken")
    assert (store.get("small"), store.get("taken")) == (b"1", b"theirs")


def test_content_addressed_files_go_once(storage, store, proxy, tmp_path):
    write_tree(tmp_path, {"one": b"1", "two": b"2"})
    uri = f"s3://{store.bucket}/source/{hashlib.sha256(b'x').hexdigest()}/sourcedir.tar.gz"
    assert storage.upload_if_absent(tmp_path / "one", uri) is True
    assert storage.upload_if_absent(tmp_path / "two", uri) is False
    assert proxy.count("PUT") == 1
    assert store.get(uri.partition(store.bucket)[2][1:]) == b"1"


def test_progress_is_told_at_each_tenth(store, large, tmp_path):
    told = []
    storage = S3Storage(part_size=PART, progress=lambda *arguments: told.append(arguments))
    uri = storage.upload(large, f"s3://{store.bucket}/large")
    assert told[-1] == (uri, len(LARGE), len(LARGE))
    assert len(told) in {2, 3}
    told.clear()
    storage.download(uri, tmp_path / "into")
    assert told[-1] == (uri, len(LARGE), len(LARGE))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert len(told) == 10


# -- buckets ---------------------------------------------------------------------------------------


def test_preparing_leaves_nothing(storage, store, proxy):
    storage.prepare(f"s3://{store.bucket}/output")
    assert store.keys() == store.unfinished() == []
    assert proxy.count("POST", uploads="") == 1


def test_preparing_where_nothing_may_be_written(storage, store, proxy):
    proxy.when(lambda seen: seen.method == "POST", fault.refused(403, "AccessDenied"))
    with pytest.raises(StorageError, match="cannot write into 's3://.*AccessDenied.*ask for the permission"):
        storage.prepare(f"s3://{store.bucket}/output")


def test_preparing_a_bucket_that_is_not_there(storage, store, s3):
    with pytest.raises(
        StorageError, match=f"there is no bucket '{store.bucket}x'; did you mean '{store.bucket}'"
    ):
        storage.prepare(f"s3://{store.bucket}x/output")
    assert f"{store.bucket}x" not in [item["Name"] for item in s3.list_buckets()["Buckets"]]


@pytest.mark.parametrize("region", ["eu-central-1", "us-east-1"])
def test_the_default_bucket_is_made_once_and_belongs_to_the_account(monkeypatch, proxy, s3, region):
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    name = f"sagemaker-{region}-{ACCOUNT}"
    for _ in range(2):
        assert S3Storage().default_bucket() == name
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] in {region, None}
    made = [seen for seen in proxy.seen if seen.method == "PUT" and seen.path.strip("/") == name]
    assert len(made) <= 1
    others = [seen for seen in proxy.seen if seen.path.startswith(f"/{name}") and seen not in made]
    assert others
    assert all(seen.headers["x-amz-expected-bucket-owner"] == ACCOUNT for seen in others)


def test_a_default_bucket_that_another_account_has_taken(proxy):
    proxy.when(lambda seen: seen.method == "HEAD", fault.refused(403, "AccessDenied"))
    with pytest.raises(StorageError, match=f"does not belong to the account {ACCOUNT}, or these credentials"):
        S3Storage().default_bucket()
    assert proxy.count("PUT") == 0


def test_the_default_bucket_of_another_account_is_not_made(storage):
    with pytest.raises(StorageError, match="there is no bucket 'sagemaker-us-east-1-210987654321'"):
        storage.prepare("s3://sagemaker-us-east-1-210987654321/output")


def test_the_owner_of_all_buckets_can_be_told(store, proxy, tmp_path, large):
    storage = S3Storage(bucket_owner=ACCOUNT, part_size=PART)
    storage.prepare(f"s3://{store.bucket}/output")
    storage.upload(large, f"s3://{store.bucket}/large")
    storage.upload(tmp_path, f"s3://{store.bucket}/tree")
    storage.download(f"s3://{store.bucket}/large", tmp_path / "into")
    assert {seen.headers.get("x-amz-expected-bucket-owner") for seen in proxy.seen} == {ACCOUNT}


# -- what boto3 does not find ----------------------------------------------------------------------


def test_no_credentials(monkeypatch, store, storage, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(
        StorageError, match="Unable to locate credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID"
    ):
        storage.download(f"s3://{store.bucket}/data", tmp_path / "into")


def test_no_region(monkeypatch, aws):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(StorageError, match="no region is set: set AWS_DEFAULT_REGION"):
        S3Storage().default_bucket()


def test_a_profile_that_is_not_there(store, tmp_path):
    with pytest.raises(StorageError, match=r"profile \(nobody\) could not be found; see the profiles with"):
        S3Storage(profile="nobody").download(f"s3://{store.bucket}/data", tmp_path / "into")


def test_a_profile_brings_credentials_region_and_endpoint(monkeypatch, store, moto, config_file, tmp_path):
    for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    config_file.write_text(
        f"[profile work]\nregion = eu-west-1\nendpoint_url = {moto}\n"
        "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = secret\n"
    )
    store.put({"data/a": b"1"})
    S3Storage(profile="work").download(f"s3://{store.bucket}/data", tmp_path / "into")
    assert read_tree(tmp_path / "into") == {"a": b"1"}


def test_an_endpoint_where_nobody_listens(aws, tmp_path):
    storage = S3Storage(endpoint_url="http://127.0.0.1:1", attempts=1)
    with pytest.raises(StorageError, match="Could not connect to the endpoint URL.*is the network up"):
        storage.download("s3://bucket/data", tmp_path / "into")


def test_a_bucket_in_another_region(storage, store, proxy, tmp_path):
    elsewhere = fault.refused(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-3"})
    proxy.when(lambda seen: True, elsewhere, times=-1)
    with pytest.raises(
        StorageError, match="the bucket's region is 'eu-west-3'; it is in another region: set"
    ):
        storage.download(f"s3://{store.bucket}/data", tmp_path / "into")


@pytest.mark.parametrize(
    ("status", "code", "way_out"),
    [
        (403, "InvalidAccessKeyId", "does not know these credentials"),
        (403, "SignatureDoesNotMatch", "does not know these credentials"),
        (403, "AccessDenied", "see who you are with `aws sts get-caller-identity`"),
        (400, "ExpiredToken", "get new ones"),
        (403, "RequestTimeTooSkewed", "the clock of this machine is wrong"),
        (403, "InvalidObjectState", "it is archived: restore it first"),
        (500, "InternalError", "the service had a fault of its own"),
    ],
)
def test_a_refusal_says_the_way_out(store, proxy, tmp_path, status, code, way_out):
    store.put({"data/a": b"1"})
    proxy.when(is_get, fault.refused(status, code), times=-1)
    with pytest.raises(StorageError, match=f"cannot read 's3://{store.bucket}/data'.*{code}.*{way_out}"):
        S3Storage(attempts=1).download(f"s3://{store.bucket}/data", tmp_path / "into")


def test_without_boto3(tmp_path):
    program = """
    import sys
    from pathlib import Path
    sys.modules["botocore"] = sys.modules["boto3"] = None
    from modelyard.core.errors import StorageError
    from modelyard.plugins.storage.s3 import S3Storage
    try:
        S3Storage().download("s3://bucket/key", Path("into"))
    except StorageError as error:
        print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        "cannot read 's3://bucket/key': boto3 is not installed: pip install 'modelyard[aws]'\n"
    )
