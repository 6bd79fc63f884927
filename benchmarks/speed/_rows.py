"""The image jobs' rows, made once and the same for every contender.

work/dataset          what `ingest` and `preprocess` made of them: ours trains on it
work/files/<split>/   the very bytes of those rows, a folder a class: the peers' `ImageFolder`
work/initial-<seed>.safetensors   the whole network's first values
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

from benchmarks._runs import ROOT
from benchmarks.speed.race import SEEDS

CIFAR = ROOT.parent / "shared" / "data" / "cifar10.tar.xz"
SPLITS = ("train", "validation")
Options = dict[str, Any]
Sections = dict[str, Options]


def unpack_cifar(into: Path, a_class: int, side: int = 0) -> None:
    """The first rows `a_class` of CIFAR-10's train/, as they are or scaled up to `side` pixels (JPEG)."""
    from PIL import Image

    if not CIFAR.is_file():
        raise SystemExit(f"this benchmark reads CIFAR-10 from {CIFAR.name}, which is not in {CIFAR.parent}")
    with tarfile.open(CIFAR) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if len(parts) != 3 or parts[0] != "train" or int(Path(parts[2]).stem) >= a_class:
                continue
            file = archive.extractfile(member)
            assert file is not None
            content, to = file.read(), into / parts[1] / parts[2]
            if side:
                large = Image.open(io.BytesIO(content)).resize((side, side), Image.Resampling.BICUBIC)
                packed = io.BytesIO()
                large.save(packed, "JPEG", quality=90)
                content = packed.getvalue()
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(content)


def make_rows(work: Path, source: Path | str, train: int, validation: int, task: Options) -> None:
    """`dataset` by the product's own steps, so many rows a class in each split, and `files` with the same.

    `source` is a directory, or the name of a built-in source; it needs some 1.5 times as many rows.
    """
    from components.ingest import ingest
    from components.preprocess import preprocess
    from retrainer.formats.dataset import Dataset
    from retrainer.settings import Checks, Source, Split, Task

    where = {"kind": source} if isinstance(source, str) else {"path": str(source)}
    ingest(work / "raw", None, Source.parse(where, "source"))
    split = {"train_per_class": train, "validation_per_class": validation, "test": 0.1, "validation": 0.25}
    settled = Split.parse(split, "split"), Checks.parse({}, "checks"), Task.parse(task, "task")
    preprocess(work / "raw", work / "dataset", work / "findings", None, *settled)
    data = Dataset(work / "dataset")
    for name in SPLITS:
        table = data.split(name, ["image", "labels"])
        images, labels = (table[column].to_pylist() for column in ("image", "labels"))
        for row, (image, (label,)) in enumerate(zip(images, labels, strict=True)):
            png = image["bytes"].startswith(b"\x89PNG")
            to = work / "files" / name / label / f"{row:05}.{'png' if png else 'jpg'}"
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(image["bytes"])


def draw_weights(work: Path, sections: Sections) -> None:
    """For every seed the body and the head that ours draws from it."""
    from safetensors.torch import save_file

    from retrainer import extend
    from retrainer.formats.dataset import Dataset
    from retrainer.training.inputs import Settings
    from retrainer.training.train import build_network

    task, backbone, training, _ = Settings.parse(sections)
    labels = Dataset(work / "dataset").labels
    job = extend.load("tasks", task.kind, "task.kind").make(task, labels)
    for seed in range(SEEDS):
        fresh = training.model_copy(update={"strategy": "scratch", "seed": seed})
        network = build_network(job, backbone, fresh, None)
        head = {f"fc.{name}": tensor for name, tensor in network.head.state_dict().items()}
        save_file(network.body.state_dict() | head, initial(work, seed))


def initial(work: Path, seed: int) -> Path:
    """The file of the first values."""
    return work / f"initial-{seed}.safetensors"


def count(work: Path, split: str) -> int:
    return sum(1 for _ in (work / "files" / split).glob("*/*"))
