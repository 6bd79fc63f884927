"""Checks, twins and splits: no row is lost, none leaks, and new rows move no old ones."""

from __future__ import annotations

import io
import sys
import zlib
from collections import Counter
from types import ModuleType
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrainer.data import images
from retrainer.data.images import look_at
from retrainer.data.ingest import ingest
from retrainer.data.preprocess import preprocess
from retrainer.data.sources._columns import encoded_array
from retrainer.data.splits import components, normalised, position
from retrainer.data.tables import take_rows
from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.formats.names import SPLITS
from retrainer.settings import Source, Split, Task
from retrainer.tasks.text_classification import Options, TextClassification
from tests.raw_rows import TEXT, WARN, Row, raw_of, run, scratch, told, where, words

# --- properties -------------------------------------------------------------------------------------------

# Few words, groups and labels, so that twins, links and conflicts are common; blanks and absent values too.
ROW = st.fixed_dictionaries(
    {
        "text": st.sampled_from([*"abcdefghij", "A ", " b", "", "  "])
        | st.text("xyz", min_size=1, max_size=5),
        "labels": st.sampled_from([["p"], ["q"], [" p "], [], None]),
    },
    optional={"group": st.sampled_from(["g", "h", "i", "j", "", None])},
)
# Rows that are always there, so that every split has something in it.
BASE = [{"text": f"base {n}", "labels": ["p" if n % 2 else "q"]} for n in range(40)]


def numbered(rows: list[Row]) -> list[Row]:
    return [{**row, "origin": f"a.csv:row {n}"} for n, row in enumerate(rows)]


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(ROW, max_size=30),
    test=st.lists(ROW, max_size=6),
    own_test=st.booleans(),
    limit=st.sampled_from([0, 20]),
)
def test_every_row_comes_out_once_or_is_dropped_with_one_reason(rows, test, own_test, limit):
    tests = [{"text": "base test", "labels": ["p"]}, *test] if own_test else None
    with scratch() as folder:
        manifest = run(folder, [*BASE, *rows], tests, limit=limit)
        total = len(BASE) + len(rows) + len(tests or [])
        assert sum(manifest["rows"].values()) + sum(manifest["dropped"].values()) == total
        assert len(where(folder)) == total


@settings(max_examples=10, deadline=None)
@given(rows=st.lists(ROW, max_size=30), seed=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_neither_content_nor_files(rows, seed):
    ordered = numbered([*BASE, *rows])
    shuffled = seed.sample(ordered, len(ordered))
    with scratch() as one, scratch() as other:
        first, second = run(one, ordered), run(other, shuffled)
        assert first["content_sha256"] == second["content_sha256"]
        columns = [name for name in first["columns"] if name != "origin"]
        for split in SPLITS:
            assert Dataset(one / "out").split(split, columns) == Dataset(other / "out").split(split, columns)


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(ROW, max_size=40), test=st.lists(ROW, max_size=8), own_test=st.booleans())
def test_no_group_and_no_content_is_in_two_splits(rows, test, own_test):
    tests = [{"text": "base test", "labels": ["p"]}, *test] if own_test else None
    with scratch() as folder:
        run(folder, [*BASE, *rows], tests)
        homes: dict[str, set[str]] = {}
        for split in SPLITS:
            for row in Dataset(folder / "out").split(split).to_pylist():
                homes.setdefault("text " + normalised(row["text"]), set()).add(split)
                if (row.get("group") or "").strip():
                    homes.setdefault("group " + row["group"], set()).add(split)
        assert all(len(splits) == 1 for splits in homes.values())


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(ROW, max_size=25), new=st.lists(ROW, min_size=1, max_size=5))
def test_a_new_row_moves_no_old_one_unless_it_links_components(rows, new):
    rows = [{"text": "a", "labels": ["p"]}, *rows]

    def places(part: list[Row]) -> list[bytes]:
        return components(
            [normalised(row["text"] or "").encode() for row in part], [row.get("group") for row in part]
        )

    before, after = places(rows), places([*rows, *new])
    joined: dict[bytes, set[bytes]] = {}
    for old, now in zip(before, after, strict=False):
        joined.setdefault(now, set()).add(old)
    for old, now in zip(before, after, strict=False):
        linked = len(joined[now]) > 1 or any(
            now == place and (row.get("group") or "").strip()
            for row, place in zip(new, after[len(rows) :], strict=True)
        )
        assert old == now or linked


