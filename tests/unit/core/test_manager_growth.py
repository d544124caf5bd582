"""The contract grows by additions alone: what was written for version 1.0 goes on working.

``frozen/plugin_1_0.py`` is a plugin of that version, and ``frozen/contract_1_0.json`` its contract.
"""

import copy
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.unit.core.frozen import plugin_1_0 as frozen
from tests.unit.core.frozen.snapshot import contract

from modelyard import Predictor, PyTorch, PyTorchModel
from modelyard.core.codecs import CodecTable
from modelyard.core.contracts import CONTRACT_VERSION, EntryPoint, Host
from modelyard.core.http import Request
from modelyard.core.kinds import KINDS, members
from modelyard.core.manager import PluginManager
from modelyard.core.plans import Resources
from modelyard.serving.model.folder import ModelFolder
from modelyard.serving.model.handler import Options, build_handler

OF_1_0 = json.loads(Path(__file__).with_name("frozen").joinpath("contract_1_0.json").read_text("utf-8"))
LARGE = Resources("frozen.large")
TORCH, AS_RANK = "modelyard.hardware.torch.TorchHardware", "modelyard.plugins.launchers.rank.as_rank"
HOST = Host("a", ("a", "b"), addresses=("10.0.0.1", "10.0.0.2"))

FROZEN = "5ab6edd8c2e373200b26a1c52d5e9585ed587e6f3dac058b8bf904d945865e0e"


def test_the_plugin_of_1_0_is_not_mended():
    """What it would have to be changed for would break those that are installed."""
    assert hashlib.sha256(Path(frozen.__file__).read_bytes()).hexdigest() == FROZEN


@pytest.fixture
def plugins():
    """Return the built-in plugins and the frozen one; whatever is wrong with it is an error."""
    frozen.told.clear()
    frozen.FrozenBackend.jobs.clear()
    frozen.FrozenBackend.endpoints.clear()
    plugins = PluginManager.discover({"MODELYARD_PLUGINS_AUTOLOAD": "0", "MODELYARD_PLUGINS_STRICT": "1"})
    plugins.register(frozen, "frozen")
    yield plugins
    assert {status.error for status in plugins.statuses} == {""}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "factor.txt").write_text("3")
    return folder


class TestThePluginOfVersion1:
    def test_is_registered_without_a_word(self, plugins):
        (status,) = (status for status in plugins.statuses if status.plugin == "frozen")
        assert (status.state, status.error, status.notes) == ("active", "", ())

    def test_provides_its_six_nouns(self, plugins):
        for kind in KINDS:
            assert "frozen" in plugins.registry(kind.word).names()

    def test_has_its_codec_used(self, plugins):
        table = CodecTable.of(plugins.codecs, default_accept="application/x-frozen")
        media_type, codec = table.writing("*/*")
        assert media_type == "application/x-frozen"
        assert table.reading(media_type).decode(codec.encode([1, 2])) == [1, 2]

    def test_has_its_launcher_make_a_command_that_runs(self, plugins, tmp_path):
        (tmp_path / "train.py").write_text("import os, sys; print(sys.argv[1], os.environ['FROZEN_HOST'])")
        chosen = plugins.select_launcher(LARGE, "frozen", None)
        hardware = plugins.hardware.create(plugins.select_hardware(LARGE))
        entry = EntryPoint("train.py", ("--x",), tmp_path)
        command = plugins.launchers.create(chosen).command(entry, HOST, hardware)
        done = subprocess.run(
            command.argv,
            cwd=command.cwd,
            env={**os.environ, **command.environ},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "--x a 0 of 2, 10.0.0.1\n"

    def test_has_its_launcher_chosen_by_what_it_declares(self, plugins):
        assert plugins.select_launcher(Resources("local"), "cpu", {"frozen": {}}).name == "frozen"

    def test_has_its_backend_move_a_jobs_files_through_its_packager_and_storage(self, plugins, tmp_path):
        source = tmp_path / "source"
        source.mkdir()
        (source / "train.py").write_text("pass")
        estimator = PyTorch(
            "train.py",
            source_dir=source,
            instance_type="frozen.large",
            output_path=f"frozen://{tmp_path}/output",
            plugins=plugins,
        )
        estimator.fit(job_name="a-job", logs=False)
        assert (tmp_path / "output" / "code" / "train.py").read_text() == "pass"
        assert estimator.model_data == f"frozen://{tmp_path}/output/uploaded.zip"
        assert frozen.told == [
            "select_hardware",
            "select_backend",
            "select_launcher",
            "select_packager",
            "job_started a-job",
            "job_finished a-job Completed",
        ]
        plan = plugins.backends.create("frozen").job("a-job").describe().plan
        assert [ref.name for ref in (plan.backend, plan.hardware, plan.launcher, plan.packager)] == [
            "frozen"
        ] * 4

    def test_has_its_backend_deploy_an_endpoint(self, plugins, model):
        deployed = PyTorchModel(model, plugins=plugins).deploy(
            instance_type="frozen.large", endpoint_name="an-endpoint"
        )
        assert (model.parent / "an-endpoint" / "served" / "factor.txt").read_text() == "3"
        predictor = Predictor("an-endpoint", plugins=plugins, backend="frozen")
        predictor.content_type = predictor.accept = "application/x-frozen"
        assert predictor.predict([1, 2]) == [1, 2]
        deployed.delete_endpoint()

    def test_has_its_hardware_serve_a_model_behind_its_middleware(self, plugins, model, monkeypatch):
        monkeypatch.chdir(model.parent)
        hardware = plugins.hardware.create(plugins.select_hardware(LARGE))
        frozen.told.clear()
        handler = build_handler(
            ModelFolder(model, model), plugins, hardware, Options(default_accept="application/x-frozen")
        )
        answer = handler(Request(b"[1, 2]", "application/x-frozen", request_id="7"))
        assert (answer.status, answer.body, answer.headers) == (200, b"[3, 6]", {"x-frozen": "7"})
        assert frozen.told == ["model_loaded True model", "wrap_handler"]

    def test_adds_to_a_jobs_environment(self, plugins):
        assert plugins.job_environ(HOST, "frozen") == {"FROZEN": "a on frozen"}

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.word)
    def test_has_no_member_that_it_need_not_have(self, plugins, kind):
        cls = plugins.registry(kind.word).get("frozen").cls
        own = {name for name in vars(cls) if not name.startswith("_")} - {"jobs", "endpoints"}
        assert own == set(members(kind.protocol))

    def test_implements_every_hook_with_all_its_arguments_of_then(self, plugins):
        implemented = {
            name: list(each.__code__.co_varnames[: each.__code__.co_argcount])
            for name, each in vars(frozen).items()
            if name.startswith("modelyard_")
        }
        assert implemented == OF_1_0["hooks"]


