"""Each noun has a page that is made of its docstrings, and each Protocol is on one of them."""

from collections import Counter

import pytest
from tests.docs.hooks_and_nouns import members
from tests.docs.noun_pages import NOUNS, page, path_of, protocols

from modelyard import testing
from modelyard.core.kinds import KINDS
from modelyard.core.kinds import members as required

KINDS_BY_WORD = {kind.word: kind for kind in KINDS}
each_kind = pytest.mark.parametrize("word", KINDS_BY_WORD)


def test_each_noun_has_a_page_and_a_contract():
    assert list(NOUNS) == list(KINDS_BY_WORD)
    assert {noun.contract for noun in NOUNS.values()} <= set(testing.__all__)


@pytest.mark.parametrize(
    "word",
    # The page of hardware shows the built-in hardware, and it can be deleted.
    [pytest.param(word, marks=pytest.mark.cuda if word == "hardware" else ()) for word in KINDS_BY_WORD],
)
def test_the_page_is_up_to_date(word):
    kind = KINDS_BY_WORD[word]
    assert path_of(kind).read_text("utf-8") == page(kind), "python -m tests.docs.noun_pages writes it"


def test_each_protocol_is_on_one_page():
    shown = Counter(KINDS_BY_WORD[word].protocol.__name__ for word in NOUNS)
    for noun in NOUNS.values():
        shown.update(each.__name__ for each in (*noun.optional, *noun.made, *noun.given))
    assert shown == Counter(protocols().keys())


@each_kind
def test_each_member_of_a_noun_is_listed(word):
    kind = KINDS_BY_WORD[word]
    listed = [line.removeprefix("* `").partition("(")[0].partition(":")[0] for line in members(kind.protocol)]
    assert sorted(listed) == required(kind.protocol)


@each_kind
def test_each_member_that_is_a_method_is_explained(word):
    for line in members(KINDS_BY_WORD[word].protocol):
        assert "(" not in line.partition("<br>")[0] or "<br>" in line, line
