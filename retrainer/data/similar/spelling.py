"""Short texts that say the same but for their spelling: a typing error, a number, a space.

One changed letter changes five shingles, so of two texts of a few words a typing error leaves a similarity
far below any useful limit, as another word does. These rules tell the two apart. Two texts are respelled when
they have the same words but for one of these:
    a typing error   of one word one letter is missing, added, another, or two neighbours are swapped; the
                     first letter is the same, as few errors fall on it (Pollock and Zamora, 1984)
    numbers          digits alone, any of them; unless more than _MOST_OF_A_FORM texts differ so: then numbers
                     are what tells the texts apart, as in readings of a sensor
    spaces           "top up" and "topup"
A text must have _CONTEXT further words, which are equal: "house" and "horse" alone are two words, and "text
3" is another text than "text 4". Long texts need no such rule: there the shingles decide.

Legend: N texts, P pairs.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np

from retrainer.data.similar.buckets import mixed

# Fewest equal words beside what differs, and fewest letters of a word that may have a typing error.
_CONTEXT = 3
_LEAST_LETTERS = 4
# Longer ones are no words (sequences, texts without spaces), and each has as many forms as letters.
_MOST_LETTERS = 24
# Of so many words a text is long: one typing error leaves it a Jaccard similarity of 0.9 and more.
_MOST_WORDS = 40
_MOST_OF_A_FORM = 20
_NUMBERS = re.compile(r"\b\d+(?: \d+)*\b")
_LETTERS = re.compile(r"[^\W\d_]")


def respelled_pairs(texts: Sequence[str]) -> np.ndarray:
    """int64 [P, 2], first < second: pairs of distinct texts of plain words, enough to link all respelled."""
    short = [row for row, text in enumerate(texts) if _CONTEXT < 1 + text.count(" ") <= _MOST_WORDS]
    pairs = [*_of_one_form(texts, short, _without_numbers), *_of_one_form(texts, short, _without_spaces)]
    pairs += _with_typing_errors(texts, short)
    return np.array(sorted({(min(pair), max(pair)) for pair in pairs}), np.int64).reshape(-1, 2)


def one_edit_apart(one: str, other: str) -> bool:
    """Whether one letter was left out, added, replaced, or swapped with its neighbour (Damerau, 1964)."""
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if at is None:
        return abs(len(one) - len(other)) == 1
    a, b = one[at:], other[at:]
    if len(a) != len(b):
        return a[1:] == b or a == b[1:]
    return a[1:] == b[1:] or (a[1::-1] == b[:2] and a[2:] == b[2:])


def _without_numbers(text: str) -> str | None:
    form = _NUMBERS.sub("0", text)
    further = sum(_LETTERS.search(word) is not None for word in form.split())
    return form if further >= _CONTEXT else None


def _without_spaces(text: str) -> str | None:
    return text.replace(" ", "")


def _of_one_form(
    texts: Sequence[str], rows: Sequence[int], form: Callable[[str], str | None]
) -> Iterator[tuple[int, int]]:
    """Of texts of one form each with the first; a text whose form is None has none."""
    alike: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        found = form(texts[row])
        if found is not None:
            alike[found].append(row)
    for members in alike.values():
        if len(members) <= _MOST_OF_A_FORM:
            yield from ((members[0], row) for row in members[1:])


def _with_typing_errors(texts: Sequence[str], rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    words = {row: texts[row].split(" ") for row in rows}
    for group, place in _but_for_one_word(words):
        # Two words are one edit apart only if a letter can be left out of each, or of one, so that they are
        # equal.
        alike: dict[str, list[int]] = defaultdict(list)
        for row in group:
            word = words[row][place]
            if _LEAST_LETTERS <= len(word) <= _MOST_LETTERS and word.isalpha():
                for form in {word, *(word[:at] + word[at + 1 :] for at in range(1, len(word)))}:
                    alike[form].append(row)
        for members in alike.values():
            for one, other in combinations(members, 2):
                if one_edit_apart(words[one][place], words[other][place]):
                    yield one, other


def _but_for_one_word(words: dict[int, list[str]]) -> Iterator[tuple[list[int], int]]:
    """Groups of rows whose words are equal but at one place, and that place."""
    if not words:
        return
    rows: np.ndarray = np.repeat(list(words), [len(one) for one in words.values()])
    places = np.concatenate([np.arange(len(one)) for one in words.values()])
    number: dict[str, int] = {}
    ids = [number.setdefault(word, len(number)) for one in words.values() for word in one]
    hashes = mixed(np.array(ids, np.uint64) << np.uint64(8) | places.astype(np.uint64))
    sums: np.ndarray = np.zeros(rows.max() + 1, np.uint64)
    np.add.at(sums, rows, hashes)
    keys = mixed(sums[rows] - hashes) + places.astype(np.uint64)
    order = np.argsort(keys, kind="stable")
    ends: np.ndarray = np.flatnonzero(np.diff(keys[order], append=~keys[order][-1:]))
    for start, end in pairwise([0, *(ends + 1).tolist()]):
        if end - start > 1:
            members = order[start:end]
            place = int(places[members[0]])
            yield from _truly_equal(words, rows[members].tolist(), place)


def _truly_equal(words: dict[int, list[str]], rows: list[int], place: int) -> Iterator[tuple[list[int], int]]:
    """A sum of hashes may be equal by chance; the words themselves decide."""
    rest: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row in rows:
        rest[(*words[row][:place], "", *words[row][place + 1 :])].append(row)
    yield from ((group, place) for group in rest.values() if len(group) > 1)
