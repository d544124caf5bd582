import string
from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidPlanError
from modelyard.core.plans import (
    Channel,
    EndpointPlan,
    EndpointStatus,
    JobStatus,
    ModelSource,
    ProviderRef,
    Resources,
    SourceCode,
    TrainingPlan,
    check_name,
    unique_name,
)

NOON = datetime(2026, 1, 2, 12, 0, 0, 7_000, tzinfo=UTC)


def refs(*kinds):
    return {kind: ProviderRef(f"a-{kind}") for kind in kinds}


def training_plan(**changes):
    given_fields = {
        "job_name": "digits-1",
        "source": SourceCode("train.py"),
        **refs("backend", "hardware", "launcher", "packager"),
        **changes,
    }
    return TrainingPlan(**given_fields)


def endpoint_plan(**changes):
    given_fields = {
        "endpoint_name": "digits-1",
        "model": ModelSource("file:///model.tar.gz"),
        **refs("backend", "hardware", "packager"),
        **changes,
    }
    return EndpointPlan(**given_fields)


texts = st.text(max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=6,
)
mappings = st.dictionaries(texts, json_values, max_size=3)
hyperparameters = st.dictionaries(
    st.text(st.characters(exclude_characters="=\0"), min_size=1, max_size=12), json_values, max_size=3
)
variables = st.dictionaries(
    st.text(string.ascii_uppercase + "_", min_size=1),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    max_size=3,
)
names = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?\Z")
provider_refs = st.builds(ProviderRef, texts, mappings, texts, texts)
sources = st.builds(SourceCode, texts, st.none() | texts, st.lists(texts, max_size=2))
resources = st.builds(Resources, texts, st.integers(1, 100), st.none() | texts)
channels = st.builds(Channel, st.sampled_from(["train", "test"]), texts, st.none() | texts)
training_plans = st.builds(
    TrainingPlan,
    job_name=names,
    source=sources,
    backend=provider_refs,
    hardware=provider_refs,
    launcher=provider_refs,
    packager=provider_refs,
    resources=resources,
    hyperparameters=hyperparameters,
    channels=st.lists(channels, max_size=2),
    environment=variables,
    output_path=st.none() | texts,
)
endpoint_plans = st.builds(
    EndpointPlan,
    endpoint_name=names,
    model=st.builds(ModelSource, texts),
    backend=provider_refs,
    hardware=provider_refs,
    packager=provider_refs,
    source=st.none() | sources,
    resources=resources,
    environment=variables,
    startup_timeout=st.floats(0, 1000),
)


class TestPlans:
    @given(training_plans | endpoint_plans)
    def test_come_back_from_json(self, plan):
        assert type(plan).from_json(plan.to_json()) == plan

    def test_with_a_typo_in_the_json_are_an_error(self):
        text = training_plan().to_json().replace('"role"', '"roll"')
        with pytest.raises(InvalidPlanError, match="no field 'roll'; did you mean 'role'"):
            TrainingPlan.from_json(text)

    @pytest.mark.parametrize("plan", [training_plan(), endpoint_plan()], ids=["training", "endpoint"])
    def test_cannot_be_changed(self, plan):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            plan.role = "another"
        with pytest.raises(TypeError):
            plan.environment["A"] = "1"

    def test_do_not_follow_what_they_were_made_from(self):
        hyperparameters = {"layers": [1, 2]}
        plan = training_plan(hyperparameters=hyperparameters)
        hyperparameters["layers"].append(3)
        hyperparameters["epochs"] = 1
        assert plan.hyperparameters == {"layers": (1, 2)}

    def test_can_be_made_from_another_plan(self):
        plan = training_plan(hyperparameters={"nested": {"deep": {"x": [1]}}}, environment={"A": "1"})
        other = attrs.evolve(plan, job_name="digits-2")
        assert other.hyperparameters == plan.hyperparameters
        assert attrs.evolve(other, job_name="digits-1") == plan

    def test_print_what_they_say_and_leave_out_the_rest(self):
        plan = training_plan(
            backend=ProviderRef("local", {}, "modelyard", "1.0"),
            launcher=ProviderRef("torchrun", {"processes": 2}),
            hyperparameters={"epochs": 3, "layers": [8, 8]},
            channels=[Channel("train", "file:///data")],
        )
        assert str(plan).splitlines() == [
            "training plan digits-1",
            "  source            entry_point=train.py",
            "  backend           local from modelyard 1.0",
            "  hardware          a-hardware",
            "  launcher          torchrun(processes=2)",
            "  packager          a-packager",
            "  resources         instance_type=local, instance_count=1",
            "  hyperparameters   epochs = 3",
            "                    layers = [8, 8]",
            "  channels          name=train, uri=file:///data",
        ]
        assert str(endpoint_plan()).startswith("endpoint plan digits-1\n  model ")

    @pytest.mark.parametrize("make", [training_plan, endpoint_plan])
    def test_do_not_show_secrets(self, make):
        secret = dict.fromkeys(("HF_TOKEN", "DB_PASSWORD", "DB_PASS", "SIGNING_KEY", "AWSKEY"), "hunter2")
        login = {"DATABASE_URL": "postgres://me:hunter2@db/x"}
        plan = make(environment={**secret, **login, "MODE": "fast", "TOKENIZERS_PARALLELISM": "true"})
        assert "hunter2" not in str(plan)
        assert "hunter2" not in plan.redacted().to_json()
        assert plan.redacted().environment["MODE"] == "fast"
        assert plan.redacted().environment["TOKENIZERS_PARALLELISM"] == "true"
        assert plan.environment["HF_TOKEN"] == "hunter2"

    def test_do_not_show_secrets_that_lie_deeper(self):
        given = {"wandb": {"api_key": "hunter2", "mode": "off"}, "api_tokens": ["hunter2", "hunter2"]}
        plan = training_plan(hyperparameters=given)
        assert plan.redacted().hyperparameters == {
            "wandb": {"api_key": "********", "mode": "off"},
            "api_tokens": ("********", "********"),
        }

    def test_do_not_show_the_logins_of_uris(self):
        uri = "store://me:hunter2@host/x"
        source = SourceCode("train.py", uri, [uri])
        plan = training_plan(
            source=source, channels=[Channel("train", uri)], output_path=uri, checkpoint_uri=uri
        )
        served = endpoint_plan(source=source, model=ModelSource(uri))
        for shown in (plan.redacted().to_json(), str(plan), served.redacted().to_json(), str(served)):
            assert "hunter2" not in shown
            assert "store://me:********@host/x" in shown
        assert plan.channels[0].uri == uri
        assert training_plan().redacted() == training_plan()


