"""Sounds month against month: another sampling rate or length is a change of the data; silence is told."""

from __future__ import annotations

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
    audio = [{"bytes": encode_wav(samples, rate), "path": None} for samples in given]
    columns = {
        "audio": pa.array(audio, TYPES["audio"]),
        "labels": pa.array([[f"class {n % 2}"] for n in range(len(given))], SCHEMA["labels"]),
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


@pytest.mark.parametrize("data", [b"", b"RIFF", b"fLaC" + bytes(80), encode_wav(np.zeros(0), 8000)])
def test_of_what_is_no_wav_silence_is_not_told(data: bytes) -> None:
    assert not is_silent(data)
