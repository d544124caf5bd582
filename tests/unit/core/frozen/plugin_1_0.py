"""A plugin as it was written for version 1.0 of the contract: every hook, and each noun's bare minimum.

Frozen: it is never changed to make a test pass. Where it stops working, so do the plugins out there.
"""

import hashlib
import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from modelyard import hookimpl
from modelyard.core.contracts import (
    Bundle,
    Command,
    EndpointDescription,
    Invocation,
    JobDescription,
)
from modelyard.core.errors import DecodeError, EndpointNotFoundError, JobNotFoundError
from modelyard.core.http import Response
from modelyard.core.plans import EndpointStatus, JobStatus, ProviderRef

MODELYARD_CONTRACT = "1.0"

told = []
"""What the hooks were called with, in order."""


class FrozenCodec:
    name = "frozen"
    media_types = ("application/x-frozen",)

    def encode(self, value):
        return json.dumps(value).encode()

    def decode(self, body):
        try:
            return json.loads(body)
        except ValueError as error:
            raise DecodeError(f"not of the format: {error}") from error


class FrozenHardware:
    name = "frozen"
    device_type = "cpu"
    collectives = ("gloo",)
    instance_types = ("frozen.*",)

    def device_count(self):
        return 1

    def environ(self, host):
        return {"FROZEN_HOST": f"{host.name} {host.rank} of {len(host.names)}, {host.master_address}"}

    def load(self, model_dir):
        factor = int(Path(model_dir, "factor.txt").read_text("utf-8"))
        return lambda value: [factor * item for item in value]

    def place(self, value, index=0):
        return value

    def predict(self, model, value):
        return model(value)

    def fetch(self, value):
        return value


class FrozenLauncher:
    name = "frozen"
    distributions = ("frozen",)

    def command(self, entry, host, hardware):
        return Command(
            (entry.interpreter, entry.program, *entry.arguments), hardware.environ(host), entry.code_dir
        )


class FrozenPackager:
    name = "frozen"

    def pack_source(self, source, into):
        return self.pack_tree(Path(source.source_dir), Path(into, "source.zip"))

    def pack_model(self, model, source, into):
        content = Path(into, "model")
        if Path(model).is_dir():
            shutil.copytree(model, content)
        else:
            self.unpack(model, content)
        if source is not None:
            shutil.copytree(source.source_dir, content / "code")
        return self.pack_tree(content, Path(into, "model.zip"))

    def pack_tree(self, folder, archive):
        made = Path(shutil.make_archive(str(archive.with_suffix("")), "zip", folder)).rename(archive)
        files = sum(path.is_file() for path in Path(folder).rglob("*"))
        return Bundle(made, hashlib.sha256(made.read_bytes()).hexdigest(), files, made.stat().st_size)

    def unpack(self, archive, into):
        shutil.unpack_archive(archive, into, "zip")


class FrozenStorage:
    name = "frozen"
    schemes = ("frozen",)

    def download(self, uri, into):
        Path(into).mkdir(parents=True, exist_ok=True)
        shutil.copy(urlsplit(uri).path, into)

    def upload(self, path, uri):
        shutil.copy(path, urlsplit(uri).path)
        return uri

    def prepare(self, uri):
        Path(urlsplit(uri).path).mkdir(parents=True, exist_ok=True)


class FrozenJob:
    def __init__(self, plan, model_data):
        self.name, self.plan, self.model_data = plan.job_name, plan, model_data

    def describe(self):
        return JobDescription(self.name, JobStatus.COMPLETED, self.plan, model_data=self.model_data)

    def logs(self, *, follow=False):
        yield "a line"

    def stop(self):
        pass


class FrozenEndpoint:
    def __init__(self, plan):
        self.name, self.plan = plan.endpoint_name, plan

    def describe(self):
        return EndpointDescription(self.name, EndpointStatus.IN_SERVICE, self.plan)

    def logs(self, *, follow=False):
        yield "a line"

    def invoke(self, body, *, content_type, accept):
        return Invocation(body, content_type)

    def delete(self):
        pass


class FrozenBackend:
    """Moves a plan's files as a backend does: pack, upload, download, unpack; its jobs are done at once."""

    name = "frozen"
    instance_types = ("frozen.*",)
    jobs, endpoints = {}, {}

    def submit(self, plan, carrier, *, attached=True):
        below = Path(urlsplit(plan.output_path).path)
        carrier.prepare(plan.output_path)
        bundle = carrier.pack(below)
        uri = carrier.upload(bundle.path, f"{plan.output_path}/uploaded.zip")
        carrier.download(uri, below / "downloaded")
        carrier.unpack(below / "downloaded" / "uploaded.zip", below / "code")
        self.jobs[plan.job_name] = FrozenJob(plan, uri)
        return self.jobs[plan.job_name]

    def deploy(self, plan, carrier):
        below = Path(urlsplit(plan.model.uri).path).parent / plan.endpoint_name
        below.mkdir()
        carrier.unpack(carrier.pack(below).path, below / "served")
        self.endpoints[plan.endpoint_name] = FrozenEndpoint(plan)
        return self.endpoints[plan.endpoint_name]

    def job(self, name):
        if name not in self.jobs:
            raise JobNotFoundError(name)
        return self.jobs[name]

    def endpoint(self, name):
        if name not in self.endpoints:
            raise EndpointNotFoundError(name)
        return self.endpoints[name]


@hookimpl
def modelyard_register_codecs():
    return (FrozenCodec,)


@hookimpl
def modelyard_register_hardware():
    return (FrozenHardware,)


@hookimpl
def modelyard_register_launchers():
    return (FrozenLauncher,)


@hookimpl
def modelyard_register_packagers():
    return (FrozenPackager,)


@hookimpl
def modelyard_register_storages():
    return (FrozenStorage,)


@hookimpl
def modelyard_register_backends():
    return (FrozenBackend,)


def _is_ours(resources):
    return resources.instance_type.startswith("frozen.") and resources.instance_count >= 1


@hookimpl
def modelyard_select_hardware(resources):
    told.append("select_hardware")
    return ProviderRef("frozen") if _is_ours(resources) else None


@hookimpl
def modelyard_select_launcher(resources, hardware, distribution):
    told.append("select_launcher")
    return "frozen" if _is_ours(resources) and hardware == "frozen" and not distribution else None


@hookimpl
def modelyard_select_backend(resources):
    told.append("select_backend")
    return "frozen" if _is_ours(resources) else None


@hookimpl
def modelyard_select_packager(source):
    told.append("select_packager")
    return "frozen" if source is None or source.entry_point else None


@hookimpl
def modelyard_job_environ(host, hardware):
    told.append("job_environ")
    return {"FROZEN": f"{host.name} on {hardware}"}


@hookimpl
def modelyard_job_started(plan):
    told.append(f"job_started {plan.job_name}")


@hookimpl
def modelyard_job_finished(description):
    told.append(f"job_finished {description.name} {description.status}")


@hookimpl
def modelyard_model_loaded(model, model_dir):
    told.append(f"model_loaded {callable(model)} {model_dir.name}")


@hookimpl
def modelyard_wrap_handler(handler):
    def wrapped(request):
        answer = handler(request)
        headers = {**answer.headers, "x-frozen": request.request_id}
        return Response(answer.body, answer.content_type, answer.status, headers, answer.chunks)

    told.append("wrap_handler")
    return wrapped
