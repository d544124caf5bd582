"""A job of several hosts on this machine: each its own program, folder and address, one end for all."""

import json
import os
import re
import shutil
import signal
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.integration.conftest import is_running, line_with, until

from modelyard import PyTorch
from modelyard.core.errors import InvalidPlanError, JobFailedError, JobStoppedError
from modelyard.core.plans import ProviderRef
from modelyard.plugins.backends.local import rooms
from modelyard.testing.fixtures import processes_of

HOSTS = """
import json, os, socket
host, hosts = os.environ["SM_CURRENT_HOST"], json.loads(os.environ["SM_HOSTS"])
config = json.load(open(os.path.join(os.environ["SM_INPUT_CONFIG_DIR"], "resourceconfig.json")))
assert (config["current_host"], config["hosts"]) == (host, hosts)
place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if host == hosts[0]:
    with socket.create_server(place) as server:
        for _ in hosts[1:]:
            other, _ = server.accept()
            print("met", other.recv(100).decode())
            other.close()
else:
    import time
    for _ in range(3000):
        try:
            with socket.create_connection(place) as master:
                master.sendall(host.encode())
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
with open(os.path.join(os.environ["SM_MODEL_DIR"], f"{host}.txt"), "w") as file:
    file.write(os.environ["TMPDIR"])
with open(os.path.join(os.environ["SM_MODEL_DIR"], "common.txt"), "w") as file:
    file.write(host)
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], f"{host}.log"), "w") as file:
    file.write("done")
"""

BAD_BATCH = """
import os, time

def train(batch):
    raise ValueError(f"bad batch {batch}")

print("started", os.environ["SM_CURRENT_HOST"], os.getpid(), flush=True)
if os.environ["SM_CURRENT_HOST"] == "algo-2":
    train(17)
time.sleep(300)
"""

WAIT = """
import os, time
print("started", os.environ["SM_CURRENT_HOST"], os.getpid(), os.getppid(), flush=True)
time.sleep(300)
"""

COUNT = """
import os, signal, sys, time

path = os.path.join(os.environ["CHECKPOINTS"], "step")
step = int(open(path).read()) if os.path.exists(path) else 0
lives = os.path.join(os.environ["CHECKPOINTS"], "lives")
open(lives, "a").write("I")
# It is to be interrupted at step 30 or later, and at step 60 or later: it does not end before.
held = {1: 50, 2: 80}.get(os.path.getsize(lives))
print("begins at", step, flush=True)

def save(*_):
    with open(path + ".new", "w") as file:
        file.write(str(step))
    os.replace(path + ".new", path)
    print("saved at", step, flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
while step < int(sys.argv[2]):
    time.sleep(0.02)
    if step == held:
        continue
    # A step is done and said, or neither.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    step += 1
    print("step", step, flush=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
print("ends at", step)
"""


@pytest.fixture
def script(project):
    """Write a training script, and return what it is called."""

    def write(text, name="script"):
        (project / "src" / f"{name}.py").write_text(text)
        return f"{name}.py"

    return write


def estimator(project, entry_point, *, hosts=2, **options):
    return PyTorch(entry_point, source_dir=project / "src", instance_count=hosts, **options)


def archived(uri):
    with tarfile.open(uri.removeprefix("file://")) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


def test_hosts_meet_and_leave_one_model(project, script, modelyard_home, capfd):
    job = estimator(project, script(HOSTS), hosts=3)
    job.fit()
    model = archived(job.model_data)
    assert sorted(model) == ["algo-1.txt", "algo-2.txt", "algo-3.txt", "common.txt"]
    assert model["common.txt"] == b"algo-1", "of one file of two hosts the master's is delivered"
    assert len({model[f"algo-{n}.txt"] for n in (1, 2, 3)}) == 3, "each host has a TMPDIR of its own"
    assert sorted(archived(job.model_data.replace("model.tar", "output.tar"))) == [
        "algo-1.log",
        "algo-2.log",
        "algo-3.log",
    ]
    said = capfd.readouterr().out
    assert "[algo-1] met algo-2" in said
    assert "[algo-1] met algo-3" in said


