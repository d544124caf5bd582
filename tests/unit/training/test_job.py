"""A job as SageMaker starts it: a folder made by hand, and ``python -m modelyard.training``."""

import json
import os
import sys
import tarfile
import textwrap
from types import SimpleNamespace

import attrs
import pytest

from modelyard.core.contracts import Command, EntryPoint
from modelyard.core.errors import BrokenPluginError, InvalidPlanError, UnknownProviderError
from modelyard.core.handover import HANDED_OVER
from modelyard.core.hookspecs import hookimpl
from modelyard.core.manager import PluginManager
from modelyard.core.metrics import read
from modelyard.core.plans import MetricDefinition, ProviderRef, SourceCode, TrainingPlan
from modelyard.hardware import detection
from modelyard.hardware.cpu import CpuHardware
from modelyard.training import environment, job
from modelyard.training.supervisor import signals

OWN = "modelyard"


def read_tar(path):
    with tarfile.open(path) as archive:
        return {
            member.name: archive.extractfile(member).read().decode()
            for member in archive.getmembers()
            if member.isfile()
        }


def write_tar(path, folder):
    with tarfile.open(path, "w:gz") as archive:
        for item in sorted(folder.iterdir()):
            archive.add(item, item.name)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def run_job(base, start_job):
    """Run the job to its end; return its process."""

    def make(source=None, *, program="train.py", **environ):
        if source is not None:
            base.script(source)
        if program and not (base.config / "hyperparameters.json").exists():
            base.hyperparameters(sagemaker_program=program)
        process = start_job(**environ)
        process.code = process.wait()
        return process

    return make


@pytest.fixture
def plan():
    """Return a plan of the built-in providers, in the versions that are installed."""
    plugins = PluginManager.builtin()
    return TrainingPlan(
        job_name="a-job",
        source=SourceCode("train.py"),
        backend=plugins.resolve("backend", "local"),
        hardware=plugins.resolve("hardware", "cpu"),
        launcher=plugins.resolve("launcher", "process"),
        packager=plugins.resolve("packager", "tarball"),
    )


# -- how it ends -------------------------------------------------------------------------------


def test_a_job_that_succeeds(base, run_job):
    base.hyperparameters(sagemaker_program="train.py", epochs=5, n=None)
    base.configure("resourceconfig", {"current_host": "algo-1", "hosts": ["algo-1"]})
    base.configure("inputdataconfig", {"train": {"TrainingInputMode": "File"}})
    process = run_job(
        """
        import os, sys
        print(sys.argv[1:], os.getcwd() == os.path.dirname(os.path.abspath(__file__)))
        print(os.environ["SM_CHANNEL_TRAIN"], os.environ["SM_HP_EPOCHS"], os.environ["MASTER_ADDR"])
        open(os.environ["SM_MODEL_DIR"] + "/model.txt", "w").write("weights")
        """
    )
    assert process.code == 0, process.stderr
    assert process.stdout.splitlines() == [
        "['--epochs', '5', '-n', ''] True",
        f"{base.folder}/input/data/train 5 algo-1",
    ]
    assert (base.output / "success").read_bytes() == b""
    assert not (base.output / "failure").exists()
    assert (base.folder / "model" / "model.txt").read_text() == "weights"
    assert not (base.folder / "artifacts").exists()


def test_a_job_that_fails_says_why_and_keeps_the_scripts_code(base, run_job):
    process = run_job("import sys\ndef train():\n    raise ValueError('no data')\ntrain()")
    assert process.code == 1
    assert base.failure == "train.py exited with code 1: ValueError: no data (train.py, line 3, in train)"
    assert not (base.output / "success").exists()
    assert "Traceback" in process.stderr


def test_an_exit_code_is_passed_on(base, run_job):
    assert run_job("raise SystemExit(3)").code == 3
    assert base.failure == "train.py exited with code 3"


def test_a_script_that_is_killed(base, run_job):
    assert run_job("import os; os.kill(os.getpid(), 9)").code == 137
    assert base.failure == "train.py was killed by SIGKILL (often: out of memory)"


def test_the_users_own_failure_file_is_kept(base, run_job):
    process = run_job(
        """
        import os, sys
        open(os.path.join(os.environ["SM_OUTPUT_DIR"], "failure"), "w").write("my reason")
        sys.exit(2)
        """
    )
    assert process.code == 2
    assert base.failure == "my reason"


