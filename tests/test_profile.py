"""The profile that preprocess keeps: one row a component, whatever the order."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from retrainer.data import profile
from retrainer.data.profile import images, profile_of, texts
from retrainer.errors import UserError
from retrainer.formats import profile as stored
from retrainer.formats.dataset import SCHEMA, Dataset
from retrainer.formats.profile import FILE, read_profile, write_profile
from retrainer.formats.row_keys import read_components, read_row_keys
from retrainer.settings import Task
from tests.raw_rows import run, words


def table_of(count: int, **columns: list) -> pa.Table:
    given = {"labels": [[f"label {row % 3}"] for row in range(count)], **columns}
    return pa.table({name: pa.array(values, SCHEMA[name]) for name, values in given.items()})


def test_one_row_stands_for_a_component_whatever_the_order() -> None:
    table = table_of(60, text=[f"text number {row}" for row in range(60)])
    keys, linked = np.arange(60, dtype=np.uint64) * 977, np.arange(60, dtype=np.uint64) // 4
    found = profile_of(table, list(range(60)), keys, linked)
    assert found.rows == 15 and len(found.keys) == 15
    order = np.random.default_rng(0).permutation(60)
    turned = profile_of(table, order.tolist(), keys[order], linked[order])
    assert set(turned.keys) == set(found.keys) and turned.counts == found.counts


def test_a_large_dataset_is_counted_whole_and_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "SAMPLE", 20)
    table = table_of(90, text=["word"] * 90)
    keys = np.arange(90, dtype=np.uint64)
    found = profile_of(table, list(range(90)), keys, keys)
    assert (found.rows, len(found.keys), found.embedding.shape) == (90, 20, (20, texts.DIMENSIONS))


def test_a_row_of_several_labels_is_counted_once() -> None:
    table = table_of(40, text=["word"] * 40, labels=[["a", "b"]] * 30 + [[]] * 10)
    keys = np.arange(40, dtype=np.uint64)
    found = profile_of(table, list(range(40)), keys, keys)
    assert found.counts == {"": 10, "a": 15, "b": 15}


def test_rows_that_nothing_measures_have_labels_all_the_same(tmp_path: Path) -> None:
    """As a plug-in's columns would be."""
    table = table_of(12, metadata=["{}"] * 12)
    keys = np.arange(12, dtype=np.uint64)
    found = profile_of(table, list(range(12)), keys, keys)
    assert (found.columns, found.names, found.rows) == ((), (), 12)
    write_profile(tmp_path, found)
    again = read_profile(tmp_path / FILE)
    assert again is not None and again.counts == found.counts and again.embedding.shape == (12, 0)


def test_no_row_at_all_has_a_profile_of_the_same_kind() -> None:
    nothing = np.zeros(0, np.uint64)
    for columns in ({"text": ["word"] * 3}, {"image": [png(np.zeros((4, 4)))] * 3}):
        table = table_of(3, **columns)
        found, whole = (profile_of(table, places, keys, keys) for places, keys in (([], nothing), all_of(3)))
        assert (found.rows, found.names, found.columns) == (0, whole.names, whole.columns)
        assert found.embedding.shape[1] == whole.embedding.shape[1] > 0


def all_of(count: int) -> tuple[list[int], np.ndarray]:
    return list(range(count)), np.arange(count, dtype=np.uint64)


def test_what_is_kept_is_read_back_as_it_was(tmp_path: Path) -> None:
    run(tmp_path, [{**row, "text_pair": f"pair {n}"} for n, row in enumerate(words(80))])
    found = read_profile(tmp_path / "out" / FILE)
    assert found is not None and found.columns == ("text", "text_pair")
    assert found.names == (*texts.NAMES, *(f"{name} of text_pair" for name in texts.NAMES))
    assert found.measures.shape == (80, 2 * len(texts.NAMES)) and np.isfinite(found.embedding).all()
    assert np.abs(np.linalg.norm(found.embedding[:, : texts.DIMENSIONS], axis=1) - 1).max() < 1e-2
    write_profile(tmp_path, found)
    assert (tmp_path / FILE).read_bytes() == (tmp_path / "out" / FILE).read_bytes()


