import enum
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidPlanError
from modelyard.core.values import freeze, from_json, thaw, to_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Inner:
    text: str
    number: float = 0.0


@attrs.frozen
class Outer:
    count: int
    inner: Inner
    inners: tuple[Inner, ...] = ()
    maybe: Inner | None = None
    switch: bool = False
    colour: Colour = Colour.RED
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=freeze)
    words: Mapping[str, str] = attrs.field(factory=dict, converter=freeze)


WHOLE = Outer(
    count=1,
    inner=Inner("a", 0.5),
    inners=(Inner("b"), Inner("é")),
    maybe=Inner("c"),
    switch=True,
    colour=Colour.BLUE,
    options={"deep": {"list": [1, {"x": None}]}},
    words={"A": "1"},
)


@given(JSON)
def test_thawing_undoes_freezing(value):
    assert thaw(freeze(value)) == value


def test_what_is_frozen_cannot_be_changed_at_any_depth():
    original = {"a": {"b": [1, {"c": 2}]}}
    frozen = freeze(original)
    original["a"]["b"].append(3)
    assert frozen["a"]["b"] == (1, {"c": 2})
    with pytest.raises(TypeError):
        frozen["a"]["new"] = 1
    with pytest.raises(TypeError):
        frozen["a"]["b"][1]["c"] = 3


@pytest.mark.parametrize("value", [WHOLE, Outer(0, Inner(""))])
def test_json_brings_a_value_back(value):
    assert from_json(Outer, to_json(value)) == value
    assert from_json(Outer, to_json(value).encode()) == value


def test_json_is_for_people_too():
    assert to_json(Inner("é", 1.5)) == '{\n  "text": "é",\n  "number": 1.5\n}'


def test_defaults_fill_what_json_leaves_out():
    assert from_json(Outer, '{"count": 1, "inner": {"text": "a"}}') == Outer(1, Inner("a"))


def test_a_whole_number_is_a_number():
    assert from_json(Inner, '{"text": "a", "number": 2}') == Inner("a", 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cuont": 1}, "Outer has no field 'cuont'; did you mean 'count'"),
        ({"inner": {"txt": "a"}}, "Outer.inner has no field 'txt'; did you mean 'text'"),
        ({"inner": "a"}, "Outer.inner must be an object, not 'a'"),
        ({"inner": None}, "Outer.inner must be an object, not None"),
        ({"inner": {}}, "Outer.inner: .*'text'"),
        ({"inners": {"text": "a"}}, "Outer.inners must be a list"),
        ({"inners": [{"text": "a"}, {"text": 1}]}, r"Outer.inners\[1\].text must be str, not 1"),
        ({"maybe": {"text": None}}, "Outer.maybe.text must be str, not None"),
        ({"count": True}, "Outer.count must be int, not True"),
        ({"count": 1.0}, "Outer.count must be int, not 1.0"),
        ({"switch": 1}, "Outer.switch must be bool, not 1"),
        ({"inner": {"text": "a", "number": "1"}}, "Outer.inner.number must be a number, not '1'"),
        ({"colour": "green"}, "Outer.colour must be one of .*red.*blue.*, not 'green'"),
        ({"options": []}, r"Outer.options must be an object, not \[\]"),
        ({"words": {"A": 1}}, "Outer.words.A must be str, not 1"),
    ],
)
def test_json_of_another_shape_is_an_error_that_says_where(change, message):
    text = json.dumps({**json.loads(to_json(WHOLE)), **change})
    with pytest.raises(InvalidPlanError, match=message):
        from_json(Outer, text)


@pytest.mark.parametrize("text", ["", "{", b"\xff", "[1]", "null", "1"])
def test_what_is_not_a_json_object_is_an_error(text):
    with pytest.raises(InvalidPlanError, match="Inner"):
        from_json(Inner, text)


@given(JSON)
def test_no_json_makes_the_reader_raise_anything_else(value):
    with suppress(InvalidPlanError):
        from_json(Outer, json.dumps(value))
