"""The page of `make search`, written for Streamlit, which `retrainer.serving.page_process` runs it by.

    streamlit run page.py -- TOLD

TOLD is a JSON file: `title`, `by` (which model), the directories `model` and `dataset`, the file `features`
of the dataset's rows, and `recall` of the search. No other file is read: what is shown of a row stands in the
dataset. What comes from outside is shown by `st.text`, or escaped in `st.html`: all else reads Markdown.
"""

from __future__ import annotations

import html
import json
import sys
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import streamlit as st

from retrainer.errors import DataError, UserError
from retrainer.predict import Predictor
from retrainer.search.index import MOST_FOUND, Index, index_of, rows_of
from retrainer.serving.occlusion import enlarged, small_picture

_SIDE, _COLUMNS, _MOST_CHARACTERS = 256, 4, 1_000


def main(told: dict[str, Any]) -> None:
    st.set_page_config(page_title=told["title"])
    st.html(f"<h1>{html.escape(told['title'])}</h1>")
    st.text(f"By the features of {told['by']}.")
    for one in told["recall"]:
        st.text(
            f"recall@{one['k']}: {one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f}) on {one['n']:,}"
            f" held-out rows, by chance {one['chance']:.3f}"
        )
    try:
        _ask_and_show(*_loaded(told["model"], told["dataset"], told["features"]))
    except UserError as error:
        st.error("Nothing was searched:")
        st.text(str(error))


@st.cache_resource(show_spinner="reading the rows")
def _loaded(model: str, dataset: str, features: str) -> tuple[Predictor, Index]:
    predictor = Predictor.load(Path(model))
    table = rows_of(Path(dataset), predictor)
    return predictor, index_of(table, predictor, np.load(features, allow_pickle=False))


def _ask_and_show(predictor: Predictor, index: Index) -> None:
    column, kind = next(iter(predictor.task.input_columns.items()))
    count = int(st.number_input("how many", 1, MOST_FOUND, 12))
    given = _field(column, kind)
    if not given:
        return
    features = query_features(predictor, column, kind, given)
    st.html(f'<h2 role="status">The {count} nearest rows</h2>')
    _show(index, index.nearest(features, count), column, kind)


def _field(column: str, kind: str) -> Any:
    if kind == "string":
        return st.text_area(column) or None
    given = st.file_uploader(column, type=f"{kind}/*")
    data = None if given is None else given.getvalue()
    if data and kind == "image":
        st.image(enlarged(small_picture(data, _SIDE)), alt="the query")
    if data and kind == "audio":
        st.audio(data)
    return data


def query_features(predictor: Predictor, column: str, kind: str, given: Any) -> np.ndarray:
    """float32 [D] of a text, or of a file's bytes. Raises UserError for what the model cannot read."""
    if kind not in ("string", "image", "audio"):
        raise DataError(f"a query of the type {kind} cannot be given here")
    value = given if kind == "string" else {"bytes": given, "path": None}
    return np.asarray(predictor.features(pa.table({column: [value], "origin": ["the query"]}))[0])


def _show(index: Index, found: list[tuple[int, float]], column: str, kind: str) -> None:
    places = st.columns(_COLUMNS) if kind == "image" else []
    for place, (number, cosine) in enumerate(found):
        row = index.row(number)
        with places[place % _COLUMNS] if places else st.container(border=True):
            _shown(row[column], kind)
            classes = ", ".join(index.classes[number]) if index.classes else ""
            where = row.get("id") or PurePath(row.get("origin") or f"row {number}").name
            st.text(
                "\n".join(
                    part for part in (classes, f"{where} ({row['split']})", f"cosine {cosine:.3f}") if part
                )
            )


def _shown(value: Any, kind: str) -> None:
    if kind == "image":
        st.image(enlarged(small_picture(value["bytes"], _SIDE)), alt="a row of the dataset")
    elif kind == "audio":
        st.audio(value["bytes"])
    else:
        st.text(str(value)[:_MOST_CHARACTERS])


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
