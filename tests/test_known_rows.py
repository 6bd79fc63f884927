"""Rows are known again: beside a new column, saved again as another file, among keys of an older format."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from retrainer.data.pictures import picture_hashes
from retrainer.data.preprocess import preprocess
from retrainer.errors import DataError
from retrainer.formats.columns import ENCODED
from retrainer.formats.dataset import Dataset
from retrainer.formats.row_keys import FILE, RowKeys, hand_down_row_keys, joined, read_rows, write_row_keys
from retrainer.known_rows import MOST_BITS, most_bits, pictured_among, stand_among
from retrainer.overlap import JudgedRows, Overlap, Today, overlap
from retrainer.settings import Checks, Split, Task
from tests.raw_rows import TEXT, raw_of

IMAGES = Task(kind="image_classification")
WORDS = [f"{chr(97 + n % 26)}{chr(97 + n // 26)}word" for n in range(600)]


def month(folder: Path, rows: list[dict[str, Any]], own_test: list[dict[str, Any]], task: Task) -> Path:
    """The dataset of a month whose test set is given."""
    raw = raw_of(folder, rows, own_test)
    preprocess(raw, folder / "dataset", Split(), Checks(), task)
    return folder / "dataset"


def met(today: Path, before: Path) -> Overlap:
    """Today's test rows beside a model that was trained on the dataset `before`."""
    model = before.parent / "model"
    model.mkdir(exist_ok=True)
    hand_down_row_keys(before, None, model)
    test = Dataset(today).split("test")
    found = JudgedRows.of(today, len(test), today).held_out(test, "a" * 64, model, ()).met
    assert found is not None
    return found


def texts(numbers: range, **more: str) -> list[dict[str, Any]]:
    """A text for each number, like no other: texts that differ in their numbers alone are near-duplicates."""
    words = [" ".join(np.random.default_rng(n).choice(WORDS, 14)) for n in numbers]
    return [
        {"text": text, "labels": ["odd" if n % 2 else "even"], **more}
        for n, text in zip(numbers, words, strict=True)
    ]


def test_a_further_column_leaves_the_rows_known(tmp_path: Path) -> None:
    """Last month's texts come with a second text now, or without the one that they had."""
    alone = month(tmp_path / "alone", texts(range(40)), texts(range(40, 60)), TEXT)
    paired = month(
        tmp_path / "paired", texts(range(60, 99), text_pair="p"), texts(range(30, 50), text_pair="p"), TEXT
    )
    forwards, backwards = met(paired, alone), met(alone, paired)
    assert (~forwards.unseen).sum() == 10 and forwards.new.sum() == 10
    assert forwards.gone == 10
    assert backwards.unseen.all() and (~backwards.new).sum() == 10


def test_a_column_for_slices_is_no_part_of_a_row(tmp_path: Path) -> None:
    alone = month(tmp_path / "alone", texts(range(40)), texts(range(40, 60)), TEXT)
    further = month(
        tmp_path / "further", texts(range(60, 99)), texts(range(30, 50), metadata='{"region":"east"}'), TEXT
    )
    assert (~met(further, alone).unseen).sum() == 10


def test_where_both_have_the_same_columns_all_of_them_decide(tmp_path: Path) -> None:
    """A text with another second text is another row."""
    first = month(
        tmp_path / "first", texts(range(40), text_pair="p"), texts(range(40, 60), text_pair="p"), TEXT
    )
    other = month(
        tmp_path / "other", texts(range(60, 99), text_pair="p"), texts(range(40), text_pair="q"), TEXT
    )
    assert met(other, first).unseen.all()


def downgraded(dataset: Path) -> Path:
    """The dataset's row keys as version 1 wrote them."""
    table = pq.read_table(dataset / FILE).select(["split", "key"]).replace_schema_metadata(None)
    pq.write_table(table, dataset / FILE)
    return dataset