def test_failing_host_ends_the_others_and_gives_the_reason(project, script, modelyard_home):
    job = estimator(project, script(BAD_BATCH))
    with pytest.raises(JobFailedError) as failed:
        job.fit(logs=False)
    reason = failed.value.reason
    assert "algo-2" in reason
    assert "ValueError: bad batch 17" in reason
    assert re.search(r"script\.py, line 5, in train", reason), reason
    pids = re.findall(r"started algo-\d (\d+)", "\n".join(job.latest_training_job.logs()))
    assert pids, "algo-2 has said its pid before it failed"
    assert not [pid for pid in pids if is_running(pid)]


@pytest.mark.parametrize("victim", ["script", "in-job program"])
def test_killed_host_ends_the_job(project, script, modelyard_home, victim):
    job = estimator(project, script(WAIT))
    job.fit(wait=False)
    lines = until(lambda: found if len(found := started(job)) == 2 else None)
    pid, parent = map(int, lines["algo-2"])
    os.kill(pid if victim == "script" else parent, signal.SIGKILL)
    with pytest.raises(JobFailedError, match=r"algo-2: .*SIGKILL"):
        job.wait(logs=False)
    assert not [pid for pids in lines.values() for pid in pids if is_running(pid)]


def started(job):
    """Return the pids of each host's script and in-job program, once they have said so."""
    found = re.findall(r"started (algo-\d) (\d+) (\d+)", "\n".join(job.latest_training_job.logs()))
    return {host: pids for host, *pids in found}


def test_killed_client_takes_all_hosts_along(project, script, client):
    entry_point = script(WAIT)
    fitting = client(
        f"from modelyard import PyTorch\n"
        f"PyTorch({entry_point!r}, source_dir='src', instance_count=2, job_name='dies').fit()"
    )
    pids = [line_with(fitting, "started").split()[-2:] for _ in range(2)]
    fitting.kill()
    until(lambda: not [pid for both in pids for pid in both if is_running(pid)])


def test_job_that_takes_too_long_is_stopped(project, script, modelyard_home):
    job = estimator(project, script(WAIT), max_run=1)
    with pytest.raises(JobStoppedError, match="MaxRuntimeExceeded: it ran longer than max_run, 1 s"):
        job.fit(logs=False)


def test_interrupted_job_loses_no_step(project, script, modelyard_home):
    """What was done up to the last checkpoint is not done again, and the rest is done."""
    job = estimator(
        project,
        script(COUNT),
        hosts=1,
        hyperparameters={"steps": 100},
        metric_definitions=[{"Name": "step", "Regex": r"^step (\d+)"}],
    )
    job.environment["CHECKPOINTS"] = str(project / "checkpoints")
    (project / "checkpoints").mkdir()
    job.fit(wait=False)
    for interruption in (1, 2):
        reached = f"step {30 * interruption}"
        until(lambda text=reached: text in log_of(job))
        job.latest_training_job.interrupt()
        until(lambda n=interruption: len(re.findall("begins at", log_of(job))) == n + 1)
    job.wait(logs=False)
    assert job.latest_training_job.describe().status == "Completed"
    said = log_of(job)
    assert [int(step) for step in re.findall(r"^step (\d+)", said, re.MULTILINE)] == list(range(1, 101))
    assert re.findall(r"begins at (\d+)", said) == ["0", *re.findall(r"saved at (\d+)", said)]
    assert [metric.value for metric in job.latest_training_job.metrics()] == list(range(1, 101))


SAVE = """
import os
with open(os.path.join(os.environ["SM_MODEL_DIR"], os.environ["SM_CURRENT_HOST"]), "w") as file:
    file.write("saved")
"""


HOLD = """
import pathlib, sys, time
if "modelyard.training.delivery" in sys.orig_argv:
    folder = pathlib.Path(__file__).parent
    (folder / "held").touch()
    while not (folder / "let go").exists():
        time.sleep(0.02)
"""