def test_a_script_that_is_not_there(base, run_job):
    base.script("", "mising.py")
    assert run_job(program="missing.py").code == 1
    assert base.failure.startswith(
        f"the program 'missing.py' is not in {base.code}; did you mean 'mising.py'?"
    )


def test_a_shell_script(base, run_job):
    base.script('echo "$@" in $SM_CURRENT_HOST; exit 4', "train.sh")
    base.hyperparameters(sagemaker_program="train.sh", lr="a b")
    process = run_job()
    assert process.code == 4
    assert process.stdout == "--lr a b in algo-1\n"


def test_what_goes_wrong_before_the_script_is_recorded_too(base, run_job):
    process = run_job("print('never')", program=None)
    assert process.code == 1
    assert base.failure.startswith("no program to run: set the hyperparameter sagemaker_program")
    assert process.stderr == f"modelyard: {base.failure}\n"
    assert process.stdout == ""


def test_broken_json(base, run_job):
    base.configure("hyperparameters", "{")
    assert run_job().code == 1
    assert "hyperparameters.json is not JSON" in base.failure


@pytest.mark.parametrize(
    ("hyperparameters", "said"),
    [({"a=b": 1}, "'a=b' cannot be a variable"), ({"a": "x\0y"}, "'a' holds a character")],
)
def test_what_no_process_can_be_given_is_recorded(base, run_job, hyperparameters, said):
    base.hyperparameters(sagemaker_program="train.py", **hyperparameters)
    assert run_job("print('never')").code == 1
    assert base.failure.startswith(f"hyperparameter {said}")


def test_a_stopped_job_ends_with_the_scripts_code(base, start_job):
    base.hyperparameters(sagemaker_program="train.py")
    base.script(
        """
        import os, signal, sys, time
        def stop(*_):
            open(os.environ["SM_MODEL_DIR"] + "/checkpoint", "w").close()
            sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        print("ready")
        while True:
            time.sleep(0.1)
        """
    )
    process = start_job()
    process.wait_for("ready")
    process.terminate()
    assert process.wait() == 0
    assert (base.folder / "model" / "checkpoint").exists()
    assert not (base.output / "success").exists(), "whether its work is done nobody knows"


def test_the_time_to_stop_is_given_by_the_environment(base, start_job):
    base.hyperparameters(sagemaker_program="train.py")
    base.script(
        """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("ready")
        time.sleep(60)
        """
    )
    process = start_job(MODELYARD_STOP_SECONDS="0.1")
    process.wait_for("ready")
    process.terminate()
    assert process.wait() == 137
    assert base.failure == "train.py was killed by SIGKILL"


def test_a_relative_base_folder(base, run_job, monkeypatch):
    monkeypatch.chdir(base.folder.parent)
    process = run_job("import os; print(os.environ['SM_MODEL_DIR'])", SAGEMAKER_BASE_DIR=base.folder.name)
    assert process.code == 0, process.stderr
    assert process.stdout == f"{base.folder}/model\n"


def test_what_an_earlier_run_left_is_set_aside_and_never_lost(base, run_job, plan):
    metrics = [MetricDefinition("loss", "loss=([0-9.]+)")]
    (base.config / "modelyard.json").write_text(attrs.evolve(plan, metrics=metrics).to_json())
    run_job("print('loss=1')\nraise ValueError('first problem')")
    run_job("raise KeyError('second problem')")
    assert "KeyError: 'second problem'" in base.failure
    run_job("print('loss=3')")
    assert names(base.output) == [
        *("data", "failure.0", "failure.1", "failure.log.0", "failure.log.1"),
        *("metrics.jsonl", "metrics.jsonl.0", "success"),
    ]
    assert "first problem" in (base.output / "failure.0").read_text()
    assert [metric.value for metric in read(base.output / "metrics.jsonl")] == [3.0]
    run_job("print('never')", program=None, SAGEMAKER_PROGRAM="missing.py")
    assert base.failure.startswith("the program 'missing.py' is not in")
    assert (base.output / "success.0").exists()
    assert not (base.output / "success").exists()


@pytest.mark.parametrize("seconds", ["abc", "-1", "nan", "inf"])
def test_a_time_to_stop_that_is_none_is_refused(base, run_job, seconds):
    assert run_job("print('never')", MODELYARD_STOP_SECONDS=seconds).code == 1
    assert base.failure == f"MODELYARD_STOP_SECONDS must be a number of seconds, 0 or more, not {seconds!r}"


# -- stopped while no script runs ----------------------------------------------------------------


