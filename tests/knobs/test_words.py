"""One grammar for values that name parts of a table."""

from __future__ import annotations

import pytest

from simclrseg.knobs.words import Word, parse_words

PARAMETERS = {"dice": None, "focal": "gamma"}


def test_names_stand_with_a_plus_between_them_and_a_number_behind_a_colon():
    words = parse_words("dice+focal:3", "loss", PARAMETERS)
    assert words == (Word("dice"), Word("focal", 3.0))
    assert [word.arguments(PARAMETERS) for word in words] == [{}, {"gamma": 3.0}]
    assert Word("focal").arguments(PARAMETERS) == {}


def test_behind_some_a_name_stands_in_place_of_a_number():
    words = parse_words("dice+focal:Ground Truth: 1", "loss", PARAMETERS, naming=["focal"])
    assert words == (Word("dice"), Word("focal", text="Ground Truth: 1"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dise", "'dise' is not a loss: did you mean 'dice'"),
        ("dice+dice", "names a loss twice"),
        ("focal:1+focal:2", "names a loss twice"),
        ("dice:2", "dice takes no number, leave it out"),
        ("focal:", "behind the colon stands a number"),
        ("focal:-1", "behind the colon stands a number"),
        ("focal:inf", "behind the colon stands a number"),
        ("", "'' is not a loss"),
    ],
)
def test_what_is_no_such_value_is_refused_with_the_reason(text, says):
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        parse_words(text, "loss", PARAMETERS)
