"""A real server that speaks AWS's protocols (moto's), and the surroundings in which boto3 finds it.

Nothing of boto3 is replaced: the endpoint, the region and the credentials come from ``AWS_*`` variables, and
``HOME`` is a new folder.
"""

import os
import re
import secrets
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import pytest
from tests.aws.proxy import Proxy

REGION = "us-east-1"
ACCOUNT = "123456789012"
_READY = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")


class MotoServer:
    """A process of moto's server, on a port of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            env={**os.environ, "PYTHONWARNINGS": "ignore", "MOTO_PORT": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = []
        for line in self.process.stderr:
            said.append(line)
            if ready := _READY.search(line):
                self.url = ready[1]
                break
        else:
            pytest.fail(f"moto's server does not start:\n{''.join(said)}")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@cache
def _moto() -> MotoServer:
    return MotoServer()


@pytest.fixture(scope="session")
def moto(request):
    """Return the URL of a moto server; there is one for all tests, whatever folder they are in."""
    pytest.importorskip("boto3", reason="boto3 is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    pytest.importorskip("flask", reason="moto[server] is not installed")
    server = _moto()
    request.config.add_cleanup(server.stop)
    return server.url


@pytest.fixture
def surroundings(tmp_path, monkeypatch):
    """Have boto3 find nothing but what a test gives it, and no credentials that work anywhere."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "aws-home"
    (home / ".aws").mkdir(parents=True)
    for name, value in {
        "HOME": str(home),
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def aws(moto, surroundings, monkeypatch):
    """Have boto3 find the moto server, in this process and in those that it starts; return its URL."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    return moto


@pytest.fixture
def s3(aws):
    """Return a client of S3 that no proxy is in front of, for looking and preparing."""
    from botocore.session import Session

    return Session().create_client("s3", endpoint_url=aws)


@pytest.fixture
def bucket(s3):
    """Return the name of a new bucket."""
    name = f"bucket-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def proxy(aws, monkeypatch):
    """Return a proxy in front of the moto server, by which boto3 goes."""
    with Proxy(aws) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


@pytest.fixture
def config_file(aws):
    """Return the path of the configuration file of AWS's tools."""
    return Path(os.environ["HOME"], ".aws", "config")