def test_keys_of_the_first_format_are_known_too(tmp_path: Path) -> None:
    """Of as many columns as today, and of one where there are two now."""
    alone = downgraded(month(tmp_path / "alone", texts(range(40)), texts(range(40, 60)), TEXT))
    same = month(tmp_path / "same", texts(range(60, 99)), texts(range(30, 50)), TEXT)
    paired = month(
        tmp_path / "paired", texts(range(60, 99), text_pair="p"), texts(range(30, 50), text_pair="p"), TEXT
    )
    assert not read_rows(alone)["train"].inputs
    for today in (same, paired):
        assert (~met(today, alone).unseen).sum() == 10
        assert (~met(today, alone).new).sum() == 10


def test_the_key_of_a_single_input_is_not_written_twice(tmp_path: Path) -> None:
    alone = month(tmp_path / "alone", texts(range(40)), texts(range(40, 60)), TEXT)
    pairs = month(
        tmp_path / "pairs", texts(range(40), text_pair="p"), texts(range(40, 60), text_pair="p"), TEXT
    )
    assert pq.read_schema(alone / FILE).names == ["split", "key"]
    assert pq.read_schema(pairs / FILE).names == ["split", "key", "input.text", "input.text_pair"]
    one, other = (joined(list(read_rows(dataset).values())) for dataset in (alone, pairs))
    assert sorted(one.inputs["text"]) == sorted(other.inputs["text"]) == sorted(one.key)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    write_row_keys(tmp_path, {"train": [b"8 bytes."]})
    table = pq.read_table(tmp_path / FILE)
    pq.write_table(table.replace_schema_metadata({"format_version": "3"}), tmp_path / FILE)
    with pytest.raises(DataError, match=r"is of format 3, and this version reads up to 2"):
        read_rows(tmp_path)


def test_a_model_keeps_what_it_inherits_beside_further_columns(tmp_path: Path) -> None:
    """A text is known of the model that another one started from, before there was a second text."""
    alone = month(tmp_path / "alone", texts(range(40)), texts(range(40, 60)), TEXT)
    paired = month(
        tmp_path / "paired", texts(range(60, 99), text_pair="p"), texts(range(99, 120), text_pair="p"), TEXT
    )
    start, model = tmp_path / "start", tmp_path / "model"
    for one in (start, model):
        one.mkdir()
    (start / "manifest.json").write_text("{}")
    hand_down_row_keys(alone, None, start)
    hand_down_row_keys(paired, start, model)
    known = read_rows(model)
    assert not known["inherited"].inputs["text_pair"].any() and known["train"].inputs["text_pair"].all()
    own = read_rows(alone)["train"]
    assert stand_among(own, known["inherited"]).all()
    assert not stand_among(own, known["train"]).any()


def test_rows_of_other_inputs_altogether_are_not_known() -> None:
    one, other = (RowKeys(np.array([7], np.uint64), {name: np.array([7], np.uint64)}) for name in "ab")
    assert not stand_among(one, other).any() and stand_among(one, one).all()
    assert not stand_among(one, joined([])).any()


# --- pictures ------------------------------------------------------------------------------------------


def picture(seed: int) -> Image.Image:
    """A scene of coloured ellipses before a gradient."""
    draws = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, 96)[:, None, None] * draws.uniform(0, 255, 3) + draws.uniform(0, 60, 3)
    image = Image.fromarray(np.broadcast_to(ramp, (96, 96, 3)).clip(0, 255).astype(np.uint8))
    for _ in range(6):
        x, y, width, height = draws.integers(0, 70, 4)
        box = (int(x), int(y), int(x + 10 + width), int(y + 10 + height))
        ImageDraw.Draw(image).ellipse(box, tuple(int(level) for level in draws.integers(0, 256, 3)))
    return image


def saved(image: Image.Image, kind: str = "JPEG", **options: Any) -> dict[str, Any]:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return {"bytes": stream.getvalue(), "path": None}