@pytest.fixture
def slow(tmp_path):
    """Install a storage that says when it is asked for something, and then takes its time."""
    site = tmp_path / "site"
    info = site / "slow-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelyard]\nslow = slow_plugin\n")
    (site / "slow_plugin.py").write_text(
        textwrap.dedent(
            """
            import time
            from modelyard.core.hookspecs import hookimpl

            class Slow:
                name, schemes = "slow", ("slow",)

                def download(self, uri, into):
                    if "u:hunter2222" in uri:
                        raise RuntimeError(f"cannot parse {uri}")
                    print("downloading", flush=True)
                    while True:
                        time.sleep(0.1)

                def upload(self, path, uri):
                    print("uploading", flush=True)
                    while True:
                        time.sleep(0.1)

                def prepare(self, uri):
                    pass

            @hookimpl
            def modelyard_register_storages():
                return (Slow,)
            """
        )
    )
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}


def test_a_job_is_stopped_while_it_waits_for_its_source(base, start_job, slow):
    base.hyperparameters(sagemaker_program="train.py")
    process = start_job(**slow, SAGEMAKER_SUBMIT_DIRECTORY="slow://x.tar.gz")
    process.wait_for("downloading")
    process.terminate()
    assert process.wait() == 143
    assert base.failure == "stopped by SIGTERM while the source was fetched"
    assert process.stderr.endswith(f"modelyard: {base.failure}\n")
    assert not (base.output / "success").exists()
    assert names(base.folder) == ["checkpoints", "code", "input", "model", "output"]


BUILD = """
import time
def build_wheel(*_):
    print("loss=1", flush=True)
    open({mark!r}, "w").close()
    time.sleep(600)
"""


def test_a_job_that_is_stopped_while_packages_are_installed(base, start_job, plan, tmp_path, eventually):
    metrics = [MetricDefinition("loss", "loss=([0-9.]+)")]
    (base.config / "modelyard.json").write_text(attrs.evolve(plan, metrics=metrics).to_json())
    base.hyperparameters(sagemaker_program="train.py")
    base.script("print('never')")
    base.script(BUILD.format(mark=str(tmp_path / "building")), "backend.py")
    table = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']"
    base.script(table, "pyproject.toml")
    own = {
        "TMPDIR": str(tmp_path),
        "MODELYARD_ISOLATED_PACKAGES": "1",
        "PIP_NO_INDEX": "1",
        "PIP_VERBOSE": "3",
    }
    process = start_job(**own)
    eventually((tmp_path / "building").exists, process)
    eventually(lambda: "loss=1" in process.stdout + process.stderr, process)
    process.terminate()
    assert process.wait() == 143
    assert base.failure == "stopped by SIGTERM while its packages were installed"
    assert not (base.output / "metrics.jsonl").exists(), "what pip prints is no metric of the script"


# -- the source --------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path):
    """Make a source archive whose script prints a word."""

    def make(word, name="sourcedir.tar.gz"):
        folder = tmp_path / f"source-{word}"
        (folder / "sub").mkdir(parents=True)
        (folder / "train.py").write_text("from sub import word; print(word.WORD)")
        (folder / "sub" / "word.py").write_text(f"WORD = {word!r}")
        return write_tar(tmp_path / name, folder)

    return make


@pytest.mark.parametrize("form", [str, lambda path: path.as_uri()], ids=["path", "uri"])
@pytest.mark.parametrize("name", ["sourcedir.tar.gz", "my source+%41.tar.gz"])
def test_the_source_archive_is_unpacked(base, run_job, archive, form, name):
    location = form(archive("hello", name))
    base.hyperparameters(sagemaker_program="train.py", sagemaker_submit_directory=location)
    process = run_job()
    assert process.code == 0, process.stderr
    assert process.stdout == "hello\n"
    assert names(base.folder / "input") == ["config", "data"]


def test_code_that_is_there_already_is_set_aside(base, run_job, archive):
    base.script("print('stale')")
    base.script("print('image')", "own.py")
    for number, word in enumerate(("first", "second")):
        base.hyperparameters(
            sagemaker_program="train.py", sagemaker_submit_directory=str(archive(word, f"{word}.tar.gz"))
        )
        process = run_job()
        assert process.code == 0, process.stderr
        assert process.stdout == f"{word}\n"
        assert (base.folder / f"code.{number}").is_dir()
    assert (base.folder / "code.0" / "own.py").read_text() == "print('image')"
    assert not (base.code / "own.py").exists()


