"""Speech recognition's own part of the report: the commonest edits, the worst rows, rates by speaker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.metrics._edits import alignment, characters, edit_counts, words
from retrainer.pages.page import escape, number_cell, quiet, section, share_cell, table
from retrainer.pages.players import player

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

_MOST = 10
_MOST_GROUPS = 50
_MOST_CHARACTERS = 300
_KINDS = ("substituted", "deleted", "inserted")

Edit = tuple[str | None, str | None]


def details(judged: Judged) -> dict[str, Any]:
    """JSON: `edits` by kind, each the commonest with their numbers; `groups` with their rates, the worst
    first; `worst`, the rows of most edits a word.
    """
    truth = [text or "" for text in judged.test["target_text"].to_pylist()]
    found = [text or "" for text in judged.predictions["prediction"].to_pylist()]
    by_word = edit_counts([words(text) for text in truth], [words(text) for text in found])
    by_character = edit_counts([characters(text) for text in truth], [characters(text) for text in found])
    edits = [
        edit for row in by_word[:, 0].nonzero()[0] for edit in alignment(words(truth[row]), words(found[row]))
    ]
    return {
        "edits": {kind: _commonest(edit for edit in edits if _kind(edit) == kind) for kind in _KINDS},
        "groups": _groups(judged, by_word, by_character),
        "worst": [_example(judged, row, truth[row], found[row]) for row in _worst(by_word)],
    }


def _kind(edit: Edit) -> str:
    return "inserted" if edit[0] is None else "deleted" if edit[1] is None else "substituted"


def _commonest(edits: Iterable[Edit]) -> list[dict[str, Any]]:
    counts = Counter(edits)
    order = sorted(counts, key=lambda edit: (-counts[edit], edit[0] or "", edit[1] or ""))
    return [{"from": edit[0], "to": edit[1], "count": counts[edit]} for edit in order[:_MOST]]


def _groups(judged: Judged, by_word: np.ndarray, by_character: np.ndarray) -> list[dict[str, Any]]:
    """Of the groups with most rows."""
    if "group" not in judged.test.column_names:
        return []
    groups = np.array([group or "" for group in judged.test["group"].to_pylist()])
    names, sizes = np.unique(groups, return_counts=True)
    rows = []
    for name in names[np.argsort(-sizes, kind="stable")][:_MOST_GROUPS]:
        mine = groups == name
        sums = [counts[mine].sum(axis=0) for counts in (by_word, by_character)]
        word, character = (float(total[0] / max(1.0, total[1])) for total in sums)
        rates = {"word_error_rate": word, "character_error_rate": character}
        rows.append({"group": str(name), "rows": int(mine.sum()), **rates})
    return sorted(rows, key=lambda row: -float(row["word_error_rate"]))


def _worst(by_word: np.ndarray) -> list[int]:
    rates = by_word[:, 0] / np.maximum(by_word[:, 1], 1)
    order = np.argsort(-rates, kind="stable")[:_MOST]
    return [int(row) for row in order if rates[row] > 0]


def _example(judged: Judged, row: int, truth: str, found: str) -> dict[str, Any]:
    origin = judged.test["origin"][row].as_py() if "origin" in judged.test.column_names else None
    where = PurePath(origin or f"row {row}").name
    shown = {"target_text": truth[:_MOST_CHARACTERS], "prediction": found[:_MOST_CHARACTERS]}
    return {"row": row, "where": where, **shown}


def panels(judged: Judged, report: dict[str, Any]) -> list[str]:
    """Sections of report.html."""
    found = report["details"]
    return [
        _drawn_groups(found["groups"]),
        _drawn_edits(found["edits"]),
        _drawn_worst(judged, found["worst"]),
    ]


def _drawn_groups(groups: list[dict[str, Any]]) -> str:
    if not groups:
        return ""
    rows = (
        f"<td>{escape(row['group'] or '–')}</td>{number_cell(format(row['rows'], ','))}"
        + "".join(share_cell(row[name]) for name in ("word_error_rate", "character_error_rate"))
        for row in groups
    )
    numbers = ["rows", "word error rate", "character error rate"]
    return section("By group", table(["group"], numbers, rows))


def _drawn_edits(edits: dict[str, list[dict[str, Any]]]) -> str:
    rows = [
        f"<td>{kind}</td><td>{escape(edit['from'] or '')}</td><td>{escape(edit['to'] or '')}</td>"
        + number_cell(format(edit["count"], ","))
        for kind in _KINDS
        for edit in edits[kind]
    ]
    if not rows:
        return section("The commonest errors", quiet("There are none."))
    return section("The commonest errors", table(["error", "said", "written"], ["times"], rows))


def _drawn_worst(judged: Judged, worst: list[dict[str, Any]]) -> str:
    if not worst:
        return ""
    rows = []
    for example in worst:
        sound = player(judged.test["audio"][example["row"]].as_py()["bytes"], example["where"])
        texts = "".join(
            f"<td>{escape(example[name])}</td>" for name in ("target_text", "prediction", "where")
        )
        rows.append(f"<td>{sound}</td>{texts}")
    note = (
        "Those with most errors per word come first. A long sound is cut to its first seconds; all are in"
        " telephone quality."
    )
    return section("Worst rows", quiet(note), table(["sound", "said", "written", "where"], [], rows))
