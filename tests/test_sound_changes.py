"""Sounds month against month: another sampling rate or length is a change of the data; silence is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrainer.data.preprocess import preprocess
from retrainer.data.profile import sounds
from retrainer.errors import UserError
from retrainer.evaluation.data_figures import data_figures
from retrainer.formats.audio import encode_wav, is_silent
from retrainer.formats.columns import TYPES
from retrainer.formats.dataset import SCHEMA, About, Dataset, write_dataset
from retrainer.gate.data_changes import changes
from retrainer.gate.data_figures import DataFigures
from retrainer.settings import Gate, Split, Task
from tests.raw_rows import WARN

GATE = Gate.parse({}, "gate")


def noise(seed: int, longer: float = 1.0) -> list[np.ndarray]:
    """60 sounds of 1,600 to 3,200 samples."""
    draw = np.random.default_rng(seed)
    return [draw.normal(0, 0.1, int(longer * draw.integers(1600, 3200))) for _ in range(60)]


def muted(count: int) -> list[np.ndarray]:
    return [0 * sound if n < count else sound for n, sound in enumerate(noise(5))]


def preprocessed(folder: Path, given: list[np.ndarray], rate: int = 8000, **levels: object) -> dict[str, Any]:
    return preprocessed_files(folder, [encode_wav(samples, rate) for samples in given], **levels)


def preprocessed_files(
    folder: Path, given: list[bytes], labels: Sequence[int] = (), **levels: object
) -> dict[str, Any]:
    audio = [{"bytes": data, "path": None} for data in given]
    numbers = labels or [n % 2 for n in range(len(given))]
    columns = {
        "audio": pa.array(audio, TYPES["audio"]),
        "labels": pa.array([[f"class {number}"] for number in numbers], SCHEMA["labels"]),
        "origin": pa.array([f"{n}.wav" for n in range(len(given))]),
    }
    write_dataset(folder / "raw", {"all": pa.table(columns)}, About(types={"audio": "audio"}))
    checks, task = WARN.model_copy(update=levels), Task(kind="audio_classification")
    return preprocess(folder / "raw", folder / "out", Split(), checks, task)


def month(folder: Path, seed: int, rate: int = 8000, longer: float = 1.0) -> DataFigures:
    preprocessed(folder, noise(seed, longer), rate)
    return data_figures(Dataset(folder / "out"))


def test_measures_of_sounds_are_what_they_say() -> None:
    given = [
        {"bytes": encode_wav(np.zeros(4000), 8000), "path": None},
        {"bytes": b"none", "path": None},
        None,
    ]
    names, measures, embedding = sounds.measure(pa.chunked_array([pa.array(given, TYPES["audio"])]))
    assert names == ("milliseconds", "kHz") and embedding.shape == (3, 0)
    assert measures[0] == pytest.approx((np.log2(501), 3))
    assert not measures[1:].any()


def test_another_rate_or_length_is_held_and_the_next_month_is_not(tmp_path: Path) -> None:
    then = month(tmp_path / "then", 0)
    assert not list(changes(GATE, then, month(tmp_path / "next", 1)))
    rate, shorter = changes(GATE, then, month(tmp_path / "rate", 2, rate=16_000))
    assert rate == "kHz in the median 8 → 16 (gate.changes.lengths = 0.3)"
    assert shorter.startswith("milliseconds in the median ")
    (length,) = changes(GATE, then, month(tmp_path / "longer", 3, longer=1.6))
    assert length.startswith("milliseconds in the median ")


def test_recordings_of_silence_are_counted_and_stay(tmp_path: Path) -> None:
    manifest = preprocessed(tmp_path, muted(9))
    (found,) = [one for one in manifest["checks"] if one["name"] == "silent_sounds"]
    assert (found["count"], found["share"], found["examples"][0]) == (9, 0.15, "0.wav")
    assert sum(manifest["rows"].values()) == 60
    with pytest.raises(
        UserError, match=r"^checks\.silent_sounds: 9 recordings hold .*silent_sounds: 0\.151}$"
    ):
        preprocessed(tmp_path / "stopped", muted(9), silent_sounds=0.1)
    assert not [one for one in preprocessed(tmp_path / "none", muted(0))["checks"] if one["count"]]


def test_half_written_recordings_are_counted_and_left_out(tmp_path: Path) -> None:
    files = [encode_wav(samples, 8000) for samples in noise(6)]
    cut = [data[: len(data) // 2] if n < 6 else data for n, data in enumerate(files)]
    cut[6], cut[7] = b"no sound", encode_wav(np.zeros(0), 8000)
    manifest = preprocessed_files(tmp_path / "told", cut)
    (found,) = [one for one in manifest["checks"] if one["name"] == "broken"]
    assert (found["count"], found["examples"][0]) == (8, "0.wav: audio cut short")
    assert manifest["dropped"] == {"audio cut short": 6, "broken audio": 1, "audio without samples": 1}
    with pytest.raises(UserError, match=r"^checks\.broken: 8 recordings that cannot be decoded, or are cut"):
        preprocessed_files(tmp_path / "stopped", cut, broken=0.05)
    assert not [one for one in preprocessed_files(tmp_path / "whole", files)["checks"] if one["count"]]


def tones(classes: Sequence[int]) -> list[bytes]:
    """Of three classes: a tone that falls, stays or rises, at any pitch and loudness, with noise."""
    found, draw = [], np.random.default_rng(0)
    for number in classes:
        time = np.arange(2400) / 8000
        pitch = draw.uniform(500, 900) * 2 ** ((number - 1) * 4 * time)
        wave = np.sin(2 * np.pi * np.cumsum(pitch) / 8000) + draw.normal(0, 0.3, len(time))
        found.append(encode_wav(draw.uniform(0.05, 0.5) * wave, 8000))
    return found


@pytest.mark.parametrize(("wrong", "found"), [(0.0, False), (0.01, False), (0.2, True)])
def test_wrong_labels_of_sounds_are_named(wrong: float, found: bool, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    labels = [int(n + draw.integers(1, 3) if draw.random() < wrong else n) % 3 for n in range(420)]
    files = tones([n % 3 for n in range(420)])
    manifest = preprocessed_files(tmp_path, files, labels, near_duplicates="off", shortcuts="off")
    (noise,) = [one for one in manifest["checks"] if one["name"] == "label_noise"]
    assert bool(noise["count"]) == found, noise
    if found:
        assert "of the labels are wrong" in noise["note"] and 0.6 < noise["count"] / (0.2 * 336) < 1.4


def test_labels_of_sounds_that_slipped_by_a_row_stop(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, 900).tolist()
    files, levels = tones(labels), {"near_duplicates": "off", "shortcuts": "off"}
    with pytest.raises(UserError, match=r"^checks\.shifted_labels: "):
        preprocessed_files(tmp_path / "slipped", files, [*labels[1:], labels[0]], **levels)
    assert preprocessed_files(tmp_path / "right", files, labels, **levels)["rows"]


@pytest.mark.parametrize("data", [b"", b"RIFF", b"fLaC" + bytes(80), encode_wav(np.zeros(0), 8000)])
def test_of_what_is_no_wav_silence_is_not_told(data: bytes) -> None:
    assert not is_silent(data)
