"""Images as vectors: how strongly small patches of the training images themselves answer, by quarter.

A. Coates, H. Lee, A. Ng: An analysis of single-layer networks in unsupervised feature learning (AISTATS
2011), with patches drawn at random instead of k-means (A. Coates, A. Ng: The importance of encoding versus
training with sparse coding and vector quantization, ICML 2011).

Legend: N images, S their side, P side of a patch, C centroids, L places of a patch, D dimensions.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from retrainer.data.images import of_each_file
from retrainer.data.similar.pixels import small_pixels

_SIDE = 32
_PATCH, _STRIDE = 6, 2
_CENTROIDS = 256
_PATCHES = 20_000
_CONTRAST, _WHITENING = 10.0, 0.1
# What an answer must exceed to count.
_THRESHOLD = 0.25
# Images whose answers are held in memory at once.
_BLOCK = 256
_QUARTERS = 2


def small_images(images: pa.ChunkedArray) -> np.ndarray:
    """uint8 [N, S, S, 3] of encoded images; grey where one cannot be read."""
    grey: np.ndarray = np.full((_SIDE, _SIDE, 3), 128, np.uint8)
    found = of_each_file(images, small_pixels, None)
    return np.stack([grey if pixels is None else pixels for pixels in found])


def image_vectors(pixels: np.ndarray) -> np.ndarray:
    """float32 [N, D], standardised, of uint8 [N, S, S, 3]."""
    patches = _patches(pixels[: max(1, _PATCHES // 20)]).reshape(-1, _PATCH * _PATCH * 3)
    drawn = np.random.default_rng(0)
    patches = _even(patches[drawn.choice(len(patches), min(_PATCHES, len(patches)), replace=False)])
    mean, whiten = _whitening(patches)
    chosen = (
        patches[drawn.choice(len(patches), min(_CENTROIDS, len(patches)), replace=False)] - mean
    ) @ whiten
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True) + 1e-6
    filters = (whiten @ chosen.T).astype(np.float32)
    shift = mean @ filters
    filters -= filters.mean(axis=0)
    answers = [
        _pooled(pixels[start : start + _BLOCK], filters, shift) for start in range(0, len(pixels), _BLOCK)
    ]
    vectors = np.concatenate(answers)
    return (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-2)


def _patches(pixels: np.ndarray) -> np.ndarray:
    """float32 [N, L, P * P * 3]: all patches of each image, `_STRIDE` apart."""
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (_PATCH, _PATCH), axis=(1, 2))
    strided = windows[:, ::_STRIDE, ::_STRIDE]
    return strided.reshape(len(pixels), -1, _PATCH * _PATCH * 3).astype(np.float32)


def _even(patches: np.ndarray) -> np.ndarray:
    """Each patch without its mean brightness and in one contrast."""
    patches = patches - patches.mean(axis=-1, keepdims=True)
    return patches / np.sqrt(patches.var(axis=-1, keepdims=True) + _CONTRAST)


def _whitening(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and the symmetric (ZCA) matrix that makes the patches' values uncorrelated."""
    mean = patches.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((patches - mean).T.astype(np.float64)))
    whiten = (vectors / np.sqrt(np.maximum(values, 0) + _WHITENING)) @ vectors.T
    return mean, whiten.astype(np.float32)


def _pooled(pixels: np.ndarray, filters: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """float32 [N, D]: the answers above and below a threshold, summed over each quarter of the image."""
    patches = _patches(pixels).reshape(-1, len(filters))
    side = round((len(patches) / len(pixels)) ** 0.5)
    # As `_even`, of which the mean is in the filters already; one product, as many small ones are slow.
    squares = np.einsum("ij,ij->i", patches, patches) / len(filters)
    contrast = np.sqrt(squares - patches.mean(axis=1) ** 2 + _CONTRAST)
    answers = patches @ filters
    answers /= contrast[:, None]
    answers -= shift
    high = side // _QUARTERS
    quarters = (len(pixels), _QUARTERS, high, _QUARTERS, high, -1)
    parts = []
    for signed in (answers, -answers):
        strong = np.maximum(signed - _THRESHOLD, 0).reshape(len(pixels), side, side, -1)
        whole = strong[:, : _QUARTERS * high, : _QUARTERS * high]
        parts.append(whole.reshape(quarters).sum(axis=(2, 4)).reshape(len(pixels), -1))
    return np.concatenate(parts, axis=1)