@pytest.mark.parametrize("content", [None, b"not an archive"])
def test_a_source_archive_that_cannot_be_read(base, run_job, tmp_path, content):
    path = tmp_path / "sourcedir.tar.gz"
    if content:
        path.write_bytes(content)
    base.hyperparameters(sagemaker_program="train.py", sagemaker_submit_directory=str(path))
    assert run_job().code == 1
    assert "sourcedir.tar.gz" in base.failure


# -- the plan ----------------------------------------------------------------------------------


def test_a_plan_says_what_to_use(base, run_job, plan):
    (base.config / "modelyard.json").write_text(plan.to_json())
    assert run_job("print('done')").stdout == "done\n"


@pytest.mark.parametrize("word", ["hardware", "launcher", "packager"])
@pytest.mark.parametrize("changed", [{"version": "0.0.1"}, {"distribution": "another"}])
def test_another_version_than_the_plans_is_refused(base, run_job, plan, word, changed):
    other = attrs.evolve(plan, **{word: attrs.evolve(getattr(plan, word), **changed)})
    (base.config / "modelyard.json").write_text(other.to_json())
    assert run_job("print('never')").code == 1
    installed, wanted = getattr(plan, word), getattr(other, word)
    assert base.failure == (
        f"the plan uses {word} {wanted.name!r} of {wanted.distribution} {wanted.version}, "
        f"but here it is of {installed.distribution} {installed.version}; "
        "install the same version in both places"
    )


def test_a_provider_that_is_not_installed_is_named(base, run_job, plan):
    other = attrs.evolve(plan, launcher=ProviderRef("proces"))
    (base.config / "modelyard.json").write_text(other.to_json())
    assert run_job("print('never')").code == 1
    assert base.failure.startswith("no launcher is called 'proces'; did you mean 'process'?")


def test_a_plan_that_is_broken_is_refused(base, run_job):
    base.configure("modelyard", "{}")
    assert run_job("print('never')").code == 1
    assert "TrainingPlan" in base.failure


def test_a_provider_that_was_registered_by_hand_has_no_version_to_compare(plan):
    plugins = PluginManager.builtin()
    assert isinstance(job._installed(plugins.hardware, ProviderRef("cpu")), CpuHardware)
    with pytest.raises(InvalidPlanError, match=r"install the same version"):
        job._installed(plugins.hardware, ProviderRef("cpu", {}, OWN, "99"))
    with pytest.raises(UnknownProviderError):
        job._installed(plugins.hardware, ProviderRef("cpuu", {}, OWN, "99"))


# -- a launcher's own faults -------------------------------------------------------------------


@attrs.frozen
class Faulty:
    name = "faulty"
    distributions = ("faulty",)
    fault: str = ""

    def command(self, entry, host, hardware):
        commands = {
            "raises": lambda: {}["boo"],
            "returns": lambda: "python train.py",
            "number": lambda: Command(("python", 3), {}, entry.code_dir),
            "variable": lambda: Command(("python",), {"LEVEL": 3}, entry.code_dir),
        }
        return commands[self.fault]()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raises", r"^launcher 'faulty' raised KeyError: 'boo' \(test_job.py, line \d+\)$"),
        ("returns", "^launcher 'faulty' must return a Command, not 'python train.py'$"),
        ("number", r"^launcher 'faulty' has in its command what is no text: \[3\]$"),
        ("variable", r"^launcher 'faulty' has in its command what is no text: \[3\]$"),
    ],
)
def test_a_launchers_own_fault_is_called_so(base, plan, fault, said):
    base.script("print('never')")
    plugins = PluginManager.builtin()
    plugins.register(SimpleNamespace(modelyard_register_launchers=hookimpl(lambda: (Faulty,))), "faulty")
    env = environment.read(base.folder, {"SAGEMAKER_PROGRAM": "train.py"})
    planned = attrs.evolve(plan, launcher=ProviderRef("faulty", {"fault": fault}))
    with signals() as stop, pytest.raises(BrokenPluginError, match=said):
        job.Job(env, planned, {}, plugins, stop)._command(EntryPoint("train.py", (), base.folder))


# -- the script's environment ------------------------------------------------------------------


@attrs.frozen
class Hardware(CpuHardware):
    name = "loud"

    def environ(self, host):
        return {**dict.fromkeys("ABCE", "hardware"), "SM_LOG_LEVEL": "hardware"}