def test_new_rows_move_no_old_ones(tmp_path):
    rows = [{**row, "group": f"g{n // 3}"} for n, row in enumerate(words(200))]
    homes = []
    for part in (rows[50:150], rows):
        run(tmp_path, part)
        dataset = Dataset(tmp_path / "out")
        homes.append({text: split for split in SPLITS for text in dataset.split(split)["text"].to_pylist()})
    assert homes[0].items() <= homes[1].items() and len(homes[1]) == 200


# --- twins ------------------------------------------------------------------------------------------------


def test_exact_duplicates_are_kept_once_and_contradictory_rows_are_dropped(tmp_path):
    twins = [
        {"text": "Where  is my card?", "labels": ["card"]},
        {"text": "where is\nMY card?", "labels": [" card"]},
        {"text": "Stra\u00dfe cafe\u0301", "labels": ["even"]},
        {"text": "STRASSE CAF\u00c9", "labels": ["odd"]},
    ]
    run(tmp_path, [*twins, *words(30)])
    found = where(tmp_path)
    assert sorted(found[f"a.csv:row {n}"] in SPLITS for n in (1, 2)) == [False, True]
    assert Counter(found.values())["duplicate"] == 1
    assert found["a.csv:row 3"] == found["a.csv:row 4"] == "conflicting labels"


def test_an_own_test_set_is_kept_whole_and_never_trained_on(tmp_path):
    rows = [
        {"text": "Same TEXT", "labels": ["odd"]},
        {"text": "another", "labels": ["odd"], "group": "tested"},
        {"text": "linked", "labels": ["odd"], "group": "through"},
        {"text": "same text", "labels": ["odd"], "group": "through"},
        *words(30),
    ]
    test = [
        {"text": "same text", "labels": ["even"]},
        {"text": "same text", "labels": ["odd"]},
        {"text": "x", "labels": ["even"], "group": "tested"},
        {"text": "", "labels": ["even"]},
    ]
    manifest = run(tmp_path, rows, test, test=0.5)
    found = where(tmp_path)
    assert {found[f"a.csv:row {n}"] for n in (1, 2, 3, 4)} == {"also in the test set"}
    assert [found[f"t.csv:row {n}"] for n in (1, 2, 3, 4)] == ["test", "test", "test", "empty text"]
    assert manifest["rows"]["train"] + manifest["rows"]["validation"] == 30


def test_pairs_are_twins_only_as_pairs(tmp_path):
    rows = [
        {"text": a, "text_pair": b, "labels": ["x"]}
        for a, b in (("a", "b"), ("a", "c"), ("A", "B "), ("a", ""))
    ]
    manifest = run(tmp_path, [*rows, *words(30, text_pair="z")])
    assert manifest["dropped"] == {"duplicate": 1, "empty text pair": 1}


# --- checks -----------------------------------------------------------------------------------------------


def encoded(size: tuple[int, int] = (6, 5), form: str = "PNG", mode: str = "RGB", shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(shade).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(buffer, form)
    return buffer.getvalue()


def of_size(image: bytes, side: int) -> bytes:
    """A PNG whose header speaks of many pixels, with the checksum that belongs to it."""
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + image[24:29]
    return image[:12] + header + zlib.crc32(header).to_bytes(4, "big") + image[33:]


IMAGES = {
    "png": (encoded(), None),
    "grey": (encoded(mode="L"), None),
    "tiny jpeg": (encoded((3, 2), "JPEG"), None),
    "jpeg": (encoded((300, 200), "JPEG"), None),
    "webp": (encoded(form="WEBP"), None),
    "gif": (encoded(form="GIF"), None),
    "absent": (None, "no image"),
    "empty": (b"", "not an image"),
    "text": (b"hello", "not an image"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "cut png": (encoded((90, 90))[:-600], "broken image"),
    "cut jpeg": (encoded((300, 200), "JPEG")[:-900], "broken image"),
    "only a header": (encoded((90, 90))[:33], "not an image"),
    "huge": (of_size(encoded(), 60_000), "image too large"),
    "beyond a bomb": (of_size(encoded(), 2**31 - 1), "image too large"),
}


def test_each_image_is_kept_or_dropped_by_itself():
    column = pa.chunked_array([encoded_array([data for data, _ in IMAGES.values()])])
    found = {name: look.reason for name, look in zip(IMAGES, look_at(column), strict=True)}
    assert found == {name: reason for name, (_, reason) in IMAGES.items()}


def test_an_image_of_too_many_pixels(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 10)
    (look,) = look_at(pa.chunked_array([encoded_array([encoded()])]))
    assert look.reason == "image too large"


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["png", "jpeg", "webp", "gif"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255))),
    st.integers(0, 10**6),
)
def test_damaged_images_are_judged_not_fatal(name, flips, cut):
    data = bytearray(IMAGES[name][0])
    for place, flip in flips:
        data[place % len(data)] ^= flip
    (look,) = look_at(pa.chunked_array([encoded_array([bytes(data[: len(data) - cut % len(data)])])]))
    assert look.reason in (None, "not an image", "broken image", "image too large")


