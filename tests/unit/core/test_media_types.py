import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelyard.core.media_types import MediaType, negotiate, parse_accept, parse_media_type

OFFERS = ("application/json", "application/x-npy", "text/csv")
HEADERISH = st.text(alphabet='abjs/*;=q0.1,"\\ \t-+', max_size=40)


@pytest.mark.parametrize(
    ("text", "essence", "parameters"),
    [
        ("text/csv", "text/csv", {}),
        ("  Text/CSV  ", "text/csv", {}),
        ("text/csv; charset=utf-8", "text/csv", {"charset": "utf-8"}),
        ("text/csv;Charset=UTF-8;header=absent", "text/csv", {"charset": "UTF-8", "header": "absent"}),
        ('text/csv; a="x; y=\\"z\\""', "text/csv", {"a": 'x; y="z"'}),
        ("text/csv;", "text/csv", {}),
        ("text/csv ; ; a=b", "text/csv", {"a": "b"}),
        ("application/vnd.acme+json", "application/vnd.acme+json", {}),
        ("*/*;q=0.5", "*/*", {"q": "0.5"}),
    ],
)
def test_a_media_type_is_parsed(text, essence, parameters):
    assert parse_media_type(text) == MediaType(essence, parameters)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "csv",
        "text/",
        "/csv",
        "text/csv/x",
        "text csv",
        "text/csv x",
        "text/csv; a",
        'text/csv; a="b',
        "a/b,c/d",
    ],
)
def test_what_is_no_media_type_is_none(text):
    assert parse_media_type(text) is None


@pytest.mark.parametrize(
    ("weight", "quality"),
    [
        ("0", 0.0),
        ("0.5", 0.5),
        ("1.000", 1.0),
        ("x", 1.0),
        ("7", 1.0),
        ("-1", 1.0),
        ("nan", 1.0),
        ("inf", 1.0),
    ],
)
def test_a_weight_that_makes_no_sense_is_one(weight, quality):
    assert MediaType("text/csv", {"q": weight}).quality == quality


def test_a_media_type_cannot_be_changed():
    with pytest.raises(TypeError):
        MediaType("text/csv", {}).parameters["q"] = "0"


def test_accept_is_ordered_by_weight_then_by_how_specific_it_is_then_as_written():
    ranges = parse_accept("*/*, text/*, application/json;q=0.9, text/csv, application/x-npy")
    assert [each.essence for each in ranges] == [
        "text/csv",
        "application/x-npy",
        "text/*",
        "*/*",
        "application/json",
    ]


def test_a_comma_inside_quotes_separates_nothing():
    (only,) = parse_accept('text/csv; a="b,c"')
    assert only.parameters == {"a": "b,c"}


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV", "text/csv"),
        ("text/*", "text/csv"),
        ("application/*", "application/json"),
        ("text/csv;q=0.5, application/x-npy", "application/x-npy"),
        ("application/x-npy, text/csv", "application/x-npy"),
        ("text/csv, application/x-npy", "text/csv"),
        ("*/*, application/json;q=0", "application/x-npy"),
        ("application/*;q=0.1, application/json;q=0, */*;q=0.05", "application/x-npy"),
        ("image/png, text/csv;q=0.1", "text/csv"),
        ("nonsense, text/csv", "text/csv"),
        ("text/csv; charset=utf-8", "text/csv"),
        ("image/png", None),
        ("text/csv;q=0", None),
        ("*/*;q=0", None),
        ("nonsense", None),
    ],
)
def test_the_offer_that_is_wanted_most_is_chosen(accept, chosen):
    assert negotiate(accept, OFFERS) == chosen


def test_nothing_is_chosen_from_nothing():
    assert negotiate("*/*", ()) is None


@given(st.text(max_size=60) | HEADERISH)
@example('text/csv; a="' + "\\" * 30)
def test_no_text_makes_the_parsers_raise(text):
    parsed = parse_media_type(text)
    assert parsed is None or 0.0 <= parsed.quality <= 1.0
    assert all(0.0 <= each.quality <= 1.0 for each in parse_accept(text))
    assert negotiate(text, OFFERS) in (*OFFERS, None)


@given(st.permutations(OFFERS), st.sampled_from(OFFERS))
def test_a_named_offer_wins_wherever_it_stands(offers, wanted):
    assert negotiate(f"*/*;q=0.1, {wanted}", offers) == wanted
