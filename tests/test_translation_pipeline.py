"""Pairs of sentences go through every step, up to registered versions that BLEU compares and that serve."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.project import make_project, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SUBJECTS = {"ein Hund": "a dog", "eine Katze": "a cat", "ein Mann": "a man", "ein Kind": "a child"}
VERBS = {"rennt": "runs", "sitzt": "sits", "schläft": "sleeps", "springt": "jumps", "wartet": "waits"}
PLACES = {"im Garten": "in the garden", "am See": "at the lake", "vor dem Haus": "in front of the house"}
TIMES = {"heute": "today", "oft": "often", "nie": "never", "jetzt": "now"}


def sentences() -> list[tuple[str, str]]:
    """All 240 sentences of one form, and their translations."""
    parts = itertools.product(*(words.items() for words in (SUBJECTS, VERBS, PLACES, TIMES)))
    pairs = [tuple(zip(*part, strict=True)) for part in parts]
    return [(" ".join(german), " ".join(english)) for german, english in pairs]


def write_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["german", "english"])
        writer.writerows(sentences())


def recipe(project: Path, source: dict[str, str], **training: Any) -> None:
    sections = {
        "registry": {"name": "mine"},
        "source": source,
        "split": {"test": 0.3, "validation": 0.1},
        "checks": {"near_duplicates": "off"},
        "task": {"kind": "translation", "vocabulary": 320, "max_length": 16},
        "backbone": {"family": "encoder_decoder", "width": 32, "heads": 2, "layers": 1},
        "training": {"strategy": "scratch", "batch_size": 16, "learning_rate": 1e-2, **training},
        "compute": {"device": "cpu", "threads": 1, "dtype": "float32"},
        "evaluation": {"resamples": 200},
    }
    (project / "recipes" / "mine.yaml").write_text(yaml.safe_dump(sections))


def report(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / "runs" / "mine" / "report" / "metrics.json").read_text())
    return found


def test_a_better_translator_becomes_champion(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    write_csv(project / "data" / "pairs.csv")
    source = {"path": "data/pairs.csv", "text": "german", "target_text": "english"}
    recipe(project, source, epochs=1)
    run(project, "pipeline", "--recipe", "mine")
    weak = report(project)
    assert set(weak["baselines"]) == {"copy_source", "nearest_text"}
    recipe(project, source, epochs=20)
    printed = run(project, "pipeline", "--recipe", "mine")
    strong = report(project)
    assert strong["headline"] == "bleu" and strong["about"]["bleu"]["unit"] == "BLEU"
    assert strong["metrics"]["bleu"]["value"] > 60 > weak["metrics"]["bleu"]["value"]
    assert strong["metrics"]["chrf"]["value"] > weak["metrics"]["chrf"]["value"]
    assert strong["details"]["best"][0]["chrf"] == 100
    assert "champion" in printed
    page = (project / "runs" / "mine" / "report" / "report.html").read_text()
    assert "By length of the source" in page and "Worst and best translations" in page
