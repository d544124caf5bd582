"""Each promise of the backend contract is broken by one backend, and seen."""

import contextlib
import re
import time

import attrs
import pytest
from tests.unit.testing import broken

from modelyard.core.carrier import local_path
from modelyard.core.contracts import Invocation
from modelyard.core.errors import (
    EndpointExistsError,
    EndpointNotFoundError,
    InvocationError,
    JobExistsError,
    JobNotFoundError,
    PackagingError,
)
from modelyard.core.plans import EndpointStatus, JobStatus, unique_name
from modelyard.plugins.backends.local.backend import LocalBackend
from modelyard.testing.backends import BackendContract


class Job:
    """A local job's handle, made wrong below."""

    def __init__(self, inner):
        self.inner = inner
        self.name = inner.name

    def describe(self):
        return self.described(self.inner.describe())

    def described(self, description):
        return description

    def logs(self, *, follow=False):
        return self.inner.logs(follow=follow)

    def stop(self):
        self.inner.stop()


class Endpoint(Job):
    def invoke(self, body, *, content_type, accept):
        return self.inner.invoke(body, content_type=content_type, accept=accept)

    def delete(self):
        self.inner.delete()


class Right:
    """The local backend with handles of its own."""

    name = "wrapped"
    instance_types = ("local",)
    job_class = Job
    endpoint_class = Endpoint

    def __init__(self):
        self.inner = LocalBackend()

    def submit(self, plan, carrier, *, attached=True):
        return self.job_class(self.inner.submit(self.planned(plan), carrier, attached=attached))

    def deploy(self, plan, carrier):
        return self.endpoint_class(self.inner.deploy(plan, carrier))

    def planned(self, plan):
        return plan

    def job(self, name):
        return self.job_class(self.inner.job(name))

    def endpoint(self, name):
        return self.endpoint_class(self.inner.endpoint(name))


def contract(wrong, **attributes):
    return type("Contract", (BackendContract,), {"backend_class": wrong, **attributes})()


def breaks(wrong, test, message, *args, **attributes):
    assert re.search(f"(?s){message}", broken.breaks(getattr(contract(wrong, **attributes), test), *args))


# -- what it is --------------------------------------------------------------------------------


class Nameless(Right):
    name = ""


class TextTypes(Right):
    instance_types = "local"


class NumberedTypes(Right):
    instance_types = (1,)


class OffersOther(Right):
    instance_types = ("ml.*",)


class NeedsOption(Right):
    def __init__(self, option):
        pass


class Renamed(Right):
    def __init__(self):
        self.name = "renamed"


IS = {
    Nameless: ("test_has_a_name", "plain lower-case word: ''"),
    TextTypes: ("test_instance_types_are_well_formed", "must be a tuple, not 'local'"),
    NumberedTypes: ("test_instance_types_are_well_formed", r"must hold text, not \[1\]"),
    OffersOther: ("test_instance_types_are_well_formed", "do not offer 'local'"),
    NeedsOption: ("test_is_made_without_options", "must work without options"),
    Renamed: ("test_is_made_without_options", "is another backend: 'renamed'"),
}


@pytest.mark.parametrize("wrong", IS, ids=lambda cls: cls.__name__)
def test_what_it_is(wrong):
    breaks(wrong, *IS[wrong])


# -- jobs that end -----------------------------------------------------------------------------


class LosesArguments(Right):
    def planned(self, plan):
        return attrs.evolve(plan, hyperparameters={})


class LosesEnvironment(Right):
    def planned(self, plan):
        return attrs.evolve(plan, environment={})


class LosesChannels(Right):
    def planned(self, plan):
        return attrs.evolve(plan, channels=())


class PassesSecretsRedacted(Right):
    def planned(self, plan):
        return plan.redacted()


class ChangesData(Right):
    def submit(self, plan, carrier, *, attached=True):
        handle = super().submit(plan, carrier, attached=attached)
        (local_path(plan.channels[0].uri) / "cache").write_bytes(b"")
        return handle


def describing(**changes):
    """Return a backend whose jobs, once they have ended, are described with these changes."""

    class Described(Job):
        def described(self, description):
            return attrs.evolve(description, **changes) if description.status.is_terminal else description

    return type("Describing", (Right,), {"job_class": Described})


class MisnamedJob(Job):
    def __init__(self, inner):
        super().__init__(inner)
        self.name = "other"


