"""`make bench-recipes`: which recipes it runs, and the table it prints of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import recipes
from benchmarks.recipes import USES, Use, measured, table
from retrainer.errors import UserError

ROOT = Path(__file__).parent.parent
# Of no use of their own: a network to start from, Keras, two photographs, a GPU.
_NONE = {"digits-backbone", "digits-keras", "photo-tiles", "cifar10"}
RUN = {
    "metric": "word error rate",
    "value": 0.06,
    "low": 0.04,
    "high": 0.08,
    "train_rows": 2500,
    "test_rows": 500,
    "baseline": "the nearest sound",
    "baseline_value": 0.16,
    "seconds": 119.6,
}


def test_every_recipe_is_run() -> None:
    there = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
    assert {use.recipe for use in USES} - {"bccd", "sentiment-minilm"} == there - _NONE
    assert all(use.first in there for use in USES if use.first)


def test_a_line_has_the_mean_of_the_seeds_and_says_what_is_left_out(tmp_path: Path) -> None:
    spoken = {"runs": [RUN, RUN | {"value": 0.08, "seconds": 130.2}]}
    lines = table({"spoken-digits": spoken, "digits-mlp": {"runs": [RUN | {"baseline": ""}]}}).splitlines()
    assert len(lines) == 4 and "word error rate 0.060 (0.040 to 0.080) |  | 120 |" in lines[2]
    assert "word error rate 0.070 ± 0.014 (2 seeds) | 0.160 the nearest sound | 120 130 |" in lines[3]
    assert "2,500, 500" in lines[3]
    absent = measured(Use("spoken-digits", "speech into texts", "FSDD", needs="fsdd.tar.xz"), [0], tmp_path)
    assert absent["left_out"] == "fsdd.tar.xz is not on this machine"
    assert "left out: fsdd.tar.xz is not on this machine" in table({"spoken-digits": absent})


def test_why_a_recipe_failed_names_no_place_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Use, __: int, data: Path, project: Path) -> Any:
        raise UserError(f"ingest: {data}/fsdd is no folder beside {project}/params.yaml")

    monkeypatch.setattr(recipes, "run", fail)
    monkeypatch.setattr(recipes, "copy_project", lambda to: (to / "recipes").mkdir(parents=True) or to)
    failed = measured(Use("digits-mlp", "images into classes", "digits"), [0], tmp_path)
    assert failed["failed"] == "ingest: data/fsdd is no folder beside project/params.yaml"


def test_the_strongest_baseline_is_the_one_that_errs_least() -> None:
    rates = {"one": (0.3, "silence"), "two": (0.2, "the nearest sound")}
    report = {
        "headline": "word_error_rate",
        "about": {"word_error_rate": {"title": "word error rate", "higher_is_better": False}},
        "metrics": {"word_error_rate": {"value": 0.1, "low": 0.05, "high": 0.2, "n": 500}},
        "baselines": {
            name: {"title": title, "metrics": {"word_error_rate": {"value": value}}}
            for name, (value, title) in rates.items()
        },
        "data": {"rows": {"train": 2500}},
        "rows": 500,
        "start": "trained from scratch",
    }
    found = recipes._figures(report)
    assert (found["baseline"], found["baseline_value"], found["test_rows"]) == ("the nearest sound", 0.2, 500)


def test_an_unknown_recipe_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        recipes.main(["digits-mpl"])
    assert "digits-mpl: there are sentiment-minilm, digits-mlp" in capsys.readouterr().err
