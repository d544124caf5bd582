"""What every backend promises about jobs, as tests."""

from pathlib import Path

import attrs
import pytest

from modelyard.core.contracts import (
    Backend,
    InterruptibleJob,
    JobDescription,
    ListingBackend,
    MeasuredJob,
)
from modelyard.core.errors import JobExistsError, JobNotFoundError, PackagingError
from modelyard.core.plans import Channel, JobStatus, MetricDefinition, unique_name
from modelyard.core.redaction import REDACTED
from modelyard.testing.backend_setup import BackendSetup, CountingCarrier, until
from modelyard.testing.saying import refused
from modelyard.testing.trees import read_tree, write_tree

TRAIN = """
import os, sys

print("arguments", sys.argv[1:])
print("greeting", os.environ["GREETING"])
with open(os.path.join(os.environ["SM_MODEL_DIR"], "weights.txt"), "w") as file:
    file.write("trained")
"""
READ = """
import os

with open(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "numbers.txt")) as file:
    print("sum", sum(map(int, file)))
"""
TALK = """
for number in range(3000):
    print("line", number, "ä" * (number % 50))
"""
FAIL = """
print("about to fail", flush=True)
raise ValueError("the loss is NaN")
"""
WAIT = """
import time

print("waiting", flush=True)
time.sleep(300)
"""
BEGIN = """
import time

print("begins", flush=True)
time.sleep(300)
"""
LOSE = """
for loss in (0.5, 0.25):
    print("the loss is", loss, flush=True)
"""
MEASURE_VARIABLE = """
import os

print("the secret has", len(os.environ["MY_SECRET_TOKEN"]), "letters")
"""