class GivesSourceAsModel(Job):
    def described(self, description):
        return attrs.evolve(description, model_data=description.source_data)


class WithoutLog(Job):
    def logs(self, *, follow=False):
        return iter(())


class LosesSomeLines(Job):
    def logs(self, *, follow=False):
        return (line for line in self.inner.logs(follow=follow) if not line.startswith("line 77"))


class SplitsLetters(Job):
    def logs(self, *, follow=False):
        log = "\n".join(self.inner.logs(follow=follow)).encode()
        parts = (log[start : start + 4096].decode("utf-8", "replace") for start in range(0, len(log), 4096))
        return iter("".join(parts).split("\n"))


class TellsSecret(Job):
    def described(self, description):
        told = attrs.evolve(description.plan, environment={"MY_SECRET_TOKEN": "hunter2"})
        return attrs.evolve(description, plan=told)


def with_job(job_class):
    return type(f"{job_class.__name__}Backend", (Right,), {"job_class": job_class})


COMPLETES = {
    "loses arguments": (LosesArguments, "the description's plan has the hyperparameters"),
    "loses variables": (LosesEnvironment, "the job is Failed .*KeyError.*, not Completed"),
    "another state": (describing(status=JobStatus.STOPPED), "the job is Stopped .*, not Completed"),
    "another name": (describing(name="other"), "is described as 'other'"),
    "a handle of another name": (with_job(MisnamedJob), "the handle of .* is called 'other'"),
    "a reason": (describing(reason="done"), "a job that completed has a reason: 'done'"),
    "no model": (describing(model_data=None), "a job that completed has no model"),
    "another model": (with_job(GivesSourceAsModel), "that the script saved came back as .*train.py"),
    "no log": (with_job(WithoutLog), "the log lacks the script's line"),
}
FAILS = {
    "another state": (describing(status=JobStatus.COMPLETED), "the job is Completed .*, not Failed"),
    "a vague reason": (describing(reason="exit code 1"), "not the script's exception: 'exit code 1'"),
    "a long reason": (describing(reason="ValueError: the loss is NaN" * 40), "has 1080 bytes"),
    "a model": (describing(model_data="file:///model.tar.gz"), "a job that failed has a model"),
    "a log that ends early": (with_job(WithoutLog), "the log ended, and the job is InProgress"),
}


@pytest.mark.parametrize("fault", COMPLETES)
def test_a_job_that_completes(modelyard_home, tmp_path, fault):
    wrong, message = COMPLETES[fault]
    breaks(wrong, "test_job_completes", message, wrong(), tmp_path, True)  # noqa: FBT003


@pytest.mark.parametrize("fault", FAILS)
def test_a_job_that_fails(modelyard_home, tmp_path, fault):
    wrong, message = FAILS[fault]
    breaks(wrong, "test_failing_script_fails_the_job", message, wrong(), tmp_path)


GIVEN = (
    (LosesChannels, "test_job_reads_its_channels", "did not read its channel"),
    (ChangesData, "test_job_reads_its_channels", "the user's data was changed: .*cache"),
    (with_job(LosesSomeLines), "test_long_log_comes_whole", "printed 3000 lines, the log has 2989"),
    (with_job(SplitsLetters), "test_long_log_comes_whole", "the log says .*\ufffd"),
    (PassesSecretsRedacted, "test_secrets_stay_out_of_the_plan", "did not get its variable"),
    (with_job(TellsSecret), "test_secrets_stay_out_of_the_plan", "tells the secret: 'hunter2'"),
)


@pytest.mark.parametrize(("wrong", "test", "message"), GIVEN)
def test_what_a_job_is_given_and_says(modelyard_home, tmp_path, wrong, test, message):
    breaks(wrong, test, message, wrong(), tmp_path)


# -- names -------------------------------------------------------------------------------------


class DescribesByName(Right):
    def job(self, name):
        return describing(log="").job_class(self.inner.job(name))


class RaisesKeyError(Right):
    def job(self, name):
        raise KeyError(name)

    endpoint = job


class SaysNothing(Right):
    def job(self, name):
        raise JobNotFoundError("there is no such job")

    def endpoint(self, name):
        raise EndpointNotFoundError("there is no such endpoint")


class RenamesSecond(Right):
    def submit(self, plan, carrier, *, attached=True):
        try:
            return super().submit(plan, carrier, attached=attached)
        except JobExistsError:
            return super().submit(attrs.evolve(plan, job_name=unique_name("second")), carrier)


