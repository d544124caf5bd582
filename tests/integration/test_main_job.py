"""Train, deploy, predict, from one process and from several, with nothing but Python."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.conftest import JSON, line_with

from modelyard import Predictor, PyTorch, PyTorchModel
from modelyard.core.errors import EndpointNotFoundError

ROOT = Path(__file__).parents[2]


def fitted(project, **options):
    estimator = PyTorch("train.py", source_dir=project / "src", **options)
    estimator.fit({"train": project / "data"})
    return estimator


def test_fit_deploy_predict(project, modelyard_home, capsys):
    estimator = fitted(project, hyperparameters={"scale": 2}, base_job_name="sums")
    shown = capsys.readouterr().out
    assert "total 6.0" in shown
    assert re.search(r"sums-\S+: Completed\nmodel: file://\S+/model.tar.gz", shown)
    with estimator.deploy(1, "local", entry_point="inference.py") as predictor:
        assert predictor.predict([1, 0.5], **JSON) == [12.0, 6.0]
        name = predictor.endpoint_name
    with pytest.raises(EndpointNotFoundError, match=name):
        Predictor(name)


def test_a_lone_path_is_the_channels_train_and_training(project, modelyard_home):
    (project / "src" / "look.py").write_text(
        "import os; print([os.listdir(os.environ[f'SM_CHANNEL_{n}']) for n in ('TRAIN', 'TRAINING')])"
    )
    estimator = PyTorch("look.py", source_dir=project / "src")
    estimator.fit(str(project / "data"))
    assert "[['numbers.txt'], ['numbers.txt']]" in estimator.latest_training_job.logs()


def test_the_script_cannot_damage_the_users_data(project, modelyard_home):
    (project / "src" / "rude.py").write_text(
        "import os; open(os.environ['SM_CHANNEL_TRAIN'] + '/numbers.txt', 'w').write('gone')"
    )
    PyTorch("rude.py", source_dir=project / "src").fit({"train": project / "data"})
    assert (project / "data" / "numbers.txt").read_text() == "1\n2\n3\n"


def test_output_path_gets_the_model_below_the_jobs_name(project, modelyard_home):
    estimator = fitted(project, output_path=project / "out", job_name="first")
    assert estimator.model_data == (project / "out/first/output/model.tar.gz").as_uri()
    with PyTorchModel(estimator.model_data, entry_point=project / "src/inference.py").deploy() as predictor:
        assert predictor.predict([1], **JSON) == [6.0]


def test_environment_and_secrets(project, modelyard_home):
    (project / "src" / "env.py").write_text(
        "import os; print(os.environ['MY_TOKEN'][:3], os.environ['MODE'])"
    )
    estimator = PyTorch(
        "env.py",
        source_dir=project / "src",
        environment={"MY_TOKEN": "hunter22", "MODE": "fast"},
        job_name="env",
    )
    estimator.fit()
    assert "hun fast" in estimator.latest_training_job.logs()
    saved = [path for path in modelyard_home.rglob("*") if path.is_file() and path.name != "lease"]
    assert len(saved) > 5
    assert not [path for path in saved if b"hunter22" in path.read_bytes()]


def test_another_process_attaches_deploys_and_queries(project, modelyard_home, client):
    first = client("""
        from modelyard import PyTorch
        PyTorch("train.py", source_dir="src", job_name="shared").fit({"train": "data"})
    """)
    assert first.wait(60) == 0
    (project / "src").rename(project / "moved")  # What is needed is in the job, not in the folder.
    second = client("""
        from modelyard import PyTorch
        estimator = PyTorch.attach("shared")
        estimator.deploy(entry_point="inference.py", endpoint_name="shared-endpoint")
        print("deployed", flush=True)
        input()
    """)
    line_with(second, "deployed")
    with Predictor("shared-endpoint", **JSON) as predictor:
        assert predictor.predict([2]) == [12.0]


def test_an_endpoint_outlives_a_client_that_ends_in_good_order(project, modelyard_home, client):
    fitted(project, job_name="outlived")
    deploying = client("""
        from modelyard import PyTorch
        PyTorch.attach("outlived").deploy(entry_point="inference.py", endpoint_name="stays")
    """)
    assert deploying.wait(60) == 0
    with Predictor("stays", **JSON) as predictor:
        assert predictor.predict([1]) == [6.0]


def test_a_job_that_is_not_waited_for_goes_on_without_its_client(project, modelyard_home, client):
    starting = client("""
        from modelyard import PyTorch
        PyTorch("train.py", source_dir="src", job_name="alone").fit({"train": "data"}, wait=False)
    """)
    assert starting.wait(60) == 0
    assert PyTorch.attach("alone").model_data.endswith("/alone/output/model.tar.gz")


def test_a_broken_plugin_is_shown_and_changes_nothing(project, modelyard_home, client, tmp_path):
    site = tmp_path / "site"
    metadata = site / "broken-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[modelyard]\nbroken = broken_plugin\n")
    (site / "broken_plugin.py").write_text("raise RuntimeError('made to fail')")
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    listing = subprocess.run(
        [sys.executable, "-m", "modelyard", "plugins", "list", "--json"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {row["plugin"]: row for row in json.loads(listing.stdout)}
    assert rows["broken"]["state"] == "failed"
    assert "made to fail" in rows["broken"]["error"]
    assert rows["backends"]["state"] == "active"
    code = 'from modelyard import PyTorch; PyTorch("train.py", source_dir="src").fit({"train": "data"})'
    assert client(code, PYTHONPATH=path).wait(60) == 0


@pytest.mark.timeout(300)
def test_the_quickstart(modelyard_home):
    pytest.importorskip("torch", reason="the digits are learned with torch")
    done = subprocess.run(
        [sys.executable, ROOT / "examples/digits/run.py"],
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    last = done.stdout.splitlines()[-1]
    found = re.fullmatch(
        r"quickstart: accuracy (\d\.\d\d) on 360 held-out digits; model at (file://\S+)", last
    )
    assert found, done.stdout
    assert float(found[1]) >= 0.95


def test_the_quickstarts_script_shares_its_work_among_processes(modelyard_home):
    pytest.importorskip("torch", reason="the digits are learned with torch")
    digits = ROOT / "examples/digits"
    estimator = PyTorch(
        "train.py",
        source_dir=digits / "src",
        hyperparameters={"epochs": 4},
        hardware="cpu",
        distribution={"torchrun": {"processes_per_host": 2}},
    )
    estimator.fit(digits / "data/train", logs=False)
    said = "\n".join(estimator.latest_training_job.logs())
    assert {"rank 0 of 2 trains on cpu", "rank 1 of 2 trains on cpu"} <= set(re.findall("rank . of .*", said))
    losses = [float(loss) for loss in re.findall(r"epoch \d: loss (\S+)", said)]
    assert len(losses) == 4
    assert losses[-1] < 0.5 < losses[0]


def test_a_process_group_of_one_host_meets(project, modelyard_home):
    pytest.importorskip("torch", reason="the process group is torch's")
    (project / "src" / "group.py").write_text(
        "import json, os, torch, torch.distributed as dist\n"
        "hosts = json.loads(os.environ['SM_HOSTS'])\n"
        "os.environ['WORLD_SIZE'] = str(len(hosts))\n"
        "dist.init_process_group('gloo', rank=hosts.index(os.environ['SM_CURRENT_HOST']))\n"
        "ones = torch.ones(1)\n"
        "dist.all_reduce(ones)\n"
        "print('sum', ones.item(), 'of', dist.get_world_size())\n"
        "dist.destroy_process_group()\n"
    )
    estimator = PyTorch("group.py", source_dir=project / "src")
    estimator.fit()
    assert "sum 1.0 of 1" in estimator.latest_training_job.logs()
