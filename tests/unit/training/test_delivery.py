"""What a job leaves, brought away once its hosts have ended."""

import os
import subprocess
import sys
import tarfile

import pytest

from modelyard.core.layout import JobLayout
from modelyard.core.plans import ProviderRef, SourceCode, TrainingPlan


@pytest.fixture
def hosts(tmp_path):
    """Make the folders of hosts that have ended."""
    refs = {name: ProviderRef(name) for name in ("local", "cpu", "process", "tarball")}
    plan = TrainingPlan("a-job", SourceCode("train.py"), *refs.values())

    def make(count):
        layouts = [JobLayout(tmp_path / f"algo-{number + 1}") for number in range(count)]
        for layout in layouts:
            layout.create()
            layout.plan.write_text(plan.to_json())
        return layouts

    return make


def deliver(layouts, uri, *options):
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "modelyard.training.delivery",
            *options,
            *(str(host.base) for host in layouts),
        ],
        env={**os.environ, "MODELYARD_OUTPUT_URI": uri},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def read_tar(path):
    with tarfile.open(path) as archive:
        return {
            member.name: archive.extractfile(member).read().decode() for member in archive if member.isfile()
        }


def test_the_archives_go_where_they_are_asked_for(hosts, tmp_path):
    (host,) = hosts(1)
    (host.model / "model.txt").write_text("weights")
    (host.output_data / "metrics.csv").write_text("1,2")
    store = tmp_path / "a store"
    done = deliver([host], store.as_uri() + "/", "--model")
    assert done.returncode == 0, done.stderr
    assert read_tar(store / "model.tar.gz") == {"model.txt": "weights"}
    assert read_tar(store / "output.tar.gz") == {"metrics.csv": "1,2"}
    assert sorted(path.name for path in host.base.iterdir()) == [
        "checkpoints",
        "code",
        "input",
        "model",
        "output",
    ]


def test_of_a_script_that_failed_only_the_output_is_delivered(hosts, tmp_path):
    (host,) = hosts(1)
    (host.model / "half.txt").write_text("half")
    (host.output_data / "log.txt").write_text("so far")
    assert deliver([host], tmp_path.as_uri()).returncode == 0
    assert not (tmp_path / "model.tar.gz").exists()
    assert read_tar(tmp_path / "output.tar.gz") == {"log.txt": "so far"}


def test_a_job_without_output_has_a_model_archive_all_the_same(hosts, tmp_path):
    done = deliver(hosts(1), tmp_path.as_uri(), "--model")
    assert done.returncode == 0, done.stderr
    assert read_tar(tmp_path / "model.tar.gz") == {}
    assert not (tmp_path / "output.tar.gz").exists()
    assert "the script saved nothing in SM_MODEL_DIR" in done.stderr


def test_a_script_may_have_removed_the_folders(hosts, tmp_path):
    (host,) = hosts(1)
    host.model.rmdir()
    host.output_data.rmdir()
    assert deliver([host], tmp_path.as_uri(), "--model").returncode == 0


def test_several_hosts_leave_one_model(hosts, tmp_path):
    first, second = hosts(2)
    (second.model / "deep").mkdir()
    for host, text in ((first, "same"), (second, "same")):
        (host.model / "same.txt").write_text(text)
    (first.model / "x.txt").write_text("the first's")
    (second.model / "x.txt").write_text("the second's")
    (second.model / "deep" / "y.txt").write_text("only the second's")
    done = deliver([first, second], tmp_path.as_uri(), "--model")
    assert read_tar(tmp_path / "model.tar.gz") == {
        "same.txt": "same",
        "x.txt": "the first's",
        "deep/y.txt": "only the second's",
    }
    assert "x.txt" in done.stderr
    assert "same.txt" not in done.stderr


def test_a_file_where_another_host_has_a_folder_costs_only_itself(hosts, tmp_path):
    first, second = hosts(2)
    (first.model / "x").write_text("a file")
    (second.model / "x").mkdir()
    (second.model / "x" / "y.txt").write_text("in a folder")
    (second.model / "z.txt").write_text("kept")
    done = deliver([first, second], tmp_path.as_uri(), "--model")
    assert done.returncode == 0, done.stderr
    assert read_tar(tmp_path / "model.tar.gz") == {"x": "a file", "z.txt": "kept"}
    assert "x/y.txt" in done.stderr


def test_a_failed_upload_is_recorded(hosts, tmp_path):
    (host,) = hosts(1)
    (tmp_path / "file").touch()
    done = deliver([host], (tmp_path / "file").as_uri(), "--model")
    assert done.returncode == 1
    assert "what the job left cannot be delivered: cannot write" in host.failure.read_text()
    assert host.failure.read_text() in done.stderr


def test_a_failed_upload_does_not_hide_why_the_script_failed(hosts, tmp_path):
    (host,) = hosts(1)
    host.failure.write_text("train.py exited with code 3")
    (host.output_data / "log.txt").touch()
    (tmp_path / "file").touch()
    assert deliver([host], (tmp_path / "file").as_uri()).returncode == 1
    assert host.failure.read_text() == "train.py exited with code 3"


def test_a_storage_that_nobody_provides(hosts):
    (host,) = hosts(1)
    assert deliver([host], "fil:///x", "--model").returncode == 1
    assert "unknown scheme 'fil'; did you mean 'file'?" in host.failure.read_text()
