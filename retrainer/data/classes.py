"""What the classes tell of the rows and of the splits: too few, spelt twice, or unevenly divided."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from retrainer.data.splits import TEST, TRAIN, Rows
from retrainer.errors import DataError
from retrainer.findings import Findings, share_of
from retrainer.formats.names import SPLITS

# A division as odd as this, or odder, comes by chance in fewer than one dataset in a thousand.
_CHANCE = 1e-3
# Between the parts of a name, where they say nothing; + # < > = say something.
_SEPARATORS = r"[\s_.,;:/'’&-]+"

Counts = Mapping[str, Mapping[str, int]]  # split → class → rows


def counts_of(rows: Rows, placed: Mapping[str, Sequence[int]]) -> dict[str, dict[str, int]]:
    """Rows per class in each split, names sorted; a multi-label row counts for each of its labels."""
    return {
        name: dict(sorted(Counter(label for row in members for label in rows.classes[row]).items()))
        for name, members in placed.items()
    }


def shares(counts: Counts) -> dict[str, dict[str, float]]:
    """Class → split → share of the class's rows."""
    totals = _totals(counts)
    return {
        label: {name: round(counts[name].get(label, 0) / total, 6) for name in SPLITS}
        for label, total in sorted(totals.items())
    }


def check_classes(counts: Counts, multi_label: bool, lost: str, findings: Findings) -> None:
    """On the rows kept; `lost` says what was dropped. Raises UserError where no class can be learnt."""
    known = counts[TRAIN]
    if not known:
        raise DataError(f"the training rows have no class{lost}; check source.label and source.classes")
    if findings.looks("single_class"):
        alone = not multi_label and len(known) < 2
        note = f"class only ('{next(iter(known))}') among the training rows{lost}"
        cure = "check source.label and source.classes, or add rows"
        findings.add("single_class", int(alone), note if alone else "class for all rows", (), cure)
    if findings.looks("rare_class"):
        least = findings.checks.rare_class_rows
        rare = sorted(
            (known.get(label, 0), label) for label in _everything(counts) if known.get(label, 0) < least
        )
        named = [f"{label}: {rows}" for rows, label in rare]
        note = f"classes of fewer than {least} training rows"
        findings.add("rare_class", len(rare), note, named, "add rows, lower checks.rare_class_rows")
    if findings.looks("label_spelling"):
        alike = spelt_alike(_everything(counts))
        note = "names that differ only in case, space or punctuation"
        named = [" = ".join(names) for names in alike]
        findings.add("label_spelling", len(alike), note, named, share=_rarer_spellings(alike, counts))


def _rarer_spellings(alike: Sequence[Sequence[str]], counts: Counts) -> float:
    """The share of all labels that are spelt otherwise than most of their kind."""
    totals = _totals(counts)
    rarer = sum(sum(totals[name] for name in names) - max(totals[name] for name in names) for names in alike)
    return share_of(rarer, totals.total())


def _totals(counts: Counts) -> Counter[str]:
    totals = Counter[str]()
    for of_split in counts.values():
        totals.update(of_split)
    return totals


def _everything(counts: Counts) -> list[str]:
    return sorted({label for of_split in counts.values() for label in of_split})


def spelt_alike(labels: Sequence[str]) -> list[list[str]]:
    """Groups of names that are one but for case, space and separators; -1 and 1, 1.5 and 15, C and C++ stay
    apart."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        before_digits = re.sub(_SEPARATORS + r"(?=\d)", "\0", unicodedata.normalize("NFC", label).casefold())
        groups[re.sub(_SEPARATORS, "", before_digits) or label].append(label)
    return [names for names in groups.values() if len(names) > 1]


def check_division(counts: Counts, by_chance: bool, findings: Findings) -> None:
    """Finds classes without test rows, and those that chance would hardly divide so.

    `by_chance`: the hash alone chose the test, so that a class's test rows are binomial about the test's
    share. Groups and near-duplicates, which go together, are the usual cause where they are not.
    """
    tested, totals = counts[TEST], _totals(counts)
    absent = [label for label in sorted(totals) if not tested.get(label)]
    if absent:
        findings.add("class_without_test", len(absent), "classes that no test row has", absent)
    share = sum(tested.values()) / max(1, totals.total())
    if not by_chance or not 0 < share < 1:
        return
    odd = [
        f"{label}: {tested.get(label, 0)} of {total}"
        for label, total in sorted(totals.items())
        if chance(tested.get(label, 0), total, share) * len(totals) < _CHANCE
    ]
    if odd:
        note = f"classes with a share of test rows so far from {share:.3f} that chance hardly gives it"
        findings.add("class_shares", len(odd), note, odd)


def chance(count: int, total: int, share: float) -> float:
    """Two-sided exact binomial: twice the chance of `count` of `total` or of one further from the mean."""
    if count > total * share:
        count, share = total - count, 1 - share
    log_term = (
        math.lgamma(total + 1)
        - math.lgamma(count + 1)
        - math.lgamma(total - count + 1)
        + count * math.log(share)
        + (total - count) * math.log1p(-share)
    )
    term = tail = 1.0
    for k in range(count, 0, -1):
        term *= k / (total - k + 1) * (1 - share) / share
        tail += term
        if term < 1e-12 * tail:
            break
    return min(1.0, 2 * math.exp(log_term) * tail)
