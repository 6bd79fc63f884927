"""What little effort gives: the commonest class in every pixel, and each pixel by its own colour and place.

Legend: N rows, P pixels, F features of a pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from retrainer.formats.columns import MASK, classes_of_mask, each
from retrainer.formats.masks import IGNORED, mask_value, numbered, read_mask
from retrainer.tasks._decode_image import plain_image
from retrainer.tasks._protocol import Baseline, Baselines

if TYPE_CHECKING:
    from retrainer.settings import Evaluation

# Pixels that the regression learns from, and of an image at most.
_LEARNED, _OF_AN_IMAGE = 40_000, 400
# Longer side of the copy whose pixels are classed; the answer is enlarged.
_SIDE = 256
_SEED = 0
_MOST_STEPS = 200


def baselines(train: pa.Table, test: pa.Table, settings: Evaluation) -> Baselines:
    """The first one never looks at an image."""
    names = sorted({name for mask in each(train["mask"]) for name in classes_of_mask(mask)})
    sizes = [_whole_size(image) for image in each(test["image"])]
    commonest = _commonest(train, names)
    always = [_filled(names, commonest, size) for size in sizes]
    majority = Baseline("majority", f"{names[commonest]} everywhere", _table(always), len(train))
    if not settings.baseline:
        return Baselines((majority,), "evaluation.baseline is false")
    pixels, classes = _sample(train, names)
    if len(set(classes.tolist())) < 2:
        return Baselines((majority,), "the pixels that were drawn are all of one class")
    found = _table(_regression(pixels, classes, test, names, sizes))
    note = f"learned from {len(classes):,} pixels, drawn evenly of every training image"
    title = "each pixel's colour and place + logistic regression"
    return Baselines((majority, Baseline("pixel_regression", title, found, len(train), note)))


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.table({"mask": pa.array(rows, MASK)})


def _filled(names: list[str], place: int, size: tuple[int, int]) -> dict[str, Any]:
    return mask_value(np.full(size, place, np.uint8), names)


def _classes(mask: dict[str, Any], names: list[str]) -> np.ndarray:
    """uint8 [H, W]: places in `names`; IGNORED: none."""
    places = {name: place for place, name in enumerate(names)}
    values = numbered(read_mask(mask["image"]["bytes"], "a training row"), mask["classes"], places, IGNORED)
    return np.where(values < 0, IGNORED, values).astype(np.uint8)


def _commonest(train: pa.Table, names: list[str]) -> int:
    """Of the classes the one with most pixels; of equals the first."""
    counts: np.ndarray = np.zeros(IGNORED + 1, np.int64)
    for mask in each(train["mask"]):
        counts += np.bincount(_classes(mask, names).ravel(), minlength=len(counts))
    return int(counts[:IGNORED].argmax())


def _whole_size(image: dict[str, Any]) -> tuple[int, int]:
    """Height and width, upright."""
    _, (width, height) = plain_image(image["bytes"], 1, 3, "a test row")
    return height, width


def _features(image: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """float32 [H × W, F] of a copy of the image of this size: colour, and place from 0 to 1."""
    plain, _ = plain_image(image["bytes"], 2 * max(size), 3, "a row")
    height, width = size
    colours = np.asarray(plain.resize((width, height), Image.Resampling.BILINEAR), np.float32) / 255
    places: np.ndarray = np.empty((height, width, 2), np.float32)
    places[..., 0], places[..., 1] = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)
    return np.concatenate([colours, places], axis=-1).reshape(height * width, -1)


def _small(size: tuple[int, int]) -> tuple[int, int]:
    share = min(1.0, _SIDE / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def _sample(train: pa.Table, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 [P, F] and classes int64 [P] of drawn pixels; NumPy's own generator, one seed."""
    draws = np.random.Generator(np.random.PCG64(_SEED))
    of_an_image = max(1, min(_OF_AN_IMAGE, _LEARNED // max(1, len(train))))
    pixels, classes = [], []
    rows = range(len(train)) if len(train) <= _LEARNED else draws.choice(len(train), _LEARNED, replace=False)
    for row in rows:
        whole = _classes(train["mask"][int(row)].as_py(), names)
        size = _small((whole.shape[0], whole.shape[1]))
        small = np.asarray(
            Image.fromarray(whole).resize((size[1], size[0]), Image.Resampling.NEAREST)
        ).ravel()
        known = np.flatnonzero(small != IGNORED)
        chosen = draws.choice(known, min(of_an_image, len(known)), replace=False) if len(known) else known
        pixels.append(_features(train["image"][int(row)].as_py(), size)[chosen])
        classes.append(small[chosen])
    return np.concatenate(pixels), np.concatenate(classes).astype(np.int64)


def _regression(
    pixels: np.ndarray, classes: np.ndarray, test: pa.Table, names: list[str], sizes: list[tuple[int, int]]
) -> list[dict[str, Any]]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MOST_STEPS))
    with threadpool_limits(1), warnings.catch_warnings():  # as the baseline of classes, and for its reason
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(pixels, classes)
    rows = []
    for image, whole in zip(each(test["image"]), sizes, strict=True):
        size = _small(whole)
        found = model.predict(_features(image, size)).astype(np.uint8).reshape(size)
        large = Image.fromarray(found).resize((whole[1], whole[0]), Image.Resampling.NEAREST)
        rows.append(mask_value(np.asarray(large), names))
    return rows
