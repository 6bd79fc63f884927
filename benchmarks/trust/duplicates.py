"""The search for near-duplicates against a published list, against two libraries and against brute force.

    python -m benchmarks.trust.duplicates --published duplicates_cifar10.csv --train-labels train.npy \
        --test-labels test.npy [--images cifar10.tar.xz] [--texts banking77] [--look FOLDER]

The images are CIFAR-10 as JPEG, `train/<class>/NNNN.jpg`. NNNN counts within the class in the original order,
so that the labels in original order say which image of the data set a file is:

    --published      TestID,TrainID,Distance,Judgment: near-duplicates that people confirmed (ciFAIR; Barz and
                     Denzler, 2020; meta/ of its repository, cvjena/cifair)
    --train-labels   [50000]: `clean_label` of CIFAR-10N (UCSC-REAL/cifar-10-100n) saved with numpy
    --test-labels    [10000]: original_test_labels/ of cleanlab/label-errors

The texts are train.csv and test.csv of Banking77. `--look` draws pairs, to be judged by eye. Results go to
benchmarks/results/trust_duplicates.json.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from benchmarks._runs import ROOT, machine
from retrainer.data.similar import similar_images, similar_texts, text_similarity
from retrainer.formats.dataset import IMAGE
from retrainer.settings import Checks

RESULTS = ROOT / "benchmarks" / "results" / "trust_duplicates.json"
SHARED = ROOT.parent / "shared" / "data"
SEED = 2026
# What preprocessing takes by default.
LEAST: float = Checks.model_fields["text_similarity"].default
BITS: int = Checks.model_fields["image_distance"].default
# Texts whose every pair is measured.
SAMPLE = 2500
DRAWN = 40
Pair = tuple[int, int]
Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    began = time.perf_counter()
    result = work()
    return result, round(time.perf_counter() - began, 1)


def cifar10(archive: Path, labels: dict[str, np.ndarray]) -> tuple[list[bytes], int]:
    """All images in original order, the training images first, and how many those are."""
    with tarfile.open(archive) as packed:
        files = {
            str(Path(member.name)): member_file.read()
            for member in packed
            if (member_file := packed.extractfile(member)) is not None
        }
    classes = sorted({Path(name).parent.name for name in files})
    images = []
    for split in ("train", "test"):
        seen: Counter[str] = Counter()
        for label in labels[split]:
            name = classes[label]
            images.append(files[f"{split}/{name}/{seen[name]:04d}.jpg"])
            seen[name] += 1
    return images, len(labels["train"])


def published(path: Path, train: int) -> dict[Pair, int]:
    """(training row, test row) → the people's judgement; test rows follow the training rows."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {(int(row["TrainID"]), train + int(row["TestID"])): int(row["Judgment"]) for row in rows}


def phash_pairs(images: list[bytes], most_bits: int) -> set[Pair]:
    """Pairs within the distance by imagehash.phash; all compared with all."""
    import imagehash
    from PIL import Image

    bits: list[np.ndarray] = [
        np.ravel(imagehash.phash(Image.open(io.BytesIO(image))).hash) for image in images
    ]
    hashes = np.packbits(np.array(bits), axis=1).view(np.uint64)[:, 0]
    found: set[Pair] = set()
    for row, value in enumerate(hashes):
        near = np.flatnonzero(np.bitwise_count(hashes[row + 1 :] ^ value) <= most_bits)
        found.update((row, row + 1 + int(other)) for other in near)
    return found


def against_list(pairs: set[Pair], listed: dict[Pair, int], train: int) -> dict[str, Any]:
    """Only pairs between training and test rows can be on the list."""
    across = {pair for pair in pairs if pair[0] < train <= pair[1]}
    hit = across & listed.keys()
    tests = {other for _, other in across}
    listed_tests = {other for _, other in listed}
    near = [pair for pair, judgement in listed.items() if judgement < 2]
    return {
        "pairs": len(pairs),
        "between train and test": len(across),
        "test images with one": len(tests),
        "listed": len(hit),
        "recall of the list": len(hit) / len(listed),
        "recall of its test images": len(tests & listed_tests) / len(listed_tests),
        "recall of its near-duplicates": sum(pair in hit for pair in near) / len(near),
        "precision by the list": len(hit) / max(1, len(across)),
        "test images not listed": len(tests - listed_tests),
    }


