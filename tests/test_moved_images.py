"""Mirrored and slightly moved copies of images are found; images that only share their outlines are not."""

from __future__ import annotations

import io
import tarfile
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from retrainer.data.similar import image_similarity, similar_images
from retrainer.data.similar.images import LEAST_CORRELATION
from retrainer.data.similar.moved import MOST, maybe_moved
from retrainer.data.similar.pixels import SIDE, agreement
from retrainer.formats.dataset import IMAGE

BITS = 8


def scene(seed: int, side: int = 32) -> Image.Image:
    """Overlapping rectangles of many colours: edges at every place."""
    draws = np.random.default_rng(seed)
    pixels: np.ndarray = np.full((side, side, 3), draws.integers(60, 200, 3), np.uint8)
    for _ in range(14):
        top, left = draws.integers(0, side - 4, 2)
        height, width = draws.integers(3, side // 2, 2)
        pixels[top : top + height, left : left + width] = draws.integers(60, 200, 3)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pairs_of(images: list[bytes]) -> list[list[int]]:
    rows = [{"bytes": image, "path": None} for image in images]
    pairs: list[list[int]] = similar_images(pa.chunked_array([pa.array(rows, IMAGE)]), BITS).tolist()
    return pairs


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def moved(image: Image.Image, right: int, down: int) -> Image.Image:
    """Its edge repeated where nothing is known."""
    most = max(abs(right), abs(down))
    pixels = np.pad(np.asarray(image), ((most, most), (most, most), (0, 0)), mode="edge")
    height, width = image.size[::-1]
    return Image.fromarray(pixels[most - down :, most - right :][:height, :width])


CHANGES: dict[str, Callable[[Image.Image], bytes]] = {
    "mirrored": lambda image: encoded(mirrored(image)),
    "mirrored, JPEG": lambda image: encoded(mirrored(image), "JPEG", quality=90, subsampling=0),
    "one to the right": lambda image: encoded(moved(image, 1, 0)),
    "two down, JPEG": lambda image: encoded(moved(image, 0, 2), "JPEG", quality=90, subsampling=0),
    "three up and left": lambda image: encoded(moved(image, -3, -3)),
    "mirrored, two to the left": lambda image: encoded(moved(mirrored(image), -2, 0)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_mirrored_or_moved_copy_is_found(name: str) -> None:
    others = [encoded(scene(seed)) for seed in range(1, 40)]
    copy = CHANGES[name](scene(0))
    assert pairs_of([encoded(scene(0)), *others, copy]) == [[0, 40]]
    assert image_similarity(encoded(scene(0)), copy) >= LEAST_CORRELATION


def test_larger_images_are_found_mirrored() -> None:
    images = [encoded(scene(seed, side=120)) for seed in range(20)]
    assert pairs_of([*images, encoded(mirrored(scene(3, side=120)), "JPEG")]) == [[3, 20]]


def test_every_place_of_a_window_is_a_candidate_whichever_of_the_two_is_the_original() -> None:
    image = scene(0)
    for right in range(-MOST, MOST + 1):
        for down in range(-MOST, MOST + 1):
            for turned in (image, mirrored(image)):
                pixels = np.stack([np.asarray(image), np.asarray(moved(turned, right, down))])
                assert pixels.shape[1:] == (SIDE, SIDE, 3)
                shown = 0
                for candidates in maybe_moved(pixels):
                    one, other = candidates.windows(*(pixels[rows] for rows in candidates.pairs.T))
                    shown += int((one == other).all())
                assert shown, (right, down)


def figure(seed: int) -> Image.Image:
    """A frame, axes and a dark ground that all figures share, and in it what is this one's own."""
    draws = np.random.default_rng(seed)
    pixels: np.ndarray = np.full((120, 160, 3), 255, np.uint8)
    pixels[10:100, 20:150] = (68, 1, 84)
    for _ in range(12):
        top, left = draws.integers(10, 90), draws.integers(20, 130)
        pixels[top : top + 10, left : left + 20] += draws.integers(0, 60, (10, 20, 3)).astype(np.uint8)
    for tick in range(20, 150, 13):
        pixels[100:108, tick : tick + 6] = 0
    return Image.fromarray(pixels)


def test_figures_that_share_a_frame_are_not_copies_and_copies_of_them_are() -> None:
    figures = [figure(seed) for seed in range(40)]
    copies = [encoded(figures[7], "JPEG", quality=60), encoded(figures[8].resize((120, 90)))]
    assert pairs_of([*map(encoded, figures), *copies]) == [[7, 40], [8, 41]]
    small = np.stack([np.asarray(one.resize((SIDE, SIDE))) for one in figures[:2]])
    assert agreement(small[:1], small[1:])[0] < 0.6 < 0.999 < agreement(small[:1], small[:1])[0]


@pytest.mark.slow
def test_spectrograms_of_different_speakers_are_not_copies(shared_data: Path) -> None:
    """As matplotlib draws them, with axes: as a whole nearly all of them correlate."""
    images, speakers = figures_of_sounds(shared_data / "fsdd.tar.xz", 60)
    different = [pair for pair in pairs_of(images) if speakers[pair[0]] != speakers[pair[1]]]
    assert different == []


def figures_of_sounds(archive: Path, count: int) -> tuple[list[bytes], list[str]]:
    import matplotlib.pyplot as plt

    images, speakers = [], []
    with tarfile.open(archive) as packed:
        recordings = sorted((one for one in packed if one.isfile()), key=lambda one: one.name)
        for member in recordings[:: len(recordings) // count]:
            file = packed.extractfile(member)
            assert file is not None
            with wave.open(io.BytesIO(file.read())) as sound:
                samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 2**15
            figure = plt.figure(figsize=(3.2, 2.4))
            plt.specgram(np.pad(samples, (0, max(0, 256 - len(samples)))), NFFT=256, Fs=8000, noverlap=192)
            figure.tight_layout()
            stream = io.BytesIO()
            figure.savefig(stream, format="png", dpi=100)
            plt.close(figure)
            images.append(stream.getvalue())
            speakers.append(member.name.split("_")[-2])
    return images, speakers
