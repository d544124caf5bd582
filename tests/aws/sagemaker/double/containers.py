"""Runs what a job's or an endpoint's container would run: the in-job and the in-endpoint program."""

import http.client
import io
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from botocore.exceptions import ClientError

SERVE = "import sys; from modelyard.serving.__main__ import in_container; sys.exit(in_container())"
_LISTENING = re.compile(r"listening host='.*?' port=(\d+)")
_OF_THE_CLIENT = ("SAGEMAKER_", "SM_", "MODELYARD_")


class Containers:
    """``train`` and ``serve`` are for the double's ``plays`` and ``serves``."""

    def __init__(self, double):
        self._double = double

    # -- jobs ----------------------------------------------------------------------------------

    def train(self, job):
        """Run a job of one host as SageMaker does, from its data to its model."""
        job.to("Downloading", "Downloading input data")
        with _folder() as base:
            try:
                self._bring(job.request, base)
            except ClientError as error:
                job.fail(f"ClientError: Data download failed: {error}")
                return
            job.to("Training", "Training in progress")
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "modelyard.training"],
                env=_environ(job.request, SAGEMAKER_BASE_DIR=str(base), TRAINING_JOB_NAME=job.name),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            ended = threading.Event()
            watcher = threading.Thread(target=_stop_when_told, args=(job, process, ended))
            watcher.start()
            for line in process.stdout:
                job.log(line.decode().rstrip("\n"))
            status = process.wait()
            process.stdout.close()
            ended.set()
            watcher.join()
            self._end(job, base, status)

    def _end(self, job, base, status):
        failure = base / "output" / "failure"
        if job.status == "Stopping":
            job.stopped()
        elif status:
            reason = failure.read_text("utf-8") if failure.is_file() else ""
            job.fail(f"AlgorithmError: {reason}, exit code: {status}")
        else:
            job.to("Uploading", "Uploading generated training model")
            job.complete(_packed(base / "model"))

    def _bring(self, request, base):
        config = base / "input" / "config"
        config.mkdir(parents=True)
        hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}
        channels = {}
        for channel in request.get("InputDataConfig", []):
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            self._download(uri, base / "input" / "data" / channel["ChannelName"])
            channels[channel["ChannelName"]] = {"TrainingInputMode": "File"}
        for name, content in {
            "hyperparameters": request["HyperParameters"],
            "resourceconfig": hosts,
            "inputdataconfig": channels,
        }.items():
            (config / f"{name}.json").write_text(json.dumps(content))

    def _download(self, uri, into):
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        s3 = self._double.client("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                target = into / (item["Key"].removeprefix(prefix).lstrip("/") or Path(prefix).name)
                target.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, item["Key"], str(target))

    # -- endpoints -----------------------------------------------------------------------------

    def serve(self, endpoint):
        """Run an endpoint's container, until it is deleted."""
        config = self._double.configs[endpoint.wanted]
        container = self._double.models[config["ProductionVariants"][0]["ModelName"]]["PrimaryContainer"]
        with _folder() as base:
            self._bring_model(container, base)
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", SERVE],
                env=_environ(
                    container,
                    SAGEMAKER_BASE_DIR=str(base),
                    SAGEMAKER_BIND_TO_PORT="0",
                    MODELYARD_SERVE_HOST="127.0.0.1",
                    MODELYARD_SERVE_WORKERS="1",
                ),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            before, endpoint.end = endpoint.end, _both(endpoint.end, process.terminate)
            with process:
                _look_after(endpoint, _Output(process.stdout), before)
        if endpoint.status == "Creating":
            endpoint.to(
                "Failed",
                "The primary container for production variant AllTraffic did not pass the ping health check. "
                "Please check CloudWatch logs for this endpoint.",
            )

    def _bring_model(self, container, base):
        if source := container.get("ModelDataSource"):
            self._download(source["S3DataSource"]["S3Uri"], base / "model")
        else:
            self._unpack(container["ModelDataUrl"], base)

    def _unpack(self, uri, base):
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        body = self._double.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            tar.extractall(base / "model", filter="data")


@contextmanager
def _folder():
    base = Path(tempfile.mkdtemp(prefix="container-"))
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _environ(request, **own):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_CLIENT)}
    given = {
        # A container has its folder there; here it is another one.
        name: value.replace("/opt/ml", own["SAGEMAKER_BASE_DIR"]) if name.startswith("SM_CHANNEL") else value
        for name, value in request.get("Environment", {}).items()
    }
    return {**kept, "MODELYARD_STOP_SECONDS": "5", **given, **own}


def _stop_when_told(job, process, ended):
    while not ended.is_set():
        if job.stop_asked.wait(0.02):
            process.terminate()
            return


def _packed(folder):
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        for item in sorted(folder.iterdir()):
            tar.add(item, item.name)
    return body.getvalue()


def _both(first, second):
    def both():
        first()
        second()

    return both


class _Output:
    """What a container prints, as far as it has come."""

    def __init__(self, pipe):
        self.has_ended = False
        self._pipe = pipe.fileno()
        self._rest = b""
        os.set_blocking(self._pipe, False)

    def lines(self, patience=0.0):
        """Return the lines that have come since, or that come within so many seconds."""
        select.select([self._pipe], [], [], patience)
        with suppress(BlockingIOError):
            while piece := os.read(self._pipe, 1 << 16):
                self._rest += piece
            self.has_ended = True
            self._rest += b"\n"
        *whole, self._rest = self._rest.split(b"\n")
        return [line.decode() for line in whole]


def _look_after(endpoint, output, end_the_one_before):
    """Keep the log of a container until its end, and take it into service once it can answer."""
    port, can_answer = 0, False
    while not output.has_ended:
        lines = output.lines(0.02)
        endpoint.log(*lines)
        port = port or next((int(found[1]) for found in map(_LISTENING.search, lines) if found), 0)
        if port and not can_answer and _ask(port, "GET", "/ping")[0] == 200:
            can_answer = True
            endpoint.log(*output.lines())  # What it printed before that is in the log from the start.
            endpoint.answer = partial(_ask, port, "POST", "/invocations")
            endpoint.to("InService")
            end_the_one_before()


def _ask(port, method, path, body=None, kind="", accept=""):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": kind, "Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("Content-Type", "")
    except OSError:
        return 503, b"", ""
    finally:
        connection.close()
