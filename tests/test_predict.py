"""`make predict`: whole files and folders through a model, row by row as the model itself answers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from retrainer.__main__ import main
from retrainer.batch_prediction.answers import parse_top_k
from retrainer.batch_prediction.command import Request, predict
from retrainer.batch_prediction.model import LoadedModel, load_model
from retrainer.batch_prediction.sections import read_sections
from retrainer.champion import Champion, load_champion
from retrainer.errors import DataError, SettingError
from retrainer.formats.files import sha256_file
from retrainer.services import storage
from tests.champions import own_environment
from tests.predicting import (
    PLAIN,
    image_model,
    read_csv,
    read_lines,
    rows_of,
    sentences,
    text_model,
    write_csv,
)
from tests.registered import png


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("texts")
    return load_model(PLAIN, model=text_model(folder))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("images")
    return load_model(PLAIN, model=image_model(folder))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_environment(monkeypatch, tmp_path)


def expected(model: LoadedModel, texts: list[str]) -> list[tuple[str, float]]:
    """The likeliest class and its probability, as the predictor itself has them."""
    found = model.predictor.probabilities(pa.table({"text": texts}))
    return [(model.predictor.labels[row.argmax()], float(row.max())) for row in found]


def assert_answers(rows: list[dict[str, Any]], wanted: list[tuple[str, float]]) -> None:
    assert [row["prediction"] for row in rows] == [label for label, _ in wanted]
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], [p for _, p in wanted], atol=2e-6)


# --- forms of input and output ---------------------------------------------------------------------------


def test_a_csv_file_keeps_its_columns_and_order(texts: LoadedModel, tmp_path: Path) -> None:
    said = sentences(2500)
    path = write_csv(tmp_path / "new.csv", rows_of(said))
    lines = predict(Request(texts, str(path)))
    out = tmp_path / "new.predictions.csv"
    found = read_csv(out)
    kept = [{name: row[name] for name in ("id", "text", "label")} for row in found]
    assert kept == [{name: str(value) for name, value in row.items()} for row in rows_of(said)]
    assert list(found[0])[3:] == ["origin", "prediction", "confidence", "model_version"]
    assert found[2499]["origin"] == "new.csv:row 2500"
    assert_answers(found, expected(texts, said))
    about = json.loads((tmp_path / "new.predictions.csv.json").read_text())
    assert about["model"]["model_sha256"] == texts.predictor.model_sha256
    assert (about["rows"], about["predicted"], about["rejected"]) == (2500, 2500, 0)
    assert about["output_sha256"] == sha256_file(out)
    assert any("2,500 of 2,500 rows" in line for line in lines)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"new.csv", "new.predictions.csv", "new.predictions.csv.json"}


def test_a_column_goes_by_the_name_that_the_recipe_gives_it(tmp_path: Path) -> None:
    made = text_model(tmp_path)
    (tmp_path / "params.yaml").write_text(
        "registry: {name: t}\nsource: {path: a.csv, text: body}\ntask: {kind: text_classification}\n"
    )
    model = load_model(read_sections(), model=made)
    for name in ("body", "text"):
        write_csv(tmp_path / f"{name}.csv", [{name: "good and fine"}])
        predict(Request(model, f"{name}.csv", f"{name}.jsonl"))
        (row,) = read_lines(tmp_path / f"{name}.jsonl")
        assert_answers([row], expected(model, ["good and fine"]))
    write_csv(tmp_path / "other.csv", [{"words": "good"}])
    with pytest.raises(DataError, match=r"other.csv has no column 'body'.*its columns: 'words'.*source.text"):
        predict(Request(model, "other.csv"))


def test_json_lines_keep_what_they_hold(texts: LoadedModel, tmp_path: Path) -> None:
    lines = [{"text": "good", "n": 1.0, "nested": {"a": [1, None]}}, {"text": "so dull", "more": True}]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    predict(Request(texts, "new.jsonl", top_k=3))
    found = read_lines(tmp_path / "new.predictions.jsonl")
    assert [{k: row[k] for k in line} for row, line in zip(found, lines, strict=True)] == lines
    for row in found:
        assert [one["probability"] for one in row["top_k"]] == sorted(
            (one["probability"] for one in row["top_k"]), reverse=True
        )
        assert row["top_k"][0] == {"label": row["prediction"], "probability": row["confidence"]}
        assert len(row["top_k"]) == 3


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_parquet_keeps_its_types(texts: LoadedModel, tmp_path: Path, ending: str) -> None:
    table = pa.table(
        {
            "text": sentences(2100),
            "at": pa.array(range(2100), pa.timestamp("ns")),
            "picture": pa.array([b"x"] * 2100),
            "rare": pa.array([None] * 2099 + [1.5]),
        }
    )
    pq.write_table(table, tmp_path / "new.parquet")
    predict(Request(texts, "new.parquet", f"out.{ending}"))
    if ending == "parquet":
        found = pq.read_table(tmp_path / "out.parquet")
        assert found.select(["text", "at", "rare"]).equals(table.select(["text", "at", "rare"]))
        assert "picture" not in found.column_names
        rows = found.select(["prediction", "confidence"]).to_pylist()
    else:
        rows = list((read_csv if ending == "csv" else read_lines)(tmp_path / f"out.{ending}"))
        assert rows[1]["at"] == "1970-01-01 00:00:00.000000001" and not rows[0]["rare"]
    assert_answers(rows, expected(texts, table["text"].to_pylist()))


def test_a_folder_of_images(images: LoadedModel, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pictures = {f"{n % 3}/{n:02}.png": png(draw.integers(0, 256, (8, 8), np.uint8)) for n in range(20)}
    for name, content in (pictures | {"1/broken.png": b"\x89PNG no more", "note.txt": b"x"}).items():
        (tmp_path / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / name).write_bytes(content)
    lines = predict(Request(images, "new"))
    found = read_csv(tmp_path / "new.predictions.csv")
    names = sorted(pictures)
    assert [row["origin"] for row in found] == [f"new/{name}" for name in names]
    table = pa.table({"image": [{"bytes": pictures[name], "path": None} for name in names]})
    shares = images.predictor.probabilities(table)
    assert_answers(found, [(images.predictor.labels[row.argmax()], row.max()) for row in shares])
    (rejected,) = read_lines(tmp_path / "new.predictions.csv.rejected.jsonl")
    assert rejected["origin"] == "new/1/broken.png"  # and the same words another time: no address in memory
    assert rejected["reason"].endswith("its bytes are none of JPEG, PNG, BMP, GIF, WEBP, TIFF")
    assert any("1 file of another kind (the first: note.txt)" in line for line in lines)
    predict(Request(images, "new/0/00.png", "one.jsonl"))
    (one,) = read_lines(tmp_path / "one.jsonl")
    assert one["prediction"] == found[0]["prediction"] and one["origin"] == "00.png"


def test_images_that_a_table_names_or_holds(images: LoadedModel, tmp_path: Path) -> None:
    content = png(np.random.default_rng(1).integers(0, 256, (8, 8), np.uint8))
    (tmp_path / "a.png").write_bytes(content)
    write_csv(tmp_path / "t.csv", [{"image": "a.png"}, {"image": "b.png"}, {"image": "../a.png"}])
    predict(Request(images, "t.csv"))
    (named,) = read_csv(tmp_path / "t.predictions.csv")
    missing, outside = read_lines(tmp_path / "t.predictions.csv.rejected.jsonl")
    assert "no such file" in missing["reason"] and "outside the folder" in outside["reason"]
    pq.write_table(pa.table({"image": [content], "n": [7]}), tmp_path / "held.parquet")
    predict(Request(images, "held.parquet", "held.jsonl"))
    (held,) = read_lines(tmp_path / "held.jsonl")
    assert held.keys() == {"n", "origin", "prediction", "confidence", "model_version"}
    assert float(named["confidence"]) == held["confidence"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_lines_on_stdin_come_out_on_stdout(
    texts: LoadedModel, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = sentences(7)
    lines = said if form == "text" else [json.dumps({"text": text}) for text in said]
    stdout = io.BytesIO()
    stdin = io.BufferedReader(io.BytesIO("\n".join([*lines[:3], "", *lines[3:]]).encode()))  # type: ignore[arg-type]
    predict(Request(texts, "-", stdin=stdin, stdout=stdout))
    found = [json.loads(line) for line in stdout.getvalue().splitlines()]
    assert [row["text"] for row in found] == said
    assert_answers(found, expected(texts, said))
    assert ("stdin:row 4" in capsys.readouterr().err) == (form == "text")


def test_no_more_is_read_than_a_window_needs(texts: LoadedModel) -> None:
    """Of an input without an end: what is not written yet is not in memory."""

    class Endless(io.RawIOBase):
        read_lines = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.read_lines += 1
            buffer[:5] = b"good\n"
            return 5

    class Enough(Exception):
        pass

    class Stdout(io.BytesIO):
        def write(self, data: Any) -> int:
            seen.append((endless.read_lines, data.count(b"\n")))
            if len(seen) == 3:
                raise Enough
            return len(data)

    endless, seen = Endless(), []  # type: ignore[var-annotated]
    with pytest.raises(Enough):
        predict(Request(texts, "-", stdin=io.BufferedReader(endless), stdout=Stdout()))  # type: ignore[arg-type]
    assert [written for _, written in seen] == [2048] * 3
    assert seen[2][0] <= 3 * 2048 + 10


def test_an_empty_input_gives_an_empty_output(texts: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("id,text\n")
    for ending in ("csv", "jsonl", "parquet"):
        assert any("0 of 0 rows" in line for line in predict(Request(texts, "none.csv", f"o.{ending}")))
    assert (tmp_path / "o.csv").read_text() == "id,text,origin\n" and not (tmp_path / "o.jsonl").read_bytes()
    assert pq.read_table(tmp_path / "o.parquet").column_names == ["id", "text", "origin"]


def test_several_parts_of_one_kind_are_one_input(texts: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for number, text in enumerate(("good", "bad")):
        write_csv(tmp_path / f"parts/{number}.csv", [{"text": text}])
    predict(Request(texts, "parts"))
    found = read_csv(tmp_path / "parts.predictions.csv")
    assert [row["origin"] for row in found] == ["0.csv:row 1", "1.csv:row 1"]


def test_several_labels_a_row(tmp_path: Path) -> None:
    model = load_model(PLAIN, model=text_model(tmp_path, multi_label=True))
    answers = Champion(model).predict(sentences(20))
    shares = model.predictor.probabilities(pa.table({"text": sentences(20)}))
    assert any(answer["prediction"] for answer in answers)
    for answer, row in zip(answers, shares, strict=True):
        assert answer["prediction"] == [model.predictor.labels[k] for k in np.flatnonzero(row > 0.5)]
        np.testing.assert_allclose(answer["confidence"], row[row > 0.5], atol=2e-6)


# --- rows that are wrong ---------------------------------------------------------------------------------


def test_bad_rows_are_set_aside_with_the_reason(texts: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_bytes(b"id,text\n1,good\n2,\n3,a,b\n4,caf\xe9\n5,so dull\n")
    predict(Request(texts, "new.csv"))
    assert [row["id"] for row in read_csv(tmp_path / "new.predictions.csv")] == ["1", "5"]
    reasons = {
        row["origin"]: row["reason"] for row in read_lines(tmp_path / "new.predictions.csv.rejected.jsonl")
    }
    assert reasons.keys() == {f"new.csv:row {row}" for row in (2, 3, 4)}
    assert reasons["new.csv:row 2"] == "empty text"
    assert reasons["new.csv:row 3"].startswith("3 fields where the header names 2")
    assert reasons["new.csv:row 4"].startswith("not UTF-8 text")
    lines = [
        '{"text": "good"}',
        '{"text": {"a": 1}}',
        '{"txt": "good"}',
        "no JSON",
        '{"text": null}',
        '{"text": "bad", "prediction": 1}',
        '{"text": "bad", "other": "\\ud800"}',
        '{"text": 7}',
    ]
    (tmp_path / "new.jsonl").write_text("\n".join(lines))
    predict(Request(texts, "new.jsonl"))
    assert [row["text"] for row in read_lines(tmp_path / "new.predictions.jsonl")] == ["good", 7]
    rejected = read_lines(tmp_path / "new.predictions.jsonl.rejected.jsonl")
    expected_words = (
        "holds a dict",
        "no column 'text'",
        "not JSON",
        "empty text",
        "'prediction'",
        "half a",
    )
    for row, words in zip(rejected, expected_words, strict=True):
        assert words in row["reason"]
    assert rejected[0]["row"] == {"text": {"a": 1}}


def test_what_no_column_holds_is_set_aside(texts: LoadedModel, tmp_path: Path) -> None:
    """JSON lines as CSV: the columns are those of the first rows."""
    lines = [{"text": "good", "n": n} for n in range(2048)] + [{"text": "bad", "late": 1}, {"text": "fine"}]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for ending in ("csv", "parquet"):
        predict(Request(texts, "new.jsonl", f"out.{ending}"))
        (rejected,) = read_lines(tmp_path / f"out.{ending}.rejected.jsonl")
        assert rejected["origin"] == "new.jsonl:row 2049" and "'late'" in rejected["reason"]
    assert read_csv(tmp_path / "out.csv")[-1]["n"] == ""
    assert pq.read_table(tmp_path / "out.parquet")["n"].to_pylist()[-2:] == ["2047", None]


def test_a_later_run_without_bad_rows_leaves_no_list_of_them(texts: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("id,text\n1,good\n2,\n")
    predict(Request(texts, "new.csv"))
    (tmp_path / "new.csv").write_text("id,text\n1,good\n2,bad\n")
    predict(Request(texts, "new.csv"))
    assert len(read_csv(tmp_path / "new.predictions.csv")) == 2
    assert not (tmp_path / "new.predictions.csv.rejected.jsonl").exists()


@pytest.mark.usefixtures("torch_settings_restored")
def test_an_operation_without_a_deterministic_form_answers_all_the_same(texts: LoadedModel) -> None:
    """As evaluate asks, in a process whose PyTorch refuses it."""
    table, predictor = pa.table({"text": sentences(5)}), texts.predictor
    wanted = predictor.predict(table)
    hook = predictor.network.register_forward_hook(
        lambda _module, _inputs, made: made.clone().put_(torch.tensor([0]), made.flatten()[:1])
    )
    torch.set_deterministic_debug_mode("error")
    try:
        assert predictor.predict(table).equals(wanted)
    finally:
        hook.remove()
    assert torch.get_deterministic_debug_mode() == 2


@pytest.mark.usefixtures("torch_settings_restored")
def test_without_a_good_row_the_command_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = text_model(tmp_path)
    (tmp_path / "new.csv").write_text("text\n \n \n")
    assert main(["predict", "--input", "new.csv", "--model", str(model)]) == 2
    said = capsys.readouterr().err
    assert "none of 2 rows can be predicted; the first: new.csv:row 1: empty text" in said
    assert len(read_lines(tmp_path / "new.predictions.csv.rejected.jsonl")) == 2
    assert not (tmp_path / "new.predictions.csv").exists()


def test_a_model_of_pairs_needs_both_texts(tmp_path: Path) -> None:
    champion = load_champion(model=text_model(tmp_path, pairs=True))
    (answer,) = champion.predict([{"text": "good", "text_pair": "bad"}])
    both = pa.table({"text": ["good"], "text_pair": ["bad"]})
    shares = champion.model.predictor.probabilities(both)[0]
    assert answer["confidence"] == pytest.approx(shares.max(), abs=2e-6)
    with pytest.raises(DataError, match="row 0: no column 'text_pair'"):
        champion.predict(["good"])


# --- what is refused -------------------------------------------------------------------------------------


def test_what_cannot_be_done_is_said(texts: LoadedModel, tmp_path: Path) -> None:
    write_csv(tmp_path / "new.csv", [{"text": "good"}])
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.zip").write_bytes(b"x")
    for given, words in (
        (Request(texts, ""), "INPUT is empty"),
        (Request(texts, "nowhere"), "INPUT=nowhere does not exist"),
        (Request(texts, "empty"), "INPUT=empty holds no"),
        (Request(texts, "a.zip"), "unpack an archive"),
        (Request(texts, "new.csv", "new.csv"), "make predict did not write it"),
        (Request(texts, "new.csv", "out.xlsx"), "OUTPUT ends in '.xlsx'"),
        (Request(texts, "new.csv", "new.csv/out.csv"), "cannot be written"),
    ):
        with pytest.raises(SettingError, match=words):
            predict(given)
    assert (tmp_path / "new.csv").read_text() == "text\ngood\n"
    write_csv(tmp_path / "again.csv", [{"text": "good", "prediction": "x"}])
    with pytest.raises(DataError, match=r"none of 1 row can.*'prediction', as the output will"):
        predict(Request(texts, "again.csv"))
    for number in ("ten", "-1", "²", ""):
        with pytest.raises(SettingError, match="TOP_K"):
            parse_top_k(number)
    with pytest.raises(DataError, match="put the single one into brackets"):
        Champion(texts).predict("good")


def test_what_is_said_of_a_place_in_s3_names_its_address(
    texts: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paths between are gone when somebody reads it, and of a pod nothing else is left."""
    (tmp_path / "new.csv").write_text("text\n \n")
    (tmp_path / "a.zip").write_bytes(b"x")
    put: list[str] = []
    monkeypatch.setattr(storage, "fetch", lambda uri, *_: tmp_path / uri.removeprefix("s3://bucket/"))
    monkeypatch.setattr(storage, "put", lambda *given: put.append(given[1]))
    monkeypatch.setattr(storage, "require_bucket", lambda *_: None)
    out = "s3://bucket/scored/out.csv"
    with pytest.raises(DataError, match=rf"\(all reasons: {out}\.rejected\.jsonl\)$"):
        predict(Request(texts, "s3://bucket/new.csv", out))
    assert put == [f"{out}.rejected.jsonl"]
    with pytest.raises(SettingError, match=r"^INPUT=s3://bucket/a\.zip: its ending is none of"):
        predict(Request(texts, "s3://bucket/a.zip", out))
