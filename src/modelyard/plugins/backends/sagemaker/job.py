"""What a client holds of a training job on SageMaker."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress

from modelyard.core.contracts import JobDescription, Metric
from modelyard.core.errors import JobError, JobNotFoundError
from modelyard.plugins.backends.sagemaker import reading
from modelyard.plugins.backends.sagemaker.clients import Clients, reporting
from modelyard.plugins.backends.sagemaker.logs import Line, LogReader
from modelyard.plugins.backends.sagemaker.service import JOB, Service
from modelyard.plugins.backends.sagemaker.settings import Settings
from modelyard.plugins.backends.sagemaker.watching import Answer, Pause, Watch

_LATE = 3
"""How often a log is read again after the job's end: its last lines arrive later than the state does."""


class SageMakerJobHandle:
    """A training job on SageMaker."""

    def __init__(self, clients: Clients, settings: Settings, name: str) -> None:
        self.name = name
        self._clients = clients
        self._settings = settings
        self._watch = Watch(self._ask, settings.poll_seconds)

    def describe(self) -> JobDescription:
        """Return how the job stands, as of at most ``poll_seconds`` ago. Raises `JobNotFoundError`."""
        return reading.job_description(self._watch.recent(), self._clients.region)

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Yield the lines of all hosts; with `follow`, and what the service does, until the job has ended.

        Where there are several hosts a line begins with ``[algo-1]``. Who follows is told of a log that
        cannot be read, and goes on waiting for the job.
        """
        reader = LogReader(self._clients, JobError, reading.JOB_LOGS, f"{self.name}/")
        if follow:
            yield from self._followed(reader)
        else:
            several = _hosts(self._watch.recent()) > 1
            yield from (_told(line, several=several) for line in reader.new())

    def _followed(self, reader: LogReader) -> Iterator[str]:
        pause, told, late, trouble = Pause(self._settings.poll_seconds), 0, 0, ""
        while True:
            answer = self._still()
            # Read once more after the end that was seen before it was read, and again while more comes.
            late = late + 1 if reading.job_status(answer).is_terminal else 0
            steps = reading.transitions(answer)
            yield from (f"modelyard: {step}" for step in steps[told:])
            several, news = _hosts(answer) > 1, len(steps) > told
            told = len(steps)
            try:
                for line in reader.new():
                    news = True
                    yield _told(line, several=several)
            except JobError as error:
                if trouble != str(error):
                    trouble = str(error)
                    yield f"modelyard: {trouble}"
            if late > 1 and (not news or late > _LATE):
                return
            pause.sleep(again=news)

    def _still(self) -> Answer:
        """Return how the job stands; who waits for it is told, where that fails, that the job goes on."""
        try:
            return self._watch.recent()
        except JobNotFoundError:
            raise
        except JobError as error:
            raise JobError(f"{error}. The job goes on: PyTorch.attach({self.name!r}) waits for it") from error

    def metrics(self) -> tuple[Metric, ...]:
        """Return what the metrics of the plan were in the log, the oldest value first."""
        expressions = [(metric.name, re.compile(metric.regex)) for metric in self.describe().plan.metrics]
        reader = LogReader(self._clients, JobError, reading.JOB_LOGS, f"{self.name}/")
        found: list[Metric] = []
        for line in reader.new() if expressions else ():
            for name, expression in expressions:
                if (match := expression.search(line.text)) is not None:
                    with suppress(ValueError, TypeError):
                        found.append(Metric(name, float(match[1]), line.time / 1000, line.host))
        return tuple(found)

    def stop(self) -> None:
        """Have the job stopped, and wait for its end: SIGTERM to the script, and 120 s for it.

        Raises `JobError` where it does not end within ``stop_seconds``.
        """
        if reading.job_status(self._watch.now()).is_terminal:
            return
        with reporting(f"cannot stop training job {self.name!r}", JobError):
            try:
                self._clients.sagemaker.stop_training_job(TrainingJobName=self.name)
            except self._clients.sagemaker.exceptions.ClientError:
                # It may have ended in the meantime.
                if not reading.job_status(self._watch.now()).is_terminal:
                    raise
        pause, deadline = Pause(self._settings.poll_seconds), time.monotonic() + self._settings.stop_seconds
        while not reading.job_status(self._watch.now()).is_terminal:
            if time.monotonic() > deadline:
                raise JobError(
                    f"training job {self.name!r} is still {self._watch.recent()['TrainingJobStatus']} "
                    f"{self._settings.stop_seconds:g} s after it was told to stop"
                )
            pause.sleep()

    def _ask(self) -> Answer:
        answer = Service(self._clients).find(JOB, self.name)
        if answer is None:
            raise JobNotFoundError(
                f"no training job is called {self.name!r} on SageMaker in {self._clients.region}; is it in "
                "another region, or of another account?"
            )
        return answer


def _hosts(answer: Answer) -> int:
    hosts = answer.get("ResourceConfig", {})
    groups = hosts.get("InstanceGroups") or [hosts]
    return sum(group.get("InstanceCount", 1) for group in groups)


def _told(line: Line, *, several: bool) -> str:
    return f"[{line.host}] {line.text}" if several else line.text
