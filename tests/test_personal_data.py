"""Personal data in texts: what is found, what is not, and that a model is served as it was trained."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.personal_data import mask_columns, without_personal_data
from retrainer.settings import Checks, Task
from retrainer.tasks import text_classification
from tests.encoders import tokenizer_json
from tests.raw_rows import run, told


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to a.b+c@example.co.uk, please", "write to [email], please"),
        ("GB82 WEST 1234 5698 7654 32 AND MORE", "[iban] AND MORE"),
        ("DE89370400440532013000.", "[iban]."),
        ("card 4111 1111 1111 1111 or 378282246310005", "card [card] or [card]"),
        ("from 8.8.8.8 and 2001:4860:4860::8888", "from [ip] and [ip]"),
        ("call +49 (0)30 901820 or (212) 555-0142", "call [phone] or [phone]"),
        ("212-555-0142, 212.555.0142", "[phone], [phone]"),
    ],
)
def test_it_is_found_and_masked_once(text: str, masked: str) -> None:
    found, counts = without_personal_data(text)
    assert found == masked
    assert counts.total() == masked.count("[")
    assert without_personal_data(masked) == (masked, {})


@pytest.mark.parametrize(
    "text",
    [
        "GB82 WEST 1234 5698 7654 33",  # a wrong check digit
        "4111 1111 1111 1112",
        "1234567890123452",  # right by Luhn, of no issuer
        "ISBN 978-3-16-148410-0",
        "at 12:30:45 on 2020-01-01, from 192.168.1.1 to v1.2.3.4",
        "order 1234567890, 3.14159265358979, 1,234,567.89, 12 345 678",
        "user@host and @name, 5 @ 3.50",
        "",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert without_personal_data(text) == (text, {})


def test_a_long_text_takes_no_long_time() -> None:
    for part in ("a", "1", "1 ", "a@", "+1", "GB82", "1.", ":", "(2"):
        text = part * 20_000
        assert without_personal_data(text)[0] == text


@pytest.mark.slow
def test_no_false_alarm_in_questions_and_captions(shared_data: Path) -> None:
    with (shared_data / "banking77" / "train.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    captions = gzip.decompress((shared_data / "multi30k" / "train.de.gz").read_bytes()).decode().splitlines()
    found = [text for text in (*(row["text"] for row in rows), *captions) if without_personal_data(text)[1]]
    assert len(rows) == 10_003 and len(captions) == 29_000 and found == []


ROWS = [
    {"text": f"{n} words and then {'more ' * (n % 7)}", "labels": ["odd" if n % 2 else "even"]}
    for n in range(60)
] + [
    {"text": "ask jane@example.org about it", "labels": ["odd"]},
    {"text": "call +4930901820", "labels": ["even"]},
]


def test_the_check_counts_rows_and_shows_none_of_it(tmp_path: Path) -> None:
    manifest = run(tmp_path, ROWS, test=0.3)
    count, note = told(manifest)["personal_data"]
    assert (count, note) == (2, "rows with personal data in a text (1 email, 1 phone)")
    found = next(one for one in manifest["checks"] if one["name"] == "personal_data")
    assert found["examples"] == ["a.csv:row 61: email", "a.csv:row 62: phone"]
    assert "jane@" not in str(found)


def test_it_stops_where_the_level_says_so(tmp_path: Path) -> None:
    checks = Checks.parse({"personal_data": 0.01}, "checks")
    with pytest.raises(UserError, match=r"checks\.personal_data: 2 rows .*mask_personal_data: true, or set"):
        run(tmp_path, ROWS, checks=checks, test=0.3)


def test_masked_it_is_gone_before_keys_are_made_and_stops_nothing(tmp_path: Path) -> None:
    twins = [{"text": f"ask {name}@example.org about it", "labels": ["odd"]} for name in ("ann", "bob")]
    task = Task.parse({"kind": "text_classification", "mask_personal_data": True}, "task")
    checks = Checks.parse({"personal_data": "error"}, "checks")
    manifest = run(tmp_path, ROWS + twins, task=task, checks=checks, test=0.3)
    assert told(manifest)["masked_personal_data"][0] == 4
    assert told(manifest)["duplicates"][0] == 2
    tables = [Dataset(tmp_path / "out").split(name) for name in ("train", "validation", "test")]
    everything = [text for table in tables for text in table["text"].to_pylist()]
    assert "ask [email] about it" in everything and not any("@" in text for text in everything)


def test_a_served_text_is_masked_as_the_rows_were() -> None:
    options = {"kind": "text_classification", "mask_personal_data": True}
    task = text_classification.make(Task.parse(options, "task"), ("a", "b"))
    preprocessing = {"tokenizer": "tokenizer.json", "max_length": 16, "pad_id": 0, "pairs": False}
    assets = {"tokenizer.json": tokenizer_json(100).encode()}
    texts = [f"w5 {who}@example.org w7" for who in ("ann", "bob")]
    encoded = task.encode(pa.table({"text": texts, "origin": ["a", "b"]}), preprocessing, assets)
    rows = [encoded.batch(pa.array([n]).to_numpy())["input_ids"].tolist() for n in (0, 1)]
    assert rows[0] == rows[1]
    masked = mask_columns(pa.table({"text": [*texts, None]}), ["text", "text_pair"])
    assert masked["text"].to_pylist() == ["w5 [email] w7", "w5 [email] w7", None]
