"""A model on S3 gets other code without a download: against moto, by a proxy that sees every request."""

import gzip
import io
import os
import shutil
import subprocess
import tarfile

import attrs
import pytest
from tests.aws import proxy as fault
from tests.aws.sagemaker.conftest import ROLE
from tests.aws.services import ACCOUNT, REGION

from modelyard import PyTorchModel
from modelyard.core.errors import StorageError
from modelyard.core.plans import SourceCode
from modelyard.plugins.backends.sagemaker import s3_repack
from modelyard.plugins.packagers.splice import HEADER_SIZE, parse_index
from modelyard.plugins.packagers.tarball import TarballPackager
from modelyard.testing.trees import read_tree, write_tree

MIB = 1 << 20
LARGE = {"model.bin": os.urandom(20_000_000)}
WEIGHTS = {"model.bin": os.urandom(6_000_000), "parts/2.bin": b"2"}
SMALL = {"model.bin": os.urandom(1_000_000)}
OLD = {"inference.py": b"old\n", "helper.py": b"helper\n"}
NEW = {"inference.py": b"def model_fn(model_dir): ...\n", "lib/net.py": b"1\n"}


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Return what makes, once each, model archives: their bytes by weights and code."""
    made = {}

    def make(weights, code=None):
        key = (id(weights), id(code))
        if key not in made:
            base = tmp_path_factory.mktemp("archive")
            bundle = TarballPackager().pack_tree(write_tree(base / "tree", weights), base / "model.tar.gz")
            if code:
                source = SourceCode("inference.py", str(write_tree(base / "src", code)))
                bundle = TarballPackager().pack_model(bundle.path, source, base / "out")
            made[key] = bundle.path.read_bytes()
        return made[key]

    return make


class World:
    """A bucket with a model in it, and what a user does with that."""

    def __init__(self, s3, bucket, proxy, double, tmp_path):
        self.s3, self.bucket, self.proxy, self.double, self.base = s3, bucket, proxy, double, tmp_path
        self.src = write_tree(tmp_path / "src", NEW)
        self.uri = f"s3://{bucket}/job/output/model.tar.gz"

    def put(self, body):
        self.s3.put_object(Bucket=self.bucket, Key="job/output/model.tar.gz", Body=body)

    def deploy(self, *, script=False, framework_version="2.5.1", **options):
        """Deploy the model with the new code; return where its archive is then."""
        code = {"entry_point": self.src / "inference.py"} if script else {"source_dir": self.src}
        model = PyTorchModel(
            self.uri,
            ROLE,
            **{"entry_point": "inference.py", **code},
            framework_version=framework_version,
            **{"code_location": f"s3://{self.bucket}/made", "max_attempts": 1, **options},
        )
        model.deploy(1, "ml.m5.xlarge", wait=False)
        return self.double.asked("CreateModel")[-1]["PrimaryContainer"]["ModelDataUrl"]

    def get(self, uri):
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def files(self, uri):
        return files_of(self.get(uri))

    @property
    def copies(self):
        return [seen for seen in self.proxy.seen if is_copy(seen)]

    @property
    def left(self):
        """What is in the bucket beside the model, and what is unfinished."""
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix="made").get("Contents", ())
        uploads = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        return [item["Key"] for item in (*found, *uploads)]


@pytest.fixture
def world(s3, bucket, proxy, double, role, tmp_path):
    return World(s3, bucket, proxy, double, tmp_path)


def files_of(archive, mode="r:gz"):
    with tarfile.open(fileobj=io.BytesIO(archive), mode=mode) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}


def expected(weights, code):
    return weights | {f"code/{name}": data for name, data in code.items()}


def is_copy(seen):
    return "x-amz-copy-source" in seen.headers


def is_sent(seen):
    return seen.method == "PUT" and "partNumber" in seen.query and not is_copy(seen)


def is_end(seen):
    return seen.method == "POST" and "uploadId" in seen.query


def is_get(seen):
    return seen.method == "GET" and seen.path.endswith("/job/output/model.tar.gz")


# -- what is made ----------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [None, OLD], ids=["without code", "with code"])
def test_a_model_gets_its_code_on_s3(world, archives, tmp_path, old):
    model = archives(WEIGHTS, old)
    world.put(model)
    uri = world.deploy()
    made = world.get(uri)
    (tmp_path / "here.tar.gz").write_bytes(model)
    (tmp_path / "made.tar.gz").write_bytes(made)
    source = SourceCode("inference.py", str(world.src))
    bundle = TarballPackager().pack_model(tmp_path / "here.tar.gz", source, tmp_path / "here")
    for name, path in (("1", bundle.path), ("2", tmp_path / "made.tar.gz")):
        TarballPackager().unpack(path, tmp_path / "unpacked" / name)
    assert read_tree(tmp_path / "unpacked" / "1") == read_tree(tmp_path / "unpacked" / "2")
    assert files_of(made, "r:gz") == files_of(made, "r|gz") == expected(WEIGHTS, NEW)
    assert gzip.decompress(made) == gzip.decompress(bundle.path.read_bytes())
    if shutil.which("gzip"):
        subprocess.run(["gzip", "-t", tmp_path / "made.tar.gz"], check=True, timeout=60)
    assert world.left == [uri.removeprefix(f"s3://{world.bucket}/")]


def test_little_is_sent_and_nothing_of_the_model_is_read(world, archives):
    world.put(archives(LARGE, OLD))
    etag = world.s3.head_object(Bucket=world.bucket, Key="job/output/model.tar.gz")["ETag"]
    world.deploy()
    assert 5 * MIB < sum(seen.size for seen in world.proxy.seen) < 6_000_000
    assert len(world.copies) == 1
    head, trailer = filter(is_get, world.proxy.seen)
    assert head.headers["range"] == "bytes=0-4095"
    size = len(archives(LARGE, OLD))
    assert trailer.headers["range"] == f"bytes={size - 8}-{size - 1}"
    assert trailer.headers["if-match"] == etag


def test_an_entry_point_alone_is_laid_over_the_code(world, archives):
    world.put(archives(WEIGHTS, OLD))
    code = {**OLD, "inference.py": NEW["inference.py"]}
    assert world.files(world.deploy(script=True)) == expected(WEIGHTS, code)
    assert world.copies


def test_the_same_is_not_made_again(world, archives):
    world.put(archives(WEIGHTS))
    first = world.deploy()
    del world.proxy.seen[:]
    assert world.deploy() == first
    assert world.proxy.count("PUT") == 0
    assert world.proxy.count("POST", uploads="") == 0


@pytest.mark.parametrize("weights", [WEIGHTS, SMALL], ids=["on S3", "here"])
def test_a_model_that_claims_to_be_another_is_not_taken_for_it(world, archives, weights):
    """Whoever wrote it, or whatever befell it on the way: the model that it claims to be is another one."""
    model = archives(weights)
    other = bytearray(archives({"model.bin": weights["model.bin"][::-1]}))
    other[:HEADER_SIZE] = attrs.evolve(
        parse_index(bytes(other)), body_digest=parse_index(model).body_digest
    ).header
    world.put(bytes(other))
    claimed = world.deploy()
    world.put(model)
    uri = world.deploy()
    assert uri != claimed
    assert world.files(uri) == expected(weights, NEW)


def test_what_was_made_gets_other_code_again(world, archives):
    world.put(archives(WEIGHTS))
    world.uri = world.deploy()
    (world.src / "inference.py").write_bytes(b"later\n")
    del world.proxy.seen[:]
    second = world.deploy()
    assert world.files(second) == expected(WEIGHTS, {**NEW, "inference.py": b"later\n"})
    assert second != world.uri
    assert sum(seen.size for seen in world.proxy.seen) < 6_000_000
    assert world.copies


def test_a_model_that_was_uploaded_in_parts(world, archives):
    model, place = archives(WEIGHTS), {"Bucket": world.bucket, "Key": "job/output/model.tar.gz"}
    place["UploadId"] = world.s3.create_multipart_upload(**place)["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": world.s3.upload_part(**place, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate((model[: 5 * MIB], model[5 * MIB :]), 1)
    ]
    etag = world.s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})["ETag"]
    assert world.files(world.deploy()) == expected(WEIGHTS, NEW)
    [copy] = world.copies
    assert copy.headers["x-amz-copy-source-if-match"] == etag


def test_a_large_model_is_copied_in_ranges(world, archives, monkeypatch):
    monkeypatch.setattr(s3_repack, "_COPIED", 7 * MIB)
    world.put(archives(LARGE))
    etag = world.s3.head_object(Bucket=world.bucket, Key="job/output/model.tar.gz")["ETag"]
    assert world.files(world.deploy()) == expected(LARGE, NEW)
    assert sorted(seen.query["partNumber"] for seen in world.copies) == ["2", "3", "4"]
    assert {seen.headers["x-amz-copy-source-if-match"] for seen in world.copies} == {etag}


def test_what_is_made_is_encrypted_with_the_key(world, archives):
    world.put(archives(WEIGHTS))
    key = world.deploy(model_kms_key="alias/mine").removeprefix(f"s3://{world.bucket}/")
    head = world.s3.head_object(Bucket=world.bucket, Key=key)
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/mine")
    assert world.copies


def test_a_default_bucket_has_to_be_the_accounts_own(world, archives):
    world.put(archives(WEIGHTS))
    uri = world.deploy(code_location=None)
    assert uri.startswith(f"s3://sagemaker-{REGION}-{ACCOUNT}/")
    assert world.files(uri) == expected(WEIGHTS, NEW)
    making = [seen for seen in world.proxy.seen if {"uploads", "uploadId"} & set(seen.query)]
    assert [seen.headers.get("x-amz-expected-bucket-owner") for seen in making] == [ACCOUNT] * 5
    assert "x-amz-source-expected-bucket-owner" not in world.copies[0].headers
    world.uri = uri
    (world.src / "inference.py").write_bytes(b"later\n")
    world.deploy()
    assert world.copies[1].headers["x-amz-source-expected-bucket-owner"] == ACCOUNT


# -- what is packed on this machine ----------------------------------------------------------------


def test_a_model_of_another_program_is_packed_here(world):
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
            info = tarfile.TarInfo("model.bin")
            info.size = len(WEIGHTS["model.bin"])
            tar.addfile(info, io.BytesIO(WEIGHTS["model.bin"]))
        world.put(file.getvalue())
    assert world.files(world.deploy()) == expected({"model.bin": WEIGHTS["model.bin"]}, NEW)
    assert not world.copies


def test_a_model_that_is_smaller_than_a_part_is_packed_here(world, archives):
    world.put(archives(SMALL))
    assert world.files(world.deploy()) == expected(SMALL, NEW)
    assert not world.copies


def test_for_the_oldest_images_a_model_is_packed_here(world, archives):
    world.put(archives(WEIGHTS))
    assert world.files(world.deploy(framework_version="1.1.0")) == WEIGHTS  # Its code is apart.
    assert not world.copies


def test_an_index_that_says_another_size_is_not_believed(world, archives):
    world.put(archives(WEIGHTS) + b"\0")
    assert world.files(world.deploy()) == expected(WEIGHTS, NEW)
    assert not world.copies


@pytest.mark.parametrize("bad", [fault.refused(403, "AccessDenied"), fault.cut(1000)], ids=["denied", "cut"])
def test_what_cannot_be_looked_into_is_packed_here(world, archives, bad):
    world.put(archives(WEIGHTS))
    world.proxy.when(is_get, bad)
    assert world.files(world.deploy()) == expected(WEIGHTS, NEW)
    assert not world.copies


def test_a_model_that_changes_while_it_is_looked_into(world, archives):
    def replaced(handler, passed_on):
        world.put(archives(SMALL))
        handler.answer(passed_on())

    world.put(archives(WEIGHTS))
    world.proxy.when(is_get, replaced, after=1)
    assert world.files(world.deploy()) == expected(SMALL, NEW)
    assert not world.copies


def test_a_model_that_changes_while_it_is_copied(world, archives):
    """What moto does not do: it copies, whatever the condition."""

    def replaced(handler, passed_on):
        world.put(archives(SMALL))
        fault.refused(412, "PreconditionFailed")(handler, passed_on)

    world.put(archives(WEIGHTS))
    world.proxy.when(is_copy, replaced)
    uri = world.deploy()
    assert world.files(uri) == expected(SMALL, NEW)
    assert world.left == [uri.removeprefix(f"s3://{world.bucket}/")]


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented")])
def test_a_model_that_s3_does_not_copy_is_packed_here(world, archives, status, code):
    world.put(archives(WEIGHTS))
    world.proxy.when(is_copy, fault.refused(status, code), times=-1)
    uri = world.deploy()
    assert world.files(uri) == expected(WEIGHTS, NEW)
    assert world.left == [uri.removeprefix(f"s3://{world.bucket}/")]


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("applies", [is_copy, is_sent, is_end])
@pytest.mark.parametrize(
    "bad",
    [fault.refused(500, "InternalError"), fault.refused(400, "ExpiredToken"), fault.dropped],
    ids=["fault", "expired", "dropped"],
)
def test_what_fails_in_the_middle_leaves_nothing(world, archives, applies, bad):
    world.put(archives(WEIGHTS))
    world.proxy.when(applies, bad)
    with pytest.raises(StorageError, match=r"cannot make s3://.*/model.tar.gz of s3://.*: .*; "):
        world.deploy()
    assert world.left == []
    assert world.double.asked("CreateModel") == []


def test_an_upload_that_cannot_be_given_up_is_told(world, archives, caplog):
    world.put(archives(WEIGHTS))
    world.proxy.when(is_copy, fault.refused(500, "InternalError"))
    world.proxy.when(lambda seen: seen.method == "DELETE", fault.refused(500, "InternalError"))
    with pytest.raises(StorageError):
        world.deploy()
    [key] = world.left
    assert (
        f"aws s3api abort-multipart-upload --bucket {world.bucket} --key '{key}' --upload-id " in caplog.text
    )


@pytest.mark.parametrize("applies", [is_copy, is_sent, is_end])
@pytest.mark.parametrize("bad", [fault.refused(503, "SlowDown"), fault.answer_lost], ids=["slow", "lost"])
def test_faults_that_pass_are_waited_for(world, archives, applies, bad):
    world.put(archives(WEIGHTS))
    world.proxy.when(applies, bad)
    uri = world.deploy(max_attempts=3)
    assert world.files(uri) == expected(WEIGHTS, NEW)
    assert world.left == [uri.removeprefix(f"s3://{world.bucket}/")]


def test_an_end_that_has_arrived_before_is_one(world, archives):
    """What S3 says some time after the first request: moto answers both alike."""

    def arrived(handler, passed_on):
        passed_on()
        fault.refused(404, "NoSuchUpload")(handler, passed_on)

    world.put(archives(WEIGHTS))
    world.proxy.when(is_end, arrived)
    uri = world.deploy()
    assert world.files(uri) == expected(WEIGHTS, NEW)
    assert world.left == [uri.removeprefix(f"s3://{world.bucket}/")]


def test_an_upload_that_somebody_has_given_up_is_an_error(world, archives):
    world.put(archives(WEIGHTS))
    world.proxy.when(is_end, fault.refused(404, "NoSuchUpload"))
    with pytest.raises(StorageError, match="NoSuchUpload"):
        world.deploy()
    assert world.left == []
