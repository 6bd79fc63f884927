"""Recordings that were saved again are near-duplicates, and known again once they are gone from the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrainer.data.preprocess import preprocess
from retrainer.data.similar import similar_sounds, sound_similarity
from retrainer.data.similar.spectra import sound_hashes
from retrainer.errors import UserError
from retrainer.formats.columns import TYPES
from retrainer.formats.dataset import SCHEMA, About, write_dataset
from retrainer.formats.row_keys import hand_down_row_keys
from retrainer.known_rows import most_bits
from retrainer.overlap import Today, overlap
from retrainer.settings import Checks, Split, Task
from tests.raw_rows import WARN, told
from tests.synthetic_voices import RATE, at_twice_the_rate, saved, spoken

TASK = Task(kind="audio_classification")
SILENCE = np.zeros(60)
AGAIN: dict[str, Callable[[np.ndarray], bytes]] = {
    "louder": lambda samples: saved(1.2 * samples),
    "much quieter, the other polarity": lambda samples: saved(-0.05 * samples),
    "with an offset": lambda samples: saved(samples + 0.1),
    "with silence at its ends": lambda samples: saved(np.concatenate([SILENCE, samples, SILENCE, SILENCE])),
    "as FLAC": lambda samples: saved(samples, format="FLAC"),
    "as MP3": lambda samples: saved(samples, format="MP3", subtype="MPEG_LAYER_III"),
    "as Ogg": lambda samples: saved(samples, format="OGG", subtype="VORBIS"),
    "in μ-law": lambda samples: saved(samples, subtype="ULAW"),
    "at twice the rate, louder": lambda samples: saved(1.2 * at_twice_the_rate(samples), 2 * RATE),
    "in two channels": lambda samples: saved(np.stack([samples, samples], axis=1)),
}
# One word, said 40 times.
ORIGINALS = [spoken(seed, 0.4 + 0.01 * (seed % 9)) for seed in range(40)]


def column(files: list[bytes | None]) -> pa.ChunkedArray:
    """In two chunks, as a table of several files has them."""
    rows = [{"bytes": one, "path": None} for one in files]
    return pa.chunked_array([pa.array(part, TYPES["audio"]) for part in (rows[:7], rows[7:])])


@pytest.mark.parametrize("way", AGAIN)
def test_a_recording_that_was_saved_again_is_found_and_no_other(way: str) -> None:
    files = [*map(saved, ORIGINALS), *map(AGAIN[way], ORIGINALS[:20])]
    assert similar_sounds(column(files)).tolist() == [[row, row + 40] for row in range(20)]
    assert sound_similarity(files[3], files[43]) > 0.85


def test_many_copies_are_linked_without_all_their_pairs() -> None:
    files = [saved(gain * ORIGINALS[0][:800]) for gain in np.linspace(0.1, 1.9, 120)]
    pairs = similar_sounds(column(files))
    assert {*pairs.ravel()} == {*range(120)} and len(pairs) < 120 * 119 / 2
    linked = {0}
    for one, other in sorted(pairs.tolist()):
        linked |= {one, other} if one in linked or other in linked else set()
    assert linked == {*range(120)}


def test_silence_and_what_is_no_sound_are_like_nothing() -> None:
    files = [saved(np.zeros(4000)), saved(np.zeros(4000)), b"no sound", b"no sound", saved(ORIGINALS[0])]
    assert similar_sounds(column(files)).tolist() == []
    assert sound_hashes(column(files)).any(axis=1).tolist() == [False, False, False, False, True]
    assert sound_similarity(files[2], files[4]) == 0 == sound_similarity(files[0], files[4])


def test_of_a_long_recording_the_beginning_is_compared() -> None:
    ends = [np.concatenate([spoken(1, 9.0), spoken(seed, 3.0, word=seed)]) for seed in (2, 3)]
    assert similar_sounds(column([saved(one) for one in ends])).tolist() == [[0, 1]]


def rows_of(files: list[bytes], first: int = 0) -> pa.Table:
    return pa.table(
        {
            "audio": pa.array([{"bytes": one, "path": None} for one in files], TYPES["audio"]),
            "labels": pa.array([[f"class {n % 2}"] for n in range(len(files))], SCHEMA["labels"]),
            "origin": pa.array([f"{n + first}.wav" for n in range(len(files))]),
        }
    )


def month(folder: Path, files: list[bytes], test: list[bytes], checks: Checks = WARN) -> dict[str, Any]:
    splits = {"all": rows_of(files), "given_test": rows_of(test, 1000)}
    write_dataset(folder / "raw", splits, About(types={"audio": "audio"}))
    return preprocess(folder / "raw", folder / "out", Split(), checks, TASK, folder / "findings")


def test_test_recordings_that_are_louder_in_train_stop_the_run(tmp_path: Path) -> None:
    train, test = [saved(one) for one in ORIGINALS[:30]], [saved(one) for one in ORIGINALS[20:]]
    louder = [*train[:20], *(saved(1.2 * one) for one in ORIGINALS[20:30])]
    with pytest.raises(UserError, match=r"^checks\.near_test_overlap: 10 training rows, left out, .* 10 of"):
        month(tmp_path, louder, test, Checks())
    manifest = month(tmp_path, louder, test)
    assert told(manifest)["near_duplicates"][0] == 10 == told(manifest)["near_test_overlap"][0]
    assert "<audio" in (tmp_path / "findings/report.html").read_text()


def test_a_model_knows_what_it_learned_from_when_it_comes_again_louder(tmp_path: Path) -> None:
    month(tmp_path / "then", [saved(one) for one in ORIGINALS[:20]], [saved(ORIGINALS[20])])
    (tmp_path / "model").mkdir()
    hand_down_row_keys(tmp_path / "then/out", None, tmp_path / "model")
    test = [saved(1.2 * one) for one in ORIGINALS[10:30]]
    month(tmp_path / "now", [saved(one) for one in ORIGINALS[30:]], test)
    found = overlap(Today.of(tmp_path / "now/out", 20), tmp_path / "model")
    assert found is not None and found.saved_again == 10 and (~found.unseen).sum() == 10


def test_two_recordings_of_one_word_are_not_taken_for_one() -> None:
    hashes = sound_hashes(column([saved(one) for one in ORIGINALS]))
    assert hashes.shape == (40, 4) and most_bits(hashes) >= 20
    between = [sound_similarity(saved(ORIGINALS[0]), saved(one)) for one in ORIGINALS[1:8]]
    assert max(between) < 0.7