# -- what may change ---------------------------------------------------------------------------


def faults(old, new):
    """Yield what plugins written for the contract `old` would stumble over in `new`, with the rule."""
    for hook, arguments in old["hooks"].items():
        if hook not in new["hooks"]:
            yield f"{hook} is gone: a hook is never removed; deprecate it by warn_on_impl"
        elif lost := set(arguments) - set(new["hooks"][hook]):
            yield f"{hook} has lost {sorted(lost)}: a hook may gain arguments, never lose one"
    for name, required in old["implemented"].items():
        if (now := new["implemented"].get(name)) != required:
            yield (
                f"{name} requires {_difference(required, now or {})}: a new ability is a new, small Protocol "
                "that callers ask for by isinstance, and a required member never changes"
            )
    for called, arguments in _calls(old).items():
        if not _takes_all(arguments, _calls(new).get(called, "gone")):
            yield f"{called} is used as before by plugins: only what is optional may be added, at the end"
    yield from _lost(old, new)


def _lost(old, new):
    """Yield what plugins would no longer find as it was."""
    for where, rule in KEPT.items():
        for name, kept in _flat(old[where]).items():
            if _flat(new[where]).get(name, "") != kept:
                yield f"{name} is not what it was: {rule}"
    for name, error in old["errors"].items():
        if name in new["errors"] and (lost := set(error["is"]) - set(new["errors"][name]["is"])):
            yield f"{name} is no longer a {sorted(lost)}: plugins catch errors by their bases"


KEPT = {
    "enums": "a value that was written once is read later; members may be added",
    "bases": "plugins derive classes from it, and override its methods; members may be added",
}


def _flat(classes):
    return {f"{name}.{member}": each for name, members in classes.items() for member, each in members.items()}


def _calls(contract):
    """Return what plugins use: of what they call or make its arguments, of what they read None."""
    members = {**_flat(contract["handed"]), **_flat(contract["read"])}
    errors = {name: error["made"] for name, error in contract["errors"].items()}
    return {**members, **contract["values"], **contract["functions"], **errors}


def _difference(old, new):
    return sorted(name for name in {*old, *new} if old.get(name, "") != new.get(name, ""))


def _takes_all(old, new):
    """Tell whether who passes the arguments `old` can go on to; without any it is read, not called."""
    if old is None or not isinstance(new, dict):
        return old == new
    kept = list(new.items())[: len(old)]
    return kept == list(old.items()) and all("optional" in new[name] for name in set(new) - set(old))


def test_the_contract_has_only_grown():
    assert list(faults(OF_1_0, contract())) == []


def test_the_frozen_contract_is_of_this_major_version():
    assert CONTRACT_VERSION.split(".")[0] == "1", "freeze a plugin and a contract of the new version"


