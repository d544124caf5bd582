"""Whatever is killed, what it started ends too, and the records say what happened."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.integration.conftest import JSON, is_running, line_with, until

from modelyard import PluginManager, Predictor, PyTorch, PyTorchModel
from modelyard.core.errors import (
    EndpointExistsError,
    EndpointFailedError,
    EndpointNotFoundError,
    JobStoppedError,
)
from modelyard.core.plans import ProviderRef
from modelyard.testing.fixtures import processes_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's means are Linux's")

FIT = """
from modelyard import PyTorch
PyTorch("sleep.py", source_dir="src", job_name="sleeps").fit()
"""
DEPLOY = """
from modelyard import PyTorchModel
PyTorchModel("src", entry_point="inference.py", source_dir="src").deploy(endpoint_name="serves")
print("deployed", flush=True)
input()
"""


@pytest.fixture
def local(modelyard_home):
    """Return a function that gives the record of a job or an endpoint."""
    from modelyard.plugins.backends.local.records import Records

    return Records(modelyard_home).find


@pytest.fixture
def sleeping(client):
    """A client that waits for a job whose script and its child sleep: the client and both pids."""
    fitting = client(FIT)
    script, child = map(int, line_with(fitting, "sleeping").split()[1:])
    return fitting, script, child


@pytest.fixture
def serving(client, project):
    """A client that has deployed an endpoint and waits."""
    (project / "src" / "weights.json").write_text('{"factor": 3}')
    deploying = client(DEPLOY)
    line_with(deploying, "deployed")
    return deploying


def test_a_killed_client_takes_its_job_with_it(sleeping, local):
    fitting, script, child = sleeping
    fitting.kill()
    until(lambda: not is_running(script) and not is_running(child))
    record = until(lambda: (r := local("job", "sleeps")).is_terminal and r)
    assert (record.status, record.reason) == ("Stopped", "the process that started it died")


def test_ctrl_c_stops_the_job(sleeping, local):
    fitting, script, child = sleeping
    fitting.send_signal(signal.SIGINT)
    assert fitting.wait(60) != 0
    assert not is_running(script)
    assert not is_running(child)
    assert local("job", "sleeps").status == "Stopped"


def test_a_killed_guard_is_found_out_and_leaves_no_process(sleeping, local):
    fitting, script, child = sleeping
    guard = until(lambda: local("job", "sleeps").details.get("pid"))
    os.kill(guard, signal.SIGKILL)
    until(lambda: not is_running(script) and not is_running(child))
    assert fitting.wait(60) != 0
    assert "supervising process was killed" in fitting.stdout.read()
    assert local("job", "sleeps").status == "Failed"


def test_a_killed_in_job_program_fails_the_job_and_leaves_no_process(sleeping, local):
    fitting, script, child = sleeping
    in_job = int(Path(f"/proc/{script}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(in_job, signal.SIGKILL)
    until(lambda: not is_running(script) and not is_running(child))
    assert fitting.wait(60) != 0
    record = local("job", "sleeps")
    assert (record.status, record.reason) == ("Failed", "the in-job program ended with signal SIGKILL")


def test_stop_from_another_process(sleeping, local):
    fitting, script, child = sleeping
    PluginManager.discover().backends.create("local").job("sleeps").stop()
    with pytest.raises(JobStoppedError, match="was stopped: on request"):
        PyTorch.attach("sleeps")
    assert not is_running(script)
    assert not is_running(child)
    assert fitting.wait(60) != 0


def test_a_script_that_ignores_sigterm_is_killed_when_its_time_is_over(project, modelyard_home):
    (project / "src" / "stubborn.py").write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready')\n"
        "time.sleep(300)\n"
    )
    estimator = PyTorch(
        "stubborn.py", source_dir=project / "src", backend=ProviderRef("local", {"stop_seconds": 1.0})
    )
    estimator.fit(wait=False)
    job = estimator.latest_training_job
    until(lambda: "ready" in list(job.logs()))
    job.stop()
    assert job.describe().status == "Stopped"


def test_what_a_script_leaves_behind_ends_with_the_job(project, modelyard_home):
    (project / "src" / "leaves.py").write_text(
        "import subprocess, sys\n"
        "code = 'import os, time; os.setsid(); time.sleep(300)'\n"
        "print(subprocess.Popen([sys.executable, '-c', code]).pid)\n"
    )
    estimator = PyTorch("leaves.py", source_dir=project / "src")
    estimator.fit()
    (pid,) = [int(line) for line in estimator.latest_training_job.logs() if line.isdigit()]
    assert not is_running(pid)


def test_a_killed_client_takes_its_endpoint_and_port_with_it(serving, local):
    port = local("endpoint", "serves").details["port"]
    serving.kill()
    record = until(lambda: (r := local("endpoint", "serves")).is_terminal and r)
    assert (record.status, record.reason) == ("Failed", "the process that started it died")
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_killed_model_server_fails_the_endpoint(serving, local):
    predictor = Predictor("serves", **JSON)
    assert predictor.predict([1]) == [3]
    guard = local("endpoint", "serves").details["pid"]
    (server,) = _children(guard)
    os.kill(server, signal.SIGKILL)
    until(lambda: local("endpoint", "serves").is_terminal)
    with pytest.raises(EndpointFailedError, match="the model server ended with signal SIGKILL"):
        predictor.predict([1])
    with pytest.raises(EndpointNotFoundError, match="signal SIGKILL"):
        Predictor("serves")


@pytest.mark.timeout(300)
def test_fifty_parallel_deploys_have_fifty_ports(project, modelyard_home, local):
    (project / "src" / "weights.json").write_text('{"factor": 3}')
    model = PyTorchModel(project / "src", entry_point="inference.py", source_dir=project / "src")
    names = [f"many-{i}" for i in range(50)]
    with ThreadPoolExecutor(10) as pool:
        predictors = list(pool.map(lambda name: model.deploy(endpoint_name=name), names))
        ports = {local("endpoint", name).details["port"] for name in names}
        answers = list(pool.map(lambda predictor: predictor.predict([1], **JSON), predictors))
        list(pool.map(lambda predictor: predictor.delete_endpoint(), predictors))
    assert len(ports) == 50
    assert answers == [[3]] * 50


def test_of_fifty_deploys_of_one_name_one_wins(project, modelyard_home):
    (project / "src" / "weights.json").write_text('{"factor": 3}')
    model = PyTorchModel(project / "src", entry_point="inference.py", source_dir=project / "src")

    def deploy(_):
        try:
            return model.deploy(endpoint_name="only", wait=False)
        except EndpointExistsError:
            return None

    with ThreadPoolExecutor(50) as pool:
        (winner,) = filter(None, pool.map(deploy, range(50)))
    winner.delete_endpoint()


def test_the_quickstart_killed_leaves_no_process_and_no_file_outside(modelyard_home, tmp_path):
    pytest.importorskip("torch", reason="the digits are learned with torch")
    from tests.integration.test_main_job import ROOT

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    running = subprocess.Popen(
        [sys.executable, ROOT / "examples/digits/run.py"],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with running:
        line_with(running, "epoch 2")
        running.kill()
    until(lambda: not processes_of(modelyard_home))
    assert list(scratch.iterdir()) == []


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_worker_of_multiprocessing_that_ends_in_good_order_leaves_its_endpoint(client, project):
    (project / "src" / "weights.json").write_text('{"factor": 3}')
    forking = client("""
        import multiprocessing
        from modelyard import PyTorchModel

        def deploy():
            PyTorchModel("src", entry_point="inference.py", source_dir="src").deploy(endpoint_name="forked")

        worker = multiprocessing.get_context("fork").Process(target=deploy)
        worker.start()
        worker.join()
    """)
    assert forking.wait(60) == 0
    with Predictor("forked", **JSON) as predictor:
        assert predictor.predict([1]) == [3]


def test_orphans_of_an_endpoint_are_reaped_while_it_lives(project, modelyard_home, local):
    (project / "src" / "forks.py").write_text(
        "import subprocess\n"
        "def model_fn(model_dir): return None\n"
        "def transform_fn(model, body, content_type, accept):\n"
        "    subprocess.run(['sh', '-c', 'sleep 0.1 & true'], check=True)\n"
        "    return '1', 'application/json'\n"
    )
    model = PyTorchModel(project / "src", entry_point="forks.py", source_dir=project / "src")
    with model.deploy(endpoint_name="forks") as predictor:
        for _ in range(3):
            predictor.predict(1, **JSON)
        guard = local("endpoint", "forks").details["pid"]
        until(lambda: len(_children(guard)) == 1)


def test_a_job_inside_a_job_runs_its_own_script(project, modelyard_home, monkeypatch):
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "other.py")
    monkeypatch.setenv("SM_CHANNEL_TRAIN", "/somewhere/else")
    estimator = PyTorch("train.py", source_dir=project / "src")
    estimator.fit({"train": project / "data"})
    assert "total 6.0" in estimator.latest_training_job.logs()


def test_ctrl_c_says_what_it_does(sleeping):
    fitting, _script, _child = sleeping
    fitting.send_signal(signal.SIGINT)
    shown, _ = fitting.communicate(timeout=60)
    assert "training job sleeps: stopping\ntraining job sleeps: Stopped\n" in shown


def test_a_stopped_script_that_ends_well_has_its_model_delivered(project, modelyard_home):
    (project / "src" / "saves.py").write_text(
        "import os, signal, sys, time\n"
        "def save(*_):\n"
        "    open(os.environ['SM_MODEL_DIR'] + '/last', 'w').close()\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "print('ready')\n"
        "while True:\n"
        "    time.sleep(0.1)\n"
    )
    estimator = PyTorch("saves.py", source_dir=project / "src")
    estimator.fit(wait=False)
    job = estimator.latest_training_job
    until(lambda: "ready" in list(job.logs()))
    job.stop()
    description = job.describe()
    assert (description.status, description.reason) == ("Stopped", "on request")
    assert description.model_data.endswith("/output/model.tar.gz")


def test_what_a_killed_guard_had_lent_is_removed_at_the_next_look(client, modelyard_home, local):
    fitting = client(FIT.replace("fit()", "fit('data')"))
    line_with(fitting, "sleeping")
    record = local("job", "sleeps")
    guard = until(lambda: local("job", "sleeps").details.get("pid"))
    assert (record.folder / "algo-1/input/data/train/numbers.txt").exists()
    os.kill(guard, signal.SIGKILL)
    assert fitting.wait(60) != 0
    assert not (record.folder / "algo-1/input/data").exists()
    assert not Path(local("job", "sleeps").details["scratch"]).exists()
