"""Sound: every format reads alike, hostile files end in one line, spectra equal the reference libraries'."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import scipy.signal
import soundfile
import torch
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from retrainer.errors import UserError
from retrainer.formats.audio import decode_audio, encode_wav
from retrainer.formats.columns import ENCODED
from retrainer.tasks._audio import Augmentation, Sound
from retrainer.tasks._log_mel import Spectrum, filter_bank, log_mel
from retrainer.tasks._waves import encode_audio, resample

RATE = 8000
TONE = (0.4 * np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE)).astype(np.float32)
PREPROCESSING = {
    "sampling_rate": RATE,
    "input": "log_mel",
    "spectrum": {"window": 200, "hop": 80, "mels": 20},
}


def written(samples: np.ndarray, file_format: str = "WAV", subtype: str | None = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format=file_format, subtype=subtype)
    return buffer.getvalue()


def encoded(*clips: np.ndarray) -> pa.Table:
    rows = [{"bytes": written(clip), "path": None} for clip in clips]
    return pa.table({"audio": pa.array(rows, ENCODED)})


@pytest.mark.parametrize(
    ("file_format", "subtype"),
    [("WAV", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")]
    + [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("MP3", None), ("OGG", "VORBIS"), ("AIFF", "PCM_16")],
)
def test_every_format_reads_as_the_same_sound(file_format: str, subtype: str | None) -> None:
    samples, rate = decode_audio(written(TONE, file_format, subtype), "row 1")
    assert rate == RATE and samples.dtype == np.float32
    loss = 0.1 if file_format in ("MP3", "OGG") else 0.02
    assert abs(len(samples) - len(TONE)) <= (0 if loss < 0.1 else 1200)
    assert np.abs(samples[: len(TONE)] - TONE[: len(samples)])[:3000].mean() < loss


def test_channels_are_averaged() -> None:
    samples, _ = decode_audio(written(np.stack([TONE, np.zeros_like(TONE)], axis=1)), "row 1")
    np.testing.assert_allclose(samples, TONE / 2, atol=1e-4)


def _header(change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(written(TONE))
    change(data)
    return bytes(data)


def _claims_10_gigabytes(data: bytearray) -> None:
    data[40:44] = struct.pack("<I", 4_000_000_000)


def _claims_1000_channels(data: bytearray) -> None:
    data[22:24] = struct.pack("<H", 1000)
    data[32:34] = struct.pack("<H", 2000)


def _claims_a_rate(rate: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[24:28] = struct.pack("<I", rate)

    return change


HOSTILE = {
    "nothing": (b"", "is empty"),
    "no sound": (b"\x89PNG\r\n\x1a\n" + bytes(100), "cannot be decoded"),
    "text": (b"RIFF but then it goes on as text", "cannot be decoded"),
    "half a wav": (written(TONE)[:3000], "is cut short"),
    "half a flac": (written(TONE, "FLAC")[:2000], "is cut short|cannot be decoded"),
    "10 GB": (_header(_claims_10_gigabytes), "is cut short|lasts"),
    "1000 channels": (_header(_claims_1000_channels), "1000 channels"),
    "9 channels": (written(np.zeros((10, 9), np.float32)), "9 channels"),
    "4 GHz": (_header(_claims_a_rate(4_000_000_000)), "samples a second|cannot be decoded"),
    "1 Hz": (_header(_claims_a_rate(1)), "1 samples a second"),
    "no samples": (written(np.zeros(0, np.float32)), "no samples"),
    "NaN": (written(np.full(50, np.nan, np.float32), subtype="FLOAT"), "no numbers"),
    "infinity": (written(np.full(50, np.inf, np.float32), subtype="FLOAT"), "no numbers"),
    "an hour": (written(np.zeros(RATE * 3, np.float32)), "lasts 3.0 s, the most are 2 s"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_ends_in_one_line_with_its_row(case: str) -> None:
    data, reason = HOSTILE[case]
    with pytest.raises(UserError, match=rf"^clips/a\.wav: the audio.*({reason})") as caught:
        decode_audio(data, "clips/a.wav", max_seconds=2)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_a_cut_off_or_damaged_file_never_ends_in_another_error() -> None:
    draws = np.random.default_rng(0)
    for file_format in ("WAV", "FLAC", "MP3", "OGG"):
        whole = written(TONE, file_format, None)
        for _ in range(60):
            damaged = bytearray(whole)
            for place in draws.integers(0, len(whole), 4):
                damaged[place] = draws.integers(256)
            try:
                samples, _ = decode_audio(bytes(damaged[: draws.integers(len(whole))]), "row 1", 5)
            except UserError:
                continue
            assert np.isfinite(samples).all() and len(samples) < 5 * 384_000 + 2


def test_what_is_encoded_for_the_report_reads_back() -> None:
    samples, rate = decode_audio(encode_wav(TONE, RATE), "row 1")
    assert rate == RATE
    np.testing.assert_allclose(samples, TONE, atol=1e-4)


@pytest.mark.parametrize(
    ("rate", "wanted"), [(44_100, 16_000), (8_000, 16_000), (48_000, 8_000), (11_025, 8_000)]
)
@pytest.mark.parametrize("count", [1, 7, 3_001])
def test_resampling_equals_scipy(rate: int, wanted: int, count: int) -> None:
    samples = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    common = np.gcd(rate, wanted)
    theirs = scipy.signal.resample_poly(samples, wanted // common, rate // common)
    np.testing.assert_allclose(resample(samples, rate, wanted), theirs, atol=5e-6)


def test_the_filter_bank_equals_transformers() -> None:
    for rate, window, mels in ((16_000, 400, 80), (8_000, 200, 40)):
        theirs = mel_filter_bank(window // 2 + 1, mels, 0, rate / 2, rate, norm="slaney", mel_scale="slaney")
        np.testing.assert_allclose(filter_bank(Spectrum(rate, window, 80, mels)).numpy(), theirs, atol=1e-7)


def test_whispers_input_equals_its_feature_extractor() -> None:
    spectrum = Spectrum(16_000, 400, 160, 80, normalise="whisper", pad_seconds=30)
    clips = [np.random.default_rng(n).standard_normal(n).astype(np.float32) * 0.1 for n in (300, 40_000)]
    theirs = WhisperFeatureExtractor()(clips, sampling_rate=16_000, return_tensors="np").input_features
    for clip, one in zip(clips, theirs, strict=True):
        ours = log_mel(torch.from_numpy(clip)[None], torch.tensor([len(clip)]), spectrum)[0].T.numpy()
        np.testing.assert_allclose(ours, one, atol=1e-5)


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    waves = encode_audio(encoded(TONE[:900], TONE, TONE[::3]), RATE, 5)
    together = Sound(waves, PREPROCESSING).batch(np.array([0, 1, 2]), Augmentation(), None)
    for row in range(3):
        alone = Sound(waves, PREPROCESSING).batch(np.array([row]), Augmentation(), None)
        frames = int(alone["lengths"])
        assert frames == together["lengths"][row]
        np.testing.assert_allclose(together["audio"][row, :frames], alone["audio"][0, :frames], atol=2e-4)
        assert not together["audio"][row, frames:].any()


def test_augmentation_follows_the_generator_alone() -> None:
    waves = encode_audio(encoded(TONE, TONE[::2]), RATE, 5)
    most = Augmentation(0.2, 0.05, 0.5, 0.2, 2, 2, 6, 0.1, 20)

    def batch(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return Sound(waves, PREPROCESSING).batch(np.array([0, 1]), most, generator)["audio"]

    assert torch.equal(batch(1), batch(1)) and batch(1).isfinite().all()
    assert batch(1).shape != batch(2).shape or not torch.equal(batch(1), batch(2))


@pytest.mark.parametrize(
    "change",
    [
        *("speed", "shift_seconds", "silence_seconds", "noise", "background_db"),
        *("vocal_tract", "equaliser", "frequency_masks", "time_masks"),
    ],
)
def test_each_augmentation_changes_the_sound(change: str) -> None:
    waves = encode_audio(encoded(TONE), RATE, 5)
    by_loudness = PREPROCESSING | {
        "spectrum": {"window": 200, "hop": 80, "mels": 20, "normalise": "loudness"}
    }
    none = Augmentation()
    amounts = {"frequency_masks": 2, "time_masks": 2, "equaliser": 6, "background_db": 20}
    one = replace(none, **{change: amounts.get(change, 0.2)})
    plain, changed = (
        Sound(waves, by_loudness).batch(np.zeros(4, np.int64), kind, torch.Generator().manual_seed(0))
        for kind in (none, one)
    )
    same = plain["audio"].shape == changed["audio"].shape
    assert not same or not torch.allclose(plain["audio"], changed["audio"], atol=1e-3)


def test_no_augmentation_leaves_the_sound_as_it_is() -> None:
    waves = encode_audio(encoded(TONE), RATE, 5)
    rows = np.array([0])
    plain = Sound(waves, PREPROCESSING).batch(rows, Augmentation(), None)
    drawn = Sound(waves, PREPROCESSING).batch(rows, Augmentation(), torch.Generator().manual_seed(0))
    np.testing.assert_allclose(plain["audio"], drawn["audio"], atol=1e-5)


SPEECH = Spectrum(RATE, 200, 80, 20, normalise="speech", range_db=40)


def bands_of(*waves: np.ndarray, spectrum: Spectrum = SPEECH) -> torch.Tensor:
    """Log-mel bands [B, T, M] of waves of one length."""
    lengths = torch.full((len(waves),), len(waves[0]))
    return log_mel(torch.from_numpy(np.stack(waves)), lengths, spectrum)


def chirp() -> np.ndarray:
    """A second that rises from 200 to 3200 Hz and swells."""
    at = np.arange(RATE) / RATE
    rising = np.sin(2 * np.pi * (200 * at + 1500 * at**2)) * (0.2 + 0.5 * at)
    return (rising + 0.01 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)


def test_speech_frames_move_neither_with_loudness_nor_with_silence_around_them() -> None:
    word = chirp()
    quiet = bands_of(word / 200)
    torch.testing.assert_close(quiet, bands_of(word), atol=1e-3, rtol=1e-3)
    silence = np.zeros(80 * 60, np.float32)
    inside = bands_of(np.concatenate([silence, word, silence]))[0, 60 : 60 + 100]
    # Silent samples enter the first and last windows of the word alone.
    torch.testing.assert_close(inside[2:-2], quiet[0, 2:100][:-2], atol=0.05, rtol=0.02)
    by_row = replace(SPEECH, normalise="row")
    alone = bands_of(word, spectrum=by_row)[0, 2:98]
    padded = bands_of(np.concatenate([silence, word, silence]), spectrum=by_row)[0, 62:158]
    assert (alone - padded).abs().mean() > 0.3


def test_what_lies_below_the_range_of_a_row_is_as_loud_as_its_floor() -> None:
    noise = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    clean, hissing = chirp(), chirp() + 1e-3 * noise
    limits = {range_db: replace(SPEECH, range_db=range_db) for range_db in (20.0, 80.0)}
    apart = {
        range_db: float((bands_of(clean, spectrum=limit) - bands_of(hissing, spectrum=limit)).abs().mean())
        for range_db, limit in limits.items()
    }
    assert apart[20.0] < apart[80.0] / 3


def test_digital_silence_has_finite_bands() -> None:
    assert bands_of(np.zeros(800, np.float32)).isfinite().all()


def test_a_shorter_vocal_tract_moves_a_tone_upwards() -> None:
    """Frequencies times two: what was 440 Hz lies where 880 Hz lies."""
    spectrum = Spectrum(RATE, 200, 80, 40, normalise="whisper", pad_seconds=0.5)
    octave = np.sin(2 * np.pi * 880 * np.arange(len(TONE)) / RATE).astype(np.float32)
    low, high = (torch.from_numpy(wave)[None] for wave in (TONE, octave))
    length, twice = torch.tensor([len(TONE)]), torch.tensor([2.0])
    warped = log_mel(low, length, spectrum, twice)[0, 10].argmax()
    assert warped == log_mel(high, length, spectrum)[0, 10].argmax()
    assert warped > log_mel(low, length, spectrum)[0, 10].argmax()


def test_no_rows_are_no_batch_of_sound() -> None:
    waves = encode_audio(encoded(), RATE, 5)
    batch = Sound(waves, PREPROCESSING).batch(np.zeros(0, np.int64), Augmentation(), None)
    assert batch["audio"].shape[0] == 0 == len(batch["lengths"])
