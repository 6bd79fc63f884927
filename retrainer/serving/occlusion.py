"""What an answer rests on, by occlusion (Zeiler and Fergus 2014; of texts, Li et al. 2016).

Each word, square of the picture, or stretch of the sound is left out in turn; how far the probability of the
answer falls without it is its weight. Each class has `whole`, `without` (the input without each part, in
the parts' order) and `drawn`, which paints the parts by their weights: HTML, or a picture. Asking is the
caller's business.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from retrainer.errors import DataError
from retrainer.formats.audio import decode_audio, encode_wav, length_of
from retrainer.tasks._decode_image import plain_image

MOST_WORDS, GRID, STRETCHES = 60, 7, 16
MOST_SIDE, MOST_SECONDS = 256, 30
_FOR, _AGAINST, _STRONGEST = (42, 91, 215), (208, 92, 20), 0.6
# What is written in a page's own text is the browser's to break, and to read from right to left.
_WORDS = '<p dir="auto" style="white-space: pre-wrap; overflow-wrap: anywhere">{}</p>'
_WORD = '<span style="background: {colour}; border-radius: 3px" title="{weight:.3f}">{word}</span>'
_BARS = '<div role="img" aria-label="the sound, from left to right" style="display: flex; gap: 2px">{}</div>'
_BAR = '<i style="flex: 1; height: 40px; background: {colour}" title="{weight:.3f}"></i>'


@dataclass(frozen=True)
class Words:
    """Of a text the first MOST_WORDS words. `parts`: words and what stands between; `places`: the words'."""

    parts: list[str]
    places: list[int]

    @classmethod
    def of(cls, text: str) -> Words:
        parts = re.split(r"(\s+)", text)
        return cls(parts, [at for at, part in enumerate(parts) if part.strip()][:MOST_WORDS])

    @property
    def whole(self) -> str:
        return "".join(self.parts)

    @property
    def without(self) -> list[str]:
        return ["".join(self.parts[:at] + self.parts[at + 1 :]) for at in self.places]

    def drawn(self, weights: Sequence[float]) -> str:
        shown = [html.escape(part) for part in self.parts]
        for at, weight, (colour, strength) in zip(self.places, weights, _tints(weights), strict=True):
            shown[at] = _WORD.format(colour=_css(colour, strength), weight=weight, word=shown[at])
        return _WORDS.format("".join(shown))


@dataclass(frozen=True)
class Squares:
    """Of a picture, uint8 [H, W, 3] of at most MOST_SIDE pixels a side, GRID × GRID squares, row by row."""

    pixels: np.ndarray

    @classmethod
    def of(cls, data: bytes) -> Squares:
        """Raises UserError for what is no picture."""
        return cls(np.asarray(small_picture(data, MOST_SIDE)))

    @property
    def whole(self) -> bytes:
        return _png(self.pixels)

    @property
    def without(self) -> list[bytes]:
        """PNG files; in place of a square is the picture's mean colour."""
        mean = self.pixels.mean((0, 1)).round().astype(np.uint8)
        return [_png(self._changed(square, lambda _: mean)) for square in self._squares()]

    def drawn(self, weights: Sequence[float]) -> Image.Image:
        painted = self.pixels
        for square, (colour, strength) in zip(self._squares(), _tints(weights), strict=True):
            over = np.multiply(colour, strength)
            painted = Squares(painted)._changed(square, lambda there, a=strength, c=over: there * (1 - a) + c)
        return enlarged(Image.fromarray(painted))

    def _squares(self) -> Iterator[tuple[slice, slice]]:
        rows, columns = ([round(n * side / GRID) for n in range(GRID + 1)] for side in self.pixels.shape[:2])
        for n in range(GRID * GRID):
            row, column = divmod(n, GRID)
            yield slice(rows[row], rows[row + 1]), slice(columns[column], columns[column + 1])

    def _changed(self, square: tuple[slice, slice], change: Callable[..., np.ndarray]) -> np.ndarray:
        changed = self.pixels.copy()
        changed[square] = change(changed[square])
        return changed


@dataclass(frozen=True)
class Stretches:
    """Of a sound, float32 [samples] at `rate` samples a second, at most STRETCHES stretches of one length."""

    samples: np.ndarray
    rate: int

    @classmethod
    def of(cls, data: bytes) -> Stretches:
        """Raises UserError for what is no sound, and for one of more than MOST_SECONDS."""
        seconds, _ = length_of(data, "the sound")
        if seconds > MOST_SECONDS:
            raise DataError(f"the sound lasts {seconds:.0f} s; why is told of {MOST_SECONDS} s at most")
        return cls(*decode_audio(data, "the sound"))

    @property
    def whole(self) -> bytes:
        return encode_wav(self.samples, self.rate)

    @property
    def without(self) -> list[bytes]:
        """WAV files; a stretch is silent."""
        step, found = -(-len(self.samples) // STRETCHES), []
        for start in range(0, len(self.samples), step):
            changed = self.samples.copy()
            changed[start : start + step] = 0
            found.append(encode_wav(changed, self.rate))
        return found

    def drawn(self, weights: Sequence[float]) -> str:
        bars = [
            _BAR.format(colour=_css(colour, strength), weight=weight)
            for weight, (colour, strength) in zip(weights, _tints(weights), strict=True)
        ]
        return _BARS.format("".join(bars))


def small_picture(data: bytes, most_side: int) -> Image.Image:
    """The picture in RGB, upright, at most `most_side` pixels a side. Raises UserError for what is none."""
    image, _ = plain_image(data, most_side, 3, "the picture")
    image.thumbnail((most_side, most_side))
    return image


def enlarged(image: Image.Image) -> Image.Image:
    """A whole number of times, up to MOST_SIDE pixels a side: small pictures are hard to see."""
    times = max(1, MOST_SIDE // max(image.size))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _tints(weights: Sequence[float]) -> list[tuple[tuple[int, int, int], float]]:
    """Of each weight its colour and how strong it is, up to _STRONGEST of the largest."""
    largest = max((abs(weight) for weight in weights), default=0) or 1.0
    return [(_FOR if weight > 0 else _AGAINST, _STRONGEST * abs(weight) / largest) for weight in weights]


def _css(colour: tuple[int, int, int], strength: float) -> str:
    return f"rgb({' '.join(map(str, colour))} / {strength:.2f})"


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