class ReplacesLive(Right):
    def deploy(self, plan, carrier):
        try:
            return super().deploy(plan, carrier)
        except EndpointExistsError:
            self.inner.endpoint(plan.endpoint_name).delete()
            return super().deploy(plan, carrier)


class RaisesItsOwn(Right):
    def submit(self, plan, carrier, *, attached=True):
        try:
            return super().submit(plan, carrier, attached=attached)
        except PackagingError as error:
            raise OSError(str(error)) from error

    def deploy(self, plan, carrier):
        try:
            return super().deploy(plan, carrier)
        except PackagingError as error:
            raise OSError(str(error)) from error


class PacksItself(Right):
    def submit(self, plan, carrier, *, attached=True):
        raise PackagingError("packed by my own means")

    deploy = submit


class LeavesRecord(Right):
    """What failed is found afterwards."""

    def job(self, name):
        return name

    endpoint = job


class FindsNothing(Right):
    def endpoint(self, name):
        raise EndpointNotFoundError(name)


class KeepsName(Right):
    """What failed is not found, and holds its name."""

    def __init__(self):
        super().__init__()
        self.taken = set()

    def submit(self, plan, carrier, *, attached=True):
        if plan.job_name in self.taken:
            raise JobExistsError(plan.job_name)
        self.taken.add(plan.job_name)
        return super().submit(plan, carrier, attached=attached)

    def deploy(self, plan, carrier):
        if plan.endpoint_name in self.taken:
            raise EndpointExistsError(plan.endpoint_name)
        self.taken.add(plan.endpoint_name)
        return super().deploy(plan, carrier)


UNKNOWN = (
    (RaisesKeyError, "test_unknown_job_is_not_found", "must raise JobNotFoundError, not KeyError"),
    (SaysNothing, "test_unknown_job_is_not_found", "does not name the job"),
    (RaisesKeyError, "test_unknown_endpoint_is_not_found", "EndpointNotFoundError, not KeyError"),
    (SaysNothing, "test_unknown_endpoint_is_not_found", "does not name the endpoint"),
)


@pytest.mark.parametrize(("wrong", "test", "message"), UNKNOWN)
def test_unknown_names(modelyard_home, wrong, test, message):
    breaks(wrong, test, message, wrong())


NAMES = (
    (DescribesByName, "test_job_is_found_by_name", "one job, two descriptions"),
    (RenamesSecond, "test_job_name_is_used_once", "must raise JobExistsError, not return"),
    (RaisesItsOwn, "test_bad_plan_leaves_no_job", "must raise PackagingError, not OSError"),
    (PacksItself, "test_bad_plan_leaves_no_job", "with its carrier; it packed 0 times"),
    (LeavesRecord, "test_bad_plan_leaves_no_job", "JobNotFoundError, not return 'contract-"),
    (KeepsName, "test_bad_plan_leaves_no_job", "after a submit.. that failed, the name is taken"),
    (RaisesItsOwn, "test_bad_plan_leaves_no_endpoint", "must raise PackagingError, not OSError"),
    (PacksItself, "test_bad_plan_leaves_no_endpoint", "with its carrier; it packed 0 times"),
    (LeavesRecord, "test_bad_plan_leaves_no_endpoint", "EndpointNotFoundError, not return 'contract-"),
    (KeepsName, "test_bad_plan_leaves_no_endpoint", "after a deploy.. that failed, the name is taken"),
    (ReplacesLive, "test_live_endpoint_keeps_its_name", "must raise EndpointExistsError, not return"),
    (KeepsName, "test_deleted_endpoint_is_gone", "after delete.., the name is taken"),
    (KeepsName, "test_model_that_does_not_load_fails_the_endpoint", "endpoint failed, the name is taken"),
    (FindsNothing, "test_endpoint_is_found_by_name", "contract-"),
)


@pytest.mark.parametrize(("wrong", "test", "message"), NAMES)
def test_names_and_what_holds_them(modelyard_home, tmp_path, wrong, test, message):
    breaks(wrong, test, message, wrong(), tmp_path)


# -- jobs that run -----------------------------------------------------------------------------


class EndsAtOnce(Job):
    def described(self, description):
        return attrs.evolve(description, status=JobStatus.COMPLETED)


class HasModelEarly(Job):
    def described(self, description):
        return attrs.evolve(description, model_data="file:///model.tar.gz")


