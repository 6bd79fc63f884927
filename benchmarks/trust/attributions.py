"""Are attributions about the model? Candidate methods under random weights, by deletion and by insertion.

    python -m benchmarks.trust.attributions [--into DIR] [sentiment] [digits] [small] [transfer] [spoken]
        [flipped]

Trains each recipe once (seed 0) by the same steps as `make pipeline`, explains 40 test rows by each method,
all of them Captum's, and prints the figures of docs/interpretability.md. `small` is digits-resnet18 from
scratch, `transfer` from its backbone; `spoken` reads the recordings of FSDD in `../shared/data`. `flipped`
gives 5% of the test rows of the default recipe a wrong label, and counts what the training rows nearest to
each mistake have. DIR keeps the models. Results: benchmarks/results/trust_attributions.json.

  random weights  Spearman's correlation of the parts' sizes with those under a random head, and under random
                  weights altogether
  deletion        the mean share of the answer beside its rival while parts become the baseline, greatest
                  values first: less is better. Insertion: while parts of the row appear: more is better
                  (Petsiuk, Das, Saenko 2018, arXiv:1806.07421)

Legend: P parts of a row, T tokens or frames.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from benchmarks._runs import ROOT, machine, run_step
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.attribution.captum import captum
from retrainer.attribution.explain import Explainer, completeness_error, values_of
from retrainer.attribution.inputs import KEYS
from retrainer.attribution.parts import seconds_each
from retrainer.attribution.randomised import RANDOM, Randomised, randomise
from retrainer.formats.dataset import Dataset
from retrainer.predict import Predictor
from retrainer.resolve import resolve
from retrainer.tasks._neighbours import nearest_rows

FSDD = ROOT.parent / "shared" / "data" / "fsdd.tar.xz"
RESULTS = ROOT / "benchmarks" / "results" / "trust_attributions.json"
ROWS = 40
STEPS = (4, 8, 16, 32, 64)
_POINTS = 11  # of the curves of deletion and insertion
_SMOOTH, _NOISE = 8, 0.15  # SmoothGrad: samples, and noise as a share of a row's range (arXiv:1706.03825)


@dataclass(frozen=True)
class Case:
    """One row as the network gets it. `mask` gives each element of `values` its part; -1: of none."""

    key: str
    values: Tensor
    baseline: Tensor
    mask: Tensor
    others: dict[str, Tensor]
    contrasts: Tensor
    layer: nn.Module | None

    @property
    def parts(self) -> int:
        return int(self.mask.max()) + 1

    def forward(self, predictor: Predictor, network: Any) -> Callable[..., Tensor]:
        """Of values [B, …] the contrast [B]; the row's other inputs are repeated for each."""
        task: Any = predictor.task

        def contrast(values: Tensor) -> Tensor:
            repeated = {name: one.expand(len(values), *one.shape[1:]) for name, one in self.others.items()}
            contrasts = self.contrasts.expand(len(values), 2)
            found: Tensor = task.contrast(
                network, {self.key: values, **repeated}, contrasts, predictor.temperature
            )
            return found

        return contrast

    def by_part(self, values: Tensor) -> np.ndarray:
        """Added up: float64 [P]."""
        found, mask = np.zeros(self.parts), self.mask.expand(values.shape).flatten().numpy()
        np.add.at(found, mask[mask >= 0], values.detach().flatten().double().numpy()[mask >= 0])
        return found


def cases(predictor: Predictor, rows: pa.Table) -> list[Case]:
    explainer, task = Explainer.of(predictor), predictor.task
    body = predictor.network.description
    contrasts = torch.from_numpy(task.contrasts(predictor.predict(rows)))
    explained = explainer.explain(rows, contrasts.numpy())[explainer.column].to_pylist()
    prepared, found = explainer.prepared(rows, contrasts.numpy()), []
    for row in range(len(rows)):
        path, batch = explainer.path(prepared, np.array([row]))
        key = KEYS[explainer.kind]
        others = {name: one for name, one in batch.items() if name != key}
        mask = _mask(path.values, explained[row], prepared.words and prepared.words[row], body.preprocessing)
        found.append(
            Case(key, path.values, path.baseline, mask, others, contrasts[row : row + 1], path.layer)
        )
    return found


def _mask(values: Tensor, parts: list[dict[str, Any]], words: Any, preprocessing: dict[str, Any]) -> Tensor:
    """int64, of a shape that expands to that of `values`."""
    if words is not None:
        mask = torch.full(values.shape, -1)
        for number, word in enumerate(words):
            mask[0, list(word.tokens)] = number
        return mask
    if values.dim() == 4:
        mask = torch.full((1, 1, *values.shape[2:]), -1)
        for number, part in enumerate(parts):
            mask[..., part["top"] : part["bottom"], part["left"] : part["right"]] = number
        return mask
    mask, each = torch.full((1, values.shape[1]), -1), seconds_each(preprocessing)
    for number, part in enumerate(parts):
        mask[0, round(part["start"] / each) : round(part["end"] / each)] = number
    return mask if values.dim() == 2 else mask[..., None]


