"""report.html of a dataset: whole, escaped, the same bytes again; and further columns kept for slices."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.preprocess import preprocess as step
from retrainer.data.ingest import ingest
from retrainer.data.near import drawn
from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.pages.histograms import binned, histogram
from retrainer.settings import Checks, Source, Split, Task
from tests.html_page import Page
from tests.raw_rows import TEXT, Row, raw_of, run, told, words

QUESTION = "why was the payment with my card declined at the shop on the corner yesterday evening"
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


def page_of(folder: Path) -> Page:
    return Page((folder / "findings/report.html").read_text(encoding="utf-8"))


def some_rows() -> list[Row]:
    alike = [{"text": f"{QUESTION} {ending}", "labels": ["odd"]} for ending in ("", "!", "so")]
    return [*words(60), *alike, {"text": "", "labels": ["odd"]}, {"text": "a\ufffd", "labels": ["even"]}]


def test_the_page_tells_rows_checks_classes_and_pairs(tmp_path):
    manifest = run(tmp_path, some_rows())
    page = page_of(tmp_path)
    assert "Data: 64 of 65 rows" in page.text
    for found in manifest["checks"]:
        assert found["name"].replace("_", " ") in page.text and found["note"] in page.text
    assert "empty text" in page.text and "even" in page.text and "Length of a text" in page.text
    pairs = told(manifest)["near_duplicates"][0]
    assert f"{pairs} of" in page.text or "All pairs" in page.text
    assert page.said.count(QUESTION + " ") + page.said.count(QUESTION) >= 1
    assert manifest["content_sha256"][:12] in page.text


def test_of_the_pairs_those_of_different_clusters_are_drawn_first():
    large = [(b"a0", f"a{n}".encode()) for n in range(1, 30)]
    small = [(f"{letter}0".encode(), f"{letter}1".encode()) for letter in "bcd"]
    assert drawn([*large, *small]) == [large[0], *small, *large[1:9]]


def test_at_most_twelve_pairs_are_drawn(tmp_path):
    rows = [{"text": f"{QUESTION} {n}", "labels": ["odd"]} for n in range(30)]
    manifest = run(tmp_path, [*words(60), *rows])
    assert told(manifest)["near_duplicates"][0] > 12
    assert page_of(tmp_path).attributes.count(("class", "pair sides")) == 12


def test_nothing_from_the_data_is_markup_and_nothing_is_loaded(tmp_path):
    rows = [*words(40), *({"text": f"{QUESTION} {HOSTILE}{end}", "labels": [HOSTILE]} for end in ("", "!"))]
    rows[-1]["origin"] = f"{HOSTILE}.csv:row 1"
    run(tmp_path, rows)
    page = page_of(tmp_path)
    assert "script" not in page.tags and not any(name.startswith("on") for name, _ in page.attributes)
    assert not [value for name, value in page.attributes if name in ("src", "href") and "data:" not in value]
    assert page.text.count(HOSTILE) >= 2 and not page.open
    assert any("default-src 'none'" in value for _, value in page.attributes)


def test_images_are_drawn_without_their_metadata(tmp_path):
    note = Image.Exif()
    note[0x010E] = "a secret place"
    rows = []
    for n in range(40):
        noise = np.random.default_rng(n % 39).integers(0, 256, (9, 7, 3), np.uint8)
        noise[0, 0] = n  # the last is the first but for one pixel
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, "PNG", exif=note)
        rows.append(
            {"image": {"bytes": buffer.getvalue(), "path": None}, "labels": ["odd" if n % 2 else "even"]}
        )
    manifest = run(tmp_path, rows, task=Task(kind="image_classification"))
    page = page_of(tmp_path)
    assert told(manifest)["near_duplicates"][0] == 1 and page.tags.count("img") == 2
    assert "Width" in page.text and "a secret place" not in (tmp_path / "findings/report.html").read_text()


def test_the_same_rows_give_the_same_bytes_and_the_page_is_no_part_of_the_data(tmp_path):
    """How the page looks must not train anything again: it lies beside the dataset, not in it."""
    manifest = run(tmp_path, some_rows())
    assert "row_keys.parquet" in manifest["files"] and "report.html" not in manifest["files"]
    made = [*(tmp_path / "out").iterdir(), *(tmp_path / "findings").iterdir()]
    first = {path: path.read_bytes() for path in made}
    assert run(tmp_path, some_rows()) == manifest
    assert {path: path.read_bytes() for path in made} == first
    # Another way to look at the rows changes the page, not the content.
    other = run(tmp_path, some_rows(), checks=Checks(encoding="off"))
    assert other["content_sha256"] == manifest["content_sha256"]
    assert (tmp_path / "findings/report.html").read_bytes() != first[tmp_path / "findings/report.html"]


def test_the_step_copies_the_page_to_its_view(tmp_path):
    raw = raw_of(tmp_path, some_rows())
    step(raw, tmp_path / "out", tmp_path / "findings", tmp_path / "view/index.html", Split(), Checks(), TEXT)
    assert (tmp_path / "view/index.html").read_bytes() == (tmp_path / "findings/report.html").read_bytes()


@pytest.mark.parametrize("values", [[5], [3, 3, 3], list(range(1000)), [1, 2, 10**9], [0] * 99 + [7]])
def test_every_value_is_in_one_bar(values):
    bins = binned(values)
    assert sum(bins.counts) == len(values) and len(bins.edges) == len(bins.counts) + 1 <= 27
    assert bins.edges[0] <= min(values)
    assert bins.open_ended == (max(values) >= bins.edges[-1])
    Page(histogram(values, "words", "a <b>"))


# --- metadata ---------------------------------------------------------------------------------------------

METADATA = ("region", "stars")


def tables(folder: Path) -> dict[str, str]:
    """The same three rows in each form of table."""
    rows = [("a", "x", "north", 5), ("b", "y", "süd", None), ("c", "x", None, 2.5)]
    plain = [dict(zip(("text", "label", *METADATA), row, strict=True)) for row in rows]
    csv = "text,label,region,stars\n" + "".join(
        ",".join("" if value is None else str(value) for value in row) + "\n" for row in rows
    )
    (folder / "a.csv").write_text(csv, encoding="utf-8")
    lines = [json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in plain]
    (folder / "a.jsonl").write_text("".join(lines))
    pq.write_table(pa.Table.from_pylist(plain), folder / "a.parquet")
    return {form: str(folder / f"a.{form}") for form in ("csv", "jsonl", "parquet")}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_further_columns_are_kept_as_canonical_json(tmp_path, form):
    ingest(Source(path=tables(tmp_path)[form], metadata=METADATA), tmp_path / "raw")
    kept = Dataset(tmp_path / "raw").split("all")["metadata"].to_pylist()
    absent = '""' if form == "csv" else "null"
    assert kept == [
        '{"region":"north","stars":"5"}',
        f'{{"region":"süd","stars":{absent}}}',
        f'{{"region":{absent},"stars":"2.5"}}',
    ]


def test_metadata_goes_through_preprocessing_and_into_the_content_hash(tmp_path):
    hashes = set()
    for region in (None, "north", "south"):
        more = {} if region is None else {"metadata": json.dumps({"region": region})}
        manifest = run(tmp_path, words(40, **more))
        hashes.add(manifest["content_sha256"])
        assert ("metadata" in manifest["columns"]) == (region is not None)
    assert len(hashes) == 3


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_further_column_that_is_absent_is_named_with_the_nearest(tmp_path, form):
    source = Source(path=tables(tmp_path)[form], metadata=("regoin",))
    with pytest.raises(
        UserError, match=rf"^source\.metadata: a\.{form} has no column 'regoin'; did you mean 'region'"
    ):
        ingest(source, tmp_path / "raw")


def test_a_source_without_columns_has_no_metadata_to_keep(tmp_path):
    for name in ("x", "y"):
        (tmp_path / "d" / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "d" / name / "1.png")
    with pytest.raises(UserError, match=r"^source\.metadata: image_folder has no further columns to keep"):
        ingest(Source(path=str(tmp_path / "d"), metadata=("region",)), tmp_path / "raw")


def test_a_value_that_is_no_text_is_named_with_its_row(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "x", "tags": ["p", "q"]}\n')
    with pytest.raises(UserError, match=re.escape("a.jsonl:row 1: column 'tags' holds a list")):
        ingest(Source(path=str(tmp_path / "a.jsonl"), metadata=("tags",)), tmp_path / "raw")
