"""docs/extending.md: the examples of pictures, of a database and of another loss do what the page says."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from retrainer.data.ingest import ingest
from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.resolve import validate
from retrainer.settings import Source
from retrainer.tasks import make_task
from retrainer.tasks._fcos import FcosHead
from tests.conftest import ROOT
from tests.registered import png


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Name of a plug-in → the settings that the page shows for it. Their module can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    package = tmp_path / f"of_{tmp_path.name}"
    package.mkdir()
    shown = {}
    for part in re.split(r"^##+ ", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), flags=re.M):
        title, blocks = part.partition("\n")[0], dict(re.findall(r"```(\w+)\n(.*?)```", part, re.S))
        if (name := re.search(r"`plugins/(\w+)\.py`", title)) and "python" in blocks:
            (package / f"{name[1]}.py").write_text(blocks["python"], encoding="utf-8")
            shown[name[1]] = yaml.safe_load(blocks["yaml"].replace("plugins.", f"{package.name}."))
    return shown


def change(database: Path, *commands: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for command in commands:
            connection.execute(command)


def test_rows_of_a_database_are_ingested(
    page: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "tickets.db"
    monkeypatch.setenv("MY_DATABASE", str(database))
    change(
        database,
        "CREATE TABLE tickets (id INTEGER, body TEXT, topic TEXT, day TEXT)",
        "INSERT INTO tickets VALUES (2, 'a \"quoted\",\nlong one', 'b', '2026-10-02')",
        "INSERT INTO tickets VALUES (1, 'ä', 'a', '2026-10-01'), (3, 'later', 'a', '2026-11-01')",
    )
    source = Source.parse(page["my_database"]["source"], "source")
    digest = ingest(source, tmp_path / "raw")["source_digest"]
    table = Dataset(tmp_path / "raw").split("all")
    assert table["text"].to_pylist() == ["ä", 'a "quoted",\nlong one']
    assert table["labels"].to_pylist() == [["a"], ["b"]]
    change(database, "DELETE FROM tickets WHERE id = 3")
    assert ingest(source, tmp_path / "again")["source_digest"] == digest
    change(database, "UPDATE tickets SET topic = 'c' WHERE id = 1")
    with pytest.raises(UserError, match="changed since the settings were resolved"):
        ingest(source.model_copy(update={"digest": digest}), tmp_path / "third")


def test_pictures_beside_a_table_are_ingested(page: dict[str, Any], tmp_path: Path) -> None:
    folder, pixels = tmp_path / "photos", np.zeros((8, 8), np.uint8)
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(png(pixels + ord(name[0])))
    (folder / "labels.csv").write_text("a.png,cat\nb.png,dog\n")
    validate(page["my_pictures"])
    source = Source.parse(page["my_pictures"]["source"] | {"path": str(folder)}, "source")
    ingest(source, tmp_path / "raw")
    table = Dataset(tmp_path / "raw").split("all")
    assert table["labels"].to_pylist() == [["cat"], ["dog"]]
    assert table["image"][0].as_py() == {"bytes": (folder / "a.png").read_bytes(), "path": "a.png"}


def test_another_loss_trains_in_the_place_of_the_built_in_one(page: dict[str, Any]) -> None:
    section = validate(page["my_detection"] | {"backbone": {"family": "torchvision", "name": "resnet18"}})[
        "task"
    ]
    changed = make_task(section, ("cell",))
    built_in = make_task(type(section).parse({"kind": "object_detection"}, "task"), ("cell",))
    torch.manual_seed(0)
    outputs = FcosHead([8], [8], 1, width=8)([torch.randn(2, 8, 4, 4)])
    targets = torch.tensor([[[0, 4, 4, 24, 24]], [[-1, 0, 0, 0, 0]]], dtype=torch.float32)
    losses = [task.loss(outputs, targets, 0.0).detach().numpy() for task in (changed, built_in)]
    np.testing.assert_array_equal(losses[0], 2 * losses[1])
    assert (changed.metrics, changed.abilities) == (built_in.metrics, built_in.abilities)