class TestEntryPoints:
    @pytest.mark.parametrize(
        "source",
        [
            SourceCode("-u.py", "src"),
            SourceCode("./-u.py", "src"),
            SourceCode("-u.py"),
            SourceCode("-mx", "."),
        ],
        ids=str,
    )
    def test_that_an_interpreter_would_take_for_an_option_are_refused(self, source):
        with pytest.raises(InvalidPlanError, match="would be taken for an option .* rename it"):
            assert source.program

    @pytest.mark.parametrize(
        ("source", "program"),
        [
            (SourceCode("train.py"), "train.py"),
            (SourceCode("scripts/train.py"), "train.py"),
            (SourceCode("/home/me/train.py"), "train.py"),
            (SourceCode("train.py", "src"), "train.py"),
            (SourceCode("package/train.py", "src"), "package/train.py"),
            (SourceCode("/home/me/src/package/train.py", "/home/me/src"), "package/train.py"),
            (SourceCode("package\\train.py", "src"), "package/train.py"),
            (SourceCode("-m package.train", "src"), "-m package.train"),
            (SourceCode(" -m\tpackage.train  ", "src"), "-m package.train"),
            (SourceCode("sub/-model.py", "src"), "sub/-model.py"),
        ],
    )
    def test_have_a_place_in_the_archive(self, source, program):
        assert source.program == program

    def test_outside_the_source_are_an_error(self):
        with pytest.raises(InvalidPlanError, match="'/elsewhere/train.py' is outside source_dir '/src'"):
            assert SourceCode("/elsewhere/train.py", "/src").program
        with pytest.raises(InvalidPlanError, match="is outside source_dir"):
            assert SourceCode("..\\train.py", "/src").program

    def test_that_are_modules_need_a_folder_to_be_in(self):
        with pytest.raises(InvalidPlanError, match="'-m package.train' is a module: pass the folder"):
            assert SourceCode("-m package.train").program

    @pytest.mark.parametrize(
        "entry_point",
        ["-m", "-m package/train", "-m package\\train.py", "-m .train", "-m a..b", "-m train --lr 1"],
    )
    def test_that_name_no_module_are_an_error(self, entry_point):
        with pytest.raises(InvalidPlanError, match="names no module: write '-m package.module'"):
            assert SourceCode(entry_point, "src").program

    def test_that_are_files_are_no_modules(self):
        assert SourceCode("train.py", "src").module is None
        assert SourceCode("", "src").module is None