@pytest.fixture
def delivering(project, script, modelyard_home, monkeypatch):
    """A job of two hosts whose scripts have ended, and whose delivery begins once it is let go."""
    site = project / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(HOLD)
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    job = estimator(project, script(SAVE))
    job.fit(wait=False)
    until((site / "held").exists)
    yield job, (site / "let go").touch
    (site / "let go").touch()


def test_interruption_comes_too_late_for_a_job_that_is_being_delivered(delivering):
    job, let_go = delivering
    job.latest_training_job.interrupt()
    let_go()
    job.wait(logs=False)
    assert sorted(archived(job.model_data)) == ["algo-1", "algo-2"]


def test_stop_does_not_cost_what_is_being_delivered(delivering):
    job, let_go = delivering
    with ThreadPoolExecutor() as pool:
        stopping = pool.submit(job.stop)
        until(lambda: job.latest_training_job.describe().status == "Stopping")
        let_go()
        stopping.result(30)
    assert job.latest_training_job.describe().status == "Completed"
    assert sorted(archived(job.model_data)) == ["algo-1", "algo-2"]


def test_what_an_interrupted_run_left_does_not_go_on_beside_the_next(project, script, modelyard_home):
    text = """
import os, subprocess, sys, time
lasting = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(300)"
)
child = subprocess.Popen([sys.executable, "-c", lasting], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print("started", os.environ["SM_CURRENT_HOST"], child.pid, os.getppid(), flush=True)
time.sleep(300)
"""
    job = estimator(project, script(text), hosts=1)
    job.fit(wait=False)
    child, parent = map(int, until(lambda: started(job).get("algo-1")))
    job.latest_training_job.interrupt()
    os.kill(parent, signal.SIGKILL)
    until(lambda: "started again" in log_of(job))
    assert not is_running(child)
    job.stop()


def test_what_a_failed_job_had_in_its_output_is_delivered(project, script, modelyard_home):
    text = """
import os
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], os.environ["SM_CURRENT_HOST"]), "w") as file:
    file.write("saved")
raise ValueError("bad batch 17")
"""
    job = estimator(project, script(text), max_run=28 * 86400)
    with pytest.raises(JobFailedError, match="ValueError: bad batch 17"):
        job.fit(logs=False)
    folder = Path(modelyard_home, "jobs", job.latest_training_job.name)
    assert {"algo-1", "algo-2"} & set(archived(f"{folder}/output/output.tar.gz"))


def log_of(job):
    return "\n".join(job.latest_training_job.logs())


def test_checkpoints_are_found_by_the_next_job(project, script, modelyard_home):
    """``checkpoint_s3_uri`` is the folder that is ``checkpoints`` in the job."""
    text = """
import os
folder = os.path.join(os.environ["SM_MODEL_DIR"], "..", "checkpoints")
print("found", sorted(os.listdir(folder)))
open(os.path.join(folder, os.environ["SAGEMAKER_JOB_NAME"]), "w").close()
"""
    entry_point, folder = script(text), project / "kept"
    for name in ("first", "second"):
        job = estimator(project, entry_point, hosts=1, checkpoint_s3_uri=folder)
        job.fit(job_name=name, logs=False)
    assert "found ['first']" in log_of(job)
    assert sorted(path.name for path in folder.iterdir()) == ["first", "second"]


def test_checkpoints_elsewhere_are_refused(project, script, modelyard_home):
    job = estimator(project, script(WAIT), checkpoint_s3_uri="s3://bucket/checkpoints")
    with pytest.raises(InvalidPlanError, match="keeps checkpoints in a folder, not in 's3://bucket"):
        job.fit()


def test_metrics_of_all_hosts_over_time(project, script, modelyard_home):
    text = "import os\nfor n in range(3): print(f'epoch {n} loss={1 / (n + 1):.3f}', flush=True)"
    job = estimator(project, script(text), metric_definitions=[{"Name": "loss", "Regex": r"loss=([0-9.]+)"}])
    job.fit(logs=False)
    metrics = job.latest_training_job.metrics()
    assert [m.time for m in metrics] == sorted(m.time for m in metrics)
    for host in ("algo-1", "algo-2"):
        assert [m.value for m in metrics if m.host == host and m.name == "loss"] == [1.0, 0.5, 0.333]


