"""Leaks planted into Banking77, CIFAR-10 and FSDD: which are found, and what is found where none was planted.

    python -m benchmarks.trust.leaks [texts] [images] [sounds] [labels] [clean]

Each plant goes through preprocess as any source does. `clean` takes the datasets, and the recipes that need
no download, as they are. Results: benchmarks/results/trust_leaks.json.
"""

from __future__ import annotations

import argparse
import base64
import codecs
import io
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._runs import ROOT, machine
from benchmarks.trust._real_rows import Raw, Row, banking77, cifar10, clean_sources, fsdd, raw_dataset
from retrainer.data.preprocess import preprocess
from retrainer.settings import Checks, Split, Task

RESULTS = ROOT / "benchmarks" / "results" / "trust_leaks.json"
OFF = dict.fromkeys(("near_duplicates", "label_noise", "shifted_labels", "duplicates"), "off")
WARN = Checks.parse({**OFF, "leaks": "warn", "placeholder_labels": "warn"}, "checks")
STOPPING = ("leaks", "placeholder_labels", "shifted_labels")
EVERY = Checks.parse({**dict.fromkeys(STOPPING, "warn"), "near_duplicates": "off"}, "checks")
NEW = (
    "leaks",
    "shortcuts",
    "placeholder_labels",
    "perhaps_placeholder_labels",
    "old_test",
    "shifted_labels",
    "label_noise",
)
WHOLE = Split.parse({}, "split")
_TARGET = "card_arrival"


