"""Where each row goes, by hash: new rows never move old ones, and no twin or group stands in two splits.

A row's key is the hash of what the task reads, normalised (case and white space of text do not count).
Rows that share a key or a group form a component, and a component is in one split. Its key is the smallest
key of its groups, or the row's own where there is no group, so a new row leaves every old one in place; the
one exception is a row that links components, which must move together from then on.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from retrainer.errors import UserError
from retrainer.formats.dataset import SPLITS
from retrainer.formats.files import canonical_json
from retrainer.settings import Split

TRAIN, VALIDATION, TEST = SPLITS
_LEAST_PER_CLASS = 2


@dataclass
class Rows:
    """The sound rows, as parallel lists. `reasons` says why a row is left out, None while it is kept."""

    keys: list[bytes]
    components: list[bytes]
    labels: list[tuple[str, ...]]
    given_test: list[bool]
    reasons: list[str | None]

    def kept(self) -> list[int]:
        return [row for row, reason in enumerate(self.reasons) if reason is None]


def content_keys(table: pa.Table, columns: Sequence[str]) -> list[bytes]:
    """Per row the sha256 of what the task reads: normalised texts, bytes of the image."""
    parts: list[list[str]] = []
    for column in columns:
        if column == "image":
            encoded = (one for chunk in table["image"].chunks for one in chunk.flatten()[0])
            parts.append([hashlib.sha256(one.as_buffer()).hexdigest() for one in encoded])
        else:
            parts.append([normalised(text) for text in table[column].to_pylist()])
    return [hashlib.sha256(canonical_json(row)).digest() for row in zip(*parts, strict=True)]


def normalised(text: str) -> str:
    """Texts that differ only in case, white space or Unicode composition become one."""
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def components(keys: Sequence[bytes], groups: Sequence[str | None]) -> list[bytes]:
    """Per row the key of its component. A blank group is none."""
    parent: dict[bytes, bytes] = {}

    def root(node: bytes) -> bytes:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    group_keys = [_digest("group", group.encode()) if group and group.strip() else None for group in groups]
    group_of: dict[bytes, bytes] = {}
    for key, group in zip(keys, group_keys, strict=True):
        if group is None:
            continue
        parent.setdefault(group, group)
        one, other = sorted((root(group), root(group_of.setdefault(key, group))))
        parent[other] = one  # the smallest stays the root: a component's key depends on no order
    linked = [group or group_of.get(key) for key, group in zip(keys, group_keys, strict=True)]
    return [key if group is None else root(group) for key, group in zip(keys, linked, strict=True)]


def _digest(purpose: str, *parts: bytes) -> bytes:
    return hashlib.sha256(b"\0".join([purpose.encode(), *parts])).digest()


def position(component: bytes, salt: str) -> float:
    """The component's place in [0, 1), which never changes."""
    return int.from_bytes(_digest("split", salt.encode(), component)[:8], "big") / 2**64


def ranks(keys: Sequence[bytes], salt: str) -> list[bytes]:
    """Per row the hash by which rows are chosen and ordered; it says nothing about `position`."""
    return [_digest("rank", salt.encode(), key) for key in keys]


def drop_twins(rows: Rows, digest: Callable[[int], bytes]) -> None:
    """Leaves out training rows linked to the user's own test rows, and rows that say the same thing twice.

    Of twins with the same labels the one with the lowest `digest` stays; of twins with different labels none
    does, since nothing tells which is right. The user's own test rows stay as they are.
    """
    tested = {rows.components[row] for row in rows.kept() if rows.given_test[row]}
    twins: dict[bytes, list[int]] = defaultdict(list)
    for row in rows.kept():
        if rows.given_test[row]:
            continue
        if rows.components[row] in tested:
            rows.reasons[row] = "also in the test set"
        else:
            twins[rows.keys[row]].append(row)
    for same in twins.values():
        if len(same) == 1:
            continue
        if len({rows.labels[row] for row in same}) > 1:
            leave_out, reason = same, "conflicting labels"
        else:
            leave_out, reason = sorted(same, key=digest)[1:], "duplicate"
        for row in leave_out:
            rows.reasons[row] = reason


def place(rows: Rows, split: Split) -> dict[str, list[int]]:
    """The kept rows of each split, lowest rank first. With own test rows, `split.test` is not used."""
    if split.test + split.validation >= 1:
        raise UserError(
            f"split.test + split.validation is {split.test + split.validation:g}: nothing is left to train"
        )
    own_test = any(rows.given_test)
    order = ranks(rows.keys, split.salt)
    placed: dict[str, list[int]] = {name: [] for name in SPLITS}
    for row in sorted(rows.kept(), key=lambda row: order[row]):
        where = position(rows.components[row], split.salt)
        in_test = rows.given_test[row] if own_test else where < split.test
        # The same stretch for validation either way: a test file given later moves no row into it.
        in_validation = split.test <= where < split.test + split.validation
        placed[TEST if in_test else VALIDATION if in_validation else TRAIN].append(row)
    return placed


def choose(rows: Rows, placed: dict[str, list[int]], split: Split) -> dict[str, list[int]]:
    """Applies train_per_class, validation_per_class and limit; the rows left out get the reason.

    `limit` keeps the splits' and classes' shares as they are, but at least two rows of each split and two of
    each class in train, so it may keep more than it says.
    """
    chosen = dict(placed)
    for name, most, setting in (
        (TRAIN, split.train_per_class, "train_per_class"),
        (VALIDATION, split.validation_per_class, "validation_per_class"),
    ):
        if most:
            wanted = _lowest_per_class(rows, placed[name], most)
            chosen[name] = _only(rows, placed[name], wanted, setting)
    total = sum(len(members) for members in chosen.values())
    if split.limit and total > split.limit:
        for name, members in chosen.items():
            share = max(_LEAST_PER_CLASS, round(split.limit * len(members) / total))
            wanted = set(members[:share])
            if name == TRAIN:  # what cannot be learnt cannot be tested
                wanted |= _lowest_per_class(rows, members, _LEAST_PER_CLASS)
            chosen[name] = _only(rows, members, wanted, "limit")
    return chosen


def _lowest_per_class(rows: Rows, members: list[int], most: int) -> set[int]:
    """The first `most` rows of each class; a row of several labels is wanted if any of them wants it."""
    counts: dict[str, int] = defaultdict(int)
    wanted = set()
    for row in members:
        names = rows.labels[row] or ("",)  # rows without a label count as a class of their own
        if any(counts[name] < most for name in names):
            wanted.add(row)
            for name in names:
                counts[name] += 1
    return wanted


def _only(rows: Rows, members: list[int], wanted: set[int], setting: str) -> list[int]:
    for row in members:
        if row not in wanted:
            rows.reasons[row] = f"over split.{setting}"
    return [row for row in members if row in wanted]
