"""Word and character error rates: jiwer's to the last digit, whatever the texts."""

from __future__ import annotations

import jiwer
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrainer.metrics import character_error_rate, normalised_word_error_rate, word_error_rate
from retrainer.metrics._edits import alignment, edit_counts, words

TEXTS = st.text(st.sampled_from("ab é \t\n日"), max_size=14)
METRICS = [(word_error_rate, jiwer.wer), (character_error_rate, jiwer.cer)]


def rate(metric: object, references: list[str], guesses: list[str]) -> float:
    truth = pa.table({"target_text": pa.array(references, pa.string())})
    predictions = pa.table({"prediction": pa.array(guesses, pa.string())})
    return float(metric.value(metric.statistics(predictions, truth).sum(0)))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("metric", "theirs"), METRICS)
@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=9))
def test_rates_equal_those_of_jiwer(metric: object, theirs: object, pairs: list[tuple[str, str]]) -> None:
    references, guesses = (list(side) for side in zip(*pairs, strict=True))
    assert rate(metric, references, guesses) == theirs(references, guesses)  # type: ignore[operator]


def test_rates_of_long_texts_equal_those_of_jiwer() -> None:
    draws = np.random.default_rng(0)
    texts = [" ".join(draws.choice(["one", "two", "three", "ten"], n)) for n in draws.integers(1, 150, 60)]
    assert rate(word_error_rate, texts, texts[::-1]) == jiwer.wer(texts, texts[::-1])
    assert rate(character_error_rate, texts, texts[::-1]) == jiwer.cer(texts, texts[::-1])


def test_one_word_a_row_is_a_share_of_rows() -> None:
    """The form by which the gate recognises statistics that get exact tests."""
    counts = edit_counts([["one"], ["two"]], [["one"], ["six"]])
    assert counts.tolist() == [[0, 1], [1, 1]]


def test_normalised_case_punctuation_and_spelled_numbers_are_no_errors() -> None:
    said = ["seven", "one hundred and five", "I will not", "it's, um, fine", "café", "two words", ""]
    found = [" 7.", "105", "i won't!", "It is fine", "Cafe", "two", "[noise]"]
    assert rate(normalised_word_error_rate, said, found) == 1 / 11
    assert rate(word_error_rate, said, found) > 0.9


def test_no_rows_are_no_errors() -> None:
    assert rate(word_error_rate, [], []) == 0


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS)
def test_an_alignment_has_as_many_edits_as_the_distance(reference: str, guess: str) -> None:
    edits = alignment(words(reference), words(guess))
    assert len(edits) == edit_counts([words(reference)], [words(guess)])[0, 0]


def test_an_alignment_names_each_edit() -> None:
    assert alignment(["a", "b", "c", "d"], ["a", "x", "c", "d", "e"]) == [("b", "x"), (None, "e")]
    assert alignment(["a", "b"], ["b"]) == [("a", None)]
