"""Calling hooks: who chooses, who is told, who wraps, and what a broken answer does."""

from pathlib import Path

import pytest

from modelyard.core.contracts import Host
from modelyard.core.errors import InvalidPlanError, ProviderConflictError, UnknownProviderError
from modelyard.core.hookspecs import hookimpl
from modelyard.core.http import Request, Response
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef, Resources, SourceCode

HOST = Host("algo-1", ("algo-1",))
LOCAL = Resources("local")


@pytest.fixture
def plugins(plugin, provider):
    """Return a manager with a small world of providers."""
    manager = PluginManager()
    world = plugin(
        modelyard_register_hardware=lambda: [
            provider("hardware", "cpu", instance_types=("local", "ml.c*")),
            provider("hardware", "cuda", instance_types=("local_gpu", "ml.p*")),
        ],
        modelyard_register_backends=lambda: [provider("backend", "local", instance_types=("local*",))],
        modelyard_register_launchers=lambda: [
            provider("launcher", "torchrun", distributions=("torch_distributed",)),
            provider("launcher", "process", distributions=()),
        ],
        modelyard_register_packagers=lambda: [
            provider("packager", "tarball"),
            provider("packager", "zip"),
        ],
    )
    manager.register(world, "world")
    return manager


def failure(plugins, name):
    return next(status.error for status in plugins.statuses if status.plugin == name)


class TestDeclarations:
    def test_decide_where_no_plugin_chooses(self, plugins):
        assert plugins.select_hardware(Resources("ml.p4d.24xlarge")).name == "cuda"
        assert plugins.select_hardware(LOCAL).name == "cpu"
        assert plugins.select_backend(Resources("local_gpu")).name == "local"
        assert plugins.select_packager(None).name == "tarball"

    def test_an_instance_type_that_nobody_offers_gets_a_suggestion(self, plugins):
        with pytest.raises(
            UnknownProviderError, match="no hardware offers instance_type 'locl'; did you mean 'local'"
        ):
            plugins.select_hardware(Resources("locl"))

    def test_of_two_providers_are_a_conflict_when_used(self, plugins, providing):
        plugins.register(providing("hardware", "rival", instance_types=("ml.p4*",)), "rival")
        assert plugins.select_hardware(Resources("ml.p3.2xlarge")).name == "cuda"
        with pytest.raises(ProviderConflictError, match="'ml.p4d.24xlarge'.* world.* rival"):
            plugins.select_hardware(Resources("ml.p4d.24xlarge"))


class TestAccelerators:
    @pytest.fixture
    def plugins(self, plugins, providing):
        plugins.register(providing("hardware", "eia", accelerator_types=("ml.eia*",)), "eia")
        return plugins

    def test_win_over_the_instance_type(self, plugins):
        assert plugins.select_hardware(Resources("ml.c5.xlarge", 1, "ml.eia2.medium")).name == "eia"
        assert plugins.select_hardware(Resources("ml.c5.xlarge")).name == "cpu"

    def test_a_type_that_nobody_offers_gets_a_suggestion(self, plugins):
        with pytest.raises(
            UnknownProviderError,
            match=r"no hardware offers accelerator_type 'ml.ei'; did you mean 'ml.eia\*'",
        ):
            plugins.select_hardware(Resources("local", 1, "ml.ei"))

    def test_hardware_that_was_asked_for_wins(self, plugins):
        assert plugins.select_hardware(Resources("local", 1, "ml.eia2.medium"), "cuda").name == "cuda"

    def test_do_not_change_the_backend(self, plugins):
        assert plugins.select_backend(Resources("local", 1, "ml.eia2.medium")).name == "local"


class TestHardwareThatChecks:
    @pytest.fixture
    def plugins(self, plugins, plugin, provider):
        class Picky(provider("hardware", "picky", instance_types=("ml.x*",))):
            def check(self, resources):
                if resources.instance_count > 1:
                    raise InvalidPlanError("one host is enough")

        plugins.register(plugin(modelyard_register_hardware=lambda: [Picky]), "picky")
        return plugins

    @pytest.mark.parametrize("asked", [None, "picky", ProviderRef("picky", {"level": 2})])
    def test_is_asked_however_it_was_selected(self, plugins, asked):
        assert plugins.select_hardware(Resources("ml.x1"), asked).name == "picky"
        with pytest.raises(InvalidPlanError, match="^one host is enough$"):
            plugins.select_hardware(Resources("ml.x1", 2), asked)

    def test_is_asked_where_a_plugin_chose_it(self, plugins, plugin):
        plugins.register(plugin(modelyard_select_hardware=lambda: "picky"), "chooser")
        with pytest.raises(InvalidPlanError, match="^one host is enough$"):
            plugins.select_hardware(Resources("local", 2))
        assert failure(plugins, "chooser") == "", "the plugin did what it should"

    def test_options_that_it_does_not_take_are_known_at_once(self, plugins):
        with pytest.raises(InvalidPlanError, match="colour"):
            plugins.select_hardware(Resources("ml.x1"), ProviderRef("picky", {"colour": "red"}))


