"""A folder or archive of sounds: what is said in them or which class they have, and where that stands."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from retrainer.data.fingerprint import source_module
from retrainer.data.sources import csv
from retrainer.data.sources._folders import Tree
from retrainer.data.sources._splits import is_split_name
from retrainer.errors import DataError, UserError
from retrainer.formats.audio import SUFFIXES, decode_audio
from retrainer.init.columns import Column, roles_of
from retrainer.init.folders import MOST_READ, _splits_facts, _splits_of, names_of, table_beside
from retrainer.init.found import Found, class_counts
from retrainer.settings import Source
from retrainer.texts import plural

_LOOKED_AT = 20
_HIGHEST_RATE = 16_000


def look_at_sounds(tree: Tree, path: Path, given: Mapping[str, str]) -> Found:
    """Raises DataError where neither a table, nor folders, nor the files' names tell classes or words."""
    sounds = names_of(tree, SUFFIXES)
    source: dict[str, Any] = {"kind": "audio_folder", "path": str(path)}
    chosen: dict[str, str] = {}
    if table := table_beside(tree):
        _by_table(table, given, source, chosen)
    elif len({name.parent.name for name in sounds if not is_split_name(name.parent.name)}) < 2:
        _by_names(sounds, source, chosen)
    else:
        chosen["source.kind"] = "each folder is a class"
    said = "source.target_text" in chosen
    kind = "speech_recognition" if said else "audio_classification"
    splits, labels = _read(source, said)
    facts = [*([] if said else [class_counts(labels)]), *_splits_facts(splits, "sound")]
    if (read := splits.total()) < len(sounds):
        facts.append(f"that is of the first {read:,} of them")
    task = {"kind": kind, **_signal(tree, sounds, facts, chosen)}
    return Found(f"{path}: {plural(len(sounds), 'sound file')}", source, task, tuple(facts), chosen)


def _by_table(table: Path, given: Mapping[str, str], source: dict[str, Any], chosen: dict[str, str]) -> None:
    values, _ = csv.first_rows(table, MOST_READ)
    roles = roles_of([Column(name, values[name]) for name in values], given, table.name)
    if "audio" not in roles.chosen:
        raise DataError(f"{table.name} names no sound file; give it a column `path` with their names")
    if not {"target_text", "label"} & roles.chosen.keys():
        raise DataError(f"{table.name} has neither transcripts nor labels; add a column `text` or `label`")
    if {"target_text", "label"} <= roles.chosen.keys():
        label = roles.chosen.pop("label").name
        chosen["task.kind"] = (
            f"the transcripts are learned; to learn '{label}': task.kind audio_classification, source.label"
            f" {label}, and no source.target_text"
        )
    for role, column in roles.chosen.items():
        chosen[f"source.{role}"] = f"column '{column.name}': {roles.why[role]}"
        if column.name != role:
            source[role] = column.name


def _by_names(sounds: Sequence[PurePosixPath], source: dict[str, Any], chosen: dict[str, str]) -> None:
    """7_theo_12.wav: the first part is the class, one of ever other numbers the index, the next the group."""
    mark = "_" if all("_" in name.stem for name in sounds) else "-"
    parts = [name.stem.split(mark) for name in sounds]
    if len({len(one) for one in parts}) != 1 or len(parts[0]) < 2:
        raise DataError(
            f"neither folders nor a table tell the classes, and file names as {sounds[0].name} have no"
            " common form; sort them into one folder a class, or write a recipe with source.pattern:"
            ' "{label}_{id}.wav"'
        )
    words = _words([Counter(one[place] for one in parts) for place in range(len(parts[0]))])
    suffix = Counter(name.suffix for name in sounds).most_common(1)[0][0]
    source["pattern"] = mark.join(f"{{{word}}}" for word in words) + suffix
    chosen["source.pattern"] = (
        f"by names as {sounds[0].name}; swap the words in braces where the class or the speaker (group)"
        " stands elsewhere; {text} in place of {label}: what is said"
    )


def _words(columns: Sequence[Counter[str]]) -> list[str]:
    """What each part of the names is: the first the class, the numbers that differ most the index, of the
    others the first the group."""
    words = ["label", *[f"part{place}" for place in range(1, len(columns))]]
    numbered = [place for place, values in enumerate(columns) if place and all(map(_is_number, values))]
    if numbered:
        words[max(numbered, key=lambda place: len(columns[place]))] = "index"
    left = [place for place, word in enumerate(words) if word.startswith("part") and len(columns[place]) > 1]
    if left:
        words[left[0]] = "group"
    return words


def _is_number(word: str) -> bool:
    return re.fullmatch(r"\d+", word) is not None


def _read(source: dict[str, Any], said: bool) -> tuple[Counter[str], Counter[str]]:
    """Splits and labels of the first sounds, as the source's own reader sees them."""
    target = {"target_text": "string"} if said else {"labels": "strings"}
    settings = Source.parse(source | {"columns": {"audio": "audio", **target}}, "source")
    splits, labels = Counter[str](), Counter[str]()
    for table in islice(source_module(settings).read(settings), MOST_READ // 100):
        splits.update(_splits_of(table))
        if "labels" in table.column_names:
            labels.update(label for row in table["labels"].to_pylist() for label in row or ())
    return splits, labels


def _signal(
    tree: Tree, sounds: Sequence[PurePosixPath], facts: list[str], chosen: dict[str, str]
) -> dict[str, Any]:
    """Rate and longest duration, by some of the files."""
    lengths, rates = [], Counter[int]()
    for name in sounds[:: max(1, len(sounds) // _LOOKED_AT)]:
        try:
            samples, rate = decode_audio(tree.read(name), str(name))
        except UserError:
            continue
        lengths.append(len(samples) / rate)
        rates[rate] += 1
    if not lengths:
        return {}
    rate = rates.most_common(1)[0][0]
    facts.append(
        f"of {plural(len(lengths), 'sound')} looked at the longest has {max(lengths):.1f} s, and most have"
        f" {rate:,} samples a second"
    )
    longest = max(5, math.ceil(2 * max(lengths)))
    chosen["task.max_seconds"] = "twice the longest that was looked at; a longer sound is an error"
    return {"sampling_rate": min(rate, _HIGHEST_RATE), "max_seconds": longest}
