"""`make predict` beside `transformers.pipeline` and a plain timm loop: the same rows, weights and answers.

    python -m benchmarks.predict [texts] [images] [--rows 100000] [--images 20000] [--peers-on-a-tenth]

Every contender is a process of its own that reads the file or folder and writes a CSV file; its seconds are
those of the whole process, imports included. *accuracy* is the share of its answers that are ours, and a
confidence that is further from ours than rounding ends the run. Ours runs on a tenth of the rows too: memory
that does not grow with the input is the same on both.

All have as many threads, tokenizers too. The pipeline computes without gradients by itself. It is run as it
comes (one row at a time, on a part of the rows), with batches in the file's order, and with batches of rows
that were sorted by length beforehand, for which all of them are held in memory. The loop over timm's network
runs in torch.inference_mode, in either layout, and with processes that decode beside it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._runs import ROOT, machine
from benchmarks.speed._rows import make_rows, unpack_cifar
from benchmarks.speed._table import table
from benchmarks.speed._texts import (
    BANKING,
    DATASET,
    MINILM,
    prepare_banking,
    read_settings,
    write_settings,
)
from benchmarks.speed.race import Contender, Figures, Job, Run, race, since_start

RESULTS = ROOT / "benchmarks" / "results" / "predict.json"
TEXTS, TENTH, MODEL = "texts.csv", "tenth.csv", "model"
IMAGES, FEW_IMAGES = "images", "tenth"
OURS, FEW = "ours.csv", "few.csv"
SHIPPED_ROWS = 2000
_HERE = "benchmarks.predict"
_SIDE, _CLASSES = 32, 10


def prepare_texts(work: Path, rows: int) -> None:
    """Banking77's test questions, again and again with a number behind them, and a head trained for them."""
    from retrainer.services import weights
    from retrainer.training.inputs import Inputs
    from retrainer.training.train import train_model

    prepare_banking(work, 2000, 500)  # what the answers are does not matter
    write_settings(work, MINILM, strategy="frozen", epochs=10, batch_size=64, learning_rate=1e-2)
    settings = read_settings(work, 0)
    train_model(Inputs(work / DATASET, settings, weights.fetch(settings.backbone)), work / MODEL)
    with (BANKING / "test.csv").open(newline="", encoding="utf-8") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    for name, count in ((TEXTS, rows), (TENTH, rows // 10)):
        numbered = ({"id": n, "text": f"{texts[n % len(texts)]} {n}"} for n in range(count))
        _write(work / name, numbered, ["id", "text"])


def prepare_images(work: Path, images: int) -> None:
    """CIFAR-10's own JPEG files, and a small ResNet-18 of timm's, trained for a moment."""
    from retrainer.training.compute import resolve_compute
    from retrainer.training.inputs import Inputs, Settings
    from retrainer.training.train import train_model

    unpack_cifar(work / IMAGES, images // _CLASSES)
    unpack_cifar(work / FEW_IMAGES, images // _CLASSES // 10)
    sections: dict[str, dict[str, Any]] = {
        "task": {"kind": "image_classification", "size": _SIDE},
        "backbone": {"family": "timm", "name": "resnet18"},
        "training": {"strategy": "scratch", "epochs": 1, "batch_size": 64, "calibrate": False},
        "compute": {"device": "cpu", "dtype": "float32"},
    }
    make_rows(work, work / FEW_IMAGES, images // _CLASSES // 20, 10, sections["task"])
    settings = Settings.parse(sections)
    settings = settings._replace(compute=resolve_compute(settings.compute))
    train_model(Inputs(work / DATASET, settings), work / MODEL)


def ours(work: Path, seed: int, given: str, output: str) -> Figures:  # noqa: ARG001 (nothing is drawn)
    from retrainer.champion import load_champion

    load_champion(model=work / MODEL, root=work).predict_file(work / given, work / output)
    about = json.loads((work / f"{output}.json").read_text())
    return {"samples": about["predicted"], "seconds": since_start()}


def pipeline(
    work: Path,
    seed: int,  # noqa: ARG001
    batch: int,
    rows: int = 0,
    by_length: bool = False,
    beside: str = OURS,
) -> Figures:
    """`transformers.pipeline("text-classification")` over our network, fed from the file row by row."""
    from transformers import logging
    from transformers import pipeline as hugging_face

    logging.set_verbosity(logging.CRITICAL)  # it would list all classes of its own that ours is none of
    model, tokenizer = _wrapped(work / MODEL)
    classify = hugging_face("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    texts: Iterable[str] = _texts(work / TEXTS, rows)
    order: list[int] = []
    if by_length:
        held = list(texts)
        order = sorted(range(len(held)), key=lambda row: -len(held[row]))
        texts = (held[row] for row in order)
    found = classify(texts, batch_size=batch, truncation=True, max_length=128)
    answers: Iterator[dict[str, Any]] = (
        {"prediction": one["label"], "confidence": one["score"]} for one in found
    )
    if by_length:
        answers = iter([answer for _, answer in sorted(zip(order, answers, strict=True), key=_first)])
    count = _write(work / "peer.csv", answers, ["prediction", "confidence"])
    return {"samples": count, "seconds": since_start(), "accuracy": _agreement(work, rows, beside)}


def _first(pair: tuple[int, Any]) -> int:
    return pair[0]


def timm_loop(work: Path, seed: int, batch: int, workers: int, layout: str = "") -> Figures:  # noqa: ARG001
    """timm's network and transform, torchvision's folder, PyTorch's loader."""
    import timm
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    from retrainer.predict import Predictor

    mine = Predictor.load(work / MODEL)
    known = mine.network.description.preprocessing
    network = timm.create_model("resnet18", num_classes=_CLASSES)
    head = {f"fc.{name}": value for name, value in mine.network.head.state_dict().items()}
    network.load_state_dict(mine.network.body.state_dict() | head)
    scale = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(known["mean"], known["std"])]
    folder = ImageFolder(str(work / IMAGES), v2.Compose(scale))
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    network = network.eval().to(memory_format=form)

    def answers() -> Iterator[dict[str, Any]]:
        for pixels, _ in DataLoader(folder, batch, num_workers=workers):
            best = network(pixels.to(memory_format=form)).softmax(dim=1).max(dim=1)
            for share, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                yield {"prediction": mine.labels[place], "confidence": share}

    with torch.inference_mode():
        count = _write(work / "peer.csv", answers(), ["prediction", "confidence"])
    return {"samples": count, "seconds": since_start(), "accuracy": _agreement(work, 0)}


def _wrapped(directory: Path) -> tuple[Any, Any]:
    """Our network as a model of transformers' own kind, and its tokenizer."""
    from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast
    from transformers.modeling_outputs import SequenceClassifierOutput

    from retrainer.predict import Predictor

    mine = Predictor.load(directory)

    class Wrapped(PreTrainedModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.network = mine.network

        def forward(self, input_ids: Any, attention_mask: Any, **_: Any) -> Any:
            logits = self.network({"input_ids": input_ids, "attention_mask": attention_mask})
            return SequenceClassifierOutput(logits=logits / mine.temperature)

    shape = dict(mine.network.description.config["model"])
    labels = {"id2label": dict(enumerate(mine.labels)), "num_labels": len(mine.labels)}
    config = AutoConfig.for_model(shape.pop("model_type"), **shape | labels)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(directory / "tokenizer.json"), pad_token="[PAD]", model_max_length=128
    )
    return Wrapped(config).eval(), tokenizer


def _texts(file: Path, rows: int) -> Iterator[str]:
    with file.open(newline="", encoding="utf-8") as stream:
        for number, row in enumerate(csv.DictReader(stream)):
            if rows and number == rows:
                return
            yield row["text"]


def _write(file: Path, rows: Iterable[dict[str, Any]], columns: list[str]) -> int:
    count = 0
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


def _agreement(work: Path, rows: int, beside: str = OURS) -> float:
    """The share of equal predictions; raises where a confidence is further from ours than rounding."""
    same = count = 0
    with (work / beside).open(newline="") as one, (work / "peer.csv").open(newline="") as other:
        for a, b in zip(csv.DictReader(one), csv.DictReader(other), strict=not rows):
            apart = abs(float(a["confidence"]) - float(b["confidence"]))
            assert apart < 1e-3, f"a confidence is {apart:.2g} from ours"
            same += a["prediction"] == b["prediction"]
            count += 1
    return same / count


def jobs(rows: int, images: int, peers_on_a_tenth: bool = False) -> list[Job]:
    """`peers_on_a_tenth`: the pipeline predicts that part of the texts alone, and ours all of them last."""
    plain = "timm, plain loop"
    layout = {"batch": 64, "workers": 0, "layout": "channels_last"}
    whole = Contender("ours", f"{_HERE}:ours", {"given": TEXTS, "output": OURS})
    tenth = Contender("ours, a tenth", f"{_HERE}:ours", {"given": TENTH, "output": FEW})
    peers = _pipelines(rows // 10 if peers_on_a_tenth else rows, FEW if peers_on_a_tenth else OURS)
    return [
        Job(
            "texts",
            f"{rows:,} short texts from and to CSV, MiniLM, 77 classes",
            partial(prepare_texts, rows=rows),
            [tenth, *peers, whole] if peers_on_a_tenth else [whole, tenth, *peers],
        ),
        Job(
            "images",
            f"{images:,} JPEG files of {_SIDE} pixels to CSV, ResNet-18",
            partial(prepare_images, images=images),
            [
                Contender("ours", f"{_HERE}:ours", {"given": IMAGES, "output": OURS}),
                Contender("ours, a tenth", f"{_HERE}:ours", {"given": FEW_IMAGES, "output": FEW}),
                Contender(plain, f"{_HERE}:timm_loop", {"batch": 64, "workers": 0}),
                Contender(f"{plain}, channels_last", f"{_HERE}:timm_loop", layout),
                Contender(f"{plain}, 2 workers", f"{_HERE}:timm_loop", {"batch": 64, "workers": 2}),
            ],
        ),
    ]


def _pipelines(rows: int, beside: str) -> list[Contender]:
    call, name = f"{_HERE}:pipeline", "transformers.pipeline"
    given = {"batch": 64, "rows": rows, "beside": beside}
    few = min(rows, SHIPPED_ROWS)
    return [
        Contender(f"{name}, batches of 64", call, given),
        Contender(f"{name}, batches of 64 by length", call, given | {"by_length": True}),
        Contender(f"{name}, one at a time, {few:,} rows", call, given | {"batch": 1, "rows": few}),
    ]


def _costs(runs: list[Run]) -> list[str]:
    """Rows a processor second, which other work on the machine hardly changes; and memory.

    A contender is compared with ours on the same rows, where there is such a run, else on all.
    """
    ours, tenth = (next(r for r in runs if r["name"] == name) for name in ("ours", "ours, a tenth"))
    lines = []
    for run in runs:
        beside = tenth if run["samples"] == tenth["samples"] else ours
        rate, its = (one["samples"] / one["cpu"] for one in (run, beside))
        compared = "" if run in (ours, tenth) else f"; ours is {its / rate:.2f} times as fast"
        lines.append(f"{run['name']}: {run['samples']:,} rows, {rate:,.1f} a processor second{compared}")
    memory = (
        f"peak memory of ours: {tenth['peak_mb']:,.0f} MB on {tenth['samples']:,} rows,"
        f" {ours['peak_mb']:,.0f} MB on {ours['samples']:,}"
    )
    return [*lines, memory]


def _keep(job: str, threads: int, runs: list[Run]) -> None:
    """In the place of the job's last figures; another job's stay."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    found = {"machine": machine(), "threads": threads, "runs": runs}
    RESULTS.write_text(json.dumps(kept | {job: found}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.predict")
    parser.add_argument("only", nargs="*", help="texts, images; both without a word")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--peers-on-a-tenth", action="store_true", help="of the texts: the rates say as much")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(given.threads))
    for job in jobs(given.rows, given.images, given.peers_on_a_tenth):
        if not given.only or job.name in given.only:
            runs = race(job, only_round=True, note=partial(_keep, job.name, given.threads))
            print("\n".join([table(job, runs), *_costs(runs), ""]), flush=True)


if __name__ == "__main__":
    main()
