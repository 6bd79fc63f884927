"""CSV, JSON Lines and Parquet, and what looks odd in them and is fine."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from tests.bad_inputs.archives import SOUND, other_names_zip
from tests.bad_inputs.bricks import Case, csv, file, jsonl, parquet, png, table, zip_of


def spoiled(row: int, **values: Any) -> list[Any]:
    return [sound | values if number == row else sound for number, sound in enumerate(table(), start=1)]


def without(key: str) -> list[Any]:
    return [{k: v for k, v in row.items() if k != key} for row in table()]


def every(**values: Any) -> list[Any]:
    return [row | values for row in table()]


def line_of(row: int, line: str) -> str:
    return jsonl([line if number == row else sound for number, sound in enumerate(table(), start=1)])


CSV = csv(table())
TABLES = {
    "csv: a quote never closed": Case(
        file("a.csv", CSV + '"open,a\nx,b\n'), r"a\.csv:row 41: .*never closed"
    ),
    "csv: too many fields": Case(file("a.csv", CSV + "a,b,c\n"), r"a\.csv:row 41: 3 fields.*put quotes"),
    "csv: too few fields": Case(file("a.csv", CSV + "alone\n"), r"a\.csv:row 41: 1 fields.*header names 2"),
    "csv: no such column, but one like it": Case(
        file("a.csv", CSV.replace("label", "Labels")),
        r"a\.csv has no column 'label'.*set source\.label to 'Labels'",
    ),
    "csv: a column twice": Case(
        file("a.csv", "text,label,note,note\na,b,c,d\n"), r"a\.csv: two columns are named 'note'; rename"
    ),
    "csv: a NUL": Case(file("a.csv", CSV + "a\0b,a\n"), r"a\.csv: line 42 has a NUL character; save"),
    "csv: UTF-16": Case(file("a.csv", CSV.encode("utf-16")), r"a\.csv: not UTF-8 text in line 1; save it"),
    "csv: UTF-16 without a mark": Case(file("a.csv", CSV.encode("utf-16-le")), r"a\.csv: line 1 has a NUL"),
    "csv: Latin-1": Case(
        file("a.csv", CSV.encode() + "café,a\n".encode("latin-1")),
        r"a\.csv: not UTF-8 text in line 42; save it",
    ),
    "csv: empty": Case(file("a.csv", ""), r"a\.csv is empty; its first line must name the columns"),
    "csv: only a header": Case(file("a.csv", "text,label\n"), r"a\.csv has no rows to train on"),
    "csv: no usable row": Case(
        file("a.csv", "text,label\n" + " ,a\n,b\n" * 5),
        r"^preprocess: checks\.empty: 10 rows .*row 1: empty text.*: 100%",
        "preprocess",
    ),
    "csv: one class": Case(file("a.csv", csv(every(label="a"))), "'a'.*check source.label", "preprocess"),
    "csv: no label anywhere": Case(
        file("a.csv", csv(every(label=""))),
        r"^preprocess: checks\.empty: 40 rows .*missing label.*: 100%",
        "preprocess",
    ),
    "csv: labels of white space": Case(
        file("a.csv", csv(every(label="  "))),
        r"^preprocess: checks\.empty: 40 rows .*missing label.*: 100%",
        "preprocess",
    ),
    "csv: a text of 17 MB": Case(
        file("a.csv", lambda: ("text,label\n" + "a" * 17 * 2**20 + ",b\n").encode()),
        r"a\.csv: line 2 has more than",
    ),
    "csv: a quote never closed before 17 MB": Case(
        file("a.csv", lambda: ('text,label\n"' + ("a" * 99 + "\n") * 180_000).encode()),
        r"a\.csv:row 1: .*never closed",
    ),
    "csv: semicolons": Case(
        file("a.csv", CSV.replace(",", ";")), r"a\.csv has no column 'label'.*must be separated by commas"
    ),
    "csv: tabs": Case(
        file("a.csv", CSV.replace(",", "\t")), r"has no column 'label'.*separated by commas.*\.tsv by tabs"
    ),
    "csv: several labels in one": Case(
        file("a.csv", CSV + "x,a|b\n", label_separator="|"),
        r"a\.csv:row 41 has 2 labels.*task\.multi_label",
        "preprocess",
    ),
    "csv: no such class": Case(
        file("a.csv", CSV, classes=["a", "c"]), "source.classes: no row has the class 'c'"
    ),
    "jsonl: no JSON": Case(
        file("a.jsonl", line_of(7, '{"text": "a"')), r"a\.jsonl:row 7: not JSON.*one whole object"
    ),
    "jsonl: a list": Case(file("a.jsonl", line_of(7, "[1]")), r"a\.jsonl:row 7: a list, not an object"),
    "jsonl: a whole file that is one list": Case(
        file("a.jsonl", json.dumps(table(), indent=1)), r"a\.jsonl:row 1: not JSON.*one whole object"
    ),
    "jsonl: NaN": Case(
        file("a.jsonl", line_of(7, '{"text": NaN, "label": "a"}')),
        r"a\.jsonl:row 7: .*NaN is no number; write null",
    ),
    "jsonl: Infinity": Case(
        file("a.jsonl", line_of(7, '{"text": "a", "label": -Infinity}')),
        r"row 7: .*-Infinity is no number; write null",
    ),
    "jsonl: a number beyond all bounds": Case(
        file("a.jsonl", line_of(7, '{"text": 1e999, "label": "a"}')),
        r"a\.jsonl:row 7: column 'text' holds an infinite",
    ),
    "jsonl: a number of 5,000 digits": Case(
        file("a.jsonl", line_of(7, '{"text": "a", "label": %s}' % ("9" * 5000))), r"a\.jsonl:row 7: not JSON"
    ),
    "jsonl: deep nesting": Case(
        file("a.jsonl", line_of(7, '{"text": ' + "[" * 100_000 + "}")), r"a\.jsonl:row 7: not JSON"
    ),
    "jsonl: a key twice": Case(
        file("a.jsonl", line_of(7, '{"text": "a", "label": "b", "label": "a"}')),
        r"row 7: .*key 'label' stands twice",
    ),
    "jsonl: half a character": Case(
        file("a.jsonl", line_of(7, '{"text": "\\ud800", "label": "a"}')),
        r"row 7: column 'text' holds half a character",
    ),
    "jsonl: Latin-1": Case(
        file("a.jsonl", jsonl(table()).encode() + b'{"text": "\xe9"}'),
        r"a\.jsonl:row 41: not UTF-8 text; save",
    ),
    "jsonl: no label in any row": Case(
        file("a.jsonl", jsonl(without("label"))), r"a\.jsonl has no column 'label'.*set source\.label"
    ),
    "jsonl: a text that is a list": Case(
        file("a.jsonl", jsonl(spoiled(7, text=["a"]))), r"a\.jsonl:row 7: column 'text' holds a list"
    ),
    "jsonl: mixed kinds of labels": Case(
        file("a.jsonl", jsonl(spoiled(7, label={"name": "a"}))),
        r"a\.jsonl:row 7: column 'label' holds a dict",
    ),
    "jsonl: a label with a fraction": Case(
        file("a.jsonl", jsonl(spoiled(7, label=0.5))),
        r"a\.jsonl:row 7: column 'label' holds 0\.5.*whole number",
    ),
    "jsonl: an image outside": Case(
        file("a.jsonl", jsonl([{"image": "../../etc/passwd", "label": "a"}])),
        r"a\.jsonl: column 'image' names",
    ),
    "jsonl: a line of 17 MB": Case(
        file("a.jsonl", lambda: b'{"text": "' + b"a" * 17 * 2**20 + b'", "label": "a"}'),
        r"a\.jsonl:row 1: more than",
    ),
    "parquet: truncated": Case(
        file("a.parquet", parquet({"text": ["a"] * 99, "label": ["a"] * 99})[:-50]),
        r"a\.parquet is not a whole Parquet",
    ),
    "parquet: encrypted": Case(
        file("a.parquet", b"PARE" + bytes(100) + b"PARE"), r"a\.parquet is not a whole Parquet"
    ),
    "parquet: text of bytes": Case(
        file("a.parquet", parquet({"text": [b"a"], "label": ["a"]})),
        r"a\.parquet:row 1: column 'text' holds a bytes",
    ),
    "parquet: nested text": Case(
        file("a.parquet", parquet({"text": [{"en": "a"}], "label": ["a"]})),
        r"row 1: column 'text' holds a dict",
    ),
    "parquet: labels with a fraction": Case(
        file("a.parquet", parquet({"text": ["a", "b"], "label": [1.0, 0.5]})),
        r"row 2: column 'label' holds 0\.5",
    ),
    "parquet: labels that are all NaN": Case(
        file("a.parquet", parquet({"text": list("abcd"), "label": [float("nan")] * 4})),
        r"^preprocess: checks\.empty: 4 rows .*missing label.*: 100%",
        "preprocess",
    ),
    "parquet: text that is no UTF-8": Case(
        file("a.parquet", lambda: not_utf8_parquet()), r"a\.parquet: column 'text' cannot be read"
    ),
    "parquet: a column named in no UTF-8": Case(
        file(
            "a.parquet",
            parquet({"text": ["a"], "label": ["b"], "notes": ["c"]}, store_schema=False).replace(
                b"notes", b"note\xe9"
            ),
        ),
        r"a\.parquet is not a whole Parquet file",
    ),
    "parquet: no such column": Case(
        file("a.parquet", parquet({"texts": ["a"], "label": ["a"]})),
        r"no column 'text'.*set source\.text to 'texts'",
    ),
}


def not_utf8_parquet() -> bytes:
    text = pa.array([b"caf\xe9", b"x"]).view(pa.string())
    return parquet({"text": text, "label": ["a", "b"]})


# What looks odd and is not: the number of rows that come in.
FINE = {
    "csv: a mark of UTF-8 in front": (file("a.csv", b"\xef\xbb\xbf" + CSV.encode()), 40),
    "csv: lines inside quotes": (file("a.csv", CSV + '"one\ntwo, ""three""",a\r\n'), 41),
    "csv: columns without a name": (file("a.csv", "text,label,,\na,b,,\nc,d,,\n"), 2),
    "jsonl: numbers as text": (file("a.jsonl", jsonl(spoiled(7, text=7, label=1))), 40),
    "jsonl: a row without a label": (file("a.jsonl", line_of(7, '{"text": "a"}')), 40),
    "parquet: dictionaries and large strings": (
        file(
            "a.parquet",
            parquet(
                {
                    "text": pa.array(["a", "b"], pa.large_string()),
                    "label": pa.array(["x", "y"]).dictionary_encode(),
                }
            ),
        ),
        2,
    ),
    "zip: a name of 300 characters": (file("a.zip", zip_of([(f"cat/{'x' * 300}.png", png(1)), *SOUND])), 5),
    "zip: names that differ in case": (
        file("a.zip", zip_of([("cat/A.png", png(8)), ("cat/a.png", png(9))])),
        2,
    ),
    "zip: UTF-8 names without the mark": (
        file("a.zip", other_names_zip("café/1.png".encode(), utf8=False)),
        1,
    ),
    "zip: a folder and a table beside the images": (
        file("a.zip", zip_of([*SOUND, ("cat/", b""), ("a.csv", b"")])),
        5,
    ),
}
