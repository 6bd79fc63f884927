"""Shortcuts and leaks: each kind, planted, is found and named; the same rows without it are let through."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from retrainer.data.probes import sounds
from retrainer.data.probes._rows import Sample, precise
from retrainer.data.probes.target_in_text import share_written
from retrainer.data.probes.tokens import is_word
from retrainer.data.task_columns import TaskColumns
from retrainer.errors import UserError
from retrainer.formats.dataset import IMAGE
from retrainer.settings import Checks, Task
from tests.planted_leaks import CLASSES, encoded, letters, pictures
from tests.raw_rows import TEXT, Row, run, told

IMAGES = Task(kind="image_classification")
OFF = dict.fromkeys(("near_duplicates", "label_noise", "shifted_labels", "duplicates"), "off")
WARN = Checks.parse({**OFF, "leaks": "warn", "placeholder_labels": "warn"}, "checks")
STOP = Checks.parse(OFF, "checks")
NEW = {"leaks", "shortcuts", "placeholder_labels", "perhaps_placeholder_labels", "old_test"}


def found(folder: Path, rows: list[Row], task: Task = TEXT, **more) -> dict[str, str]:
    """Check → the first example or, where there is none, the note."""
    manifest = run(folder, rows, more.pop("test", None), task=task, checks=WARN, **more)
    hits = [check for check in manifest["checks"] if check["count"] and check["name"] in NEW]
    return {check["name"]: (check["examples"] or [check["note"]])[0] for check in hits}


def changed(change: Callable[[Row, str, int], None]) -> list[Row]:
    rows = letters()
    for number, row in enumerate(rows):
        change(row, row["labels"][0], number)
    return rows


def of_class(label: str, change: Callable[[str], str]) -> list[Row]:
    """The texts of one class altered."""
    rows = letters()
    for row in rows:
        if row["labels"] == [label]:
            row["text"] = change(row["text"])
    return rows


def within(text: str, token: str) -> str:
    words = text.split()
    place = len(text) % (len(words) - 2) + 1
    return " ".join([*words[:place], token, *words[place:]])


def texts_with_metadata(name: str, value: Callable[[str, int], object]) -> list[Row]:
    def change(row: Row, label: str, number: int) -> None:
        row["metadata"] = f'{{"{name}": "{value(label, number)}"}}'

    return changed(change)


def day(month: int, number: int) -> str:
    return f"2025-{month:02d}-{1 + number % 27:02d}"


TEXTS: dict[str, tuple[Callable[[], list[Row]], str, str]] = {
    "the label in brackets": (
        lambda: changed(lambda row, label, _: row.update(text=f"[{label.upper()}] {row['text']}")),
        "leaks",
        "the label's own name in the text tells all 3 classes",
    ),
    "the label as the second text": (
        lambda: changed(lambda row, label, _: row.update(text_pair=label)),
        "leaks",
        "the label's own name in the text",
    ),
    "an identifier in one class": (
        lambda: of_class("refund", lambda text: within(text, "zq_17")),
        "leaks",
        "the token 'zq_17' in the text tells 'refund'",
    ),
    "an identifier in each class": (
        lambda: changed(lambda row, label, _: row.update(text=within(row["text"], f"{label[0]}7x"))),
        "leaks",
        "7x' in the text tells",
    ),
    "an identifier in two of three texts of a class": (
        lambda: of_class("refund", lambda text: within(text, "ref-88") if len(text) % 3 else text),
        "shortcuts",
        "the token 'ref-88' in the text tells 'refund'",
    ),
    "a word at the end of one class": (
        lambda: of_class("delivery", lambda text: f"{text} regards"),
        "shortcuts",
        "the token 'regards' in the text tells 'delivery'",
    ),
    "a sign in one class": (
        lambda: of_class("account", lambda text: within(text, "§")),
        "shortcuts",
        "the token '§' in the text tells 'account'",
    ),
    "white space at the end of one class": (
        lambda: of_class("refund", lambda text: f"{text} "),
        "shortcuts",
        "a space at its end in the text tells 'refund'",
    ),
    "one class in capitals": (
        lambda: of_class("refund", str.upper),
        "shortcuts",
        "tells 'refund'",
    ),
    "one class is longer": (
        lambda: of_class("refund", lambda text: text + " and the" * 12),
        "shortcuts",
        "the length of the text tells 'refund'",
    ),
    "a column of codes": (
        lambda: texts_with_metadata("queue", lambda label, _: CLASSES.index(label)),
        "shortcuts",
        "the column 'queue' alone tells all 3 classes",
    ),
    "a column of scores": (
        lambda: texts_with_metadata("score", lambda label, n: CLASSES.index(label) + (n % 89) / 100),
        "shortcuts",
        "the column 'score' alone tells all 3 classes",
    ),
    "the day": (
        lambda: changed(lambda row, label, n: row.update(time=day(1 + CLASSES.index(label), n))),
        "shortcuts",
        "the column 'time' alone tells all 3 classes",
    ),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_planted_leak_of_texts_is_named(kind: str, tmp_path: Path) -> None:
    rows, check, words = TEXTS[kind]
    assert words in found(tmp_path, rows())[check]


def test_texts_without_a_leak_are_let_through(tmp_path: Path) -> None:
    assert found(tmp_path, letters()) == {}
    plain = texts_with_metadata("branch", lambda _, n: "north" if n % 2 else "south")
    assert found(tmp_path / "columns", plain) == {}


def test_a_word_that_the_class_is_about_is_none(tmp_path: Path) -> None:
    """In nine of ten texts of the class, at any place, and in no other."""
    rows = of_class("refund", lambda text: within(text, "voucher") if len(text) % 10 else text)
    assert found(tmp_path, rows) == {}


def test_a_leak_stops_in_one_line_that_says_how_to_accept_it(tmp_path: Path) -> None:
    rows = of_class("refund", lambda text: within(text, "zq_17"))
    with pytest.raises(UserError, match=r"checks\.leaks: 1 .*zq_17.*set checks: \{leaks: warn\}") as stopped:
        run(tmp_path, rows, checks=STOP)
    assert "\n" not in str(stopped.value) and not (tmp_path / "out").exists()


def test_what_came_by_chance_is_no_shortcut(tmp_path: Path) -> None:
    """A random identifier a row, random columns of few values, and rare classes."""
    draw = np.random.default_rng(5)
    rows = letters(600)
    for number, row in enumerate(rows):
        row["text"] = within(row["text"], f"id{draw.integers(300)}")
        row["metadata"] = f'{{"a": "{draw.integers(40)}", "b": "{draw.integers(200)}"}}'
        row["labels"] = [f"rare{number}"] if number < 8 else row["labels"]
    assert found(tmp_path, rows) == {}


def one_channel(pixels: np.ndarray, label: str) -> np.ndarray:
    pixels[..., 2] = 7 if label == "top" else pixels[..., 2]
    return pixels


def bordered(pixels: np.ndarray, label: str) -> np.ndarray:
    if label == "top":
        pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = 0, 0, 0, 0
    return pixels


def marked(pixels: np.ndarray, label: str) -> np.ndarray:
    if label == "top":
        pixels[1:4, 28:31] = 255
    return pixels


def grey(pixels: np.ndarray, label: str) -> np.ndarray:
    return pixels.mean(axis=2).astype(np.uint8) if label == "top" else pixels


def by_class(top: Callable[[np.ndarray], bytes], bottom: Callable[[np.ndarray], bytes] = encoded) -> object:
    return lambda pixels, label: top(pixels) if label == "top" else bottom(pixels)


def with_exif(pixels: np.ndarray) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0110] = "Camera 3"
    return encoded(pixels, "JPEG", exif=exif)


PIXELS: dict[str, tuple[object, str]] = {
    "one channel": (one_channel, "the blue channel"),
    "a border": (bordered, "border"),
    "a mark in a corner": (marked, "the upper right corner of the image"),
    "grey or in colour": (grey, "the image's colour mode"),
    "the format": (by_class(lambda pixels: encoded(pixels, "JPEG")), "the image's format"),
    "the size": (by_class(lambda pixels: encoded(pixels[:30])), "the image's size"),
    "EXIF": (by_class(with_exif, lambda pixels: encoded(pixels, "JPEG")), "in the image's EXIF"),
    "JPEG quality": (
        by_class(lambda p: encoded(p, "JPEG", quality=60), lambda p: encoded(p, "JPEG", quality=90)),
        "the image's JPEG quality",
    ),
}


@pytest.mark.parametrize("kind", PIXELS)
def test_a_planted_shortcut_of_images_is_named(kind: str, tmp_path: Path) -> None:
    change, words = PIXELS[kind]
    manifest = run(tmp_path, pictures(change=change), task=IMAGES, checks=WARN)
    (check,) = [one for one in manifest["checks"] if one["name"] == "shortcuts"]
    assert any(words in example for example in check["examples"]), check["examples"]


def test_images_without_a_shortcut_are_let_through(tmp_path: Path) -> None:
    assert found(tmp_path, pictures(), IMAGES) == {}


def sound(rate: int, seconds: float, seed: int) -> dict[str, object]:
    soundfile = pytest.importorskip("soundfile")
    draw, stream = np.random.default_rng(seed), io.BytesIO()
    samples = draw.normal(0, 0.1, int(rate * (seconds + draw.uniform(0, 0.05))))
    soundfile.write(stream, samples.clip(-0.9, 0.9), rate, format="WAV")
    return {"bytes": stream.getvalue(), "path": None}


@pytest.mark.parametrize(
    ("rate", "seconds", "words"),
    [((16_000, 8_000), (0.2, 0.2), "sampling rate"), ((8_000, 8_000), (0.2, 0.4), "the recording's length")],
)
def test_a_planted_shortcut_of_sounds_is_named(rate, seconds, words) -> None:
    rows = [
        {"audio": sound(rate[n % 2], seconds[n % 2], n), "labels": ["yes" if n % 2 else "no"]}
        for n in range(160)
    ]
    assert words in shortcut_of_sounds(rows)
    for number, row in enumerate(rows):
        row["labels"] = ["yes" if number // 2 % 2 else "no"]
    assert shortcut_of_sounds(rows) == ""


def shortcut_of_sounds(rows: list[Row]) -> str:
    """All that the probe says; sounds are no column of the tests' raw rows."""
    table = pa.table({"audio": pa.array([row["audio"] for row in rows], IMAGE)})
    columns = TaskColumns(("audio",), ("labels",), {"audio": "audio", "labels": "strings"})
    codes = np.array([row["labels"] == ["yes"] for row in rows], np.int64)
    draw = np.random.default_rng(0)
    sample = Sample(table, columns, codes, ("no", "yes"), draw.random(len(rows)) < 0.5)
    return "; ".join(one.said(2) for one in sounds.probe(sample))


