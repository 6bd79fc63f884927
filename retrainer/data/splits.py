"""Where each row goes: by a hash of its content or by its time, and linked rows always together.

A row's key is the hash of what the task reads, normalised (case and white space of text do not count). Rows
that share a key or a group, or are near-duplicates, form a component, and a component is in one split.

**By hash** a component's place follows from one key alone. That is the smallest key of its groups, or of its
rows where none has a group. So a new row that is linked to no old one leaves every old one in place. A new
near-duplicate may have a smaller key than the rows it is like: then those move with it, and no others do.
Where the data has times, the oldest row of a component leads instead, so what arrives at a later time never
moves what was there. Of rows of the same time (of one day, where the times are days) the one with the
smallest number as its id leads; without such ids the smallest key does, so a near-duplicate of the same day
may move an old row. In every case a row that links two components makes them one, and one of the two takes
the place of the other: with times, the younger of them moves.

**By time** the newest rows are the test, and the newest before them the validation. A component goes by its
newest row, so nothing that resembles the future is trained on. With `split.test_from` that border stands
still: an old row moves into the test only when its component gets a row beyond it. A border by share follows
the data: what was the test last month is trained on this month, and the test is new. Rows of one instant are
never parted but by their components, so a share is met as nearly as the times allow.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from retrainer.data.times import first_of_test
from retrainer.errors import SettingError
from retrainer.formats.columns import ENCODED, TYPES
from retrainer.formats.files import canonical_json
from retrainer.formats.names import RAW_SPLITS, SPLITS
from retrainer.settings import Split

TRAIN, VALIDATION, TEST = SPLITS
_, GIVEN_TEST, GIVEN_VALIDATION = RAW_SPLITS
# A row without a time leads no component and is older than none.
_NEVER = 2**63


@dataclass
class Rows:
    """The sound rows, as parallel lists. `reasons` says why a row is left out, None while it is kept.

    `classes` are the names of each row's classes: of its labels or boxes, () where the task has none.
    `targets` is one digest of all that the row should be answered with. `times` are instants
    (`retrainer.data.times`); None where the row has none. `given` says of which raw split the row is.
    """

    keys: list[bytes]
    components: list[bytes]
    classes: list[tuple[str, ...]]
    targets: list[bytes]
    times: list[int | None]
    origins: list[str]
    given: list[str]
    reasons: list[str | None]

    def given_test(self, row: int) -> bool:
        """Whether the row is of the user's own test set."""
        return self.given[row] == GIVEN_TEST

    def given_validation(self, row: int) -> bool:
        """Whether the row is of the user's own validation set."""
        return self.given[row] == GIVEN_VALIDATION

    def held_out(self) -> list[int]:
        """The rows of the user's own test and validation sets."""
        return [row for row in range(len(self.given)) if self.given_test(row) or self.given_validation(row)]

    def kept(self) -> list[int]:
        return [row for row, reason in enumerate(self.reasons) if reason is None]


def content_keys(table: pa.Table, columns: Sequence[str], exact: bool = False) -> list[bytes]:
    """Per row the sha256 of these columns: texts normalised unless `exact`, bytes of files as they are."""
    parts: list[list[Any]] = [[] for _ in columns]
    for part, column in zip(parts, columns, strict=True):
        if table[column].type == ENCODED:
            encoded = (one for chunk in table[column].chunks for one in chunk.flatten()[0])
            part += [hashlib.sha256(one.as_buffer()).hexdigest() for one in encoded]
        elif pa.types.is_string(table[column].type) and not exact:
            part += [normalised(text) for text in table[column].to_pylist()]
        elif table[column].type == TYPES["boxes"]:  # their order says nothing
            part += [boxes and sorted(boxes, key=canonical_json) for boxes in table[column].to_pylist()]
        elif table[column].type == TYPES["mask"]:
            part += [mask and _digest_of_mask(mask) for mask in table[column].to_pylist()]
        else:
            part += table[column].to_pylist()
    rows = zip(*parts, strict=True) if columns else [()] * len(table)
    return [hashlib.sha256(canonical_json(row)).digest() for row in rows]


def _digest_of_mask(mask: dict[str, Any]) -> list[Any]:
    return [hashlib.sha256(mask["image"]["bytes"]).hexdigest(), mask["classes"]]


