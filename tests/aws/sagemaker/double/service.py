"""SageMaker and CloudWatch Logs as far as jobs and endpoints go, with the service's own errors."""

import threading
import time
from collections import Counter
from functools import cache

import boto3
from tests.aws.sagemaker.double.shapes import faults, service
from tests.aws.sagemaker.double.state import REGION, Endpoint, Job, Streams, arn

PAGE = 100
"""Log events on a page: few, so that every longer log has several."""
UNREACHABLE = 503
"""The status of what a container would have answered."""


@cache
def _client(name, url):
    return boto3.client(name, endpoint_url=url, region_name=REGION)


class ServiceError(Exception):
    """An error as the service tells it."""

    def __init__(self, code, message, status=400, **members):
        super().__init__(code, message)
        self.code, self.message, self.status, self.members = code, message, status, members


class LostAnswer(Exception):  # noqa: N818 - no error of the service's
    """The request was carried out, and the connection breaks before its answer."""


class Double:
    """The service.

    ``plays``: called with each new job, on a thread of its own, to have it run its course; ``serves``:
    with each new endpoint, to bring it into service. Without them the test moves things on itself.
    ``requests``: every operation with what it was asked, in order; ``broken``: the double's own faults.
    ``s3_url``: of an S3 that keeps the artifacts, and of an IAM that knows the roles.
    """

    def __init__(self, s3_url=None):
        self.s3_url = s3_url
        self.plays = None
        self.serves = None
        self.requests, self.broken = [], []
        self.jobs, self.models, self.configs, self.endpoints, self.tags = {}, {}, {}, {}, {}
        self.streams = Streams()
        self._faults = []
        self._after = {}
        self._lock = threading.RLock()
        self._threads = []

    # -- for tests -----------------------------------------------------------------------------

    def fail_next(self, operation, code, message="a fault", status=400, *, times=1, done=False):
        """Answer the next requests for an operation with an error; with `done`, after carrying it out."""
        self._faults += [(operation, ServiceError(code, message, status), done)] * times

    def lose_next_answer(self, operation):
        """Carry the next request out, and break the connection instead of answering."""
        self._faults.append((operation, LostAnswer(), True))

    def after_next(self, operation, action):
        """Have something happen once the next request for an operation has its answer."""
        self._after[operation] = action

    def asked(self, operation):
        """Return what an operation was asked, each time."""
        return [request for name, request in self.requests if name == operation]

    @property
    def counts(self):
        """How often each operation was asked."""
        return Counter(name for name, _ in self.requests)

    def close(self):
        """End what still runs."""
        for job in self.jobs.values():
            job.stop_asked.set()
        for endpoint in self.endpoints.values():
            endpoint.end()
        for thread in self._threads:
            thread.join(30)
        assert not self.broken, "\n".join(self.broken)

    # -- the wire ------------------------------------------------------------------------------

    def carry_out(self, prefix, operation, request):
        """Return the answer to a request, or raise `ServiceError`."""
        name = {"SageMaker": "sagemaker", "Logs_20140328": "logs"}[prefix]
        method = getattr(self, f"_{operation}", None)
        if method is None:
            raise ServiceError("UnknownOperationException", f"the double has no {operation}", 501)
        model = service(name).operation_model(operation)
        with self._lock:
            self.requests.append((operation, request))
            fault = self._next_fault(operation)
            if fault and not fault[2]:
                raise fault[1]
            if wrong := list(faults(model.input_shape, request)):
                raise ServiceError(
                    "ValidationException", f"{len(wrong)} validation errors: {'; '.join(wrong)}"
                )
            answer = method(request) or {}
            self._after.pop(operation, lambda: None)()
            if fault:
                raise fault[1]
        if model.output_shape is not None:
            # The service itself leaves out what its model says is always there: the model of a job that runs.
            wrong = [
                fault for fault in faults(model.output_shape, answer) if not fault.endswith("is missing")
            ]
            assert not wrong, f"the double's own answer is wrong: {wrong}"
        return answer

    def _next_fault(self, operation):
        for fault in self._faults:
            if fault[0] == operation:
                self._faults.remove(fault)
                return fault
        return None

    def invoke(self, name, body, content_type, accept):
        """Return what an endpoint answers: a status, a body and its type; or raise `ServiceError`."""
        self.requests.append(("InvokeEndpoint", {"EndpointName": name, "Accept": accept}))
        if fault := self._next_fault("InvokeEndpoint"):
            raise fault[1]
        endpoint = self.endpoints.get(name)
        if endpoint is None or endpoint.status not in {"InService", "Updating"}:
            raise ServiceError("ValidationError", f"Endpoint {name} of account 123456789012 not found.")
        asked = endpoint.answer
        status, answer, kind = asked(body, content_type, accept)
        if status == UNREACHABLE and endpoint.answer is not asked:  # New containers have come meanwhile.
            status, answer, kind = endpoint.answer(body, content_type, accept)
        if status >= 400:
            text = answer.decode("utf-8", "replace")
            raise ServiceError(
                "ModelError",
                f"Received server error ({status}) from primary with message {text!r}",
                424,
                OriginalStatusCode=status,
                OriginalMessage=text,
                LogStreamArn=f"arn:aws:logs:::log-group:/aws/sagemaker/Endpoints/{name}",
            )
        return status, answer, kind

    # -- training jobs -------------------------------------------------------------------------

    def _CreateTrainingJob(self, request):  # noqa: N802 - the operation's name
        name = request["TrainingJobName"]
        if name in self.jobs:
            raise ServiceError(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region, and a training job with "
                f"this name already exists ({arn('training-job', name)})",
            )
        self._check_role(request["RoleArn"])
        stopping = request["StoppingCondition"]
        if request.get("EnableManagedSpotTraining") and stopping.get(
            "MaxWaitTimeInSeconds", 0
        ) < stopping.get("MaxRuntimeInSeconds", 0):
            raise ServiceError(
                "ValidationException",
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
                "MaxRuntimeInSeconds",
            )
        job = self.jobs[name] = Job(request, self.streams, self.put)
        self.tags[arn("training-job", name)] = request.get("Tags", [])
        self._start(self.plays, job)
        return {"TrainingJobArn": arn("training-job", name)}

    def _DescribeTrainingJob(self, request):  # noqa: N802
        return self._job(request).described()

    def _StopTrainingJob(self, request):  # noqa: N802
        job = self._job(request)
        if not job.ask_to_stop():
            raise ServiceError(
                "ValidationException",
                f"The request was rejected because the training job is in status {job.status}.",
            )

    def _ListTrainingJobs(self, request):  # noqa: N802
        found = [
            {
                "TrainingJobName": job.name,
                "TrainingJobArn": arn("training-job", job.name),
                "CreationTime": job.created,
                "TrainingJobStatus": job.status,
            }
            for job in self.jobs.values()
        ]
        return self._page(request, found, "TrainingJobSummaries")

    def _job(self, request):
        try:
            return self.jobs[request["TrainingJobName"]]
        except KeyError:
            raise ServiceError("ValidationException", "Requested resource not found.") from None

    # -- models, configurations, endpoints -----------------------------------------------------

    def _CreateModel(self, request):  # noqa: N802
        self._check_role(request["ExecutionRoleArn"])
        return {"ModelArn": self._create(self.models, "model", request["ModelName"], request)}

    def _DescribeModel(self, request):  # noqa: N802
        found = self._find(self.models, "model", request["ModelName"])
        return self._told(found, "ModelArn", "model", "ModelName")

    def _DeleteModel(self, request):  # noqa: N802
        del self.models[self._find(self.models, "model", request["ModelName"])["ModelName"]]

    def _CreateEndpointConfig(self, request):  # noqa: N802
        for variant in request["ProductionVariants"]:
            self._find(self.models, "model", variant["ModelName"])
        name = request["EndpointConfigName"]
        return {"EndpointConfigArn": self._create(self.configs, "endpoint configuration", name, request)}

    def _DescribeEndpointConfig(self, request):  # noqa: N802
        found = self._find(self.configs, "endpoint configuration", request["EndpointConfigName"])
        return self._told(found, "EndpointConfigArn", "endpoint-config", "EndpointConfigName")

    def _DeleteEndpointConfig(self, request):  # noqa: N802
        name = request["EndpointConfigName"]
        self._find(self.configs, "endpoint configuration", name)
        del self.configs[name]

    def _CreateEndpoint(self, request):  # noqa: N802
        name = request["EndpointName"]
        if name in self.endpoints:
            raise ServiceError(
                "ValidationException", f'Cannot create already existing endpoint "{arn("endpoint", name)}".'
            )
        self._find(self.configs, "endpoint configuration", request["EndpointConfigName"])
        endpoint = self.endpoints[name] = Endpoint(request, self.streams)
        self.tags[arn("endpoint", name)] = request.get("Tags", [])
        self._start(self.serves, endpoint)
        return {"EndpointArn": arn("endpoint", name)}

    def _DescribeEndpoint(self, request):  # noqa: N802
        endpoint = self._find(self.endpoints, "endpoint", request["EndpointName"])
        return endpoint.described(self.configs)

    def _UpdateEndpoint(self, request):  # noqa: N802
        endpoint = self._find(self.endpoints, "endpoint", request["EndpointName"])
        self._find(self.configs, "endpoint configuration", request["EndpointConfigName"])
        if endpoint.status != "InService":
            raise ServiceError(
                "ValidationException",
                f'Cannot update in-progress endpoint "{arn("endpoint", endpoint.name)}".',
            )
        endpoint.wanted = request["EndpointConfigName"]
        endpoint.to("Updating")
        self._start(self.serves, endpoint)
        return {"EndpointArn": arn("endpoint", endpoint.name)}

    def _DeleteEndpoint(self, request):  # noqa: N802
        endpoint = self._find(self.endpoints, "endpoint", request["EndpointName"])
        if endpoint.status in {"Creating", "Updating"}:
            raise ServiceError(
                "ValidationException",
                f'Cannot update in-progress endpoint "{arn("endpoint", endpoint.name)}".',
            )
        endpoint.end()
        del self.endpoints[endpoint.name]

    def _ListEndpoints(self, request):  # noqa: N802
        found = [
            {
                "EndpointName": endpoint.name,
                "EndpointArn": arn("endpoint", endpoint.name),
                "CreationTime": endpoint.created,
                "LastModifiedTime": endpoint.changed,
                "EndpointStatus": endpoint.status,
            }
            for endpoint in self.endpoints.values()
        ]
        return self._page(request, found, "Endpoints")

    def _ListTags(self, request):  # noqa: N802
        return {"Tags": self.tags.get(request["ResourceArn"], [])}

    def _AddTags(self, request):  # noqa: N802
        tags = self.tags.setdefault(request["ResourceArn"], [])
        tags += request["Tags"]
        return {"Tags": tags}

    # -- logs ----------------------------------------------------------------------------------

    def _DescribeLogStreams(self, request):  # noqa: N802
        streams = self._group(request)
        prefix = request.get("logStreamNamePrefix", "")
        return {
            "logStreams": [{"logStreamName": name} for name in sorted(streams) if name.startswith(prefix)]
        }

    def _GetLogEvents(self, request):  # noqa: N802
        events = self._group(request).get(request["logStreamName"])
        if events is None:
            raise ServiceError("ResourceNotFoundException", "The specified log stream does not exist.")
        size = min(request.get("limit", PAGE), PAGE)
        first = 0 if request.get("startFromHead") else max(0, len(events) - size)
        start = int(request.get("nextToken", f"f/{first}").partition("/")[2])
        page = events[start : start + size]
        return {
            "events": page,
            "nextForwardToken": f"f/{start + len(page)}",
            "nextBackwardToken": f"b/{start}",
        }

    def _group(self, request):
        try:
            return self.streams.groups[request["logGroupName"]]
        except KeyError:
            raise ServiceError(
                "ResourceNotFoundException", "The specified log group does not exist."
            ) from None

    # -- helpers -------------------------------------------------------------------------------

    def client(self, name):
        """Return a client of the S3 or the IAM beside the double."""
        return _client(name, self.s3_url)

    def put(self, uri, content):
        """Write an object, where there is an S3."""
        if self.s3_url:
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            self.client("s3").put_object(Bucket=bucket, Key=key, Body=content)

    def _check_role(self, role):
        if not self.s3_url:
            return
        try:
            self.client("iam").get_role(RoleName=role.rpartition("/")[2])
        except Exception:  # noqa: BLE001 - whatever it is, there is no such role
            raise ServiceError(
                "ValidationException",
                f"Could not assume role {role}. Please ensure that the role exists and allows principal "
                "'sagemaker.amazonaws.com' to assume the role.",
            ) from None

    def _start(self, play, subject):
        if play is not None:
            thread = threading.Thread(target=play, args=(subject,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _create(self, kept, kind, name, request):
        if name in kept:
            raise ServiceError(
                "ValidationException", f'Cannot create already existing {kind} "{arn(kind, name)}".'
            )
        kept[name] = {**request, "CreationTime": time.time()}
        return arn({"endpoint configuration": "endpoint-config"}.get(kind, kind), name)

    def _find(self, kept, kind, name):
        try:
            return kept[name]
        except KeyError:
            raise ServiceError("ValidationException", f'Could not find {kind} "{arn(kind, name)}".') from None

    def _told(self, found, arn_name, kind, name):
        return {**{k: v for k, v in found.items() if k != "Tags"}, arn_name: arn(kind, found[name])}

    def _page(self, request, found, member):
        found.sort(key=lambda item: item["CreationTime"], reverse=request.get("SortOrder") != "Ascending")
        start, size = int(request.get("NextToken", 0)), request.get("MaxResults", 10)
        more = {"NextToken": str(start + size)} if start + size < len(found) else {}
        return {member: found[start : start + size], **more}