Method = Callable[[Predictor, Any, Case], np.ndarray]


def integrated(predictor: Predictor, network: Any, case: Case, baseline: Tensor | None = None) -> np.ndarray:
    start = case.baseline if baseline is None else baseline
    forward, attr = case.forward(predictor, network), captum()
    if case.layer is not None:
        layer = network.body.get_input_embeddings()
        method = attr.LayerIntegratedGradients(forward, layer)
        return case.by_part(method.attribute(case.values, start, n_steps=16).sum(2))
    return case.by_part(attr.IntegratedGradients(forward).attribute(case.values, start, n_steps=16))


def from_black(predictor: Predictor, network: Any, case: Case) -> np.ndarray:
    about = predictor.network.description.preprocessing
    black = [-mean / std for mean, std in zip(about["mean"], about["std"], strict=True)]
    start = torch.tensor(black)[None, :, None, None].expand_as(case.values)
    return integrated(predictor, network, case, start)


def smooth(predictor: Predictor, network: Any, case: Case) -> np.ndarray:
    torch.manual_seed(0)
    attr = captum()
    noise = _NOISE * float(case.values.max() - case.values.min())
    method = attr.NoiseTunnel(attr.IntegratedGradients(case.forward(predictor, network)))
    made = method.attribute(
        case.values, nt_samples=_SMOOTH, stdevs=noise, baselines=case.baseline, n_steps=16
    )
    return case.by_part(made)


def gradient_times_input(predictor: Predictor, network: Any, case: Case) -> np.ndarray:
    forward, attr = case.forward(predictor, network), captum()
    if case.layer is not None:
        method = attr.LayerGradientXActivation(forward, network.body.get_input_embeddings())
        return case.by_part(method.attribute(case.values).sum(2))
    return case.by_part(attr.InputXGradient(forward).attribute(case.values.clone().requires_grad_()))


def occlusion(predictor: Predictor, network: Any, case: Case) -> np.ndarray:
    """Each part in turn becomes the baseline."""
    kept = (case.mask < 0).expand(case.values.shape)
    start = torch.where(kept, case.values, case.baseline)
    with torch.no_grad():
        made = (
            captum()
            .FeatureAblation(case.forward(predictor, network))
            .attribute(case.values, start, feature_mask=case.mask + 1, perturbations_per_eval=64)
        )
    mask = case.mask.expand(made.shape).flatten()
    found = np.zeros(case.parts)
    found[mask[mask >= 0].numpy()] = made.flatten()[mask >= 0].double().numpy()
    return found


def input_alone(predictor: Predictor, network: Any, case: Case) -> np.ndarray:  # noqa: ARG001
    """No network: how far each part is from the baseline; of a text how many tokens a word has."""
    return case.by_part(
        (case.values != case.baseline).float() if case.layer is not None else case.values.abs()
    )


METHODS: dict[str, Method] = {
    "integrated gradients": integrated,
    "the same from black": from_black,
    "the same, SmoothGrad": smooth,
    "gradient × input": gradient_times_input,
    "occlusion": occlusion,
    "the input alone": input_alone,
}


def curves(predictor: Predictor, case: Case, order: np.ndarray) -> tuple[float, float]:
    """Deletion and insertion, while the parts go or come in this order."""
    forward = case.forward(predictor, predictor.network)
    place = torch.empty(case.parts, dtype=torch.long)
    place[torch.from_numpy(order.copy())] = torch.arange(case.parts)
    rank = torch.where(case.mask < 0, case.parts, place[case.mask.clamp(min=0)]).expand(case.values.shape)
    gone = [round(share * case.parts) for share in np.linspace(0, 1, _POINTS)]
    both = []
    with torch.no_grad():
        for inside, outside in ((case.baseline, case.values), (case.values, case.baseline)):
            kept = torch.where(case.mask < 0, case.values, outside)
            made = torch.cat([torch.where(rank < count, inside, kept) for count in gone])
            both.append(float(forward(made).sigmoid().mean()))
    return both[0], both[1]