class TestDistributions:
    def test_none_runs_the_launcher_of_no_distribution(self, plugins):
        assert plugins.select_launcher(LOCAL, "cpu", None).name == "process"
        assert plugins.select_launcher(LOCAL, "cpu", {}).name == "process"

    def test_the_key_selects_and_the_value_has_the_options(self, plugins):
        distribution = {"torch_distributed": {"enabled": True, "processes": 2}}
        chosen = plugins.select_launcher(LOCAL, "cpu", distribution)
        assert (chosen.name, dict(chosen.options)) == ("torchrun", {"processes": 2})

    def test_a_strategy_that_is_switched_off_is_not_there(self, plugins):
        distribution = {"torch_distributed": {"enabled": False}, "typo": {"enabled": False}}
        assert plugins.select_launcher(LOCAL, "cpu", distribution).name == "process"

    def test_an_unknown_strategy_gets_a_suggestion(self, plugins):
        with pytest.raises(
            UnknownProviderError, match="'torch_distribted'; did you mean 'torch_distributed'"
        ):
            plugins.select_launcher(LOCAL, "cpu", {"torch_distribted": {"enabled": True}})

    def test_two_strategies_are_an_error(self, plugins):
        with pytest.raises(UnknownProviderError, match="takes one strategy, not mpi, torch_distributed"):
            plugins.select_launcher(LOCAL, "cpu", {"torch_distributed": {}, "mpi": {}})

    def test_a_launcher_that_was_asked_for_goes_with_no_strategy(self, plugins):
        off = {"torch_distributed": {"enabled": False}}
        assert plugins.select_launcher(LOCAL, "cpu", off, "process").name == "process"
        with pytest.raises(InvalidPlanError, match="distribution torch_distributed and launcher 'process'"):
            plugins.select_launcher(LOCAL, "cpu", {"torch_distributed": {}}, "process")

    def test_a_library_of_smdistributed_is_a_strategy(self, plugins, plugin, provider):
        of_a_plugin = [provider("launcher", "smp", distributions=("smdistributed.modelparallel",))]
        plugins.register(plugin(modelyard_register_launchers=lambda: of_a_plugin), "smp")
        distribution = {"smdistributed": {"modelparallel": {"enabled": True, "processes": 2}}}
        chosen = plugins.select_launcher(LOCAL, "cpu", distribution)
        assert (chosen.name, dict(chosen.options)) == ("smp", {"processes": 2})

    def test_a_library_that_is_switched_off_is_not_there(self, plugins):
        distribution = {"smdistributed": {"dataparallel": {"enabled": False}}, "torch_distributed": {}}
        assert plugins.select_launcher(LOCAL, "cpu", distribution).name == "torchrun"

    def test_model_parallelism_of_sagemaker_has_a_way_out(self, plugins):
        distribution = {"smdistributed": {"modelparallel": {"enabled": True}}, "mpi": {"enabled": True}}
        with pytest.raises(InvalidPlanError, match="modelparallel.*shard the model with torch"):
            plugins.select_launcher(LOCAL, "cpu", distribution)

    @pytest.mark.parametrize("wrong", [True, {"dataparallel": True}])
    def test_options_of_smdistributed_must_be_options(self, plugins, wrong):
        with pytest.raises(InvalidPlanError, match="options by strategy.* not True for"):
            plugins.select_launcher(LOCAL, "cpu", {"smdistributed": wrong})

    def test_options_must_be_options(self, plugins):
        with pytest.raises(InvalidPlanError, match="not True for 'torch_distributed'"):
            plugins.select_launcher(LOCAL, "cpu", {"torch_distributed": True})

    def test_no_launcher_at_all_is_an_error_with_words(self):
        with pytest.raises(UnknownProviderError, match="no launcher"):
            PluginManager().select_launcher(LOCAL, "cpu", None)