class StopsNothing(Job):
    def stop(self):
        pass


class DescribesAnew(Job):
    def described(self, description):
        return attrs.evolve(description, reason=str(time.monotonic_ns()))


class KeepsNewlines(Job):
    def logs(self, *, follow=False):
        return (line if follow else f"{line}\n" for line in self.inner.logs(follow=follow))


class HidesLog(Job):
    def logs(self, *, follow=False):
        return self.inner.logs(follow=True) if follow else iter(())


class HangsOnStop(Job):
    def stop(self):
        self.inner.stop()
        time.sleep(60)


class HangsOnLogs(Job):
    def logs(self, *, follow=False):
        return self.inner.logs(follow=True)


class LogsForever(Job):
    def logs(self, *, follow=False):
        yield from self.inner.logs(follow=follow)
        time.sleep(60)


RUNNING = {
    EndsAtOnce: ("test_job_is_stopped", "a job that waits is Completed"),
    HasModelEarly: ("test_job_is_stopped", "a job that runs has a model"),
    StopsNothing: ("test_job_is_stopped", "the job is InProgress .*, not Stopped"),
    DescribesAnew: ("test_job_is_stopped", "a second stop.. changed the job"),
    KeepsNewlines: ("test_log_of_a_running_job_can_be_read", r"without their newline: \['waiting\\n'\]"),
    HidesLog: ("test_log_of_a_running_job_can_be_read", r"the log lacks what was printed: \[\]"),
    WithoutLog: ("test_job_is_stopped", r"the log ended without the line 'waiting': \[\]"),
}
HANGING = {
    HangsOnStop: ("test_job_is_stopped", "stop()"),
    LogsForever: ("test_job_is_stopped", "logs(follow=True) after stop()"),
    HangsOnLogs: ("test_log_of_a_running_job_can_be_read", "logs() of a running job"),
}


@pytest.mark.parametrize("job_class", RUNNING, ids=lambda cls: cls.__name__)
def test_a_job_that_runs(modelyard_home, tmp_path, job_class):
    wrong = with_job(job_class)
    breaks(wrong, *RUNNING[job_class], wrong(), tmp_path)


@pytest.mark.parametrize("job_class", HANGING, ids=lambda cls: cls.__name__)
def test_a_backend_that_hangs_is_not_waited_for(modelyard_home, tmp_path, job_class):
    test, hangs = HANGING[job_class]
    wrong = with_job(job_class)

    class Impatient(BackendContract):
        backend_class = wrong

        def _within(self, what, call):
            self.patience = 0.2 if what == hangs else 60.0
            return super()._within(what, call)

    said = broken.breaks(getattr(Impatient(), test), wrong(), tmp_path)
    assert said.startswith(f"{hangs} has not returned within 0.2 s")


def test_a_job_that_never_ends_is_not_waited_for(modelyard_home, tmp_path):
    class Endless(Job):
        def described(self, description):
            return attrs.evolve(description, status=JobStatus.IN_PROGRESS)

    wrong = with_job(Endless)
    breaks(wrong, "test_job_completes", "is InProgress after 0.2 s", wrong(), tmp_path, True, patience=0.2)  # noqa: FBT003


# -- endpoints ---------------------------------------------------------------------------------


class MisnamedEndpoint(Endpoint):
    def __init__(self, inner):
        super().__init__(inner)
        self.name = "other"


class DescribesOther(Endpoint):
    def described(self, description):
        return attrs.evolve(description, name="other")


class NeverInService(Endpoint):
    def described(self, description):
        return attrs.evolve(description, status=EndpointStatus.FAILED, reason="no room")


class AlwaysCreating(Endpoint):
    def described(self, description):
        return attrs.evolve(description, status=EndpointStatus.CREATING)


class InServiceAtOnce(Endpoint):
    def described(self, description):
        return attrs.evolve(description, status=EndpointStatus.IN_SERVICE)


class FailsVaguely(Endpoint):
    def described(self, description):
        return attrs.evolve(description, reason="the server ended")


class LosesBytes(Endpoint):
    def invoke(self, body, *, content_type, accept):
        return super().invoke(body.replace(b"\0", b""), content_type=content_type, accept=accept)


class LosesContentType(Endpoint):
    def invoke(self, body, *, content_type, accept):
        return super().invoke(body, content_type="text/plain", accept=accept)