@pytest.mark.parametrize(
    ("name", "check"), [("NaN", "placeholder_labels"), ("None", "perhaps_placeholder_labels")]
)
def test_a_class_that_is_an_absent_label_is_named(name: str, check: str, tmp_path: Path) -> None:
    rows = letters()
    for row in rows[:40]:
        row["labels"] = [name]
    assert found(tmp_path, rows)[check].startswith(f"{name}: ")
    assert "placeholder_labels" not in found(tmp_path / "clean", letters())
    if check == "placeholder_labels":
        with pytest.raises(UserError, match=r"checks\.placeholder_labels: 1 classes.*\(NaN: \d+ rows\)"):
            run(tmp_path / "stop", rows, checks=STOP)


def test_an_own_test_of_the_past_is_named(tmp_path: Path) -> None:
    rows, test = letters(200), letters(80, seed=9)
    for number, row in enumerate(rows):
        row["time"] = f"2025-{1 + number % 12:02d}-05"
    for year, expected in (("2024", True), ("2025", False), ("2026", False)):
        for number, row in enumerate(test):
            row["time"] = f"{year}-{1 + number % 12:02d}-20"
        assert ("old_test" in found(tmp_path / year, rows, test=test)) is expected


def test_a_target_written_in_the_text_is_named() -> None:
    draw = np.random.default_rng(0)
    prices = draw.integers(100, 999, 200).astype(float)
    columns = TaskColumns(("text",), ("target",), {"text": "string", "target": "number"})
    texts = [f"a house of 3 rooms, {price:g} euros" for price in prices]
    table = pa.table({"text": texts, "target": prices})
    assert share_written(table, columns)[0] > 0.95
    assert share_written(pa.table({"text": texts, "target": draw.permutation(prices)}), columns)[0] < 0.05
    pairs = TaskColumns(("text",), ("target_text",), {"text": "string", "target_text": "string"})
    english = [f"the house {n} is old" for n in range(90)]
    german = [f"das Haus {n} ist alt" for n in range(90)]
    leaking = [f"{one} {other}" for one, other in zip(german, english, strict=True)]
    assert share_written(pa.table({"text": leaking, "target_text": english}), pairs) == (1.0, 90)
    assert share_written(pa.table({"text": german, "target_text": english}), pairs) == (0.0, 90)
    restored = pa.table({"text": english, "target_text": [f"{one.capitalize()}." for one in english]})
    assert share_written(restored, pairs) == (0.0, 0)


def test_a_word_of_any_script_is_a_word() -> None:
    words = ["है", "क्रिकेट", "ที่", "cafe\u0301", "naïve", "l'eau", "self-made"]
    assert all(map(is_word, words)) and not any(map(is_word, ["zq_17", "<s3>", "b2", "'", "a-"]))


def test_a_class_that_is_all_rows_is_told_by_nothing() -> None:
    told = precise(np.array([90, 0]), np.array([90, 0]), np.array([1.0, 0.0]))
    assert not told[0]


def test_a_check_that_is_off_does_not_look(tmp_path: Path) -> None:
    rows = of_class("refund", lambda text: within(text, "zq_17"))
    off = Checks.parse({**OFF, "leaks": "off", "shortcuts": "off"}, "checks")
    manifest = run(tmp_path, rows, checks=off)
    levels = {check["name"]: check["level"] for check in manifest["checks"]}
    assert levels["leaks"] == levels["shortcuts"] == "off" and not NEW & told(manifest).keys()