@pytest.fixture
def script_environ(base, plan):
    """Return what a script would be started with."""

    def make(environ, users=None):
        plugins = PluginManager.builtin()
        plugins.register(
            SimpleNamespace(modelyard_job_environ=hookimpl(lambda: {"B": "plugin", "C": "plugin"})), "p"
        )
        plugins.register(SimpleNamespace(modelyard_register_hardware=hookimpl(lambda: (Hardware,))), "h")
        env = environment.read(base.folder, {"SAGEMAKER_PROGRAM": "train.py"})
        planned = attrs.evolve(plan, environment=users or {}, hardware=ProviderRef("loud"))
        with signals() as stop:
            return job.Job(env, planned, environ, plugins, stop).script_environ(sys.executable)

    return make


def test_the_user_wins_over_plugins_and_plugins_over_hardware(script_environ):
    process = {"A": "process", "B": "process", "C": "user", "D": "process"}
    found = script_environ(process, users={"C": "user", "SECRET": "********"})
    assert {name: found.get(name) for name in "ABCDE"} == {
        "A": "process",
        "B": "plugin",
        "C": "user",
        "D": "process",
        "E": "hardware",
    }
    assert "SECRET" not in found
    assert found["SM_LOG_LEVEL"] == "hardware"


def test_a_users_value_is_that_of_the_process_for_the_plan_has_it_redacted(script_environ):
    assert script_environ({"TOKEN": "real"}, users={"TOKEN": "********"})["TOKEN"] == "real"


def test_the_code_folder_comes_first_on_the_python_path(base, script_environ):
    assert script_environ({"PYTHONPATH": "/mine"})["PYTHONPATH"].startswith(f"{base.code}:/mine:")
    assert script_environ({})["PYTHONPATH"].startswith(f"{base.code}:")


def test_what_is_about_the_in_job_program_is_not_for_the_script(script_environ):
    handed = dict.fromkeys(HANDED_OVER, "1") | {"MODELYARD_HOME": "/mine"}
    found = {name for name in script_environ(handed) if name.startswith("MODELYARD_")}
    assert found == {"MODELYARD_HOME", "MODELYARD_HOST_ADDRESSES", "MODELYARD_HOST_KEY"}


def test_output_is_not_buffered_unless_the_user_wants_it(script_environ):
    assert script_environ({})["PYTHONUNBUFFERED"] == "1"
    assert script_environ({"PYTHONUNBUFFERED": ""})["PYTHONUNBUFFERED"] == ""


def test_the_guards_pid_is_not_for_the_script(base, run_job):
    process = run_job(
        "import os; print('MODELYARD_GUARD_PID' in os.environ)", MODELYARD_GUARD_PID=str(os.getpid())
    )
    assert process.stdout == "False\n"


def test_a_job_whose_guard_has_gone_ends_at_once(base, run_job):
    assert run_job("print('never')", MODELYARD_GUARD_PID=str(2**22 + 1)).code == 143


# -- the processes of one machine -------------------------------------------------------------


@pytest.fixture
def threads(base, plan, monkeypatch):
    """Return how many threads each process is told to have, of 8 CPUs."""
    monkeypatch.setattr(detection, "cores", lambda: 8)

    def make(processes, addresses=None, **environ):
        names = [f"algo-{number}" for number, _ in enumerate(addresses or ("",), 1)]
        base.configure("resourceconfig", {"current_host": names[-1], "hosts": names})
        told = {"SAGEMAKER_PROGRAM": "train.py"}
        if addresses:
            told["MODELYARD_HOST_ADDRESSES"] = ",".join(addresses)
        with signals() as stop:
            made = job.Job(environment.read(base.folder, told), plan, environ, PluginManager.builtin(), stop)
            return made.script_environ(sys.executable, processes=processes).get("OMP_NUM_THREADS")

    return make


def test_one_process_has_the_machine_to_itself(threads):
    assert threads(1) is None
    assert threads(1, ["127.0.0.1"]) is None


@pytest.mark.parametrize(
    ("processes", "addresses", "each"),
    [
        (4, None, "2"),
        (1, ["127.77.0.1", "127.77.0.2"], "4"),
        (2, ["127.77.0.1", "127.77.0.2"], "2"),
        (16, ["127.77.0.1", "127.77.0.2"], "1"),
        (2, ["10.0.0.1", "10.0.0.2"], "4"),
        (1, ["10.0.0.1", "10.0.0.2"], None),
    ],
)
def test_the_processes_of_a_machine_share_its_cpus_whichever_hosts_they_are_of(
    threads, processes, addresses, each
):
    assert threads(processes, addresses) == each