class LosesAccept(Endpoint):
    def invoke(self, body, *, content_type, accept):
        return super().invoke(body, content_type=content_type, accept="text/plain")


class EndpointWithoutLog(WithoutLog, Endpoint):
    pass


class DeletesNothing(Endpoint):
    def delete(self):
        pass


class DescribesDeleted(Endpoint):
    def __init__(self, inner):
        super().__init__(inner)
        self.last = None

    def describe(self):
        with contextlib.suppress(EndpointNotFoundError):
            self.last = super().describe()
        return self.last


class AnswersErrors(Endpoint):
    def invoke(self, body, *, content_type, accept):
        try:
            return super().invoke(body, content_type=content_type, accept=accept)
        except InvocationError as error:
            return Invocation(str(error).encode(), "text/plain")


class ErrorsWithoutStatus(Endpoint):
    def invoke(self, body, *, content_type, accept):
        try:
            return super().invoke(body, content_type=content_type, accept=accept)
        except InvocationError as error:
            raise InvocationError(self.name, 200, error.message) from error


class DiesOfErrors(Endpoint):
    def invoke(self, body, *, content_type, accept):
        try:
            return super().invoke(body, content_type=content_type, accept=accept)
        except InvocationError:
            self.inner.delete()
            raise


SERVING = {
    MisnamedEndpoint: ("test_endpoint_answers", "the handle is called 'other'"),
    DescribesOther: ("test_endpoint_answers", "is described as 'other'"),
    NeverInService: ("test_endpoint_answers", "is Failed, not InService: no room"),
    LosesBytes: ("test_endpoint_answers", "the endpoint answered b'trained application/x-data .x01"),
    LosesContentType: ("test_endpoint_answers", "the endpoint answered b'trained text/plain"),
    LosesAccept: ("test_endpoint_answers", "the answer's content type is 'text/plain'"),
    EndpointWithoutLog: ("test_endpoint_answers", "the log lacks the script's line"),
    DeletesNothing: ("test_deleted_endpoint_is_gone", "must raise EndpointNotFoundError, not return"),
    DescribesDeleted: ("test_deleted_endpoint_is_gone", "must raise EndpointNotFoundError, not return"),
    AnswersErrors: ("test_failing_request_is_an_invocation_error", "InvocationError, not return"),
    ErrorsWithoutStatus: ("test_failing_request_is_an_invocation_error", "request that failed is 200"),
    DiesOfErrors: ("test_failing_request_is_an_invocation_error", "was deleted"),
    InServiceAtOnce: ("test_model_that_does_not_load_fails_the_endpoint", "without a model is InService"),
    FailsVaguely: (
        "test_model_that_does_not_load_fails_the_endpoint",
        "is not the model's: 'the server ended'",
    ),
}


def with_endpoint(endpoint_class):
    return type(f"{endpoint_class.__name__}Backend", (Right,), {"endpoint_class": endpoint_class})


@pytest.mark.parametrize("endpoint_class", SERVING, ids=lambda cls: cls.__name__)
def test_endpoints(modelyard_home, tmp_path, endpoint_class):
    wrong = with_endpoint(endpoint_class)
    breaks(wrong, *SERVING[endpoint_class], wrong(), tmp_path)


def test_an_endpoint_that_never_loads_is_not_waited_for(modelyard_home, tmp_path):
    wrong = with_endpoint(AlwaysCreating)
    breaks(wrong, "test_endpoint_answers", "is Creating after 0.2 s", wrong(), tmp_path, patience=0.2)


# -- what only some can ------------------------------------------------------------------------


class ListsNothing(Right):
    def jobs(self):
        return ()

    def endpoints(self):
        return ()


class ListsTwice(Right):
    def jobs(self):
        return [*self.inner.jobs()] * 2

    def endpoints(self):
        return [*self.inner.endpoints()] * 2


class ListsAsLive(Right):
    def jobs(self):
        return [attrs.evolve(job, status=JobStatus.IN_PROGRESS) for job in self.inner.jobs()]

    def endpoints(self):
        live = EndpointStatus.IN_SERVICE
        return [attrs.evolve(description, status=live) for description in self.inner.endpoints()]


class MeasuresNothing(Job):
    def metrics(self):
        return ()


class MeasuresBackwards(Job):
    def metrics(self):
        return self.inner.metrics()[::-1]


class StopsForGood(Job):
    def interrupt(self):
        self.inner.stop()


