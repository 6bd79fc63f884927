"""Months through Retrainer's own steps with their default levels: resolve, ingest, preprocess, train and
evaluate, beside last month's champion in a registry.

Register runs for last month alone: what it would do follows from the verdict, and its own checks are of files
and servers, not of months.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks._runs import run_step
from benchmarks.trust.careless.files import write
from benchmarks.trust.careless.recipes import EVERY_TASK, RECIPES, two_layers
from benchmarks.trust.careless.rows import IMAGE, TEXT, Month, Row, World
from retrainer.errors import UserError

Decision = Literal["stopped", "held", "not promoted", "promoted"]


@dataclass(frozen=True)
class Outcome:
    """What became of a month: `step` where it was stopped or held, `reason` why, `shown` what a person reads.

    found       checks that found something, and how many rows, as the closing table has them
    truth       accuracy on last month's test rows, the model's and the champion's, where it was promoted
    fell        of each class that collapses, where nothing else holds the month: how many rows of it no month
                holds, and the model's and the champion's recall on these
    """

    decision: Decision
    step: str
    reason: str
    shown: str
    found: dict[str, int]
    seconds: float
    truth: tuple[float, float] | None = None
    fell: dict[str, tuple[int, float, float]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        return asdict(self)


class Company:
    """One dataset's recipe, registry and champion, in a directory of its own."""

    def __init__(self, world: World, home: Path) -> None:
        self.world, self.home = world, home
        home.mkdir(parents=True)
        os.chdir(home)
        if world.kind == TEXT:
            RECIPES[TEXT]["backbone"]["weights"] = str(two_layers(home / "minilm"))
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow.db"
        world.predicted, world.trained = self.predicted, self.trained
        self.first = self.month("last", world.last_month())
        if self.first.decision != "promoted":
            raise RuntimeError(f"{self.first.reason}{self.first.shown}")
        self._register(home / "last")
        self.champion = home / "last" / "model"
        self.champion_accuracy = self._accuracy(self.champion)

    def month(self, name: str, month: Month) -> Outcome:
        """Runs it as far as it goes; by `month.seeds` other seeds until one is promoted."""
        for seed in range(1, month.seeds + 1) or (0,):
            outcome = self._once(f"{name}-{seed}" if seed else name, month, seed)
            if outcome.decision == "promoted":
                break
        return outcome

    def _once(self, name: str, month: Month, seed: int) -> Outcome:
        from components.evaluate import evaluate
        from components.ingest import ingest
        from components.preprocess import preprocess
        from components.train import train

        began, into, step = time.perf_counter(), self.home / name, "resolve"
        try:
            settled = self._settled(into, month.with_settings(training={"seed": seed}) if seed else month)
            for function in (ingest, preprocess, train, evaluate):
                step = function.__name__
                run_step(function, settled, into)
        except UserError as error:
            seconds = time.perf_counter() - began
            reason = str(error).replace(f"{into}/", "")  # where the month lies is nobody's matter
            return Outcome("stopped", step, reason, "", {}, round(seconds, 1))
        return self._judged(into, time.perf_counter() - began)

    def _settled(self, into: Path, month: Month) -> Any:
        from retrainer.resolve import resolve

        source = write(self.world.kind, month, into / "data")
        sections: dict[str, Any] = {"registry": {"name": "careless"}, "source": source, **EVERY_TASK}
        sections |= RECIPES[self.world.kind]
        for section, keys in month.settings.items():
            sections[section] = {**sections.get(section, {}), **keys}
        (into / "params.yaml").write_text(json.dumps(sections))
        return resolve(None, [], into, into)

    def _judged(self, into: Path, seconds: float) -> Outcome:
        from retrainer.evaluation.summary import closing_table

        report = json.loads((into / "report" / "metrics.json").read_text())
        shown = " ".join(closing_table(report, {}, Path("runs/x/report/report.html")).split())
        rules = report["gate"]["rules"]
        holding = [one for one in rules if not one["passed"] and one["name"] != "comparison"]
        held = [one["note"] for one in holding]
        new = report["gate"]["verdict"] == "champion" and not (report["champion"] or {}).get("same")
        decision: Decision = "held" if held else "promoted" if new else "not promoted"
        found = {one["name"]: one["count"] for one in report["data"]["checks"]}
        truth = None
        if decision == "promoted" and hasattr(self, "champion_accuracy"):
            truth = (self._accuracy(into / "model"), self.champion_accuracy)
        step = "evaluate" if held else ""
        alone = {one["name"] for one in holding} == {"collapse"}
        fell = self._fell(report["gate"]["parts"], into / "model") if alone else {}
        return Outcome(decision, step, "; ".join(held), shown, found, round(seconds, 1), truth, fell)

    def _fell(self, parts: list[dict[str, Any]], model: Path) -> dict[str, tuple[int, float, float]]:
        found = {}
        for name in [one["name"] for one in parts if one["by"] == "class" and one["collapsed"]]:
            if rows := [row for row in self.world.outside if row.label == name]:
                answers = [self._predictions(one, rows)[0] for one in (model, self.champion)]
                ours, champions = (round(labels.count(name) / len(rows), 4) for labels in answers)
                found[name] = (len(rows), ours, champions)
        return found

    def _register(self, into: Path) -> None:
        from retrainer.registry.register import register_model
        from retrainer.settings import Registry

        register_model(
            into / "model",
            into / "report",
            into / "registration",
            Registry.parse({"name": "careless"}, "registry"),
        )

    # --- what mistakes need of the champion -----------------------------------------------------------------

    def predicted(self, rows: Sequence[Row]) -> tuple[list[str], np.ndarray]:
        """The champion's labels, and its probability of each, float [N]."""
        return self._predictions(self.champion, rows)

    def _predictions(self, model: Path, rows: Sequence[Row]) -> tuple[list[str], np.ndarray]:
        import pyarrow as pa

        from retrainer.formats.dataset import IMAGE as ENCODED
        from retrainer.predict import Predictor

        predictor = Predictor.load(model)
        if self.world.kind == TEXT:
            table = pa.table({"text": pa.array([row.content for row in rows])})
        else:
            column = "image" if self.world.kind == IMAGE else "audio"
            files = [{"bytes": row.content, "path": None} for row in rows]
            table = pa.table({column: pa.array(files, ENCODED)})
        probabilities = predictor.probabilities(table)
        names = [predictor.labels[int(n)] for n in probabilities.argmax(axis=1)]
        return names, probabilities.max(axis=1)

    def _accuracy(self, model: Path) -> float:
        """On last month's test rows, with their labels as they are."""
        labels, _ = self._predictions(model, self.world.test)
        return float(np.mean([one == row.label for one, row in zip(labels, self.world.test, strict=True)]))

    def trained(self, month: Month) -> Path:
        from components.ingest import ingest
        from components.preprocess import preprocess
        from components.train import train

        into = self.home / "another"
        settled = self._settled(into, month)
        for function in (ingest, preprocess, train):
            run_step(function, settled, into)
        return into / "model"

    def forget(self, name: str) -> None:
        """Deletes a month's files."""
        for path in self.home.glob(f"{name}*"):
            shutil.rmtree(path)