def test_the_users_number_of_threads_wins(threads):
    assert threads(4, OMP_NUM_THREADS="7") == "7"


# -- hardware that has a say in the command -----------------------------------------------------


@pytest.fixture
def compiler(tmp_path):
    """Stand in for Neuron's compiler, which says that it is there and runs what it is given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "neuron_parallel_compile"
    program.write_text('#!/bin/sh\necho compiling\nexec "$@"\n')
    program.chmod(0o755)
    return {"PATH": os.pathsep.join([str(folder), os.environ["PATH"]])}


@pytest.mark.parametrize("way", ["option", "variable", None])
def test_a_job_for_trainium_compiles_ahead_where_it_is_asked_to(base, run_job, plan, compiler, way):
    ref = ProviderRef("trainium", {"parallel_compile": True} if way == "option" else {})
    (base.config / "modelyard.json").write_text(attrs.evolve(plan, hardware=ref).to_json())
    asked = {"RUN_NEURON_PARALLEL_COMPILE": "1"} if way == "variable" else {}
    process = run_job("import os; print(os.environ['PJRT_DEVICE'])", **compiler, **asked)
    assert process.code == 0, process.stderr
    assert process.stdout.splitlines() == (["compiling", "NEURON"] if way else ["NEURON"])


def test_a_job_that_hardware_cannot_run_fails_before_it_starts(base, run_job, plan):
    launcher = ProviderRef("torchrun", {"processes_per_host": 2})
    planned = attrs.evolve(plan, hardware=ProviderRef("trainium"), launcher=launcher)
    (base.config / "modelyard.json").write_text(planned.to_json())
    assert run_job("print('never')", PJRT_DEVICE="CPU").code == 1
    assert "PJRT_DEVICE=CPU" in base.failure
    assert "2 processes would train 2 models that know nothing of each other" in base.failure


# -- secrets -----------------------------------------------------------------------------------


def test_a_hyperparameter_does_not_hide_the_secret_of_a_variable(base, run_job):
    base.hyperparameters(sagemaker_program="train.py", API_KEY="of-the-model")
    process = run_job("print('of-the-model of-the-host')", API_KEY="of-the-host")
    assert process.stdout == "******** ********\n"


def test_secrets_are_masked_however_deep_they_lie_and_however_they_are_spelt(base, run_job):
    secret = "hunt\"er'2\\2é"
    base.hyperparameters(sagemaker_program="train.py", wandb={"api_key": secret}, tokens=["hunter3333"])
    process = run_job(
        """
        import json, os
        print(os.environ["SM_HPS"])
        print(os.environ["SM_HP_WANDB"])
        hps = json.loads(os.environ["SM_HPS"])
        print(hps, hps["wandb"]["api_key"], json.dumps(hps, ensure_ascii=False))
        """
    )
    assert process.code == 0, process.stderr
    assert process.stdout.count("********") == 8
    assert "hunt" not in process.stdout


URL = "https://u:hunter2222@h/x.tar.gz"


@pytest.mark.parametrize("way", ["variable", "hyperparameter"])
def test_what_modelyard_itself_says_has_no_secrets(base, run_job, way):
    settings = {"sagemaker_submit_directory": URL} if way == "hyperparameter" else {}
    base.hyperparameters(sagemaker_program="train.py", **settings)
    process = run_job("", **({} if settings else {"SAGEMAKER_SUBMIT_DIRECTORY": URL}))
    assert process.code == 1
    assert "unknown scheme 'https'" in base.failure
    assert "hunter2222" not in base.failure + process.stderr


def test_nor_has_a_traceback(base, run_job, slow):
    process = run_job("", **slow, SAGEMAKER_SUBMIT_DIRECTORY="slow://u:hunter2222@h/x.tar.gz")
    assert process.code == 1
    assert base.failure.startswith("RuntimeError: cannot parse ")
    assert "Traceback (most recent call last)" in process.stderr
    assert "hunter2222" not in base.failure + process.stderr


def test_the_script_sees_its_hyperparameters_as_json(base, run_job):
    base.hyperparameters(sagemaker_program="train.py", layers=[1, 2], name="a b")
    process = run_job("import os; print(os.environ['SM_HPS'])")
    assert json.loads(process.stdout) == {"layers": [1, 2], "name": "a b"}