class Forgets(Job):
    """Once it is interrupted, it tells of it as of a failure."""

    interrupted = False

    def interrupt(self):
        self.inner.interrupt()
        self.interrupted = True

    def described(self, description):
        return attrs.evolve(description, status=JobStatus.FAILED) if self.interrupted else description


SOME_CAN = (
    (ListsNothing, "test_jobs_are_listed", "one job is listed 0 times"),
    (ListsTwice, "test_jobs_are_listed", "one job is listed 2 times"),
    (ListsAsLive, "test_jobs_are_listed", "a job that has Failed is listed as InProgress"),
    (ListsNothing, "test_endpoints_are_listed", "a live endpoint is listed 0 times"),
    (ListsTwice, "test_endpoints_are_listed", "a live endpoint is listed 2 times"),
    (ListsAsLive, "test_endpoints_are_listed", "a deleted endpoint is listed as a live one"),
    (with_job(MeasuresNothing), "test_metrics_are_measured", r"the metrics are \[\]; the log: .*loss is 0.5"),
    (with_job(MeasuresBackwards), "test_metrics_are_measured", r"\('loss', 0.25\), \('loss', 0.5\)"),
    (with_job(StopsForGood), "test_interrupted_job_starts_again", "ended without the line 'begins'"),
    (with_job(Forgets), "test_interrupted_job_starts_again", "after an interruption the job is Failed"),
)


@pytest.mark.parametrize(("wrong", "test", "message"), SOME_CAN)
def test_what_only_some_can(modelyard_home, tmp_path, wrong, test, message):
    breaks(wrong, test, message, wrong(), tmp_path)


class ReloadsNothing(Endpoint):
    def reload(self):
        pass


RELOADS = "test_reload_fails_no_request"


def test_an_endpoint_that_loads_no_model_anew(modelyard_home, tmp_path):
    class Impatient(BackendContract):
        backend_class = with_endpoint(ReloadsNothing)

        def _within(self, what, call):
            self.patience = 60.0
            try:
                return super()._within(what, call)
            finally:
                self.patience = 0.5 if what == "reload()" else 60.0

    said = broken.breaks(getattr(Impatient(), RELOADS), Impatient.backend_class(), tmp_path)
    assert said == "reload() did not have the model loaded again"


BROKEN_PROMISES = {
    "test_job_completes",  # by all of COMPLETES
    "test_failing_script_fails_the_job",  # by all of FAILS
    RELOADS,
    *(test for test, _ in (*IS.values(), *RUNNING.values(), *HANGING.values(), *SERVING.values())),
    *(test for _, test, _ in (*GIVEN, *UNKNOWN, *NAMES, *SOME_CAN)),
}


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("test_jobs_are_listed", "wrapped does not list its jobs"),
        ("test_metrics_are_measured", "wrapped measures no metrics"),
        ("test_interrupted_job_starts_again", "wrapped interrupts no jobs"),
        ("test_endpoints_are_listed", "wrapped does not list its endpoints"),
        (RELOADS, "wrapped does not load models anew"),
    ],
)
def test_what_a_backend_need_not_is_skipped(modelyard_home, tmp_path, test, said):
    with pytest.raises(pytest.skip.Exception, match=said):
        getattr(contract(Right), test)(Right(), tmp_path)


def test_what_a_backend_cannot_do_is_skipped(tmp_path):
    subject = contract(Right, can_train=False, can_serve=False)
    for test in ("test_unknown_job_is_not_found", "test_unknown_endpoint_is_not_found"):
        with pytest.raises(pytest.skip.Exception, match="wrapped cannot (train|serve) here"):
            getattr(subject, test)(Right)
    for test in ("test_job_is_stopped", "test_endpoint_answers"):
        with pytest.raises(pytest.skip.Exception, match="wrapped cannot (train|serve) here"):
            getattr(subject, test)(Right, tmp_path)
    with pytest.raises(pytest.skip.Exception, match="cannot be given files of this machine"):
        contract(Right, can_read_files=False).test_job_reads_its_channels(Right, tmp_path)


def test_a_plan_can_be_adapted_to_the_backend(tmp_path):
    class Adapted(BackendContract):
        backend_class = Right

        def adapt_plan(self, plan):
            return attrs.evolve(plan, role="a-role")

    assert Adapted()._job_plan(tmp_path, "").role == "a-role"
    assert Adapted()._endpoint_plan(tmp_path, "").role == "a-role"