def normalised(text: str) -> str:
    """Texts that differ only in case, white space or Unicode composition become one."""
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def components(
    keys: Sequence[bytes],
    groups: Sequence[str | None],
    near: Iterable[tuple[bytes, bytes]] = (),
    times: Sequence[int | None] | None = None,
    ids: Sequence[str | None] | None = None,
) -> list[bytes]:
    """Per row the key of its component. A blank group is none; `near` are keys of near-duplicates.

    With `times` the oldest row leads, by its group if it has one; of rows of one time that with the smallest
    of `ids` which are whole numbers, as rows get them one after the other. Without times the smallest key
    leads.
    """
    parent: dict[bytes, bytes] = {}

    def root(node: bytes) -> bytes:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    group_keys = [_digest("group", group.encode()) if group and group.strip() else None for group in groups]
    links = [(key, group) for key, group in zip(keys, group_keys, strict=True) if group]
    for one, other in (*links, *near):
        parent[root(one)] = root(other)
    leaders: dict[bytes, tuple[int, int, bool, bytes]] = {}
    for row, (key, group) in enumerate(zip(keys, group_keys, strict=True)):
        at = times[row] if times else 0
        number = _number(ids[row]) if times and ids else 0
        candidate = (_NEVER if at is None else at, number, group is None, group or key)
        home = root(key)
        leaders[home] = min(leaders.get(home, candidate), candidate)
    return [leaders[root(key)][-1] for key in keys]


def _number(text: str | None) -> int:
    """The whole number that is written there; _NEVER for anything else."""
    text = (text or "").strip()
    return min(int(text), _NEVER) if text.isascii() and text.isdecimal() and len(text) < 20 else _NEVER


def _digest(purpose: str, *parts: bytes) -> bytes:
    return hashlib.sha256(b"\0".join([purpose.encode(), *parts])).digest()


def position(component: bytes, salt: str) -> float:
    """The component's place in [0, 1), which never changes."""
    return int.from_bytes(_digest("split", salt.encode(), component)[:8], "big") / 2**64


def ranks(keys: Sequence[bytes], salt: str) -> list[bytes]:
    """Per row the hash by which rows are chosen and ordered; it says nothing about `position`."""
    return [_digest("rank", salt.encode(), key) for key in keys]


def place(rows: Rows, split: Split) -> dict[str, list[int]]:
    """The kept rows of each split, lowest rank first.

    With own test rows `split.test` is not used, with own validation rows not `split.validation`.
    """
    own_test = GIVEN_TEST in rows.given
    _check_settings(split, own_test)
    order = ranks(rows.keys, split.salt)
    kept = sorted(rows.kept(), key=lambda row: order[row])
    given = {row: TEST for row in kept if rows.given_test(row)}
    given |= {row: VALIDATION for row in kept if rows.given_validation(row)}
    others = [row for row in kept if row not in given]
    shares = _shares(rows, split)
    homes = given | (_by_time if split.by == "time" else _by_hash)(rows, others, split, shares)
    return {name: [row for row in kept if homes[row] == name] for name in SPLITS}


def _check_settings(split: Split, own_test: bool) -> None:
    if split.test + split.validation >= 1:
        raise SettingError(
            f"split.test + split.validation is {split.test + split.validation:g}: nothing is left to train"
        )
    if split.test_from and split.by != "time":
        raise SettingError("split.test_from divides by time; set split.by: time, or leave it empty")
    if split.test_from and own_test:
        raise SettingError(
            "split.test_from and a test set of your own (source.test_path) both choose the test; give one"
        )


def _shares(rows: Rows, split: Split) -> tuple[float, float]:
    """Of the rows that the user has not placed: the share to test and that to validate on."""
    test = 0.0 if GIVEN_TEST in rows.given else split.test
    return test, 0.0 if GIVEN_VALIDATION in rows.given else split.validation


def _by_hash(rows: Rows, kept: list[int], split: Split, shares: tuple[float, float]) -> dict[int, str]:
    homes = {}
    for row in kept:
        where = position(rows.components[row], split.salt)
        # The same stretch for validation either way: a test file given later moves no row into it.
        in_validation = split.test <= where < split.test + shares[1]
        homes[row] = TEST if where < shares[0] else VALIDATION if in_validation else TRAIN
    return homes


def _by_time(rows: Rows, kept: list[int], split: Split, shares: tuple[float, float]) -> dict[int, str]:
    newest: dict[bytes, int] = {}
    for row, component in enumerate(rows.components):
        newest[component] = max(newest.get(component, -_NEVER), rows.times[row] or 0)
    ages = {row: newest[rows.components[row]] for row in kept}
    if split.test_from:
        test_from = first_of_test(split.test_from)
    else:
        test_from = _border(ages.values(), shares[0] * len(ages))
    before = [at for at in ages.values() if at < test_from]
    validation_from = _border(before, shares[1] * len(ages))
    homes = {}
    for row, at in ages.items():
        homes[row] = TEST if at >= test_from else VALIDATION if at >= validation_from else TRAIN
    return homes


def _border(instants: Iterable[int], wanted: float) -> int:
    """The instant from which on there are about `wanted` rows; of two as near, the one with fewer."""
    best, border, newer = wanted, _NEVER, 0
    for at, count in sorted(Counter(instants).items(), reverse=True):
        newer += count
        if abs(newer - wanted) >= best:
            break
        best, border = abs(newer - wanted), at
    return border
