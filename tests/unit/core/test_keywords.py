"""Keywords that are checked by name."""

import inspect

import pytest

from modelyard.core.keywords import check_names, checked_keywords, keywords_of


class Machine:
    @checked_keywords
    def __init__(self, name, *, instance_type="local", instance_count=1):
        self.made_of = (name, instance_type, instance_count)

    @checked_keywords
    def start(self, inputs=None, *, wait=True):
        """Start it."""
        return inputs, wait

    @classmethod
    @checked_keywords
    def attach(cls, name, *, backend="local"):
        return cls, name, backend


class BigMachine(Machine):
    pass


def test_known_keywords_are_passed_on():
    assert Machine("a", instance_count=2).made_of == ("a", "local", 2)
    assert Machine(name="a").made_of == ("a", "local", 1)
    assert Machine("a").start("data", wait=False) == ("data", False)
    assert BigMachine.attach("a", backend="slurm") == (BigMachine, "a", "slurm")


def test_a_typo_is_an_error_with_a_suggestion():
    with pytest.raises(TypeError) as raised:
        Machine("a", instance_cnt=2)
    assert str(raised.value) == (
        "Machine() has no keyword 'instance_cnt'; did you mean 'instance_count'? "
        "Known: instance_count, instance_type, name"
    )


def test_a_keyword_that_resembles_nothing_gets_the_list_alone():
    with pytest.raises(TypeError, match=r"no keyword 'xyz'\. Known: instance_count, instance_type, name$"):
        Machine("a", xyz=1)


def test_the_class_that_was_called_is_named():
    with pytest.raises(TypeError, match=r"^BigMachine\(\) has no keyword"):
        BigMachine("a", kount=1)


def test_methods_are_checked_too():
    with pytest.raises(TypeError, match=r"^Machine.start\(\) has no keyword 'wiat'; did you mean 'wait'"):
        Machine("a").start(wiat=True)


def test_class_methods_are_checked_too_and_cls_is_no_keyword():
    with pytest.raises(TypeError, match=r"Known: backend, name$"):
        Machine.attach("a", backnd="local")


def test_what_python_checks_is_left_to_it():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        Machine()
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
        Machine("a", "local")
    with pytest.raises(TypeError, match="multiple values for argument 'name'"):
        Machine("a", name="b")


def test_signature_and_docstring_stay():
    assert Machine.start.__doc__ == "Start it."
    assert list(inspect.signature(Machine).parameters) == ["name", "instance_type", "instance_count"]


def test_a_function_that_takes_options_checks_them_itself():
    class Flexible:
        @checked_keywords
        def __init__(self, name, **options):
            check_names("Flexible", options, keywords_of(Flexible.__init__) | {"volume_size"})

    Flexible("a", volume_size=3)
    with pytest.raises(
        TypeError, match=r"^Flexible\(\) has no keyword 'volume_sise'; did you mean 'volume_size'"
    ):
        Flexible("a", volume_sise=3)
    assert keywords_of(Flexible.__init__) == {"name"}


def test_of_many_keywords_the_nearest_are_shown():
    known = [f"keyword_{number:02}" for number in range(60)]
    with pytest.raises(TypeError, match=r"did you mean 'keyword_41'\? Known: keyword_.* and 48 more$"):
        check_names("call", ["keyword41"], known)