def test_rows_that_cannot_be_used_are_dropped_with_the_reason(tmp_path):
    bad = [
        {"text": None, "labels": ["odd"]},
        {"text": " \n", "labels": ["odd"]},
        {"text": "a", "labels": None},
        {"text": "b", "labels": []},
        {"text": "c", "labels": ["  "]},
        {"text": "d", "labels": [" odd", "odd "]},
    ]
    run(tmp_path, [*bad, *words(30)])
    found = where(tmp_path)
    assert [found[f"a.csv:row {n}"] for n in (1, 2, 3, 4, 5)] == ["empty text"] * 2 + ["missing label"] * 3
    assert found["a.csv:row 6"] in SPLITS


def test_several_labels_want_the_setting(tmp_path):
    rows = [*words(30), {"text": "a", "labels": ["odd", "even"], "origin": "mine.csv:row 7"}]
    with pytest.raises(UserError, match=r"mine\.csv:row 7 has 2 labels.*task\.multi_label: true"):
        run(tmp_path, rows)
    rows += [{"text": "b", "labels": []}, {"text": "c", "labels": None}]
    manifest = run(tmp_path, rows, task=Task(multi_label=True))
    assert manifest["dropped"] == {"missing label": 1}
    kept = [row for split in SPLITS for row in Dataset(tmp_path / "out").split(split).to_pylist()]
    assert [row["labels"] for row in kept if row["text"] in "ab"] in (
        [["even", "odd"], []],
        [[], ["even", "odd"]],
    )


def test_the_task_says_which_columns_count(tmp_path, monkeypatch):
    class Both(TextClassification):
        input_columns: ClassVar = {"text": "string", "image": "image"}

    plugin = ModuleType("plugins.mine")
    plugin.make = lambda task, labels: Both(Options(), labels, task.multi_label)
    monkeypatch.setitem(sys.modules, "plugins.mine", plugin)
    rows = [{**row, "image": {"bytes": encoded(shade=n), "path": None}} for n, row in enumerate(words(30))]
    rows[0]["text"], rows[1]["image"] = "", None
    for kind, columns, dropped in (
        ("text_classification", ["text", "labels", "origin"], {"empty text": 1}),
        ("image_classification", ["image", "labels", "origin"], {"no image": 1}),
        ("plugins.mine", ["text", "image", "labels", "origin"], {"empty text": 1, "no image": 1}),
    ):
        manifest = run(tmp_path, rows, task=Task(kind=kind))
        assert (manifest["columns"], manifest["dropped"]) == (columns, dropped)


def test_a_task_whose_column_is_absent(tmp_path):
    with pytest.raises(
        UserError, match="image_classification reads the column 'image', and the source has text"
    ):
        run(tmp_path, words(30), task=Task(kind="image_classification"))


# --- choosing ---------------------------------------------------------------------------------------------


def test_rows_per_class_are_the_lowest_hashes_and_a_prefix_of_more(tmp_path):
    chosen = {}
    for most in (3, 6):
        manifest = run(tmp_path, words(200), train_per_class=most, validation_per_class=2)
        assert manifest["classes"]["train"] == {"even": most, "odd": most}
        assert manifest["classes"]["validation"] == {"even": 2, "odd": 2}
        chosen[most] = set(Dataset(tmp_path / "out").split("train")["text"].to_pylist())
    assert chosen[3] < chosen[6]


def test_a_limit_keeps_two_rows_a_class_and_every_split(tmp_path):
    rows = [{"text": f"text {n}", "labels": [f"class {n % 20}"]} for n in range(1000)]
    manifest = run(tmp_path, rows, limit=50)
    assert (
        set(manifest["classes"]["train"].values()) <= {2, 3, 4, 5, 6}
        and len(manifest["classes"]["train"]) == 20
    )
    assert all(manifest["rows"][split] >= 2 for split in SPLITS) and sum(manifest["rows"].values()) <= 80
    whole = run(tmp_path, rows, limit=1000)
    assert sum(whole["rows"].values()) == 1000 and not whole["dropped"]