class TestAPluginsChoice:
    def test_wins_over_the_declarations(self, plugins, plugin):
        plugins.register(plugin(modelyard_select_hardware=lambda resources: "cuda"), "chooser")
        assert plugins.select_hardware(LOCAL).name == "cuda"

    def test_is_passed_over_where_it_is_none(self, plugins, plugin):
        chooser = plugin(
            modelyard_select_hardware=lambda resources: None,
            modelyard_select_launcher=lambda distribution: None,
            modelyard_select_backend=lambda: None,
            modelyard_select_packager=lambda source: None,
        )
        plugins.register(chooser, "chooser")
        assert plugins.select_hardware(LOCAL).name == "cpu"
        assert plugins.select_launcher(LOCAL, "cpu", None).name == "process"
        assert plugins.select_backend(LOCAL).name == "local"
        assert plugins.select_packager(None).name == "tarball"

    def test_sees_what_was_asked_for(self, plugins, plugin):
        seen = []
        chooser = plugin(
            modelyard_select_launcher=lambda resources, hardware, distribution: seen.append(
                (resources, hardware, distribution)
            ),
            modelyard_select_packager=lambda source: seen.append(source),
        )
        plugins.register(chooser, "chooser")
        plugins.select_launcher(LOCAL, "cpu", {"torch_distributed": {"enabled": True, "processes": 2}})
        plugins.select_packager(SourceCode("train.py"))
        assert seen == [
            (LOCAL, "cpu", {"torch_distributed": {"processes": 2}}),
            SourceCode("train.py"),
        ]

    def test_of_the_plugin_registered_last_wins(self, plugins, plugin):
        plugins.register(plugin(modelyard_select_packager=lambda: "tarball"), "first")
        plugins.register(plugin(modelyard_select_packager=lambda: "zip"), "last")
        assert plugins.select_packager(None).name == "zip"

    def test_tryfirst_and_trylast_turn_the_order(self, plugins):
        class Eager:
            @hookimpl.options(tryfirst=True)
            def modelyard_select_packager(self):
                return "zip"

            @hookimpl.options(trylast=True)
            def modelyard_select_hardware(self):
                return "cuda"

        class Plain:
            @hookimpl
            def modelyard_select_packager(self):
                return "tarball"

            @hookimpl
            def modelyard_select_hardware(self):
                return "cpu"

        for manager_order in ((Eager(), Plain()), (Plain(), Eager())):
            for each in manager_order:
                plugins.register(each, f"{type(each).__name__}-{id(each)}")
            assert plugins.select_packager(None).name == "zip"
            assert plugins.select_hardware(LOCAL).name == "cpu"

    def test_may_bring_options_and_records_the_origin(self, site, discover, plugin):
        site.install_codec("acme-codecs", "acme", version="1.2")
        plugins = discover()
        ref = plugins.resolve("codec", ProviderRef("acme", {"level": 3}))
        assert ref == ProviderRef("acme", {"level": 3}, "acme-codecs", "1.2")

    def test_of_a_provider_that_is_not_there_is_an_error(self, plugins, plugin):
        plugins.register(plugin(modelyard_select_hardware=lambda: "tpu"), "chooser")
        said = "^plugin 'chooser' chose the hardware 'tpu': no hardware is called 'tpu'.*_DISABLED=chooser"
        with pytest.raises(UnknownProviderError, match=said):
            plugins.select_hardware(LOCAL)

    def test_with_options_that_there_are_not_names_the_plugin_too(self, plugins, plugin):
        ref = ProviderRef("cpu", {"colour": "red"})
        plugins.register(plugin(modelyard_select_hardware=lambda: ref), "chooser")
        with pytest.raises(InvalidPlanError, match="^plugin 'chooser' chose the hardware 'cpu.*colour"):
            plugins.select_hardware(LOCAL)

    @pytest.mark.parametrize("choose", [lambda: 1 / 0, lambda: 42], ids=["raises", "wrong object"])
    def test_that_fails_fails_its_plugin_and_the_next_one_is_asked(self, plugins, plugin, choose):
        plugins.register(plugin(modelyard_select_packager=lambda: "zip"), "sound")
        plugins.register(plugin(modelyard_select_packager=choose), "broken")
        assert plugins.select_packager(None).name == "zip"
        assert "modelyard_select_packager" in failure(plugins, "broken")


