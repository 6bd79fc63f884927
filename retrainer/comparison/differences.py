"""What differs between models before their figures: settings, data, code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from retrainer.comparison.subjects import Subject
from retrainer.registry.columns import aligned
from retrainer.registry.unaltered import SIGNED
from retrainer.services import lineage
from retrainer.services.readers import MODEL_SHA256, TRAIN_ROWS
from retrainer.services.runs import CODE_SHA256, SETTINGS_SHA256
from retrainer.texts import shortened

_CHARACTERS = 40
_UNKNOWN = "–"
_HASH = re.compile(r"([0-9a-f]{12})[0-9a-f]{28,}(-dirty)?")
# Of what code, data and weights are: compared where they stand, and by other names.
_DIGESTS = ("code_digest", "digest")
# Sections of a resolved file that are no settings.
_NO_SETTINGS = ("code",)
_LINEAGE = (
    "verdict",
    MODEL_SHA256,
    SETTINGS_SHA256,
    SIGNED,
    "test_uses",
    "train_run_id",
    "evaluation_run_id",
    "kfp_run_id",
)


def differences(subjects: Sequence[Subject]) -> list[str]:
    """Tables of settings, data and code, and the registry's own words."""
    return [*_settings(subjects), "", *_data(subjects), "", *_code(subjects), "", *_lineage(subjects)]


def table(subjects: Sequence[Subject], title: str, rows: Sequence[tuple[str, ...]]) -> list[str]:
    """`title`, then the subjects' columns below their names."""
    return aligned([(title, *(subject.title for subject in subjects)), *rows])


def _settings(subjects: Sequence[Subject]) -> list[str]:
    """The settings that are not the same in all, of the sections that all of them tell."""
    told = [{name for name in one.settings if name not in _NO_SETTINGS} for one in subjects]
    common = set.intersection(*told)
    flat = [dict(_flat({name: one.settings[name] for name in sorted(common)})) for one in subjects]
    names = sorted(set().union(*flat))
    differing = [name for name in names if len({one.get(name, _UNKNOWN) for one in flat}) > 1]
    rows = [(name, *(shortened(one.get(name, _UNKNOWN), _CHARACTERS) for one in flat)) for name in differing]
    same = f"{len(names) - len(differing)} settings are the same"
    untold = sorted(set.union(*told) - common)
    more = f"; those of {', '.join(untold)} are not known of all" if untold else ""
    return [
        *table(subjects, "settings that differ", rows or [("none", *("" for _ in subjects))]),
        same + more,
    ]


def _flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, inside in value.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(inside, Mapping) and inside:
            yield from _flat(inside, here)
        elif key not in _DIGESTS:
            yield here, inside if isinstance(inside, str) else json.dumps(inside, sort_keys=True)


def _data(subjects: Sequence[Subject]) -> list[str]:
    def row(name: str, values: Sequence[Any]) -> tuple[str, ...]:
        return (name, *(_cut(str(value or _UNKNOWN)) for value in values))

    rows = [row("dataset_sha256", [_dataset(one) for one in subjects])]
    rows.append(row("rows: train / validation / test", [_rows(one) for one in subjects]))
    rows.append(row("rows left out", [_left_out(one) for one in subjects]))
    rows.append(row("test rows, sha256", [_of(one, "test_set", "sha256") for one in subjects]))
    rows.append(row("source, digest", [one.settings.get("source", {}).get("digest") for one in subjects]))
    return table(subjects, "data", [one for one in rows if set(one[1:]) != {_UNKNOWN}])


def _dataset(subject: Subject) -> str:
    return str(subject.figures.get("dataset_sha256") or subject.tags.get("dataset_sha256", ""))


def _rows(subject: Subject) -> str:
    rows = _of(subject, "data", "rows") or {}
    if not rows:
        return f"{subject.tags[TRAIN_ROWS]} / ? / ?" if TRAIN_ROWS in subject.tags else ""
    return " / ".join(f"{rows.get(split, 0):,}" for split in ("train", "validation", "test"))


def _left_out(subject: Subject) -> str:
    dropped = _of(subject, "data", "dropped")
    return "" if dropped is None else f"{sum(dropped.values()):,}"


def _of(subject: Subject, *path: str) -> Any:
    value: Any = subject.figures
    for key in path:
        value = (value or {}).get(key)
    return value


def _code(subjects: Sequence[Subject]) -> list[str]:
    names = (*lineage.CODE, CODE_SHA256, "dvc_model_md5", "dvc_dataset_md5")
    rows = [(name, *(one.tags.get(name, _UNKNOWN) for one in subjects)) for name in names]
    rows += [
        (f"code of {step}, sha256", *(one.code.get(step, _UNKNOWN) for one in subjects))
        for step in sorted({step for one in subjects for step in one.code})
    ]
    known = [row for row in rows if set(row[1:]) != {_UNKNOWN}]
    cut = [tuple(map(_cut, row)) for row in known]
    return table(subjects, "code", cut or [("not known", *("" for _ in subjects))])


def _cut(text: str) -> str:
    """Of a hash its beginning, and whether files differed from the commit; ids of runs stay whole."""
    found = _HASH.fullmatch(text)
    return f"{found[1]}…{found[2] or ''}" if found else shortened(text, _CHARACTERS)


def _lineage(subjects: Sequence[Subject]) -> list[str]:
    rows = [
        (name, *(_cut(one.tags.get(name, _UNKNOWN)) for one in subjects))
        for name in _LINEAGE
        if any(name in one.tags for one in subjects)
    ]
    return table(subjects, "registry", rows) if rows else []
