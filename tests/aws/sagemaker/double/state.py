"""What the double keeps of jobs and endpoints, and how a test or a player moves them on."""

import threading
import time

TERMINAL = {"Completed", "Failed", "Stopped"}
ACCOUNT, REGION = "123456789012", "us-east-1"


class Streams:
    """Log streams by their names, each a list of events."""

    def __init__(self):
        self.groups = {}
        self._lock = threading.Lock()

    def write(self, group, stream, *lines, at=None):
        """Add lines to a stream."""
        with self._lock:
            events = self.groups.setdefault(group, {}).setdefault(stream, [])
            for line in filter(None, lines):  # CloudWatch keeps no empty ones.
                moment = int((time.time() if at is None else at) * 1000)
                events.append({"timestamp": moment, "message": line, "ingestionTime": moment})


class Job:
    """A training job: what was asked for, and how it stands."""

    def __init__(self, request, streams, put):
        self.request = request
        self.name = request["TrainingJobName"]
        self.status, self.secondary = "InProgress", "Starting"
        self.reason = None
        self.artifacts = ""
        self.created = self.changed = time.time()
        self.transitions = []
        self.stop_asked = threading.Event()
        self._streams = streams
        self._put = put
        self._lock = threading.RLock()
        self.to("Starting", "Starting the training job...")

    def to(self, secondary, message=""):
        """Go on to the next step of a job that runs."""
        with self._lock:
            assert self.status not in TERMINAL, f"{self.name} is {self.status}"
            self.secondary, self.changed = secondary, time.time()
            if self.transitions:
                self.transitions[-1].setdefault("EndTime", self.changed)
            self.transitions.append(
                {"Status": secondary, "StartTime": self.changed, "StatusMessage": message or secondary}
            )

    def log(self, *lines, host="algo-1", at=None):
        """Have a host print lines."""
        self._streams.write(
            "/aws/sagemaker/TrainingJobs", f"{self.name}/{host}-{int(self.created)}", *lines, at=at
        )

    def complete(self, model=b"a model"):
        """End well, with an archive on S3."""
        self.artifacts = f"{self.output}/model.tar.gz"
        self._put(self.artifacts, model)
        self._end("Completed", "Completed", "Training job completed")

    def fail(self, reason):
        """End badly."""
        self.reason = reason
        self._end("Failed", "Failed", reason)

    def stopped(self, secondary="Stopped"):
        """End on request, or because of a limit."""
        self._end("Stopped", secondary, "Training job stopped")

    @property
    def output(self):
        """Where the job's archives go."""
        return f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}/output"

    def ask_to_stop(self):
        """Take note of a request to stop; tell whether the job has not ended."""
        with self._lock:
            if self.status in TERMINAL:
                return False
            if self.status != "Stopping":
                self.status = "Stopping"
                self.to("Stopping", "Stopping the training job")
        self.stop_asked.set()
        return True

    def _end(self, status, secondary, message):
        with self._lock:
            self.to(secondary, message)
            self.transitions[-1]["EndTime"] = self.changed
            self.status = status

    def described(self):
        """Return the answer of DescribeTrainingJob."""
        with self._lock:
            answer = {key: value for key, value in self.request.items() if key not in _NOT_TOLD}
            answer |= {
                "TrainingJobArn": arn("training-job", self.name),
                "TrainingJobStatus": self.status,
                "SecondaryStatus": self.secondary,
                "SecondaryStatusTransitions": [dict(step) for step in self.transitions],
                "CreationTime": self.created,
                "LastModifiedTime": self.changed,
            }
            if self.artifacts:
                answer["ModelArtifacts"] = {"S3ModelArtifacts": self.artifacts}
            if self.reason:
                answer["FailureReason"] = self.reason[:1024]
            if self.status in TERMINAL:
                answer |= {"TrainingEndTime": self.changed}
            # As the service does for what was left out.
            for switch in ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption"):
                answer.setdefault(switch, False)
            answer.setdefault("EnableManagedSpotTraining", False)
            output = {"KmsKeyId": "", "CompressionType": "GZIP"}
            answer["OutputDataConfig"] = {**output, **answer["OutputDataConfig"]}
            plain = {"CompressionType": "None", "RecordWrapperType": "None"}
            if channels := answer.get("InputDataConfig"):
                answer["InputDataConfig"] = [{**plain, **channel} for channel in channels]
            return answer


_NOT_TOLD = ("Tags", "SessionChainingConfig")


class Endpoint:
    """An endpoint: which configuration it has, how it stands, and what answers."""

    def __init__(self, request, streams):
        self.name = request["EndpointName"]
        self.config = self.wanted = request["EndpointConfigName"]
        self.status = "Creating"
        self.reason = None
        self.created = self.changed = time.time()
        self.answer = lambda body, content_type, accept: (200, body, content_type)
        self.end = lambda: None
        self._streams = streams
        self._lock = threading.Lock()

    def to(self, status, reason=None):
        """Go on to another state."""
        with self._lock:
            self.status, self.reason, self.changed = status, reason, time.time()
            if status == "InService":
                self.config = self.wanted

    def log(self, *lines):
        """Have the container print lines."""
        self._streams.write(f"/aws/sagemaker/Endpoints/{self.name}", "AllTraffic/i-0123", *lines)

    def described(self, configs):
        """Return the answer of DescribeEndpoint. ``configs``: those that there are, by their names."""
        with self._lock:
            return self._described(configs.get(self.config))

    def _described(self, config):
        answer = {
            "EndpointName": self.name,
            "EndpointArn": arn("endpoint", self.name),
            "EndpointConfigName": self.config,
            "EndpointStatus": self.status,
            "CreationTime": self.created,
            "LastModifiedTime": self.changed,
        }
        if config and self.status == "InService":
            answer["ProductionVariants"] = [
                {"VariantName": v["VariantName"], "CurrentInstanceCount": v.get("InitialInstanceCount", 1)}
                for v in config["ProductionVariants"]
            ]
        if self.status == "Updating":
            answer["PendingDeploymentSummary"] = {"EndpointConfigName": self.wanted}
        return answer | ({"FailureReason": self.reason} if self.reason else {})


def arn(kind, name):
    """Return the ARN of something."""
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"
