"""Prompts and answers go through every step: a language model is judged by perplexity, and serves."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.language_models import tiny_llama
from tests.project import make_project, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def write_csv(path: Path) -> None:
    """216 prompts of three letters, of which the last is the answer."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["prompt", "answer"])
        writer.writerows((f"{a}{b}{c}", c) for a in "abcdefgh" for b in "stuvwqrmo" for c in "xyz")


def recipe(project: Path, **training: Any) -> None:
    sections = {
        "registry": {"name": "mine"},
        "source": {"path": "data/pairs.csv", "text": "prompt", "target_text": "answer"},
        "split": {"test": 0.3, "validation": 0.1},
        "checks": {"near_duplicates": "off", "leaks": "off"},
        "task": {"kind": "text_generation", "max_length": 64, "max_new_tokens": 4},
        "backbone": {"family": "causal_lm", "weights": "data/llama"},
        "training": {"strategy": "full", "batch_size": 8, "backbone_learning_rate": 1e-2, **training},
        "compute": {"device": "cpu", "threads": 1, "dtype": "float32"},
        "evaluation": {"resamples": 200},
    }
    (project / "recipes" / "mine.yaml").write_text(yaml.safe_dump(sections))


def report(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / "runs" / "mine" / "report" / "metrics.json").read_text())
    return found


def test_a_less_surprised_model_becomes_champion(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    write_csv(project / "data" / "pairs.csv")
    tiny_llama(project / "data" / "llama")
    recipe(project, epochs=2)
    run(project, "pipeline", "--recipe", "mine")
    weak = report(project)
    # A model names no path of the machine that trained it: what it began with is not found again.
    assert set(weak["baselines"]) == {"commonest_answer", "nearest_prompt"}
    recipe(project, epochs=8)
    printed = run(project, "pipeline", "--recipe", "mine")
    strong = report(project)
    assert strong["headline"] == "perplexity" and strong["champion"]["version"] == "1"
    perplexities = [one["metrics"]["perplexity"]["value"] for one in (strong, weak)]
    assert perplexities[0] < 1.2 < perplexities[1]
    assert strong["metrics"]["exact_match"]["value"] > 0.9 and strong["membership"]["score"] == "perplexity"
    assert "champion" in printed and strong["gate"]["verdict"] == "champion"
    page = (project / "runs" / "mine" / "report" / "report.html").read_text()
    assert "Prompts and answers" in page and "Samples, drawn evenly" in page