class JobPromises(BackendSetup):
    """The part of `BackendContract` that is about jobs."""

    # -- jobs that end -------------------------------------------------------------------------

    @pytest.mark.parametrize("attached", [True, False])
    def test_job_completes(self, backend: Backend, tmp_path: Path, attached: bool) -> None:  # noqa: FBT001
        """A job runs its script with its arguments and variables, and is Completed with a model."""
        plan = self._job_plan(tmp_path, TRAIN)
        plan = attrs.evolve(plan, hyperparameters={"epochs": 3}, environment={"GREETING": "hello"})
        carrier = self._job_carrier(plan)
        with self._submitted(backend, plan, carrier, attached=attached) as handle:
            assert handle.name == plan.job_name, f"the handle of {plan.job_name} is called {handle.name!r}"
            description = self._ended(handle)
            lines = self._within("logs()", lambda: list(handle.logs()))
        _is(description, JobStatus.COMPLETED, lines)
        assert description.name == plan.job_name, (
            f"the job {plan.job_name} is described as {description.name!r}"
        )
        assert not description.reason, f"a job that completed has a reason: {description.reason!r}"
        assert description.plan.hyperparameters == plan.hyperparameters, (
            f"the description's plan has the hyperparameters {description.plan.hyperparameters}"
        )
        for line in ("arguments ['--epochs', '3']", "greeting hello"):
            assert line in lines, f"the log lacks the script's line {line!r}: {lines}"
        self._has_the_model(description, carrier, tmp_path)

    def test_job_reads_its_channels(self, backend: Backend, tmp_path: Path) -> None:
        """A channel's data is where ``SM_CHANNEL_<NAME>`` says."""
        plan = self._job_plan(tmp_path, READ)
        if not self.can_read_files:
            pytest.skip(f"jobs of {backend.name} cannot be given files of this machine")
        data = write_tree(tmp_path / "data", {"numbers.txt": b"1\n2\n3\n"})
        plan = attrs.evolve(plan, channels=(Channel("train", data.as_uri()),))
        with self._submitted(backend, plan) as handle:
            lines = self._log_of(handle)
        assert "sum 6" in lines, f"the script did not read its channel: {lines}"
        found = read_tree(data)
        assert found == {"numbers.txt": b"1\n2\n3\n"}, f"the user's data was changed: {found}"

    def test_long_log_comes_whole(self, backend: Backend, tmp_path: Path) -> None:
        """Every line that the script prints is in the log, in order, letter by letter."""
        with self._submitted(backend, self._job_plan(tmp_path, TALK)) as handle:
            lines = [line for line in self._log_of(handle) if line.startswith("line ")]
        expected = [f"line {number} {'ä' * (number % 50)}" for number in range(3000)]
        assert len(lines) == len(expected), (
            f"the script printed {len(expected)} lines, the log has {len(lines)}"
        )
        wrong = [pair for pair in zip(expected, lines, strict=True) if pair[0] != pair[1]]
        assert not wrong, f"the script printed {wrong[0][0]!r}, the log says {wrong[0][1]!r}"

    def test_failing_script_fails_the_job(self, backend: Backend, tmp_path: Path) -> None:
        """A script that raises makes the job Failed, for the reason that the script gave."""
        with self._submitted(backend, self._job_plan(tmp_path, FAIL)) as handle:
            lines = self._log_of(handle)
            description = self._ended(handle)
        _is(description, JobStatus.FAILED, lines)
        reason = description.reason
        assert "ValueError: the loss is NaN" in reason, (
            f"the reason is not the script's exception: {reason!r}"
        )
        size = len(reason.encode())
        assert size <= 1024, f"the reason has {size} bytes; SageMaker's has 1,024 at most"
        assert description.model_data is None, f"a job that failed has a model: {description.model_data!r}"
        assert "about to fail" in lines, f"the log lacks what the script printed before it failed: {lines}"

    def test_secrets_stay_out_of_the_plan(self, backend: Backend, tmp_path: Path) -> None:
        """A variable that looks like a secret reaches the script, and nobody who describes the job."""
        plan = attrs.evolve(
            self._job_plan(tmp_path, MEASURE_VARIABLE), environment={"MY_SECRET_TOKEN": "hunter2"}
        )
        with self._submitted(backend, plan) as handle:
            lines = self._log_of(handle)
            saved = handle.describe().plan.environment.get("MY_SECRET_TOKEN")
        assert "the secret has 7 letters" in lines, f"the script did not get its variable: {lines}"
        assert saved in (REDACTED, None), f"the description's plan tells the secret: {saved!r}"

    # -- jobs by name --------------------------------------------------------------------------

    def test_job_is_found_by_name(self, backend: Backend, tmp_path: Path) -> None:
        """Another backend object finds the job, with the same description, after its end too."""
        plan = attrs.evolve(self._job_plan(tmp_path, TRAIN), environment={"GREETING": "hello"})
        with self._submitted(backend, plan) as handle:
            found = self.backend_class().job(plan.job_name)
            mine, theirs = self._ended(handle), self._ended(found)
        assert mine == theirs, f"one job, two descriptions: {mine} and {theirs}"

    def test_unknown_job_is_not_found(self, backend: Backend) -> None:
        """A name that no job has is a `JobNotFoundError` that says it."""
        if not self.can_train:
            pytest.skip(f"{backend.name} cannot train here")
        name = unique_name("no-such-job")
        error = refused(lambda: backend.job(name), JobNotFoundError, "job() of an unknown name")
        assert name in str(error), f"the error does not name the job that was asked for: {error}"

    def test_job_name_is_used_once(self, backend: Backend, tmp_path: Path) -> None:
        """A second job of one name is a `JobExistsError`, and the first one goes on."""
        plan = self._job_plan(tmp_path, FAIL)
        with self._submitted(backend, plan) as handle:
            again = self._job_carrier(plan)
            refused(lambda: backend.submit(plan, again), JobExistsError, "submit() of a name that is taken")
            description = self._ended(handle)
            _is(description, JobStatus.FAILED)
            refused(lambda: backend.submit(plan, again), JobExistsError, "submit() of an ended job's name")
            after = self._ended(handle)
        assert after == description, f"the first job was changed from {description} to {after}"

    def test_bad_plan_leaves_no_job(self, backend: Backend, tmp_path: Path) -> None:
        """What packing raises is raised by `submit`, and the name is free as before."""
        plan = self._job_plan(tmp_path, FAIL)
        bad = self._job_carrier(plan, failing=True)
        refused(lambda: backend.submit(plan, bad), PackagingError, "submit() of what cannot be packed")
        assert bad.packed == 1, f"submit must pack the source with its carrier; it packed {bad.packed} times"
        what = "after a submit() that failed, job()"
        refused(lambda: backend.job(plan.job_name), JobNotFoundError, what)
        try:
            with self._submitted(backend, plan) as handle:
                self._ended(handle)
        except JobExistsError as error:
            raise AssertionError(f"after a submit() that failed, the name is taken: {error}") from error

    # -- what only some can --------------------------------------------------------------------

    def test_jobs_are_listed(self, backend: Backend, tmp_path: Path) -> None:
        """A backend that knows its jobs names one once, with its description, after its end too."""
        plan = self._job_plan(tmp_path, FAIL)
        if not isinstance(backend, ListingBackend):
            pytest.skip(f"{backend.name} does not list its jobs")
        with self._submitted(backend, plan) as handle:
            description = self._ended(handle)
        listed = self._within("jobs()", lambda: [one for one in backend.jobs() if one.name == plan.job_name])
        assert len(listed) == 1, f"one job is listed {len(listed)} times"
        assert listed[0].status == description.status, (
            f"a job that has Failed is listed as {listed[0].status}"
        )

    def test_metrics_are_measured(self, backend: Backend, tmp_path: Path) -> None:
        """A job whose metrics are looked for has the values that its log shows, the oldest first."""
        metrics = (MetricDefinition("loss", "loss is ([0-9.]+)"), MetricDefinition("none", "none=(.*)"))
        plan = attrs.evolve(self._job_plan(tmp_path, LOSE), metrics=metrics)
        with self._submitted(backend, plan) as handle:
            if not isinstance(handle, MeasuredJob):
                pytest.skip(f"{backend.name} measures no metrics")
            lines = self._log_of(handle)
            found = [(metric.name, metric.value) for metric in self._within("metrics()", handle.metrics)]
        assert found == [("loss", 0.5), ("loss", 0.25)], f"the metrics are {found}; the log: {lines}"

    def test_interrupted_job_starts_again(self, backend: Backend, tmp_path: Path) -> None:
        """A job that can be interrupted starts its script again, and is the same job."""
        with self._submitted(backend, self._job_plan(tmp_path, BEGIN)) as handle:
            if not isinstance(handle, InterruptibleJob):
                pytest.skip(f"{backend.name} interrupts no jobs")
            follower = iter(handle.logs(follow=True))
            self._within("the log's first line", lambda: until(follower, "begins"))
            self._within("interrupt()", handle.interrupt)
            self._within("the script's second start", lambda: until(follower, "begins"))
            again = handle.describe()
        assert not again.status.is_terminal, f"after an interruption the job is {again.status}"

    # -- jobs that run -------------------------------------------------------------------------

    def test_job_is_stopped(self, backend: Backend, tmp_path: Path) -> None:
        """`stop` returns once the job is Stopped, and its log ends; stopping again changes nothing."""
        with self._submitted(backend, self._job_plan(tmp_path, WAIT)) as handle:
            follower = iter(handle.logs(follow=True))
            self._within("the log's first line", lambda: until(follower, "waiting"))
            running = handle.describe()
            assert not running.status.is_terminal, f"a job that waits is {running.status}: {running.reason}"
            assert running.model_data is None, f"a job that runs has a model: {running.model_data!r}"
            self._within("stop()", handle.stop)
            stopped = handle.describe()
            _is(stopped, JobStatus.STOPPED)
            self._within("logs(follow=True) after stop()", lambda: list(follower))
            self._within("a second stop()", handle.stop)
            again = handle.describe()
        assert again == stopped, f"a second stop() changed the job from {stopped} to {again}"

    def test_log_of_a_running_job_can_be_read(self, backend: Backend, tmp_path: Path) -> None:
        """`logs` returns what there is without waiting for more."""
        with self._submitted(backend, self._job_plan(tmp_path, WAIT)) as handle:
            follower = iter(handle.logs(follow=True))
            self._within("the log's first line", lambda: until(follower, "waiting"))
            lines = self._within("logs() of a running job", lambda: list(handle.logs()))
        broken = [line for line in lines if line.endswith("\n")]
        assert not broken, f"lines come without their newline: {broken}"
        assert "waiting" in lines, f"the log lacks what was printed: {lines}"

    def _has_the_model(self, description: JobDescription, carrier: CountingCarrier, tmp_path: Path) -> None:
        """Check that ``model_data`` is the archive of what the script saved."""
        uri = description.model_data
        assert uri, f"a job that completed has no model: {description}"
        carrier.download(uri, tmp_path / "fetched")
        carrier.unpack(tmp_path / "fetched" / uri.rpartition("/")[2], tmp_path / "unpacked")
        found = read_tree(tmp_path / "unpacked")
        assert found == {"weights.txt": b"trained"}, f"the model that the script saved came back as {found}"


def _is(description: JobDescription, status: JobStatus, lines: object = "") -> None:
    said = f"the job is {description.status} ({description.reason or 'no reason'}), not {status}"
    assert description.status is status, f"{said}; its log: {lines}"