def image_table(options: argparse.Namespace) -> list[dict[str, Any]]:
    labels = {"train": np.load(options.train_labels), "test": np.load(options.test_labels)}
    images, train = cifar10(options.images, labels)
    listed = published(options.published, train)
    rows = [{"bytes": image, "path": None} for image in images]
    column = pa.chunked_array([pa.array(rows, IMAGE)])
    equal: dict[bytes, list[int]] = {}
    for row, image in enumerate(images):
        equal.setdefault(image, []).append(row)
    exact = {(group[0], row) for group in equal.values() for row in group[1:]}
    table = [{"search": "equal bytes", **against_list(exact, listed, train)}]
    for bits in (BITS, 8):
        found, seconds = timed(lambda bits=bits: similar_images(column, bits))  # type: ignore[misc]
        pairs = {(one, other) for one, other in found.tolist()}
        table.append({"search": "own", "bits": bits, "s": seconds, **against_list(pairs, listed, train)})
        if options.look and bits == BITS:
            draw(options.look, images, pairs, listed, train)
    hashed, seconds = timed(lambda: phash_pairs(images, BITS))
    figures = against_list(hashed, listed, train)
    return [*table, {"search": "imagehash.phash", "bits": BITS, "s": seconds, **figures}]


def draw(folder: Path, images: list[bytes], pairs: set[Pair], listed: dict[Pair, int], train: int) -> None:
    """Contact sheets: listed pairs, found across but not listed, found within the training rows."""
    across = {pair for pair in pairs if pair[0] < train <= pair[1]}
    sheets = {"listed": set(listed), "unlisted": across - listed.keys(), "within": pairs - across}
    folder.mkdir(parents=True, exist_ok=True)
    for name, chosen in sheets.items():
        shown = random.Random(SEED).sample(sorted(chosen), min(DRAWN, len(chosen)))
        contact_sheet([(images[one], images[other]) for one, other in shown]).save(folder / f"{name}.png")


def contact_sheet(pairs: list[tuple[bytes, bytes]]) -> Any:
    from PIL import Image

    sheet = Image.new("RGB", (8 * 150, 80 * -(-len(pairs) // 8)), (255, 255, 255))
    for at, pair in enumerate(pairs):
        for place, image in enumerate(pair):
            small = Image.open(io.BytesIO(image)).resize((70, 70), Image.Resampling.BICUBIC)
            sheet.paste(small, (at % 8 * 150 + 70 * place, at // 8 * 80))
    return sheet


def banking77(folder: Path) -> list[str]:
    texts = []
    for name in ("train.csv", "test.csv"):
        with (folder / name).open(newline="", encoding="utf-8") as file:
            texts += [row["text"] for row in csv.DictReader(file)]
    return texts


def datasketch_pairs(texts: list[str], least: float) -> set[Pair]:
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

    from retrainer.data.similar.texts import _shingles, plain_words

    index = MinHashLSH(threshold=least, num_perm=128)
    found: set[Pair] = set()
    for row, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([shingle.encode() for shingle in sorted(_shingles(plain_words(text)))])
        found.update((other, row) for other in index.query(sketch))
        index.insert(row, sketch)
    return found


def text_table(folder: Path, least: float) -> list[dict[str, Any]]:
    """Pairs and seconds on all texts; recall and precision where every pair of a sample was measured."""
    from retrainer.data.similar.texts import _jaccard, _shingles, plain_words

    texts = banking77(folder)
    sample = random.Random(SEED).sample(texts, SAMPLE)
    sets = [_shingles(plain_words(text)) for text in sample]
    near = {
        (one, other)
        for one in range(SAMPLE)
        for other in range(one + 1, SAMPLE)
        if _jaccard(sets[one], sets[other]) >= least
    }
    searches: dict[str, Callable[[list[str]], set[Pair]]] = {
        "own": lambda some: {(one, other) for one, other in similar_texts(some, least).tolist()},
        "datasketch": lambda some: datasketch_pairs(some, least),
    }
    table = []
    for name, search in searches.items():
        found, seconds = timed(lambda search=search: search(texts))  # type: ignore[misc]
        right = sum(text_similarity(texts[one], texts[other]) >= least for one, other in found)
        of_sample = search(sample)
        table.append(
            {
                "search": name,
                "least": least,
                "s": seconds,
                "pairs": len(found),
                "truly so near": right,
                "pairs of the sample": len(near),
                "recall": len(of_sample & near) / len(near),
                "precision": len(of_sample & near) / max(1, len(of_sample)),
            }
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in ("published", "train-labels", "test-labels"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--images", type=Path, default=SHARED / "cifar10.tar.xz")
    parser.add_argument("--texts", type=Path, default=SHARED / "banking77")
    parser.add_argument("--look", type=Path, help="a folder for sheets of pairs")
    options = parser.parse_args()
    results = {
        "texts": [row for least in (LEAST, 0.6) for row in text_table(options.texts, least)],
        "images": image_table(options),
        "seed": SEED,
        "machine": machine(),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({name: results[name] for name in ("texts", "images")}, indent=1))


if __name__ == "__main__":
    main()