def pictures(numbers: range, kind: str = "JPEG", **options: Any) -> list[dict[str, Any]]:
    return [
        {"image": saved(picture(n), kind, **options), "labels": ["odd" if n % 2 else "even"]} for n in numbers
    ]


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 60}), ("PNG", {}), ("WEBP", {"quality": 80})]
)
def test_a_picture_that_was_saved_again_is_known(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    before = month(tmp_path / "before", pictures(range(40), quality=90), pictures(range(40, 50)), IMAGES)
    today = month(
        tmp_path / "today",
        pictures(range(60, 80), kind, **options),
        pictures(range(30, 50), kind, **options),
        IMAGES,
    )
    found = met(today, before)
    assert (~found.unseen).sum() == found.saved_again == 10
    assert (~found.new).sum() == 10 and found.gone == 0
    assert found.plain()["saved_again"] == 10


def test_the_group_of_a_picture_that_was_saved_again_is_left_out_too(tmp_path: Path) -> None:
    before = month(tmp_path / "before", pictures(range(40)), pictures(range(40, 50)), IMAGES)
    test = pictures(range(30, 50), "PNG")
    grouped = [row | {"group": "p" if number < 15 else f"g{number}"} for number, row in enumerate(test)]
    others = [row | {"group": f"o{number}"} for number, row in enumerate(pictures(range(60, 80)))]
    found = met(month(tmp_path / "today", others, grouped, IMAGES), before)
    # Ten are known, and with them the five others of their group.
    assert found.saved_again == 10 and (~found.unseen).sum() == 15


def test_pictures_of_rows_that_are_still_there_are_not_asked_for(tmp_path: Path) -> None:
    """Preprocess has compared their pixels with every test row, and found these two to be different."""
    rows = pictures(range(40))
    today = month(tmp_path / "today", rows, pictures(range(40, 50)), IMAGES)
    keys = read_rows(today)
    alike = RowKeys(keys["test"].key, keys["test"].inputs, np.repeat(keys["train"].pictures[:1], 10, axis=0))
    model = tmp_path / "model"
    model.mkdir()
    write_row_keys(model, {"train": keys["train"]})
    write_row_keys(today, {**keys, "test": alike})
    found = overlap(Today.of(today, 10), model)
    assert found is not None and found.unseen.all()
    write_row_keys(today, {"test": alike})
    gone = overlap(Today.of(today, 10), model)
    assert gone is not None and not gone.unseen.any()


def test_a_blank_or_unreadable_picture_is_like_no_other() -> None:
    blank = saved(Image.new("RGB", (40, 40), (9, 9, 9)), "PNG")
    images = pa.chunked_array([pa.array([blank, blank, {"bytes": b"no image", "path": None}], ENCODED)])
    hashes = picture_hashes(images)
    assert hashes.shape == (3, 4) and not hashes.any()
    rows = RowKeys(np.arange(3, dtype=np.uint64), {}, hashes)
    assert not pictured_among(rows, rows).any()


def test_among_pictures_that_look_much_the_same_less_may_differ() -> None:
    """Drawings of one figure differ in few bits, photographs in about half of all."""
    draws = np.random.default_rng(0)
    far = draws.integers(0, 2**64, (60, 4), dtype=np.uint64)
    near: np.ndarray = np.repeat(far[:1], 30, axis=0)
    near[:, 3] ^= np.uint64(0b111111) << np.arange(0, 60, 2, dtype=np.uint64)
    assert most_bits(far) == most_bits(far[:1]) == MOST_BITS
    assert most_bits(near) < 8 and most_bits(np.concatenate([near[:1], far[1:]])) == MOST_BITS


def test_hashes_are_compared_by_their_different_bits() -> None:
    ours: np.ndarray = np.full((3, 4), 0b1111, np.uint64)
    ours[1, 2] ^= np.uint64((1 << MOST_BITS) - 1) << np.uint64(8)
    ours[2, 2] ^= np.uint64((1 << (MOST_BITS + 1)) - 1) << np.uint64(8)
    rows = RowKeys(np.arange(3, dtype=np.uint64), {}, ours)
    assert pictured_among(rows, rows.take([0])).tolist() == [True, True, False]
    assert not pictured_among(rows, RowKeys(rows.key)).any()
