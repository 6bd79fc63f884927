"""The model directory: written, sealed, refused when anything is wrong; and the predictor over it."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from retrainer import extend
from retrainer.errors import UserError
from retrainer.formats.files import digest_of, hash_files, write_json
from retrainer.formats.model import Trained, check_model, seal, write_model
from retrainer.formats.model_files import read_model
from retrainer.formats.network import load_network
from retrainer.models._network import Body, Network
from retrainer.models._start import drawn_from
from retrainer.predict import Predictor
from retrainer.settings import Backbone, Task, Training
from retrainer.tasks._heads import LinearHead
from tests.conftest import ROOT
from tests.encoders import save_encoder
from tests.tied_layers import Tied

LABELS = ("four", "seven", "nine")
TASK = Task(kind="image_classification", size=8)
HISTORY = [{"epoch": 1, "train_loss": 1.25, "validation_accuracy": 0.5, "kept": True}]
SECTIONS = {
    "backbone": Backbone(family="mlp", hidden=[6]).plain(),
    "training": Training(strategy="scratch").plain(),
}
DATASET = "d" * 64


def network(family: str = "mlp", outputs: int = 3, **options: Any) -> Network:
    module = extend.load("models", family, "backbone.family")
    wanted = {"kind": "pixels", "size": [8, 8] if family == "mlp" else [32, 32], "channels": 1}
    options = options or ({"hidden": [6]} if family == "mlp" else {"name": "shufflenet_v2_x0_5"})
    body = module.build(module.Options.parse(options, "backbone"), wanted, None, 0, True)
    with drawn_from(1):
        return Network(body, LinearHead(body.width, outputs))


def write(out: Path, made: Network | None = None, **changes: Any) -> str:
    sections = changes.pop("sections", SECTIONS) | {"task": changes.pop("task", TASK).plain()}
    dataset_sha256 = changes.pop("dataset_sha256", DATASET)
    given: dict[str, Any] = {"family": "mlp", "labels": LABELS, "history": HISTORY} | changes
    return write_model(out, Trained(made or network(), **given), sections, dataset_sha256)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write(tmp_path / "model")
    return tmp_path / "model"


# --- what is written -----------------------------------------------------------------------------------


def test_the_same_training_gives_the_same_bytes_anywhere(model: Path, tmp_path: Path) -> None:
    again = tmp_path / "elsewhere" / "deep" / "model"
    digest = write(again)
    assert hash_files(model, ()) == hash_files(again, ())
    assert digest == read_model(model)["model_sha256"] == check_model(model)["model_sha256"]
    assert digest != write(tmp_path / "other", history=[*HISTORY, *HISTORY])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "model", "other"]


def test_all_files_may_be_read_by_the_same_people(model: Path) -> None:
    assert len({path.stat().st_mode for path in model.iterdir()}) == 1


def test_a_model_says_all_about_itself(model: Path) -> None:
    description = read_model(model)
    assert description["family"] == "mlp" and description["labels"] == list(LABELS)
    assert description["task"] == TASK.plain() and description["dataset_sha256"] == DATASET
    assert json.loads((model / "history.json").read_text()) == HISTORY
    assert json.loads((model / "settings.json").read_text()) == SECTIONS | {"task": TASK.plain()}
    card = (model / "README.md").read_text()
    for fact in (
        "image_classification",
        "`four`, `seven`, `nine`",
        "411",
        DATASET,
        "epoch 1 kept",
        "| 1.25 |",
    ):
        assert fact in card, fact


@pytest.mark.parametrize("family", ["mlp", "torchvision"])
def test_a_network_comes_back_as_it_was(family: str, tmp_path: Path) -> None:
    made = network(family)
    with torch.no_grad():  # statistics of BatchNorm are no parameters, and part of the model
        made.train()(pixel_batch(made))
    write(tmp_path / "model", made, family=family)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    again = load_network(tmp_path / "model")
    assert torch.equal(before, torch.get_rng_state())
    assert not again.training
    first, second = made.state_dict(), again.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    with torch.no_grad():
        assert torch.equal(made.eval()(pixel_batch(made)), again(pixel_batch(made)))


def pixel_batch(made: Network, rows: int = 4) -> dict[str, torch.Tensor]:
    shape = made.description.preprocessing
    generator = torch.Generator().manual_seed(0)
    return {"pixels": torch.randn(rows, shape["channels"], *shape["size"], generator=generator)}


def test_floats_are_stored_as_float32(tmp_path: Path) -> None:
    made = network().to(torch.bfloat16)
    write(tmp_path / "model", made)
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float32}
    assert torch.equal(stored["head.weight"], made.head.weight.float())


def test_a_path_of_this_machine_is_not_told(tmp_path: Path) -> None:
    secret = tmp_path / "home" / "someone" / "start.safetensors"
    secret.parent.mkdir(parents=True)
    save_file({"x": torch.ones(1)}, secret)
    backbone = SECTIONS["backbone"] | {"weights": str(secret), "note": ["/data/cache/list.txt"]}
    training = SECTIONS["training"] | {
        "command": f"python {tmp_path}/train.py --out=/lustre/x --ratio 1/2 --up ../../home/someone/y"
    }
    write(tmp_path / "model", sections={"backbone": backbone, "training": training})
    settings = json.loads((tmp_path / "model" / "settings.json").read_text())
    assert settings["backbone"]["weights"] == "start.safetensors"
    assert len(settings["backbone"]["weights_sha256"]) == 64
    assert settings["backbone"]["note"] == ["list.txt"]
    assert settings["training"]["command"] == "python train.py --out=x --ratio 1/2 --up y"
    whole = b"".join(path.read_bytes() for path in sorted((tmp_path / "model").iterdir()))
    for part in (str(tmp_path), "someone", "lustre"):
        assert part.encode() not in whole


def test_hub_ids_and_registered_names_are_kept(tmp_path: Path) -> None:
    for weights in ("org/name", "models:/name@champion", "package:thing", "imagenet", "none"):
        backbone = SECTIONS["backbone"] | {"weights": weights}
        write(tmp_path / "model", sections={"backbone": backbone})
        assert (
            json.loads((tmp_path / "model" / "settings.json").read_text())["backbone"]["weights"] == weights
        )


def test_strings_are_data(tmp_path: Path) -> None:
    labels = ("__import__('os')", "../../etc", "`; rm -rf\n# ", "</script>", "7e-1", "")
    history = [{"epoch": 1, "note": "{{ 7 * 7 }}", "train_loss": 0.5, "kept": True}]
    write(tmp_path / "model", network(outputs=6), labels=labels, history=history)
    assert check_model(tmp_path / "model")["labels"] == list(labels)
    assert Predictor.load(tmp_path / "model").labels == labels
    assert len((tmp_path / "model" / "README.md").read_text().splitlines()) < 20


def test_a_failed_write_leaves_what_was_there(model: Path) -> None:
    before = hash_files(model, ())
    broken = network()
    with torch.no_grad():
        broken.head.bias[0] = torch.nan
    with pytest.raises(
        UserError, match=r"model\.safetensors: head\.bias holds values that are no numbers; train with"
    ):
        write(model, broken)
    assert hash_files(model, ()) == before
    assert [path.name for path in model.parent.iterdir()] == ["model"]


# --- what is refused -----------------------------------------------------------------------------------


def test_a_flipped_byte_in_any_file_is_noticed(model: Path) -> None:
    for path in sorted(model.iterdir()):
        content = path.read_bytes()
        for at in {0, len(content) // 3, len(content) // 2, len(content) - 2}:
            spoilt = bytearray(content)
            spoilt[at] ^= 1
            path.write_bytes(spoilt)
            # Its own bytes are the manifest's only witness for a version that is told, not used.
            if path.name == "manifest.json" and same_but_for_version(content, spoilt):
                continue
            with pytest.raises(UserError, match=path.name if path.name != "manifest.json" else "model"):
                check_model(model)
        path.write_bytes(content)
    check_model(model)


def same_but_for_version(content: bytes, spoilt: bytes) -> bool:
    try:
        first, second = (json.loads(bytes(text)) for text in (content, spoilt))
    except ValueError:
        return False
    return all(
        first.get(key) == second.get(key) for key in ("kind", "format_version", "files", "model_sha256")
    )


def test_every_single_flip_in_the_manifest_is_a_users_error(model: Path) -> None:
    content = (model / "manifest.json").read_bytes()
    for at in range(0, len(content), 3):
        spoilt = bytearray(content)
        spoilt[at] ^= 2
        (model / "manifest.json").write_bytes(spoilt)
        if not same_but_for_version(content, spoilt):
            with pytest.raises(UserError):
                read_model(model)


def test_missing_and_added_files_are_named(model: Path) -> None:
    (model / "extra.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"extra\.bin does not belong"):
        check_model(model)
    (model / "extra.bin").unlink()
    for name in ("model.safetensors", "model.json", "history.json", "settings.json", "README.md"):
        content = (model / name).read_bytes()
        (model / name).unlink()
        with pytest.raises(UserError, match=f"{name} is missing"):
            check_model(model)
        forge(model)  # the manifest agrees that there is none
        with pytest.raises(UserError, match=f"{name} is missing"):
            check_model(model)
        (model / name).write_bytes(content)
        forge(model)
    (model / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"is not a model directory: manifest\.json is missing"):
        check_model(model)


def forge(model: Path, **changes: Any) -> None:
    """Makes hashes agree again, as someone who edits a model would."""
    manifest = json.loads((model / "manifest.json").read_text())
    files = hash_files(model)
    write_json(
        model / "manifest.json", manifest | {"files": files, "model_sha256": digest_of(files)} | changes
    )


def test_a_newer_format_says_who_reads_it(model: Path) -> None:
    forge(model, format_version=3, retrainer="9.1.0")
    with pytest.raises(UserError, match=r"model format 3, this version reads 1, 2.*retrainer 9\.1\.0"):
        check_model(model)
    forge(model, kind="report", format_version=1)
    with pytest.raises(UserError, match="holds a 'report', not a 'model'"):
        check_model(model)


def edit(model: Path, **changes: Any) -> None:
    description = json.loads((model / "model.json").read_text()) | changes
    (model / "model.json").write_text(json.dumps({k: v for k, v in description.items() if v is not None}))
    forge(model)


PIXELS = {"kind": "pixels", "size": [8, 8], "channels": 1, "mean": [0.5], "std": [0.5]}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a label less": (
        {"labels": ["a", "b"]},
        r"model\.json names 2 labels, but model\.safetensors has a head of 3",
    ),
    "a label more": ({"labels": list("abcd")}, r"names 4 labels, but model\.safetensors has a head of 3"),
    "a label twice": ({"labels": ["a", "b", "a"]}, "'labels' has 'a' more than once"),
    "labels as text": (
        {"labels": "abc"},
        r"model\.json: 'labels': input should be a valid list, found 'abc'; needed: the names of the classes",
    ),
    "a label that is a number": (
        {"labels": ["a", "b", 3]},
        "'labels.2': input should be a valid string, found 3; needed: the names",
    ),
    "no labels": ({"labels": []}, "'labels' must name the classes, one or more"),
    "no family": ({"family": None}, r"'family' is missing; add it: the file that builds the network"),
    "an unknown family": ({"family": "mpl"}, "no 'mpl' in retrainer/models; did you mean 'mlp'"),
    "a family that is a path": (
        {"family": "../../evil"},
        "'../../evil' is neither a file of retrainer/models",
    ),
    "an absent plug-in": ({"family": "plugins.absent"}, r"no module plugins\.absent"),
    "a module that is no family": (
        {"family": "json.tool"},
        r"'family' is 'json\.tool', which has no function restore\(config\)",
    ),
    "another width": (
        {"config": {"inputs": 64, "hidden": [7]}},
        r"'body\.0\.weight' and 2 more is \[6, 64\], and 'config' of model\.json makes it \[7, 64\]",
    ),
    "a config of another family": (
        {"config": {"name": "x"}},
        "config of mlp: 'inputs' is missing; add it: values of an image: channels × height × width",
    ),
    "a config that is no object": (
        {"config": [1]},
        r"'config': input should be a valid dictionary, found \[1\]; needed: what that file's `restore`",
    ),
    "a width that is text": (
        {"config": {"inputs": "64", "hidden": [6]}},
        "'inputs': input should be a valid integer",
    ),
    "preprocessing without a kind": (
        {"preprocessing": {}},
        "preprocessing: 'kind' is missing; add what the network is fed: tokens, pixels",
    ),
    "a size that is none": (
        {"preprocessing": PIXELS | {"size": [8]}},
        r"'size': list should have at least 2 items.*; needed: \[height, width\] in pixels",
    ),
    "two channels": (
        {"preprocessing": PIXELS | {"channels": 2}},
        "'channels': input should be 1 or 3, found 2",
    ),
    "a mean for three": (
        {"preprocessing": PIXELS | {"mean": [0, 0, 0]}},
        "'mean' has 3 numbers, and 'channels' is 1; write one a channel",
    ),
    "a sound without its spectrum": (
        {
            "preprocessing": {
                "kind": "audio",
                "sampling_rate": 8000,
                "max_seconds": 2.0,
                "frame_samples": 80,
                "input": "log_mel",
            }
        },
        "preprocessing: 'spectrum' is missing; add it: of log_mel, and needed there",
    ),
    "a temperature of zero": ({"temperature": 0}, "'temperature': input should be greater than 0, found 0"),
    "half the facts of privacy": (
        {"privacy": {"epsilon": 3.0}},
        "'privacy.delta' is missing; add it: the delta that it holds at",
    ),
    "an absent asset": ({"assets": ["x.txt"]}, r"asset 'x\.txt' is no file in the model directory"),
    "an asset from outside": (
        {"assets": ["../model/model.json"]},
        r"asset '\.\./model/model\.json' is no file",
    ),
    "tokens without a tokenizer": (
        {"preprocessing": {"kind": "tokens"}},
        "preprocessing: 'tokenizer' is missing; add it: the name of that one of the assets",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_description_that_is_wrong_is_named(what: str, model: Path) -> None:
    changes, message = WRONG[what]
    edit(model, **changes)
    with pytest.raises(UserError, match=message):
        check_model(model)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"labels": NaN}', "\x00", "[" * 100_000])
def test_a_description_that_is_no_json_is_named(text: str, model: Path) -> None:
    (model / "model.json").write_text(text)
    forge(model)
    with pytest.raises(UserError, match=r"model\.json"):
        check_model(model)


def reweigh(model: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, model / "model.safetensors")
    forge(model)


def test_weights_that_are_wrong_are_named(model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()

    def refused(change: Callable[[dict[str, torch.Tensor]], Any], message: str) -> None:
        reweigh(model, change)
        with pytest.raises(UserError, match=message):
            check_model(model)
        (model / "model.safetensors").write_bytes(whole)

    refused(
        lambda t: t["body.0.weight"].fill_(torch.nan), r"body\.0\.weight holds values that are no numbers"
    )
    refused(
        lambda t: t["head.weight"].select(0, 1).fill_(torch.inf),
        r"head\.weight holds values that are no numbers",
    )
    refused(lambda t: t.pop("body.0.bias"), r"model\.safetensors has no 'body\.0\.bias' \[6\]: 'config'")
    refused(
        lambda t: t.pop("head.bias"),
        r"model\.safetensors has no 'head\.bias' \[3\]: .* the head's with 'head\.'",
    )
    refused(lambda t: t.update(more=torch.ones(1)), r"has 'more', for which 'config'.*leave it out")
    refused(
        lambda t: t.update(classifier=t.pop("head.weight")),
        r"no 'head\.weight' \[3, 6\], and 'classifier' instead",
    )
    (model / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    forge(model)
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read as safetensors"):
        check_model(model)


# --- a trainer of one's own ----------------------------------------------------------------------------


def by_hand(directory: Path, **changes: Any) -> Path:
    """What a program that knows nothing of this library writes."""
    directory.mkdir()
    weights = {"body.0.weight": torch.ones(6, 64), "body.0.bias": torch.zeros(6)}
    weights |= {"head.weight": torch.ones(3, 6).half(), "head.bias": torch.zeros(3)}
    save_file(weights, directory / "model.safetensors")
    description = {"family": "mlp", "config": {"inputs": 64, "hidden": [6]}, "preprocessing": PIXELS}
    (directory / "model.json").write_text(json.dumps(description | {"labels": list(LABELS)} | changes))
    return directory


def change(directory: Path, **changes: Any) -> None:
    file = directory / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_directory_made_by_hand_is_sealed(tmp_path: Path) -> None:
    path = by_hand(tmp_path / "model")
    digest = seal(path, SECTIONS | {"task": TASK.plain()}, DATASET)
    description = check_model(path)
    assert description["model_sha256"] == digest
    assert description["task"] == TASK.plain() and description["dataset_sha256"] == DATASET
    assert json.loads((path / "history.json").read_text()) == []
    assert Predictor.load(path).probabilities(images(2)).shape == (2, 3)
    assert seal(path, SECTIONS | {"task": TASK.plain()}, DATASET) == digest


def test_what_write_model_wrote_can_be_sealed_again(model: Path) -> None:
    """As when a user's own trainer calls it."""
    before = read_model(model)["model_sha256"]
    assert seal(model, SECTIONS | {"task": TASK.plain()}, DATASET) == before
    assert seal(model, SECTIONS | {"task": TASK.plain()}, "e" * 64) != before
    check_model(model)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: (p / "model.json").unlink(), r"is not a model directory: model\.json is missing"),
        (
            lambda p: (p / "model.safetensors").unlink(),
            r"model\.safetensors is missing; write the network's tensors",
        ),
        (
            lambda p: (p / "vocabulary.txt").write_text("x"),
            r"vocabulary\.txt is not named in 'assets' of model\.json",
        ),
        (lambda p: (p / "checkpoint.pt").write_bytes(b"x"), r"checkpoint\.pt is a pickle, and to load one"),
        (lambda p: (p / "state").write_bytes(pickle.dumps({})), "state is a pickle, and to load one runs"),
        (lambda p: torch.save({}, p / "weights.bin"), r"weights\.bin is a pickle.*write tensors to model"),
        (
            lambda p: torch.save({}, p / "model.safetensors"),
            r"model\.safetensors is a pickle, as torch\.save writes it; write",
        ),
        (
            lambda p: change(p, temprature=2.0),
            "nobody reads 'temprature'; remove or rename it; did you mean 'temperature'",
        ),
        (
            lambda p: change(p, config={"inputs": 64, "hidden": [6], "hiden": [6]}),
            "config of mlp: nobody reads 'hiden'; remove or rename it; did you mean 'hidden'",
        ),
        (lambda p: (p / "history.json").write_text("{}"), r"history\.json: expected a list"),
        (
            lambda p: (p / "history.json").write_text("[1]"),
            r"history\.json: expected one object of figures an epoch",
        ),
        (lambda p: (p / "history.json").write_text('[{"train_loss": NaN}]'), r"history\.json is no JSON"),
        (lambda p: (p / "note.txt").symlink_to("/etc/hostname"), r"note\.txt is a link"),
    ],
)
def test_what_makes_no_whole_model_is_not_sealed(
    spoil: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    path = by_hand(tmp_path / "model")
    spoil(path)
    with pytest.raises(UserError, match=message):
        seal(path, SECTIONS | {"task": TASK.plain()}, DATASET)
    assert not (path / "manifest.json").exists()


def test_a_failed_seal_takes_the_old_one_off(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"half")
    with pytest.raises(UserError):
        seal(model, SECTIONS | {"task": TASK.plain()}, DATASET)
    assert not (model / "manifest.json").exists()


# --- a family of one's own -----------------------------------------------------------------------------


PLUGIN = """
from tests.tied_layers import Tied
from retrainer.models._network import Body

def restore(config):
    return Body(Tied(), lambda module, batch: module(batch["pixels"]), 64, config, {})
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "mine_for_tests"
    folder.mkdir()
    (folder / "tied.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    return "mine_for_tests.tied"


def test_a_plug_ins_tied_weights_are_kept(plugin: str, tmp_path: Path) -> None:
    body = Body(Tied(), lambda module, batch: module(batch["pixels"]), 64, {"any": 1}, PIXELS)
    made = Network(body, LinearHead(64, 3))
    write(tmp_path / "model", made, family=plugin)
    again = load_network(tmp_path / "model")
    assert torch.equal(again.body.first.weight, made.body.first.weight)
    assert again.body.first.weight is again.body.second.weight
    with torch.no_grad():
        assert torch.equal(again(pixel_batch(made)), made.eval()(pixel_batch(made)))


# --- the predictor -------------------------------------------------------------------------------------


def images(count: int, size: int = 8) -> pa.Table:
    from io import BytesIO

    from PIL import Image

    draws = np.random.default_rng(0)
    encoded = []
    for _ in range(count):
        stream = BytesIO()
        Image.fromarray(draws.integers(0, 256, (size, size), dtype=np.uint8)).save(stream, "PNG")
        encoded.append({"bytes": stream.getvalue(), "path": None})
    return pa.table({"image": pa.array(encoded, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))})


def test_the_predictor_answers_as_the_network_does(model: Path) -> None:
    predictor = Predictor.load(model)
    assert predictor.labels == LABELS and predictor.model_sha256 == read_model(model)["model_sha256"]
    table = images(5)
    found = predictor.probabilities(table)
    made, body = load_network(model), network().description
    rows = predictor.task.encode(table, body.preprocessing, {})
    with torch.no_grad():
        expected = made(predictor.task.batch(rows, np.arange(5), None)).softmax(1).numpy()
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-6)
    assert np.allclose(found.sum(1), 1)


def test_no_rows_give_no_answers(model: Path) -> None:
    assert Predictor.load(model).probabilities(images(3).slice(0, 0)).shape == (0, 3)


def test_a_missing_column_and_a_broken_row_are_named(model: Path) -> None:
    predictor = Predictor.load(model)
    with pytest.raises(UserError, match="no column 'image', which this model reads; its columns: text"):
        predictor.probabilities(pa.table({"text": ["x"]}))
    broken = images(2101).to_pylist()
    broken[2100]["image"]["bytes"] = b"no image"
    with pytest.raises(UserError, match="row 2100: the image cannot be decoded"):
        predictor.probabilities(pa.Table.from_pylist(broken, images(1).schema))


@pytest.mark.parametrize("family", ["mlp", "torchvision"])
def test_answers_do_not_depend_on_the_rows_beside_them(family: str, tmp_path: Path) -> None:
    write(tmp_path / "model", network(family), family=family)
    predictor = Predictor.load(tmp_path / "model")
    table = images(2100 if family == "mlp" else 70, 32)
    together = predictor.probabilities(table)
    for row in (0, 63, 64, len(table) - 1):
        assert np.allclose(predictor.probabilities(table.slice(row, 1))[0], together[row], atol=1e-6)
    assert np.array_equal(together, predictor.probabilities(table))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A small BERT; weights larger than fresh ones, so that answers differ."""
    folder = tmp_path_factory.mktemp("texts")
    weights = save_encoder(folder / "bert", "bert", initializer_range=0.5)
    family = extend.load("models", "transformers", "backbone.family")
    body = family.build(family.Options(), {"kind": "tokens", "max_length": 16}, weights, 0, False)
    task = Task(max_length=16, multi_label=True)
    with drawn_from(0):
        made = Network(body, LinearHead(body.width, 3))
    write(folder / "model", made, family="transformers", task=task)
    return Predictor.load(folder / "model")


def sentences(count: int) -> pa.Table:
    draws = np.random.default_rng(1)
    words = [
        " ".join(f"w{n}" for n in draws.integers(0, 36, length)) for length in draws.integers(0, 20, count)
    ]
    return pa.table({"text": words})


def test_padding_changes_no_answer(texts: Predictor) -> None:
    table = sentences(150)
    together = texts.probabilities(table)
    assert together.std(0).min() > 0.01
    alone = np.concatenate([texts.probabilities(table.slice(row, 1)) for row in range(len(table))])
    assert np.abs(alone - together).max() < 1e-6
    order = np.random.default_rng(2).permutation(len(table))
    assert np.abs(texts.probabilities(table.take(order)) - together[order]).max() < 1e-6


def test_pairs_of_texts_are_read_as_pairs(texts: Predictor) -> None:
    table = sentences(8)
    pairs = table.append_column("text_pair", pa.array(["w1 w2"] * 8))
    assert not np.allclose(texts.probabilities(pairs), texts.probabilities(table), atol=1e-3)


def test_multi_label_answers_are_each_their_own(texts: Predictor) -> None:
    found = texts.probabilities(sentences(20))
    assert ((found >= 0) & (found <= 1)).all()
    assert not np.allclose(found.sum(1), 1)


def test_a_model_answers_in_a_process_that_has_only_the_library(model: Path, tmp_path: Path) -> None:
    """No caller's directory, no other model's modules: and nothing is written."""
    shutil.copytree(
        ROOT / "retrainer", tmp_path / "lib" / "retrainer", ignore=shutil.ignore_patterns("__pycache__")
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; import pyarrow.parquet as pq\n"
        "from retrainer.predict import Predictor\n"
        "p = Predictor.load(Path(sys.argv[2]))\n"
        "print(p.probabilities(pq.read_table(sys.argv[3])).tolist())\n"
        "print(sorted({'transformers', 'timm', 'torchvision', 'mlflow', 'sklearn'} & set(sys.modules)))"
    )
    import pyarrow.parquet as pq

    pq.write_table(images(3), tmp_path / "rows.parquet")
    given = [str(tmp_path / "lib"), str(model), str(tmp_path / "rows.parquet")]
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code, *given],
        cwd=empty,
        capture_output=True,
        text=True,
        check=True,
    )
    answers, heavy = done.stdout.splitlines()
    assert np.allclose(json.loads(answers), Predictor.load(model).probabilities(images(3)), atol=1e-6)
    assert heavy == "[]"
    assert not list(empty.iterdir())
