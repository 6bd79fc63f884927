"""Short texts that differ only in their spelling are near-duplicates; another word makes another text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from retrainer.data.similar import similar_texts, text_similarity
from retrainer.data.similar.spelling import one_edit_apart, respelled_pairs
from retrainer.data.splits import components

LEAST = 0.8


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I cancel my card?", "How do I cancle my card?"),
        ("How do I cancel my card?", "how do i cancell my card"),
        ("How do I cancel my card?", "How do I cncel my card?"),
        ("How do I block my card now?", "How do I block my carf now?"),
        ("I was charged £30 twice", "I was charged £1,250.99 twice"),
        ("where is my top up", "Where is my topup?"),
        ("wo ist meine überweisung", "wo ist meine überweissung"),
    ],
)
def test_a_typing_error_a_number_and_a_space_make_no_other_text(one: str, other: str) -> None:
    assert text_similarity(one, other) < LEAST
    assert similar_texts([one, "quite another question", other], LEAST).tolist() == [[0, 2]]
    assert similar_texts([one, other], 1).tolist() == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("please cancel my card", "please block my card"),
        ("my card was lost yesterday", "my card was stolen yesterday"),
        ("is it so good after all", "is it not good after all"),
        ("can I do it now", "can I do it not"),
        ("is the bank open", "is the tank open"),
        ("house", "horse"),
        ("text 3", "text 4"),
        ("12 13 14 15", "12 13 14 16"),
        ("send the model a3x to me", "send the model a4x to me"),
    ],
)
def test_another_word_makes_another_text(one: str, other: str) -> None:
    assert similar_texts([one, other], LEAST).tolist() == []


def test_one_edit_is_told_from_two() -> None:
    draws = np.random.default_rng(0)
    words = ["".join(draws.choice(list("abc"), draws.integers(1, 6))) for _ in range(80)]
    letters = "abc"
    for word in words:
        cuts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
        near = {head + tail[1:] for head, tail in cuts if tail}
        near |= {head + letter + tail for head, tail in cuts for letter in letters}
        near |= {head + letter + tail[1:] for head, tail in cuts if tail for letter in letters}
        near |= {head + tail[1] + tail[0] + tail[2:] for head, tail in cuts if len(tail) > 1}
        for other in words:
            assert one_edit_apart(word, other) == (other in near and other != word), (word, other)


def test_all_that_is_respelled_is_linked_as_by_comparing_all_with_all() -> None:
    draws = np.random.default_rng(1)
    stems = [list(draws.choice(["kate", "line", "mole", "note", "7", "31", "pale"], 5)) for _ in range(12)]
    texts = set()
    for _ in range(250):
        words = list(stems[draws.integers(len(stems))])
        at = draws.integers(5)
        words[at] = str(draws.choice([words[at], f"{words[at]}x", words[at][:-1] or "7", "99", "word"]))
        texts.add(" ".join(words).strip())
    some = sorted(texts)
    expected = [pair for pair in combinations(range(len(some)), 2) if respelled(some[pair[0]], some[pair[1]])]
    found = [tuple(pair) for pair in respelled_pairs(some).tolist()]
    assert set(found) <= set(expected) and len(expected) > 20
    assert linked(len(some), found) == linked(len(some), expected)


def respelled(one: str, other: str) -> bool:
    """By the rules, of two texts of plain words and of four or more."""
    a, b = one.split(), other.split()
    if min(len(a), len(b)) < 4:
        return False
    forms = [re.sub(r"\b\d+( \d+)*\b", "0", text) for text in (one, other)]
    if forms[0] == forms[1] and sum(not word.isdigit() for word in a) >= 3:
        return True
    differing = [(x, y) for x, y in zip(a, b, strict=False) if x != y]
    if len(a) != len(b) or len(differing) != 1:
        return False
    ((x, y),) = differing
    return (
        min(len(x), len(y)) >= 4 and (x + y).isalpha() and x[0] == y[0] and one_edit_apart(x, y)
    ) or one.replace(" ", "") == other.replace(" ", "")


def linked(rows: int, pairs: Sequence[tuple[int, int]]) -> list[bytes]:
    nodes = [row.to_bytes(2, "big") for row in range(rows)]
    return components(nodes, [None] * rows, [(nodes[a], nodes[b]) for a, b in pairs])


def test_numbers_that_tell_many_texts_apart_are_no_spelling() -> None:
    """As in readings of a sensor: a cluster of all rows would leave nothing to test on."""
    few, many = ([f"your code is {number}" for number in range(10, 10 + count)] for count in (20, 21))
    pairs = respelled_pairs(few)
    assert len(pairs) == 19 and len(set(linked(20, pairs.tolist()))) == 1
    assert respelled_pairs(many).shape == (0, 2)
    assert respelled_pairs([]).shape == respelled_pairs(["one two three four"]).shape == (0, 2)
