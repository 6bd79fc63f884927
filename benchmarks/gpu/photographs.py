"""Photographs from their JPEG files: how fast they are decoded, and how fast a network trains on them.

    python -m benchmarks.gpu.photographs --out photographs.json     # about a minute
    python -m benchmarks.gpu.photographs --tiny                     # on a CPU: tests the command

The files are synthetic: 256 to 300 pixels, quality 90, about 33 kB each, scaled to 224 pixels.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks.gpu._measure import device, machine, synchronise

CLASSES = 10
_THREADS = (1, 4, 8, 16)
_PROCESSES = (8, 12, 16)


class Size(NamedTuple):
    """`files` of them, `pixels` a side when decoded, `batch` rows a step, `networks` with their epochs."""

    files: int
    pixels: int
    batch: int
    networks: dict[str, int]


WHOLE = Size(4000, 224, 128, {"resnet18": 4, "resnet50": 3})
TINY = Size(40, 32, 8, {"resnet18": 2})


def photograph(number: int) -> bytes:
    """Large areas, texture, noise, and stripes whose direction is the class `number % CLASSES`."""
    draws = np.random.default_rng(number)
    width, height = (int(side) for side in draws.integers(256, 301, 2))
    layers = [
        share * np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), float)
        for share, coarse in (
            (0.6, draws.integers(0, 256, (6, 6, 3), dtype=np.uint8)),
            (0.25, draws.integers(0, 256, (64, 64, 3), dtype=np.uint8)),
        )
    ]
    down, right = np.mgrid[:height, :width]
    angle = np.pi * (number % CLASSES) / CLASSES
    stripes = 14 * np.sin((right * np.cos(angle) + down * np.sin(angle)) / 4 + draws.uniform(0, 6.28))
    pixels = sum(layers) + (stripes + draws.normal(0, 6, (height, width)))[..., None]
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def decoding(encoded: Sequence[bytes], size: Size) -> Iterator[tuple[str, float | bool]]:
    """Files a second, by how they are decoded."""
    from retrainer.tasks._decode import decode_image, decode_images
    from retrainer.tasks._decode_workers import DecodeWorkers

    shape = (size.pixels, size.pixels)
    few = encoded[: len(encoded) // 8]
    for threads in _THREADS:
        some = few if threads == 1 else encoded[: len(encoded) // 2]
        with ThreadPoolExecutor(threads) as pool:
            work = lambda: list(pool.map(lambda data: decode_image(data, shape, 3, ""), some))  # noqa: B023, E731
            yield f"{threads} threads", len(some) / seconds(work)
    here = decode_images(few, shape, 3, [""] * len(few))
    pixels: np.ndarray = np.empty((len(encoded), 3, *shape), np.uint8)
    for processes in _PROCESSES:
        workers = DecodeWorkers(processes)
        workers.decode(encoded[:processes], pixels[:processes])  # they begin
        yield f"{processes} processes", len(encoded) / seconds(lambda: workers.decode(encoded, pixels))  # noqa: B023
        workers.close()
    yield "processes give the same pixels", bool(np.array_equal(pixels[: len(few)], here))
    if device().type == "cuda":
        yield "nvJPEG, not scaled", len(encoded) / seconds(lambda: _on_gpu(encoded))


def _on_gpu(encoded: Sequence[bytes]) -> None:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    for start in range(0, len(encoded), 256):
        some = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in encoded[start : start + 256]]
        decode_jpeg(some, mode=ImageReadMode.RGB, device="cuda")
    synchronise()


def seconds(work: Callable[[], object]) -> float:
    """The better of two."""
    found = []
    for _ in range(2):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def training(table: pa.Table, size: Size, compile: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows a second of each epoch, by where the pixels are; the first epoch begins cold."""
    from retrainer.tasks import _decode, _pixels

    places = {
        "decoded once, on the device": (True, 1.0, 0),
        "decoded once, in host memory": (True, 0.0, 0),
        "decoded each epoch, by processes": (False, 0.0, 0),
        "decoded each epoch, by threads": (False, 0.0, len(table) + 1),
    }
    for network, epochs in size.networks.items():
        for place, (fits, share, fewest) in places.items():
            _pixels.fits = lambda _, fits=fits: fits  # type: ignore[misc]
            _pixels._RESIDENT_SHARE = share
            _decode._LARGE_IMAGES_WORTH_PROCESSES = fewest
            yield f"{network}, {place}", _trained(table, size, network, epochs, compile)


def _trained(table: pa.Table, size: Size, name: str, epochs: int, compile: bool) -> dict[str, Any]:
    from retrainer.models import torchvision
    from retrainer.models._network import Network
    from retrainer.settings import Compute, Task, Training
    from retrainer.tasks import image_classification
    from retrainer.training.compute import resolve_compute
    from retrainer.training.learner import Learner, Splits
    from retrainer.training.loop import fit

    options = {"kind": "image_classification", "size": size.pixels, "flip": True}
    task = image_classification.make(Task.parse(options, "task"), tuple(str(n) for n in range(CLASSES)))
    body = torchvision.build(
        torchvision.Options(name=name, stem="own"), task.input_spec(), None, 0, fresh=True
    )
    plan = {"strategy": "scratch", "epochs": epochs, "batch_size": size.batch, "keep": "last"}
    learner = Learner(
        Network(body, task.head(body, Training.parse(plan, "training"))),
        task,
        Training.parse(plan, "training"),
        resolve_compute(Compute.parse({"compile": compile}, "compute")),
    )
    began = time.perf_counter()
    rows = task.encode(table, body.preprocessing, {}), task.targets(table)
    encoded = time.perf_counter() - began
    rates: list[float] = []
    fit(learner, Splits(rows), lambda _, figures: rates.append(figures["rows_per_second"]))
    return {"encode_seconds": encoded, "rows_per_second": rates}


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m benchmarks.gpu.photographs")
    words.add_argument("--tiny", action="store_true")
    words.add_argument("--compile", action="store_true", help="of the networks: compute.compile")
    words.add_argument("--out", type=Path)
    chosen = words.parse_args()
    size = TINY if chosen.tiny else WHOLE
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        encoded = list(pool.map(photograph, range(size.files), chunksize=25))
    found: dict[str, Any] = {"machine": machine(), "files": len(encoded), "decoding": {}, "training": {}}
    found["mean_bytes"] = sum(map(len, encoded)) / len(encoded)
    labels = [[str(number % CLASSES)] for number in range(len(encoded))]
    table = pa.table({"image": [{"bytes": data, "path": None} for data in encoded], "labels": labels})
    for part, figures in (
        ("decoding", decoding(encoded, size)),
        ("training", training(table, size, chosen.compile)),
    ):
        for name, value in figures:
            found[part][name] = value
            print(name, json.dumps(value), flush=True)
            if chosen.out:
                chosen.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