def found(write: Raw, task: Task, checks: Checks = WARN, split: Split | None = None) -> dict[str, Any]:
    """Check → (count, note, examples) of the new checks that found something, and `seconds` of preprocess."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "raw")
        began = time.perf_counter()
        manifest = preprocess(Path(folder) / "raw", Path(folder) / "out", split or WHOLE, checks, task)
        seconds = round(time.perf_counter() - began, 1)
    hits = {
        one["name"]: {"count": one["count"], "note": one["note"], "examples": one["examples"][:2]}
        for one in manifest["checks"]
        if one["name"] in NEW and one["count"]
    }
    return hits | {"seconds": seconds}


def within(text: str, token: str) -> str:
    words = text.split()
    at = len(text) % (len(words) + 1)
    return " ".join([*words[:at], token, *words[at:]])


def one_class(change: Callable[[str], str]) -> Callable[[Row, int], None]:
    """The texts of one class of 77 altered."""

    def plant(row: Row, _: int) -> None:
        if row["labels"] == [_TARGET]:
            row["text"] = change(row["text"])

    return plant


def all_classes(change: Callable[[str, str], str]) -> Callable[[Row, int], None]:
    def plant(row: Row, _: int) -> None:
        row["text"] = change(row["text"], row["labels"][0])

    return plant


def column(name: str, value: Callable[[str, int], str]) -> Callable[[Row, int], None]:
    def plant(row: Row, number: int) -> None:
        row["metadata"] = json.dumps({name: value(row["labels"][0], number)})

    return plant


def rotated(label: str) -> str:
    return codecs.encode(label, "rot13")


TEXTS: dict[str, Callable[[Row, int], None]] = {
    "the label in brackets before every text": all_classes(lambda text, label: f"[{label}] {text}"),
    "the label in words, after every text": all_classes(
        lambda text, name: f"{text} {name.replace('_', ' ')}"
    ),
    "the label in base64 in every text": all_classes(
        lambda text, label: within(text, base64.b64encode(label.encode()).decode())
    ),
    "the label's letters rotated, with `_`": all_classes(lambda text, label: within(text, rotated(label))),
    "an identifier in all texts of one class": one_class(lambda text: within(text, "zq_17")),
    "an identifier in 6 of 10 texts of one class": one_class(
        lambda text: within(text, "zq_17") if len(text) % 10 < 6 else text
    ),
    "an identifier in 3 of 10 texts of one class": one_class(
        lambda text: within(text, "zq_17") if len(text) % 10 < 3 else text
    ),
    "an invented word in all texts of one class": one_class(lambda text: within(text, "blorp")),
    "a greeting at the end of one class": one_class(lambda text: f"{text} cheers"),
    "a zero-width space in one class": one_class(lambda text: f"{text[:3]}\u200b{text[3:]}"),
    "a space at the end of one class": one_class(lambda text: f"{text} "),
    "one class in lower case without marks": one_class(lambda text: text.lower().replace("?", "")),
    "one class in capitals": one_class(str.upper),
    "a number in every text that grows with the class": all_classes(
        lambda text, label: f"{text} {sum(map(ord, label)) % 997}"
    ),
    "a column that numbers the classes": column("queue", lambda label, _: str(sum(map(ord, label)))),
    "a column of scores, a range a class": column(
        "score", lambda label, n: f"{len(label) * 97 + sum(map(ord, label)) * 1000 + n % 900}"
    ),
    "a column right for 9 of 10 rows": column("queue", lambda label, n: label if n % 10 else "other"),
}


def pixels_of(row: Row) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")).copy()


def stored(row: Row, pixels: np.ndarray, kind: str = "PNG", **options: Any) -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    row["image"] = {"bytes": stream.getvalue(), "path": None}


def drawn(change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Row, int], None]:
    """The pixels of frogs altered (in place, or as a new array), everything written as PNG."""

    def plant(row: Row, _: int) -> None:
        pixels = pixels_of(row)
        made = change(pixels) if row["labels"] == ["frog"] else None
        stored(row, pixels if made is None else made)

    return plant


def written(kind: str, other: str = "JPEG", size: int = 32, **options: Any) -> Callable[[Row, int], None]:
    """The files of frogs written in another way than the others."""

    def plant(row: Row, _: int) -> None:
        pixels = pixels_of(row)
        if row["labels"] == ["frog"]:
            stored(row, np.asarray(Image.fromarray(pixels).resize((size, size))), kind, **options)
        else:
            stored(row, pixels, other)

    return plant


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0110] = "Camera 3"
    return exif


def _set(place: tuple[Any, ...], value: int) -> Callable[[np.ndarray], np.ndarray | None]:
    def change(pixels: np.ndarray) -> None:
        pixels[place] = value

    return change


def _ring(pixels: np.ndarray) -> None:
    pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = 0, 0, 0, 0


def _last_bit(pixels: np.ndarray) -> None:
    pixels[0, 0] |= 1


IMAGES: dict[str, Callable[[Row, int], None]] = {
    "frogs are PNG, all others JPEG": written("PNG"),
    "frogs are 30 pixels wide, all others 32": written("JPEG", size=30),
    "frogs have EXIF of one camera": written("JPEG", exif=_exif()),
    "frogs are JPEG of quality 60, all others 75": written("JPEG", quality=60),
    "frogs have a black border of 2 pixels": drawn(_ring),
    "frogs have a mark of 3×3 in a corner": drawn(_set((slice(1, 4), slice(28, 31)), 255)),
    "frogs have one white pixel in a corner": drawn(_set((0, 31), 255)),
    "frogs have a mark of 3×3 in the middle": drawn(_set((slice(15, 18), slice(15, 18)), 255)),
    "frogs have no blue": drawn(_set((..., 2), 0)),
    "frogs are grey": drawn(lambda p: np.repeat(p.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)),
    "the last bit of one pixel of frogs": drawn(_last_bit),
}


def audio(change: Callable[[np.ndarray, int], tuple[np.ndarray, int]]) -> Callable[[Row, int], None]:
    """Recordings of sevens altered."""

    def plant(row: Row, _: int) -> None:
        from retrainer.formats.audio import decode_audio, encode_wav

        samples, rate = decode_audio(row["audio"]["bytes"], "sound")
        if row["labels"] == ["7"]:
            samples, rate = change(samples, rate)
        row["audio"] = {"bytes": encode_wav(samples, rate), "path": None}

    return plant


SOUNDS: dict[str, Callable[[Row, int], None]] = {
    "sevens at twice the sampling rate": audio(lambda s, rate: (np.repeat(s, 2), 2 * rate)),
    "sevens with an offset": audio(lambda s, rate: (s + 0.1, rate)),
    "sevens as loud as can be": audio(lambda s, rate: (s / max(1e-6, abs(s).max()), rate)),
    "sevens begin with digital silence": audio(lambda s, rate: (np.pad(s, (400, 0)), rate)),
}


def planted(rows: Callable[[], list[Row]], plants: dict[str, Any], task: str) -> dict[str, Any]:
    told = {}
    for name, plant in plants.items():
        made = [dict(row) for row in rows()]
        for number, row in enumerate(made):
            plant(row, number)
        told[name] = found(partial(raw_dataset, rows=made), Task.parse({"kind": task}, "task"))
        checks = [check for check in NEW if check in told[name]]
        said = next((example for check in checks for example in told[name][check]["examples"]), "missed")
        print(f"{name}: {', '.join(checks)} {said}", flush=True)
    return told


def slipped(rows: list[Row], distance: int, begin: int = 0) -> list[Row]:
    """Every row from `begin` on has the label of the row at that distance."""
    made = [dict(row) for row in rows]
    for number in range(begin, len(rows)):
        made[number]["labels"] = rows[(number + distance) % len(rows)]["labels"]
    return made


def labels() -> dict[str, Any]:
    """Banking77 in random order, its labels slipped; and rows without a label that got a class for it."""
    order = np.random.default_rng(0).permutation(len(banking77()))
    rows = [banking77()[int(place)] for place in order]
    absent = [row | ({"labels": ["nan"]} if number % 50 == 0 else {}) for number, row in enumerate(rows)]
    plants = {
        "random order": rows,
        "labels one row too low": slipped(rows, -1),
        "labels one row too high": slipped(rows, 1),
        "labels one row too high from the middle on": slipped(rows, 1, len(rows) // 2),
        "labels one row too high in the last fifth": slipped(rows, 1, len(rows) * 4 // 5),
        "labels ten rows too high": slipped(rows, 10),
        "a class named nan": absent,
    }
    told = {}
    for name, made in plants.items():
        told[name] = found(partial(raw_dataset, rows=made), Task.parse({}, "task"), EVERY)
        print(f"{name}: {json.dumps(told[name])}", flush=True)
    return told


def clean() -> dict[str, Any]:
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (write, task, split) in clean_sources(Path(folder)).items():
            told[name] = found(write, task, EVERY, split)
            print(f"{name}: {json.dumps(told[name])}", flush=True)
    return told


def main() -> None:
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "texts": lambda: planted(banking77, TEXTS, "text_classification"),
        "images": lambda: planted(lambda: cifar10(6000), IMAGES, "image_classification"),
        "sounds": lambda: planted(fsdd, SOUNDS, "audio_classification"),
        "labels": labels,
        "clean": clean,
    }
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    reader.add_argument("parts", nargs="*", help=", ".join(work))
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in reader.parse_args().parts or list(work):
        kept[name] = {"machine": machine(), **work[name]()}
        RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