def test_splits_have_their_shares_and_another_salt_draws_others(tmp_path):
    manifest = run(tmp_path, words(3000), test=0.2, validation=0.1)
    assert abs(manifest["rows"]["test"] - 600) < 70 and abs(manifest["rows"]["validation"] - 300) < 60
    other = run(tmp_path, words(3000), test=0.2, validation=0.1, salt="x")
    assert other["content_sha256"] != manifest["content_sha256"]
    places = [position(bytes([n]), "") for n in range(200)]
    assert 0 <= min(places) < 0.1 < 0.9 < max(places) < 1


BAD_SPLITS = {
    "nothing to test": (words(30), None, {"test": 0}, "no row of 30 is left to test on.*split.test"),
    "nothing to train": (
        words(3),
        words(3),
        {},
        "no row of 6 is left to train on; dropped: 3 also in the test set",
    ),
    "one class": (
        [{"text": f"t {n}", "labels": ["x"]} for n in range(30)],
        None,
        {},
        r"checks\.single_class: 1 class only \('x'\).*source.label",
    ),
    "no row": (
        [{"text": "", "labels": ["x"]}],
        None,
        {},
        "no row of 0 is left to test on; dropped: 1 empty text",
    ),
    "shares": (words(30), None, {"test": 0.6, "validation": 0.5}, r"split.test \+ split.validation is 1\.1"),
}


@pytest.mark.parametrize("name", BAD_SPLITS)
def test_a_split_without_what_training_needs_is_an_error(tmp_path, name):
    rows, test, split, message = BAD_SPLITS[name]
    with pytest.raises(UserError, match=message):
        run(tmp_path, rows, test, **split)
    assert not (tmp_path / "out").exists()


def test_what_is_allowed_but_hardly_meant_is_a_warning(tmp_path):
    test = [{"text": "t", "labels": ["unseen"]}]
    rows = [*words(40), *({"text": f"c {n}", "labels": ["Odd"], "group": "one"} for n in range(40))]
    found = told(run(tmp_path, rows, test, validation=0))
    assert found["unseen_class"] == (1, "classes of test that train never sees")
    assert found["no_validation"][1].startswith("empty validation")
    assert found["label_spelling"] == (1, "names that differ only in case, space or punctuation")
    assert found["large_component"][0] == 40 and found["large_component"][1].startswith(
        "of 81 rows are linked"
    )
    assert told(run(tmp_path, words(100))) == {}


def test_what_ingest_dropped_is_carried_on(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"t {n},{'xyz'[n % 3]}\n" for n in range(60)))
    ingest(Source(path=str(tmp_path / "a.csv"), classes=("x", "y")), tmp_path / "raw")
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", Split(), WARN, TEXT)
    assert manifest["dropped"] == {"class not selected": 20} and sum(manifest["rows"].values()) == 40
    assert manifest["sources"][0]["file"] == "a.csv"


def test_the_same_input_gives_the_same_bytes(tmp_path):
    raw = raw_of(tmp_path, words(100))
    for name in ("one", "two"):
        preprocess(raw, tmp_path / name, Split(), WARN, TEXT)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_rows_are_taken_across_chunks():
    parts = [pa.table({"image": encoded_array([bytes([n])]), "id": [str(n)]}) for n in range(250)]
    order = list(range(249, -1, -2))
    taken = take_rows(pa.concat_tables(parts), order)
    assert (
        [row["bytes"][0] for row in taken["image"].to_pylist()]
        == order
        == [int(n) for n in taken["id"].to_pylist()]
    )
    assert len(take_rows(pa.concat_tables(parts), [])) == 0


@pytest.mark.slow
def test_banking77_is_preprocessed_whole(tmp_path, shared_data):
    folder = shared_data / "banking77"
    source = Source(path=str(folder / "train.csv"), test_path=str(folder / "test.csv"), label="category")
    ingest(source, tmp_path / "raw")
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", Split(), WARN, TEXT)
    near = manifest["dropped"].pop("near-duplicate of a test row")
    assert manifest["dropped"] == {"also in the test set": 7, "duplicate": 4} and 100 < near < 300
    assert manifest["rows"]["test"] == 3_080 and len(manifest["classes"]["train"]) == 77