def test_rows_of_one_group_are_one_and_an_own_test_set_is_not_compared(tmp_path: Path) -> None:
    rows = [{**row, "group": f"patient {n // 5}"} for n, row in enumerate(words(100))]
    manifest = run(tmp_path, rows, own_test=[{"text": f"test {n}", "labels": ["odd"]} for n in range(30)])
    found = read_profile(tmp_path / "out" / FILE)
    assert found is not None and found.rows == 20 == sum(manifest["profile"]["labels"].values())
    assert list(manifest["profile"]["splits"]) == ["train", "validation"]
    tested = read_row_keys(tmp_path / "out")["test"]
    assert len(tested) == 30 and not np.isin(found.keys, tested).any()
    counts = {name: len(linked) for name, linked in read_components(tmp_path / "out").items()}
    assert counts == {name: len(keys) for name, keys in read_row_keys(tmp_path / "out").items()}


def test_the_order_of_the_source_changes_no_byte(tmp_path: Path) -> None:
    rows = words(120)
    for name, given in (("one", rows), ("other", list(reversed(rows)))):
        run(tmp_path / name, given)
    files = [(tmp_path / name / "out" / FILE).read_bytes() for name in ("one", "other")]
    assert files[0] == files[1]


def test_another_version_is_none_and_a_damaged_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, words(40))
    path = tmp_path / "out" / FILE
    monkeypatch.setattr(stored, "VERSION", stored.VERSION + 1)
    assert read_profile(path) is None
    (tmp_path / FILE).write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="is no profile"):
        read_profile(tmp_path / FILE)


def test_texts_about_one_thing_are_nearer_than_others() -> None:
    one, same, other = texts.embed(["where is my card", "my card, where is it?", "exchange rates of today"])
    assert one @ same > 0.6 > 0.3 > one @ other
    assert not texts.embed(["…"]).any()


def test_measures_of_texts_are_what_they_say() -> None:
    _, measures, _ = texts.measure(pa.chunked_array([pa.array(["ABC d1!", ""])]))
    characters, count, letters, capitals, digits, signs = measures[0]
    assert (characters, count, letters) == (3.0, pytest.approx(np.log2(3)), 2.5)
    assert (capitals, digits, signs) == pytest.approx((3 / 7, 1 / 7, 1 / 7))
    assert not measures[1].any()


def png(pixels: np.ndarray) -> dict:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def test_measures_of_images_are_what_they_say() -> None:
    red = np.full((20, 40, 3), (200, 100, 100))
    half = np.tile(np.where(np.arange(32) < 16, 0, 200), (32, 1))
    given = [png(red), png(half), {"bytes": b"none", "path": None}]
    column = pa.chunked_array([pa.array(given, SCHEMA["image"])])
    names, measures, embedding = images.measure(column)
    told = [dict(zip(names, row, strict=True)) for row in measures]
    assert told[0]["brightness"] == pytest.approx(0.299 * 200 + 0.701 * 100)
    assert told[0]["saturation"] == told[0]["warmth"] == 100
    assert told[0]["contrast"] == pytest.approx(0, abs=1e-9)
    assert (told[0]["pixels"], told[0]["width to height"]) == pytest.approx((np.log2(800), 1.0))
    assert told[1]["contrast"] == 100 and told[1]["sharpness"] == pytest.approx(200 / 31)
    assert told[2]["brightness"] == pytest.approx(128)
    assert embedding.shape == (3, images.DIMENSIONS)


def test_the_profile_of_images_is_sealed_with_the_dataset(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = [{"image": png(draw.integers(0, 255, (9, 9))), "labels": ["ab"[n % 2]]} for n in range(60)]
    manifest = run(tmp_path, rows, task=Task(kind="image_classification"))
    assert FILE in manifest["files"] and "components.parquet" in manifest["files"]
    assert Dataset(tmp_path / "out").manifest["profile"]["labels"] == {"a": 30, "b": 30}
