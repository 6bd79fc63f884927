"""A CSV, JSONL or Parquet file, or a folder of them, as what a recipe needs to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrainer.data.fingerprint import choose_kind
from retrainer.data.sources import csv, jsonl, parquet
from retrainer.data.sources._columns import given_parts
from retrainer.data.sources._splits import TEST, TRAIN, VALIDATION, split_of
from retrainer.data.sources._values import Unfit, beside
from retrainer.errors import DataError
from retrainer.init.columns import MOST_NUMBERED_CLASSES, Column, Roles, roles_of
from retrainer.init.found import Found, class_counts, shown
from retrainer.settings import Source
from retrainer.texts import plural

_READERS = {"csv": csv, "jsonl": jsonl, "parquet": parquet}
# What a column is for shows in so many rows.
MOST_ROWS = 20_000
_LENGTHS = (32, 64, 128, 256)
# Word pieces of a word, on average, and the marks around a text: English by BERT's vocabulary. Scripts from
# here on (Chinese, Japanese, Korean) have no spaces, and about one token a character.
_TOKENS_A_WORD, _MARKS = 1.4, 2
_WITHOUT_SPACES = "\u2e80"


def look_at_tables(path: Path, given: Mapping[str, str]) -> Found:
    """`given`: role of a column → its name, where a person says it. Raises DataError for a table that cannot
    be read, or in which nothing can be learned."""
    kind = choose_kind(Source.parse({"path": str(path)}, "source"))
    parts = given_parts(Source.parse({"kind": kind, "path": str(path)}, "source"), _READERS[kind].SUFFIXES)
    training = [file for file, split in parts if split == TRAIN]
    values, rows = _READERS[kind].first_rows(training[0], MOST_ROWS)
    if not values or not rows:
        raise DataError(f"{training[0]} has no rows below its header; give a table with some")
    columns = [Column(name, values[name]) for name in values]
    roles = roles_of(columns, given, training[0].name)
    source: dict[str, Any] = {"kind": kind, "path": str(path)}
    facts = [_parts_fact(parts, path), *_beside_fact(path, source)]
    if len(training) > 1:
        facts.append(f"its columns are told by {training[0].name}")
    looked = f" ({plural(MOST_ROWS, 'row')} were looked at)" if rows > MOST_ROWS else ""
    title = f"{training[0]}: a table ({kind}) of {plural(rows, 'row')}{looked}"
    return _found(title, roles, source, [fact for fact in facts if fact], training[0])


def _parts_fact(parts: list[tuple[Path, str]], path: Path) -> str:
    """Which files of a folder are an own test or validation set."""
    named = {
        what: [file.name for file, split in parts if split == of]
        for of, what in ((TEST, "own test set"), (VALIDATION, "own validation set"))
    }
    said = [f"{shown(files)} is your {what}" for what, files in named.items() if files]
    return "; ".join(said) if path.is_dir() else ""


def _beside_fact(path: Path, source: dict[str, Any]) -> list[str]:
    """A file test.csv beside train.csv is the own test set."""
    if not path.is_file() or split_of(path.stem) != TRAIN:
        return []
    beside_it = [other for other in sorted(path.parent.glob(f"*{path.suffix}")) if other != path]
    tests = [other for other in beside_it if split_of(other.stem) == TEST]
    if not tests:
        return []
    source["test_path"] = str(tests[0])
    whole = f"; DATA={path.parent} takes every split there" if len(beside_it) > 1 else ""
    return [f"{tests[0].name} lies beside it and is your own test set{whole}"]


def _found(title: str, roles: Roles, source: dict[str, Any], facts: list[str], file: Path) -> Found:
    columns = [f"{column.name} ({plural(column.distinct, 'value')})" for column in roles.columns]
    facts = [f"{plural(len(columns), 'column')}: {shown(columns, 12)}", *facts]
    chosen = {f"source.{role}": f"column '{c.name}': {roles.why[role]}" for role, c in roles.chosen.items()}
    for role, column in roles.chosen.items():
        if role != "label" and column.name != role:
            source[role] = column.name
    for what in ("image", "audio"):
        if what in roles.chosen:
            _check_files(roles.chosen[what], file, what)
    task: dict[str, Any] = {"kind": _task(roles, source, chosen, facts)}
    if "text" in roles.chosen:
        task["max_length"] = _max_length(roles, chosen)
    if source.get("label_separator") or roles.chosen.get("label", Column("", [])).lists:
        task["multi_label"] = True
        chosen["task.multi_label"] = "rows have several labels"
    if left := [f"{c.name} ({plural(c.distinct, 'value')})" for c in roles.left if 1 < c.distinct <= 50]:
        facts.append(
            f"not used: {shown(left)}; source: {{metadata: [NAME]}} keeps one for slices of the figures"
        )
    return Found(title, source, task, tuple(facts), chosen)


def _task(roles: Roles, source: dict[str, Any], chosen: dict[str, str], facts: list[str]) -> str:
    """The task's name; `source` gets the column of its target. Raises DataError where there is no target."""
    reads = next((what for what in ("image", "audio", "text") if what in roles.chosen), "")
    names = shown([f"'{column.name}'" for column in roles.columns], 20)
    if not reads:
        raise DataError(
            f"no column holds texts, or names images or sounds: {names}; name the column:"
            ' SET="source.text=NAME" (or source.image, source.audio)'
        )
    if "target_text" in roles.chosen and (reads == "audio" or "label" not in roles.chosen):
        source.pop("label", None)
        return "speech_recognition" if reads == "audio" else "translation"
    if "label" not in roles.chosen:
        raise DataError(
            f"no column looks like a label (few values, each of many rows): {names}; name it:"
            ' SET="source.label=NAME"'
        )
    return _task_of_label(reads, roles.chosen["label"], source, chosen, facts)