def test_secrets_are_in_no_file_that_others_read(project, script, modelyard_home):
    text = "import sys; print('arguments', sys.argv[1:])"
    job = estimator(
        project, script(text), hosts=1, hyperparameters={"api-token": "tok-abcdef", "max_tokens": 512}
    )
    job.fit(job_name="secretive", logs=False)
    assert "arguments ['--api-token', '********', '--max_tokens', '512']" in log_of(job)
    folder = Path(modelyard_home, "jobs", "secretive")
    holding = [path for path in folder.rglob("*") if path.is_file() and b"tok-abcdef" in path.read_bytes()]
    assert [path.name for path in holding] == ["hyperparameters.json"]
    assert holding[0].stat().st_mode & 0o077 == 0
    assert json.loads((folder / "job.json").read_text())["plan"]["hyperparameters"]["api-token"] == "*" * 8


MPIRUN = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")


@pytest.mark.skipif(MPIRUN is None, reason="no mpirun is installed")
def test_mpirun_starts_each_rank_on_its_own_host(project, script, modelyard_home):
    if why := rooms.unavailable(modelyard_home):
        pytest.skip(f"hosts cannot have names of their own here: {why}")
    text = """
import os, socket
e = os.environ
print("rank", e["RANK"], e["LOCAL_RANK"], e["SM_CURRENT_HOST"], socket.gethostname())
"""
    job = estimator(project, script(text), hosts=3, distribution={"mpi": {"processes_per_host": 2}})
    job.fit(logs=False)
    assert sorted(re.findall(r"\] rank (.*)", log_of(job))) == [
        f"{rank} {rank % 2} algo-{rank // 2 + 1} algo-{rank // 2 + 1}" for rank in range(6)
    ]


@pytest.mark.skipif(MPIRUN is None, reason="no mpirun is installed")
def test_a_host_that_mpirun_loses_fails_the_job(project, script, modelyard_home):
    """Open MPI 5 ends with status 0 when one of three hosts' daemons is killed."""
    if why := rooms.unavailable(modelyard_home):
        pytest.skip(f"hosts cannot have names of their own here: {why}")
    job = estimator(project, script(WAIT), hosts=3, distribution={"mpi": {}})
    job.fit(wait=False)
    until(lambda: len(started(job)) == 3)
    daemons = [process for process in processes_of(modelyard_home) if process.name() in ("prted", "orted")]
    for daemon in daemons:
        if daemon.environ()["SM_CURRENT_HOST"] == "algo-3":
            daemon.kill()
    with pytest.raises(JobFailedError):
        job.wait(logs=False)
    until(lambda: processes_of(modelyard_home) == [])


def test_an_interruption_is_heard_once(project, script, modelyard_home):
    text = """
import os, signal, time
path = os.path.join(os.environ["CHECKPOINTS"], "saved")
def save(*_):
    print("asked to save", flush=True)
    while not os.path.exists(path + " now"):
        time.sleep(0.02)
    open(path, "w").close()
    raise SystemExit
signal.signal(signal.SIGTERM, save)
print("running", flush=True)
while not os.path.exists(path):
    time.sleep(0.02)
"""
    job = estimator(project, script(text), hosts=1)
    job.environment["CHECKPOINTS"] = str(project)
    job.fit(wait=False)
    until(lambda: "running" in log_of(job))
    for _ in range(3):
        job.latest_training_job.interrupt()
    (project / "saved now").touch()
    job.wait(logs=False)
    assert len(re.findall("asked to save", log_of(job))) == 1
    assert len(re.findall("running", log_of(job))) == 2


def test_hosts_may_be_launched_by_name(project, script, modelyard_home):
    job = estimator(project, script(HOSTS), launcher=ProviderRef("process"))
    job.fit(logs=False)
    assert job.latest_training_job.describe().status == "Completed"