class TestModules:
    @pytest.mark.parametrize(
        "files",
        [
            {"package/train.py"},
            {"package/train/__main__.py", "package/__init__.py"},
            {"requirements.txt"},
            {"pyproject.toml", "src/package/train.py"},
            {"setup.py", "package/other.py"},
        ],
    )
    def test_are_in_the_source_or_come_with_what_pip_installs(self, files):
        SourceCode("-m package.train", "src").check_module(files)

    @pytest.mark.parametrize(
        ("files", "hint"),
        [
            ({"package/__init__.py", "package/trian.py"}, "; did you mean 'package.trian'?"),
            ({"package/__init__.py", "package/trian.py", "setup.py"}, "; did you mean 'package.trian'?"),
            ({"packag/train/__main__.py"}, "; did you mean 'packag.train'?"),
            ({"package/train/__init__.py"}, ". Known: none"),
            (set(), ". Known: none"),
        ],
    )
    def test_that_are_nowhere_are_an_error_with_a_suggestion(self, files, hint):
        with pytest.raises(InvalidPlanError) as caught:
            SourceCode("-m package.train", "src").check_module(files)
        assert str(caught.value).startswith(f"module 'package.train' is not in the source{hint}")

    def test_are_not_looked_for_where_the_entry_point_is_a_file(self):
        SourceCode("train.py", "src").check_module(set())


class TestNames:
    @pytest.mark.parametrize("name", ["a", "7", "a-b", "a--b", "A" * 63, "digits-2026-01-02"])
    def test_that_sagemaker_takes_are_taken(self, name):
        assert check_name("job name", name) == name

    @pytest.mark.parametrize(
        "name", ["", "-a", "a-", "a_b", "a.b", "a/b", "..", "a\n", "é", "A" * 64, f"a{'-' * 70}b", None, 1]
    )
    def test_that_could_not_be_a_folder_are_not(self, name):
        with pytest.raises(InvalidPlanError, match="job name .* is not a valid name"):
            check_name("job name", name)

    def test_are_checked_by_the_plans(self):
        with pytest.raises(InvalidPlanError, match="job name '../up'"):
            training_plan(job_name="../up")
        with pytest.raises(InvalidPlanError, match="endpoint name 'a b'"):
            endpoint_plan(endpoint_name="a b")

    @given(st.text(max_size=80))
    def test_made_unique_are_always_valid(self, base):
        name = unique_name(base, NOON)
        assert check_name("job name", name) == name
        assert "-2026-01-02-12-00-00-007-" in name

    def test_made_unique_differ_within_a_millisecond(self):
        assert unique_name("digits", NOON) != unique_name("digits", NOON)

    def test_made_unique_start_with_the_base(self):
        assert unique_name("my_digits!", NOON).startswith("my-digits-2026-")
        assert unique_name("", NOON).startswith("job-2026-")


class TestChannels:
    @pytest.mark.parametrize("name", ["train", "a.b_c-d", "x" * 64])
    def test_take_sagemakers_names(self, name):
        assert Channel(name, "file:///data").name == name

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "x" * 65, "a\n"])
    def test_refuse_what_could_leave_the_folder(self, name):
        with pytest.raises(InvalidPlanError, match="is not a channel name"):
            Channel(name, "file:///data")


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "1", None])
def test_instance_count_is_a_whole_number_of_at_least_one(count):
    with pytest.raises(InvalidPlanError, match="instance_count"):
        Resources("local", count)


class TestHyperparameters:
    @pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {"deep": [object()]}, 1j])
    def test_that_json_cannot_carry_are_refused_by_name(self, value):
        with pytest.raises(InvalidPlanError, match=f"hyperparameter 'lr' is a {type(value).__name__}"):
            training_plan(hyperparameters={"lr": value})

    def test_have_strings_as_names(self):
        with pytest.raises(InvalidPlanError, match="names are strings, not 1"):
            training_plan(hyperparameters={1: 2})

    def test_may_be_absent(self):
        assert training_plan(hyperparameters=None).hyperparameters == {}


class TestEnvironment:
    @pytest.mark.parametrize("environment", [{"A": 1}, {1: "A"}, {"A": None}])
    def test_maps_strings_to_strings(self, environment):
        with pytest.raises(InvalidPlanError, match="must map to a string"):
            training_plan(environment=environment)

    @pytest.mark.parametrize("environment", [{"": "x"}, {"A=B": "x"}, {"A\0": "x"}, {"A": "x\0"}])
    def test_refuses_what_no_process_can_have(self, environment):
        with pytest.raises(InvalidPlanError, match="environment variable"):
            training_plan(environment=environment)


def test_statuses_know_which_of_them_are_final():
    assert [status for status in JobStatus if status.is_terminal] == ["Completed", "Failed", "Stopped"]
    assert [status for status in EndpointStatus if status.is_terminal] == ["Failed", "Deleted"]