def _task_of_label(
    reads: str, label: Column, source: dict[str, Any], chosen: dict[str, str], facts: list[str]
) -> str:
    whole = bool(label.numbers) and all(number.is_integer() for number in label.numbers)
    if label.numbers and not (whole and label.distinct <= MOST_NUMBERED_CLASSES) and reads != "audio":
        source |= {} if label.name == "target" else {"target": label.name}
        facts.append(f"target: {min(label.numbers):g} to {max(label.numbers):g}")
        chosen["source.target"] = chosen.pop("source.label")
        chosen["task.kind"] = f"'{label.name}' holds {plural(label.distinct, 'different number')}"
        return f"{reads}_regression"
    source |= {} if label.name == "label" else {"label": label.name}
    if mark := "" if label.lists else label.separator:
        source["label_separator"] = mark
        chosen["source.label_separator"] = f"several labels stand in one value, divided by {mark}"
    facts.append(class_counts(_label_counts(label, mark)))
    if empty := len(label.values) - len(label.filled):
        facts.append(f"{plural(empty, 'row has', 'rows have')} no label and will be left out")
    chosen["task.kind"] = f"'{label.name}' has {plural(label.distinct, 'value')}"
    if label.numbers and reads != "audio":
        other = f"{reads}_regression"
        chosen["task.kind"] += f"; as a number: task.kind {other}, and source.target in place of source.label"
    return f"{reads}_classification"


def _label_counts(label: Column, mark: str) -> Counter[str]:
    each = ((value if isinstance(value, list) else [value]) for value in label.filled)
    words = [str(word) for values in each for word in values]
    return Counter(part.strip() for word in words for part in (word.split(mark) if mark else [word]))


def _max_length(roles: Roles, chosen: dict[str, str]) -> int:
    """The least of the usual lengths that 19 of 20 texts, or pairs, fit into."""
    texts = [roles.chosen[role] for role in ("text", "text_pair") if role in roles.chosen]
    rows = zip(*(column.values for column in texts), strict=True)
    tokens = sorted(sum(_tokens(str(text)) for text in row) for row in rows)
    common = tokens[int(0.95 * (len(tokens) - 1))]
    chosen["task.max_length"] = f"19 of 20 texts have up to about {common} tokens"
    return next((length for length in _LENGTHS if common <= length), _LENGTHS[-1])


def _tokens(text: str) -> int:
    """About how many a tokenizer makes of it."""
    return int(len(text.split()) * _TOKENS_A_WORD) + sum(c >= _WITHOUT_SPACES for c in text) + _MARKS


def _check_files(column: Column, table: Path, what: str) -> None:
    """Raises DataError where the first file that a row names is not beside the table, and says where."""
    if not column.words:
        return
    name = column.words[0]
    try:
        beside(table.parent, name, what)
    except Unfit as error:
        elsewhere = next(iter(sorted(table.parent.rglob(Path(name).name))), None)
        cure = ""
        if elsewhere is not None:
            cure = f"; it lies in {elsewhere.parent.relative_to(table.parent)}/: write that before each name"
        raise DataError(f"{table.name}: column '{column.name}' {error}{cure}") from None
