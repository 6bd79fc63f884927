"""Sequence tagging: metrics, words, sources, tokens, baselines and the report."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from retrainer import extend
from retrainer.data.ingest import ingest
from retrainer.data.preprocess import preprocess
from retrainer.data.sources import api_docs, conll, tokens_jsonl
from retrainer.errors import DataError, SettingError, UserError
from retrainer.formats.dataset import Dataset
from retrainer.formats.names import SPLITS
from retrainer.formats.tags import spans
from retrainer.formats.words import join_words, words_of
from retrainer.settings import Checks, Evaluation, Source, Split, Task, Training
from retrainer.tasks import make_task
from retrainer.tasks._protocol import Judged
from retrainer.tasks._tag_baselines import baselines, cheap_curve
from retrainer.tasks._tag_details import details
from retrainer.tasks._tag_panels import panels
from retrainer.tasks._tagged_tokens import encode_tagged

COLUMNS = {"text": "string", "tags": "strings"}


def value(name: str, said: list[list[Any]], had: list[list[str]]) -> float:
    metric: Any = extend.load("metrics", name, "gate.metric")
    truth = pa.table({"tags": pa.array(had, pa.list_(pa.string()))})
    predicted = pa.table({"tags": pa.array(said, pa.list_(pa.string()))})
    return float(metric.value(metric.statistics(predicted, truth).sum(axis=0)))


# --- metrics -------------------------------------------------------------------------------------------

# What seqeval 1.2.2 gives for the tags that `drawn` draws: f1_score(had, said), the same with mode="strict"
# and the scheme named, and accuracy_score. Its default does not know BILOU's letters.
SEQEVAL = {
    ("IOB2", 1): (0.7615894039735099, 0.7375, 0.8292682926829268),
    ("IOB2", 2): (0.8333333333333334, 0.8441558441558442, 0.8241758241758241),
    ("IOB2", 3): (0.7682539682539682, 0.7349397590361447, 0.7910447761194029),
    ("IOE2", 1): (0.7843137254901961, 0.7849462365591399, 0.8292682926829268),
    ("IOE2", 2): (0.8028673835125448, 0.7636363636363637, 0.8241758241758241),
    ("IOE2", 3): (0.7804878048780488, 0.7891891891891891, 0.7910447761194029),
    ("IOBES", 1): (0.8174386920980927, 0.7804878048780488, 0.8099547511312217),
    ("IOBES", 2): (0.8461538461538463, 0.7954545454545454, 0.8284023668639053),
    ("IOBES", 3): (0.8205128205128205, 0.7948717948717949, 0.7900552486187845),
    ("BILOU", 1): (None, 0.7804878048780488, 0.8099547511312217),
    ("BILOU", 2): (None, 0.7954545454545454, 0.8284023668639053),
    ("BILOU", 3): (None, 0.7948717948717949, 0.7900552486187845),
}
LETTERS = {"IOB2": "BI", "IOE2": "IE", "IOBES": "BIES", "BILOU": "BILU"}


def drawn(seed: int, letters: str) -> tuple[list[list[str]], list[list[str]]]:
    """Had and said tags of 40 sentences; four of five words are tagged alike."""
    draws = random.Random(seed)
    tags = ["O", *(f"{letter}-{kind}" for letter in letters for kind in ("PER", "LOC", "A-B"))]
    had = [[draws.choice(tags) for _ in range(draws.randint(1, 9))] for _ in range(40)]
    said = [[tag if draws.random() < 0.8 else draws.choice(tags) for tag in row] for row in had]
    return had, said


@pytest.mark.parametrize(("scheme", "seed"), SEQEVAL)
def test_metrics_are_seqevals_to_the_last_digit(scheme: str, seed: int) -> None:
    had, said = drawn(seed, LETTERS[scheme])
    names = ("span_f1", "strict_span_f1", "token_accuracy")
    for name, expected in zip(names, SEQEVAL[scheme, seed], strict=True):
        assert expected in (None, value(name, said, had)), name


def test_words_that_were_not_read_are_outside_and_wrong() -> None:
    had, said = [["B-X", "I-X", "O"]], [["B-X", None, None]]
    assert value("token_accuracy", said, had) == 1 / 3 and value("span_f1", said, had) == 0
    assert value("span_f1", [], []) == value("token_accuracy", [], []) == 0
    assert spans(["U-X", "B-X", "L-X", None, "I-Y"]) == [("X", 0, 0), ("X", 1, 2), ("Y", 4, 4)]


def test_a_row_of_other_than_one_tag_a_word_is_named() -> None:
    with pytest.raises(DataError, match="row 1 has 1 tags and 2 words"):
        value("span_f1", [["O", "O"]], [["O"]])


# --- words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["U.S.", "20 000", "n't"], ["Dr."], ["a", "\u3000b"]])
def test_divided_words_stay_as_they_are(words: list[str]) -> None:
    assert words_of(join_words(words)) == words


def test_plain_text_is_divided_at_spaces_and_marks() -> None:
    assert words_of("Dr. O'Neil's 3.5-inch disk (new)!") == [
        *("Dr", ".", "O'Neil's", "3.5-inch", "disk", "(", "new", ")", "!")
    ]
    assert words_of("") == words_of("  ") == []


# --- sources -------------------------------------------------------------------------------------------


def read(module: Any, path: Path, **options: Any) -> list[dict[str, Any]]:
    section = {"kind": module.__name__.rpartition(".")[2], "path": str(path), "columns": COLUMNS, **options}
    return [row for table in module.read(Source.parse(section, "source")) for row in table.to_pylist()]


def test_conll_columns_comments_and_documents(tmp_path: Path) -> None:
    file = tmp_path / "a.conll"
    first = "\ufeff# id 7\n-DOCSTART- -X- O\n\n# NN O\nEU NNP B-ORG\r\n\n\n"
    file.write_bytes(f"{first}-DOCSTART- -X- O\n\nU.S. NNP B-LOC\nwon  VBD O\n\u3000 X O".encode())
    rows = read(conll, file)
    assert [words_of(row["text"]) for row in rows] == [["#", "EU"], ["U.S.", "won", "\u3000"]]
    assert [row["tags"] for row in rows] == [["O", "B-ORG"], ["B-LOC", "O", "O"]]
    assert [row["group"] for row in rows] == ["a.conll:document 1", "a.conll:document 2"]
    assert rows[1]["origin"] == "a.conll:line 10"
    by_number = read(conll, file, text="1", tags=2, documents=False)
    assert by_number[0]["tags"] == ["NN", "NNP"] and "group" not in by_number[0]


def test_conllu_words_and_its_ranges_and_empty_nodes(tmp_path: Path) -> None:
    lines = ["# newdoc id = a", "# text = Don't go", "1-2\tDon't", "1\tDo\tdo\tAUX", "2\tn't\tnot\tPART"]
    lines += ["2.1\tto\tto\tPART", "3\t20 000\t\tNUM"]
    padded = [line + "\t_" * (9 - line.count("\t")) if "\t" in line else line for line in lines]
    (tmp_path / "a.conllu").write_text("\n".join(padded) + "\n\n")
    (row,) = read(conll, tmp_path / "a.conllu")
    assert words_of(row["text"]) == ["Do", "n't", "20 000"] and row["tags"] == ["AUX", "PART", "NUM"]


def test_a_folder_of_conll_files_has_its_splits(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.conll").write_text("a O\nb B-X\n")
    rows = read(conll, tmp_path)
    assert [(row["given_validation"], row["given_test"]) for row in rows] == [
        (True, False), (False, True), (False, False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "options", "error"),
    [
        (b"a O\nb X O\n", {}, r"a\.conll:line 2: 3 columns, and the lines before have 2; give every word"),
        (b"a\nb\n", {}, r"line 1: one column is both word and tag"),
        (b"a O\n", {"tags": 3}, r"source\.tags: 3 is no column here; set the number of one, from 1 to 2"),
        (b"a O\n", {"text": "word"}, r"source\.text: word is no column here"),
        (b"a\tO\nb\t\n", {}, r"line 2: the tag is empty; write one, or O"),
        (b"a O\n\xff O\n", {}, r"line 2: not UTF-8 text"),
        (b"a O\nb\0 O\n", {}, r"line 2: a NUL character"),
        (b"\n\n", {}, r"a\.conll has no sentence in it"),
        (b"a O\n" * 10_001, {}, r"line 10001: more than 10,000 words without a blank line"),
    ],
)
def test_what_is_wrong_in_a_conll_file_is_named(
    tmp_path: Path, content: bytes, options: dict[str, Any], error: str
) -> None:
    (tmp_path / "a.conll").write_bytes(content)
    with pytest.raises(UserError, match=error):
        read(conll, tmp_path / "a.conll", **options)


def test_json_lines_of_words_and_numbered_tags(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [{"words": ["Dr.", "No"], "ner_tags": [0, 2], "group": "x"}, {"words": [], "ner_tags": []}]
    file.write_text("\n".join(map(json.dumps, rows)))
    names = {"text": "words", "tags": "ner_tags", "tag_names": ["O", "B-X", "I-X"]}
    first, second = read(tokens_jsonl, file, **names)
    assert words_of(first["text"]) == ["Dr.", "No"] and first["tags"] == ["O", "I-X"]
    assert first["group"] == "x" and second["text"] is None


@pytest.mark.parametrize(
    ("tokens", "tags", "error"),
    [
        (["a"], [3], r"a\.jsonl:row 1: 3 is no tag; say by source\.tag_names what numbers mean"),
        (["a"], [None], "None is no tag"),
        ("a b", ["O"], r"'tokens' is no list of words"),
        (["a", " "], ["O", "O"], r"'tokens' holds an empty word"),
    ],
)
def test_what_is_wrong_in_json_lines_is_named(tmp_path: Path, tokens: Any, tags: Any, error: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"tokens": tokens, "tags": tags}))
    with pytest.raises(DataError, match=error):
        read(tokens_jsonl, tmp_path / "a.jsonl")


def test_rows_are_checked_as_texts_and_for_their_tags(tmp_path: Path) -> None:
    """A row of more words than tags is left out with the reason; nearly equal sentences share a split."""
    draws = random.Random(0)
    sentences = [[f"w{draws.randint(0, 999)}" for _ in range(12)] for _ in range(60)]
    sentences += [[*words[:-1], "else"] for words in sentences[:30]]
    rows = [{"tokens": words, "tags": ["O", "B-X", *["O"] * 10]} for words in sentences]
    rows[40]["tags"] = ["O"]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    section = {"kind": "tokens_jsonl", "path": str(tmp_path / "a.jsonl"), "columns": COLUMNS}
    ingest(Source.parse(section, "source"), tmp_path / "raw")
    tagging = Task.parse({"kind": "sequence_tagging"}, "task")
    preprocess(tmp_path / "raw", tmp_path / "made", Split(), Checks(), tagging)
    data = Dataset(tmp_path / "made")
    assert data.manifest["dropped"] == {"12 words and 1 tags": 1}
    split_of = {row: name for name in SPLITS for row in data.split(name)["origin"].to_pylist()}
    assert len(split_of) == 89 and len(set(split_of.values())) == 3
    pairs = [(f"a.jsonl:row {n}", f"a.jsonl:row {n + 60}") for n in range(1, 31)]
    assert all(split_of[first] == split_of[second] for first, second in pairs)


def test_the_packages_sentences_are_tagged_by_their_markup() -> None:
    text = (
        '<p>Set <code>Max.Items</code> to 5. See <a href="x">the <b>guide</b></a> <i>now</i></p><li>One.</li>'
    )
    found = list(api_docs._sentences({"shapes": [{"documentation": text}]}))
    assert found[0] == [("Set", "O"), ("Max.Items", "B-CODE"), ("to", "O"), ("5", "O"), (".", "O")]
    assert found[1] == [("See", "O"), ("the", "B-LINK"), ("guide", "I-LINK"), ("now", "O")]
    assert [word for word, _ in found[2]] == ["One", "."]
    with pytest.raises(SettingError, match=r"botocore knows no 'sqss'; .*'sqs'"):
        api_docs.files(Source.parse({"kind": "api_docs", "services": ["sqss"]}, "source"))


# --- tokens --------------------------------------------------------------------------------------------

LABELS = ("B-X", "I-X", "O")


def word_pieces() -> bytes:
    """`ab` is one token; `abc` two."""
    names = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "ab", "##c", "d", ".")
    made = Tokenizer(models.WordPiece({name: place for place, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return made.to_str().encode()


def encoded(table: pa.Table, max_length: int = 16) -> Any:
    preprocessing = {"tokenizer": "t", "max_length": max_length, "pad_id": 0}
    return encode_tagged(table, preprocessing, {"t": word_pieces()}, LABELS)


def tagged(words: list[str], tags: list[str]) -> pa.Table:
    return pa.table({"text": [join_words(words)], "tags": [tags], "origin": ["a:row 1"]})


def test_a_words_tag_stands_at_its_first_token_alone() -> None:
    batch = encoded(tagged(["d", "abc.", "ab"], ["O", "B-X", "I-X"])).batch(np.array([0]))
    assert batch["input_ids"].tolist() == [[1, 6, 4, 5, 7, 4, 2]]
    assert batch["targets"].tolist() == [[-100, 2, 0, -100, -100, 1, -100]]


def test_words_behind_the_cut_have_no_tag() -> None:
    rows = encoded(tagged(["ab", "abc", "d"], ["O", "O", "O"]), max_length=4)
    assert rows.firsts.tolist() == [1, 2, -1]
    assert rows.batch(np.array([0]))["targets"].tolist() == [[-100, 2, 2, -100]]


@pytest.mark.parametrize(
    ("tags", "error"),
    [(["O"], "a:row 1 has 1 tags and 2 words"), (["O", "I-Y"], "tag 'I-Y' is no class here")],
)
def test_tags_that_do_not_fit_are_named(tags: list[str], error: str) -> None:
    with pytest.raises(DataError, match=error):
        encoded(tagged(["ab", "d"], tags))


def test_a_text_that_is_no_sentence_is_refused() -> None:
    with pytest.raises(DataError, match=r"row 0: a text of 100,001 characters, beyond 100,000; divide it"):
        encoded(pa.table({"text": ["a" * 100_001]}))


def task(**options: Any) -> Any:
    return make_task(Task.parse({"kind": "sequence_tagging", **options}, "task"), LABELS)


def test_answers_have_words_tags_scores_and_spans() -> None:
    rows = encoded(
        pa.table({"text": ["d abc, ab", ""]}), max_length=6
    )  # [CLS] d ab ##c [UNK] [SEP]: a word is cut
    batch = rows.batch(np.array([0, 1]))
    logits = torch.zeros(2, 6, 3)
    logits[0, 1, 2], logits[0, 2, 0], logits[0, 4, 1] = 9.0, 8.0, 2.0
    first, second = task().predict(lambda _: logits, batch, 1.0).to_pylist()
    assert first["words"] == ["d", "abc", ",", "ab"] and first["tags"] == ["O", "B-X", "I-X", None]
    (span,) = first["spans"]
    assert (span["label"], span["text"], span["start"], span["end"]) == ("X", "abc,", 2, 6)
    assert span["score"] == first["scores"][2] == pytest.approx(np.exp(2) / (np.exp(2) + 2))
    assert second == {"tags": [], "words": [], "scores": [], "spans": []}
    assert "spans" not in task(spans=False).predict(lambda _: logits, batch, 1.0).column_names


def test_plain_tags_are_no_spans_unless_the_settings_say_so() -> None:
    section = {"kind": "sequence_tagging"}
    plain = make_task(Task.parse(section, "task"), ("NOUN", "O"))
    with pytest.raises(
        SettingError, match=r"task\.spans: 'NOUN' is no tag of a span.*set task\.spans: false"
    ):
        plain.learn(tagged(["a"], ["NOUN"]))
    make_task(Task.parse(section | {"spans": False}, "task"), ("NOUN", "O")).learn(tagged(["a"], ["NOUN"]))
    assert task(spans=False).metrics == ("token_accuracy",) and task().metrics[0] == "span_f1"
    with pytest.raises(SettingError, match=r"task\.multi_label has no meaning"):
        task(multi_label=True)


def test_a_body_of_one_vector_a_text_is_refused() -> None:
    head = task().head(SimpleNamespace(width=4), Training())
    assert head(torch.zeros(2, 5, 4)).shape == (2, 5, 3)
    with pytest.raises(
        SettingError, match=r"backbone\.family: sequence_tagging needs one that gives a vector"
    ):
        head(torch.zeros(2, 4))


def test_the_loss_weighs_every_word_alike() -> None:
    made = task()
    made.learn(pa.concat_tables([tagged(["a"], ["O"]), tagged(["a", "b", "c"], ["O"] * 3)]))
    targets = torch.tensor([[-100, 2, -100, -100], [-100, 2, 2, 2]])
    losses = made.loss(torch.zeros(2, 4, 3), targets, 0.0)
    assert losses.tolist() == pytest.approx([np.log(3) / 2, 3 * np.log(3) / 2])
    right = torch.nn.functional.one_hot(torch.tensor([[0, 2, 0, 0], [0, 2, 2, 1]]), 3).float()
    assert made.figures(right, targets)["token_accuracy"].tolist() == [1.0, pytest.approx(2 / 3)]


def test_rows_that_cannot_be_used_are_told_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Preprocessing asks, whose image on a cluster has none."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "retrainer.tasks._tagged_tokens")
    rows = [tagged(["ab", "d"], ["O"]), tagged(["ab"], ["O"]), tagged(["a" * 100_001], ["O"])]
    said = ["2 words and 1 tags", None, "a text of 100,002 characters, beyond 100,000"]
    assert task().faults(pa.concat_tables(rows)) == said


# --- judgement -----------------------------------------------------------------------------------------


def test_baselines_are_the_commonest_tag_and_each_words_own() -> None:
    train = tagged(["Rome", "is", "far", "Rome", "is", "is"], ["B-X", "O", "O", "B-X", "O", "B-X"])
    test = tagged(["rome", "Rome", "is"], ["O", "O", "O"])
    always, own = baselines(train, test, Evaluation()).found
    assert always.title == "always the tag B-X" and always.predictions["tags"].to_pylist() == [["B-X"] * 3]
    assert own.predictions["tags"].to_pylist() == [["B-X", "B-X", "O"]]
    (alone,) = baselines(train, test, Evaluation(baseline=False)).found
    assert alone.name == "majority"
    curve = cheap_curve(train, test, [[np.array([0])]]).answers
    assert [(rows, table["tags"].to_pylist()) for rows, table in curve] == [(1, [["B-X", "B-X", "O"]])]


HOSTILE = "<script>alert('x')</script>"


def judged(found: list[str | None]) -> Judged:
    test = tagged(["see", HOSTILE, "ab"], ["O", f"B-{HOSTILE}", "O"])
    predictions = pa.table({"tags": pa.array([found], pa.list_(pa.string()))})
    return Judged(None, test, test, predictions, Evaluation(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("of_spans", [True, False])
def test_the_report_shows_both_taggings_and_escapes_them(of_spans: bool) -> None:
    found = details(judged(["B-<i>", "O", None]), of_spans)
    html = "".join(panels(json.loads(json.dumps(found))))
    assert "<script" not in html and "<i>" not in html and "&lt;script&gt;" in html and "&lt;i&gt;" in html
    assert found["unread"] == {"words": 1, "rows": 1} and "1 word of 1 test row" in found["notes"][0]
    assert found["mistakes"][0]["wrong"] == 3 and "not read" in html


def test_each_types_figures() -> None:
    had, said = ["B-A", "O", "B-B"], ["B-A", "B-A", "O"]
    test, predictions = tagged(["a", "b", "c"], had), pa.table({"tags": [said]})
    found = details(Judged(None, test, test, predictions, Evaluation(), None), True)  # type: ignore[arg-type]
    assert [(row["label"], row["precision"], row["recall"]) for row in found["per_type"]] == [
        ("A", 0.5, 1.0), ("B", None, 0.0)
    ]  # fmt: skip


def test_each_tag_is_a_class_that_two_models_are_compared_by() -> None:
    had, said = ["B-X", "I-X", "O"], ["B-X", "B-X", None]
    test, predictions = tagged(["a", "b", "c"], had), pa.table({"tags": [said]})
    figures = task().class_figures(predictions, test)
    assert set(figures) == set(LABELS)
    assert {name: one.statistics.tolist() for name, one in figures.items()} == {
        "B-X": [[1.0, 2.0, 1.0]], "I-X": [[0.0, 0.0, 1.0]], "O": [[0.0, 0.0, 1.0]]
    }  # fmt: skip
    assert all(one.having.tolist() == [True] for one in figures.values())