GROWTH = {
    "a hook": lambda new: new["hooks"].update(modelyard_new=["x"]),
    "an argument of a hook": lambda new: new["hooks"]["modelyard_select_backend"].append("plan"),
    "a small Protocol": lambda new: new["implemented"].update(FastCodec={"encode_fast": {"value": ""}}),
    "a method of the carrier": lambda new: new["handed"]["Carrier"].update(measure={}),
    "an optional field": lambda new: new["values"]["Command"].update(nice="by position, optional"),
    "a property": lambda new: new["read"]["EntryPoint"].update(shell=None),
    "a member of an enum": lambda new: new["enums"]["JobStatus"].update(QUEUED="Queued"),
    "a method of a base": lambda new: new["bases"][TORCH].update(pin={"tensor": "by position"}),
    "an argument of a function": lambda new: new["functions"][AS_RANK].update(name="by name, optional"),
    "an error": lambda new: new["errors"].update(QuotaError={"is": ["ModelyardError"], "made": {}}),
    "a base of an error": lambda new: new["errors"]["StorageError"]["is"].append("OSError"),
    "a hint of an error": lambda new: new["errors"]["JobError"]["made"].update(hint="by position, optional"),
}
HARM = {
    "a hook that is gone": (
        lambda new: new["hooks"].pop("modelyard_job_started"),
        "modelyard_job_started is gone: a hook is never removed",
    ),
    "an argument that is gone": (
        lambda new: new["hooks"]["modelyard_job_environ"].remove("hardware"),
        r"modelyard_job_environ has lost \['hardware'\]: a hook may gain arguments, never lose one",
    ),
    "a required method": (
        lambda new: new["implemented"]["Codec"].update(encode_fast={"value": "by position"}),
        r"Codec requires \['encode_fast'\]: a new ability is a new, small Protocol",
    ),
    "a required attribute": (
        lambda new: new["implemented"]["Hardware"].update(memory=None),
        r"Hardware requires \['memory'\]",
    ),
    "a method that is no longer required": (
        lambda new: new["implemented"]["Storage"].pop("prepare"),
        r"Storage requires \['prepare'\]",
    ),
    "an argument of a method": (
        lambda new: new["implemented"]["Launcher"]["command"].update(plan="by position"),
        r"Launcher requires \['command'\]",
    ),
    "a method of an optional Protocol": (
        lambda new: new["implemented"]["MeasuredJob"].update(reset={}),
        r"MeasuredJob requires \['reset'\]",
    ),
    "a Protocol that is gone": (
        lambda new: new["implemented"].pop("ArrayCodec"),
        r"ArrayCodec requires \['decode_array'\]",
    ),
    "a method of the carrier that is gone": (
        lambda new: new["handed"]["Carrier"].pop("unpack"),
        "Carrier.unpack is used as before",
    ),
    "a required argument of the carrier's": (
        lambda new: new["handed"]["Carrier"]["upload"].update(key="by name"),
        "Carrier.upload is used as before",
    ),
    "a required field": (
        lambda new: new["values"]["Command"].update(nice="by position"),
        "Command is used as before by plugins",
    ),
    "a field that is gone": (
        lambda new: new["values"]["Invocation"].pop("content_type"),
        "Invocation is used as before by plugins",
    ),
    "a property that is gone": (
        lambda new: new["read"]["EntryPoint"].pop("argv"),
        "EntryPoint.argv is used as before",
    ),
    "a property that is a method now": (
        lambda new: new["read"]["Host"].update(rank={}),
        "Host.rank is used as before",
    ),
    "a value without anything to read": (
        lambda new: new["read"].pop("EndpointStatus"),
        "EndpointStatus.is_terminal is used as before",
    ),
    "a member of an enum that is gone": (
        lambda new: new["enums"]["EntryForm"].pop("SHELL"),
        "EntryForm.SHELL is not what it was: a value that was written once is read later",
    ),
    "a member of an enum that is written otherwise": (
        lambda new: new["enums"]["JobStatus"].update(STOPPED="Cancelled"),
        "JobStatus.STOPPED is not what it was",
    ),
    "a method of a base that is gone": (
        lambda new: new["bases"][TORCH].pop("move_module"),
        "TorchHardware.move_module is not what it was: plugins derive classes from it",
    ),
    "an argument of a base's method": (
        lambda new: new["bases"][TORCH]["device"].update(kind="by position, optional"),
        "TorchHardware.device is not what it was",
    ),
    "a function that is gone": (
        lambda new: new["functions"].pop(AS_RANK),
        "as_rank is used as before",
    ),
    "an error that is gone": (
        lambda new: new["errors"].pop("DecodeError"),
        "DecodeError is used as before",
    ),
    "an error that is made otherwise": (
        lambda new: new["errors"]["DecodeError"].update(made={"message": "by position", "at": "by position"}),
        "DecodeError is used as before",
    ),
    "an error that is something else": (
        lambda new: new["errors"]["JobNotFoundError"]["is"].remove("LookupError"),
        r"JobNotFoundError is no longer a \['LookupError'\]: plugins catch errors by their bases",
    ),
}


@pytest.mark.parametrize("change", GROWTH.values(), ids=GROWTH)
def test_growth_is_allowed(change):
    new = copy.deepcopy(OF_1_0)
    change(new)
    assert new != OF_1_0
    assert list(faults(OF_1_0, new)) == []


@pytest.mark.parametrize(("change", "said"), HARM.values(), ids=HARM)
def test_what_would_break_a_plugin_is_found_with_its_rule(change, said):
    new = copy.deepcopy(OF_1_0)
    change(new)
    (fault,) = faults(OF_1_0, new)
    assert re.search(said, fault)
