"""The names of SDK v1."""

import warnings
from pathlib import Path

import pytest

from modelyard.compat import names
from modelyard.compat.names import OFF, REFUSED, RENAMED, WITHOUT_EFFECT, old_keywords
from modelyard.core.errors import InvalidPlanError
from modelyard.deserializers import CSVDeserializer, JSONDeserializer, NumpyDeserializer
from modelyard.estimator import PyTorch
from modelyard.inputs import TrainingInput
from modelyard.model import PyTorchModel
from modelyard.predictor import Predictor
from modelyard.serializers import CSVSerializer, JSONSerializer, NumpySerializer


@old_keywords
def call(**keywords):
    return keywords


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_means_the_new_one_and_says_so(old, new):
    with pytest.warns(DeprecationWarning, match=f"^{old} is called {new} since SDK v2$") as caught:
        assert call(**{old: 1, "other": 2}) == {new: 1, "other": 2}
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_both_names_at_once_are_an_error(old, new):
    for given in ({old: 1, new: 1}, {new: 1, old: 1}):
        with (
            pytest.warns(DeprecationWarning, match="since SDK v2"),
            pytest.raises(TypeError, match=f"{old} and {new} are one keyword"),
        ):
            call(**given)


def test_two_old_names_of_one_keyword_are_an_error():
    with (
        pytest.warns(DeprecationWarning, match="since SDK v2"),
        pytest.raises(TypeError, match="image and image_uri are one keyword"),
    ):
        call(image_name="a", image="b")


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_has_no_effect_is_taken_and_says_so(name):
    with pytest.warns(DeprecationWarning, match=f"^{name} has no effect: "):
        assert call(**{name: True}) == {}


@pytest.mark.parametrize("name", REFUSED)
def test_what_there_is_not_is_refused_with_the_way_out(name):
    with pytest.raises(InvalidPlanError, match=f"^{name}: .*[;,] "):
        call(**{name: {"a": 1}})
    assert call(**{name: None}) == {}


@pytest.mark.parametrize("name", sorted(OFF))
def test_false_means_to_leave_it_out(name):
    assert call(**{name: False}) == {}
    assert call(**{name: {"a": 1}}) == {name: {"a": 1}}


def test_new_names_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(instance_type="local") == {"instance_type": "local"}


def test_the_warning_names_the_line_of_the_user_also_through_a_subclass(plugins):
    with pytest.warns(DeprecationWarning, match="since SDK v2") as caught:
        PyTorch("train.py", train_instance_type="local", train_instance_count=1, plugins=plugins)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)] * 2


def test_a_typo_of_an_old_name_is_a_typo(plugins):
    with pytest.raises(TypeError, match="no keyword 'train_instance_typ'"):
        PyTorch("train.py", train_instance_typ="local", plugins=plugins)


def test_a_keyword_that_is_not_of_the_call_is_a_typo_under_its_new_name(plugins):
    with (
        pytest.warns(DeprecationWarning, match="since SDK v2"),
        pytest.raises(TypeError, match="no keyword 'endpoint_name'"),
    ):
        PyTorchModel("/m", endpoint="x", plugins=plugins)


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("csv_serializer", CSVSerializer),
        ("json_serializer", JSONSerializer),
        ("npy_serializer", NumpySerializer),
        ("csv_deserializer", CSVDeserializer),
        ("json_deserializer", JSONDeserializer),
        ("numpy_deserializer", NumpyDeserializer),
    ],
)
def test_the_serializers_of_v1_are_in_the_module_of_predictors(name, cls):
    import modelyard.predictor

    with pytest.warns(DeprecationWarning, match=rf"predictor.{name} is {cls.__name__}\(\) since") as caught:
        assert type(getattr(modelyard.predictor, name)) is cls
    assert Path(caught[0].filename) == Path(__file__)


def test_the_warning_of_an_import_names_the_line_that_imports():
    with pytest.warns(DeprecationWarning, match="since SDK v2") as caught:
        from modelyard.predictor import json_serializer
    assert type(json_serializer) is JSONSerializer
    assert Path(caught[0].filename) == Path(__file__)


def test_the_classes_of_v1_are_the_new_ones():
    import modelyard.inputs
    import modelyard.predictor
    import modelyard.session

    with pytest.warns(DeprecationWarning, match="RealTimePredictor is Predictor since"):
        assert modelyard.predictor.RealTimePredictor is Predictor
    for module in (modelyard, modelyard.inputs, modelyard.session):
        with pytest.warns(DeprecationWarning, match="s3_input is TrainingInput since"):
            assert module.s3_input is TrainingInput
    with pytest.warns(DeprecationWarning, match="since SDK v2"):
        assert modelyard.RealTimePredictor is Predictor


def test_other_names_are_attribute_errors():
    import modelyard.predictor

    for name in ("xml_serializer", "s3_input"):
        with pytest.raises(AttributeError, match=f"module 'modelyard.predictor' has no attribute '{name}'"):
            getattr(modelyard.predictor, name)


def test_each_name_is_in_one_table():
    tables = (names.RENAMED, names.WITHOUT_EFFECT, names.REFUSED, names.CLASSES, names.VALUES)
    everything = [name for table in tables for name in table]
    assert len(everything) == len(set(everything))