def figures(predictor: Predictor, rows: pa.Table) -> dict[str, Any]:
    explainer, found = Explainer.of(predictor), cases(predictor, rows)
    contrasts = predictor.task.contrasts(predictor.predict(rows))
    networks = [randomise(predictor.network, *one) for one in RANDOM]
    told: dict[str, Any] = {"rows": len(rows), "completeness": {}, "methods": {}}
    for steps in STEPS:
        began = time.perf_counter()
        made = Explainer.of(predictor, steps).explain(rows, contrasts)
        told["completeness"][steps] = {
            "missed": round(completeness_error(made), 4),
            "ms_a_row": round(1000 * (time.perf_counter() - began) / len(rows), 2),
        }
    shipped = values_of(explainer.explain(rows, contrasts))
    for name, method in METHODS.items():
        if (method is from_black and explainer.kind != "pixels") or (method is smooth and found[0].layer):
            continue
        began = time.perf_counter()
        trained = [method(predictor, predictor.network, case) for case in found]
        seconds = time.perf_counter() - began
        if method is integrated:  # what is measured here is what the report shows
            for one, other in zip(trained, shipped, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3)
        tested = Randomised.of(
            trained, *([method(predictor, network, case) for case in found] for network in networks)
        )
        told["methods"][name] = {
            "random_head": tested.head,
            "random_weights": tested.whole,
            **_curves(predictor, found, [np.argsort(-one, kind="stable") for one in trained]),
            "ms_a_row": round(1000 * seconds / len(rows), 2),
        }
    draw = np.random.default_rng(0)
    told["methods"]["random order"] = _curves(
        predictor, found, [draw.permutation(one.parts) for one in found]
    )
    return told


def _curves(predictor: Predictor, found: list[Case], orders: list[np.ndarray]) -> dict[str, float]:
    made = [
        curves(predictor, case, order) for case, order in zip(found, orders, strict=True) if case.parts > 1
    ]
    deletion, insertion = np.mean(made, axis=0)
    return {"deletion": round(float(deletion), 3), "insertion": round(float(insertion), 3)}


def trained(into: Path, recipe: str | None, overrides: list[str]) -> tuple[Predictor, Dataset]:
    if not (into / "model").exists():
        into.mkdir(parents=True, exist_ok=True)
        settled = resolve(recipe, overrides, ROOT, into)
        for step in (ingest, preprocess, train):
            run_step(step, settled, into)
    return Predictor.load(into / "model"), Dataset(into / "dataset")


def explained(into: Path, recipe: str | None, overrides: list[str]) -> dict[str, Any]:
    predictor, data = trained(into, recipe, overrides)
    test = data.split("test")
    places = np.linspace(0, len(test) - 1, min(ROWS, len(test))).round().astype(int)
    return figures(predictor, test.take(pa.array(places)))


def transfer(into: Path) -> dict[str, Any]:
    trained(into / "backbone", "digits-backbone", [])
    start = [f"backbone.weights={into / 'backbone' / 'model'}"]
    return explained(into / "transfer", "digits-resnet18", start)


def spoken(into: Path) -> dict[str, Any]:
    if not (into / "fsdd").exists():
        with tarfile.open(FSDD) as archive:
            archive.extractall(into / "fsdd", filter="data")
    recordings = next((into / "fsdd").rglob("recordings"))
    return explained(into / "spoken", "spoken-digit-classes", [f"source.path={recordings}"])


def flipped(into: Path, share: float = 0.05, seed: int = 0) -> dict[str, Any]:
    """Of test rows that get another label, and of the model's own mistakes: whom the nearest rows support."""
    predictor, data = trained(into / "sentiment", None, [])
    train_rows, test = data.split("train"), data.split("test")
    truth = np.array([row[0] for row in test["labels"].to_pylist()])
    answer = np.array(predictor.predict(test)["label"].to_pylist())
    draw = np.random.default_rng(seed)
    chosen = draw.choice(len(truth), round(share * len(truth)), replace=False)
    given = truth.copy()
    for row in chosen.tolist():
        given[row] = draw.choice([name for name in predictor.labels if name != truth[row]])
    _, near = nearest_rows(predictor.features(test), predictor.features(train_rows), 3)
    labels = np.array([row[0] for row in train_rows["labels"].to_pylist()])[near]
    wrong = answer != given
    planted = np.isin(np.arange(len(truth)), chosen)
    return {
        name: {
            "mistakes": int(rows.sum()),
            "all three have the answer": int((labels[rows] == answer[rows, None]).all(1).sum()),
            "all three have the given label": int((labels[rows] == given[rows, None]).all(1).sum()),
        }
        for name, rows in (("planted", wrong & planted), ("own", wrong & ~planted))
    }


WORK: dict[str, Callable[[Path], dict[str, Any]]] = {
    "sentiment": lambda into: explained(into / "sentiment", None, []),
    "digits": lambda into: explained(into / "digits", "digits-mlp", []),
    "small": lambda into: explained(into / "small", "digits-resnet18", ["training.strategy=scratch"]),
    "transfer": transfer,
    "spoken": spoken,
    "flipped": flipped,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--into", type=Path)
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in asked.names or list(WORK):
        with tempfile.TemporaryDirectory() as scratch:
            told = WORK[name](asked.into or Path(scratch))
        kept[name] = {"machine": machine(), "seed": 0, **told}
        print(name, json.dumps(told, indent=1), flush=True)
        RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
