"""Which recordings that were saved again are found, and which others are taken for them.

    python -m benchmarks.trust.sounds

Of FSDD's 3,000 recordings 300 are saved again in each way of `AGAIN`. *Found*: the pair is a near-duplicate
(`similar_sounds`), beside the originals alone. *Known*: a model that learned from all 3,000 knows it by its
hash (`retrainer.known_rows`). False links: pairs among the 3,000 originals; and recordings of speaker theo
that a model takes for one of the other five speakers'. Results: benchmarks/results/trust_sounds.json.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._runs import ROOT, machine
from benchmarks.trust._real_rows import fsdd
from retrainer.data.similar import similar_sounds, sound_similarity
from retrainer.data.similar.spectra import sound_hashes
from retrainer.formats.audio import decode_audio
from retrainer.formats.dataset import IMAGE
from retrainer.formats.row_keys import RowKeys
from retrainer.known_rows import most_bits, pictured_among

RESULTS = ROOT / "benchmarks" / "results" / "trust_sounds.json"
SEED, SAMPLE = 2026, 300


def saved(samples: np.ndarray, rate: int, **options: Any) -> bytes:
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, **({"format": "WAV", "subtype": "PCM_16"} | options))
    return stream.getvalue()


def silence(rate: int, milliseconds: float) -> np.ndarray:
    return np.zeros(int(rate * milliseconds / 1000), np.float32)


def padded(samples: np.ndarray, rate: int, before: float, after: float) -> bytes:
    return saved(np.concatenate([silence(rate, before), samples, silence(rate, after)]), rate)


def resampled(samples: np.ndarray, rate: int, new: int) -> bytes:
    from scipy.signal import resample_poly

    step = int(np.gcd(rate, new))
    return saved(resample_poly(samples, new // step, rate // step), new)


def with_noise(samples: np.ndarray, rate: int, decibels: float) -> bytes:
    noise = np.random.default_rng(SEED).normal(0, samples.std() * 10 ** (-decibels / 20), len(samples))
    return saved(samples + noise, rate)


AGAIN: dict[str, Callable[[np.ndarray, int], bytes]] = {
    "20% louder": lambda s, r: saved(1.2 * s, r),
    "a tenth as loud": lambda s, r: saved(0.1 * s, r),
    "as loud as can be": lambda s, r: saved(s / max(1e-6, np.abs(s).max()), r),
    "10 ms of silence before, 25 ms after": lambda s, r: padded(s, r, 10, 25),
    "10 ms cut at either end": lambda s, r: saved(s[r // 100 : -r // 100], r),
    "with an offset": lambda s, r: saved(s + 0.05, r),
    "FLAC": lambda s, r: saved(s, r, format="FLAC"),
    "MP3": lambda s, r: saved(s, r, format="MP3", subtype="MPEG_LAYER_III"),
    "MP3, smallest": lambda s, r: saved(s, r, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.99),
    "Ogg Vorbis": lambda s, r: saved(s, r, format="OGG", subtype="VORBIS"),
    "Ogg Vorbis, smallest": lambda s, r: saved(s, r, format="OGG", subtype="VORBIS", compression_level=0.99),
    "μ-law": lambda s, r: saved(s, r, subtype="ULAW"),
    "8 bits": lambda s, r: saved(s, r, subtype="PCM_U8"),
    "at 16 kHz": lambda s, r: resampled(s, r, 16_000),
    "at 22.05 kHz, 20% louder": lambda s, r: resampled(1.2 * s, r, 22_050),
    "noise at -30 dB": lambda s, r: with_noise(s, r, 30),
    "noise at -15 dB": lambda s, r: with_noise(s, r, 15),
    "clipped at a third": lambda s, r: saved(np.clip(3 * s / np.abs(s).max(), -1, 1), r),
    "5% faster": lambda s, r: saved(decode_audio(resampled(s, r, 7_600), "sound")[0], r),
}


def column(files: list[bytes]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([{"bytes": one, "path": None} for one in files], IMAGE)])


def known_as(files: list[bytes]) -> RowKeys:
    return RowKeys(np.arange(len(files), dtype=np.uint64), {}, sound_hashes(column(files)))


def copies(files: list[bytes]) -> dict[str, Any]:
    """By way: the share found, the share known, and the correlation that nineteen of twenty exceed."""
    some = [files[int(at)] for at in np.random.default_rng(SEED).permutation(len(files))[:SAMPLE]]
    known, table = known_as(files), {}
    for name, change in AGAIN.items():
        again = [change(*decode_audio(one, name)) for one in some]
        pairs = {tuple(pair) for pair in similar_sounds(column([*some, *again])).tolist()}
        alike = [sound_similarity(one, other) for one, other in zip(some, again, strict=True)]
        table[name] = {
            "found": round(float(np.mean([(at, at + SAMPLE) in pairs for at in range(SAMPLE)])), 3),
            "known": round(float(pictured_among(known_as(again), known).mean()), 3),
            "correlation": round(float(np.quantile(alike, 0.05)), 3),
        }
        print(name, table[name], flush=True)
    return table


def others(rows: list[dict[str, Any]], files: list[bytes]) -> dict[str, Any]:
    began = time.perf_counter()
    hashes = sound_hashes(column(files))
    hashed = time.perf_counter() - began
    pairs = similar_sounds(column(files))
    seconds = time.perf_counter() - began - hashed
    mine = [at for at, row in enumerate(rows) if row["group"] == "theo"]
    its = [at for at, row in enumerate(rows) if row["group"] != "theo"]
    unknown, known = (known_as([files[at] for at in part]) for part in (mine, its))
    return {
        "recordings": len(files),
        "ms a recording to hash": round(1000 * hashed / len(files), 3),
        "s to search": round(seconds, 2),
        "pairs": [[rows[at]["origin"] for at in pair] for pair in pairs.tolist()],
        "bits": most_bits(np.unique(hashes, axis=0)),
        "taken for another speaker's": [int(pictured_among(unknown, known).sum()), len(mine)],
        "same digit and voice": _same_voice(rows, files),
    }


def _same_voice(rows: list[dict[str, Any]], files: list[bytes]) -> dict[str, float]:
    """The correlation of other recordings of one digit by one speaker: the largest of 3,000 pairs."""
    of: dict[tuple[str, str], list[int]] = {}
    for at, row in enumerate(rows):
        of.setdefault((row["labels"][0], row["group"]), []).append(at)
    draw = np.random.default_rng(SEED)
    pairs = [draw.choice(members, 2, replace=False) for members in of.values() for _ in range(50)]
    found = [sound_similarity(files[one], files[other]) for one, other in pairs]
    return {f"{part:.3g}": round(float(np.quantile(found, part)), 3) for part in (0.5, 0.99, 1)}


def main() -> None:
    rows = fsdd()
    files = [row["audio"]["bytes"] for row in rows]
    results = {"copies": copies(files), "others": others(rows, files), "seed": SEED, "machine": machine()}
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(results["others"], indent=1))


if __name__ == "__main__":
    main()