class TestJobEnviron:
    def test_is_the_sum_of_all_plugins_the_last_one_winning(self, plugins, plugin):
        plugins.register(plugin(modelyard_job_environ=lambda host: {"A": host.name, "B": "1"}), "one")
        plugins.register(plugin(modelyard_job_environ=lambda hardware: {"B": hardware}), "two")
        assert plugins.job_environ(HOST, "cpu") == {"A": "algo-1", "B": "cpu"}

    @pytest.mark.parametrize(
        "answer",
        [
            lambda: 1 / 0,
            lambda: None,
            lambda: "A=1",
            lambda: {"A": 1},
            lambda: {1: "A"},
            lambda: {"A=B": "1"},
            lambda: {"": "1"},
            lambda: {"A": "1\0"},
            lambda: {"A\0": "1"},
        ],
    )
    def test_goes_without_a_broken_plugin(self, plugins, plugin, answer):
        plugins.register(plugin(modelyard_job_environ=answer), "broken")
        plugins.register(plugin(modelyard_job_environ=lambda: {"B": "2"}), "sound")
        assert plugins.job_environ(HOST, "cpu") == {"B": "2"}
        assert "modelyard_job_environ" in failure(plugins, "broken")


class TestObservers:
    def test_are_all_told(self, plugins, plugin):
        seen = []
        observer = plugin(
            modelyard_job_started=lambda plan: seen.append(plan),
            modelyard_job_finished=lambda description: seen.append(description),
            modelyard_model_loaded=lambda model, model_dir: seen.append((model, model_dir)),
        )
        plugins.register(observer, "observer")
        plugins.job_started("a plan")
        plugins.job_finished("a description")
        plugins.model_loaded("a model", Path("model"))
        assert seen == ["a plan", "a description", ("a model", Path("model"))]

    def test_that_raise_are_logged_by_name_and_the_others_are_told(self, plugins, plugin, caplog):
        seen = []
        plugins.register(plugin(modelyard_job_started=lambda plan: 1 / 0), "clumsy")
        plugins.register(plugin(modelyard_job_started=lambda plan: seen.append(plan)), "sound")
        plugins.job_started("a plan")
        assert seen == ["a plan"]
        (record,) = caplog.records
        assert "plugin='clumsy'" in record.message
        assert "modelyard_job_started raised ZeroDivisionError" in record.message


class TestWrapHandler:
    @staticmethod
    def echo(request):
        return Response(request.body)

    @staticmethod
    def tagging(tag):
        def wrap(handler):
            return lambda request: Response(tag + handler(request).body + tag)

        return wrap

    def test_without_middleware_is_the_handler(self, plugins):
        assert plugins.wrap_handler(self.echo) is self.echo

    def test_puts_the_first_plugin_innermost(self, plugins, plugin):
        plugins.register(plugin(modelyard_wrap_handler=self.tagging(b"1")), "one")
        plugins.register(plugin(modelyard_wrap_handler=self.tagging(b"2")), "two")
        assert plugins.wrap_handler(self.echo)(Request(b"x")).body == b"21x12"

    def test_asks_each_plugin_once_and_never_per_request(self, plugins, plugin):
        calls = []

        def wrap(handler):
            calls.append(handler)
            return handler

        plugins.register(plugin(modelyard_wrap_handler=wrap), "counting")
        wrapped = plugins.wrap_handler(self.echo)
        wrapped(Request(b"x"))
        wrapped(Request(b"y"))
        assert calls == [self.echo]

    def test_takes_none_as_nothing_to_add(self, plugins, plugin):
        plugins.register(plugin(modelyard_wrap_handler=lambda handler: None), "shy")
        assert plugins.wrap_handler(self.echo) is self.echo
        assert failure(plugins, "shy") == ""

    @pytest.mark.parametrize("wrap", [lambda: 1 / 0, lambda: "a handler"], ids=["raises", "wrong object"])
    def test_goes_without_a_broken_plugin(self, plugins, plugin, wrap):
        plugins.register(plugin(modelyard_wrap_handler=self.tagging(b"1")), "one")
        plugins.register(plugin(modelyard_wrap_handler=wrap), "broken")
        plugins.register(plugin(modelyard_wrap_handler=self.tagging(b"2")), "two")
        assert plugins.wrap_handler(self.echo)(Request(b"x")).body == b"21x12"
        assert "modelyard_wrap_handler" in failure(plugins, "broken")
