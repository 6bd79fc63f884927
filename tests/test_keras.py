"""The family `keras`: what Keras itself computes, by our fit loop; files from Keras and for it."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from retrainer.errors import UserError
from retrainer.export.command import export
from retrainer.export.use_me import Images
from retrainer.export.use_me import keras as keras_loader
from retrainer.formats.dataset import Dataset
from retrainer.formats.files import canonical_json, sha256_file
from retrainer.formats.network import load_network
from retrainer.models import keras as family
from retrainer.models._keras import on_torch
from retrainer.models._keras_config import own_classes, require_plain
from retrainer.models._network import Network
from retrainer.predict import Predictor
from retrainer.services.checkpoint_store import CheckpointPlace
from retrainer.services.weights import fetch, pin
from retrainer.settings import Backbone
from retrainer.tasks._heads import LinearHead
from retrainer.training.checkpoints import Checkpoints
from tests.conftest import ROOT
from tests.exports import image_request
from tests.keras_networks import RICH, built, built_from, classifier, pixels
from tests.project import make_project, run
from tests.small_datasets import train_to
from tests.small_networks import image_task, same, settings, squares, trained, weights
from tests.training_cases import DIGEST, NEVER, Case

pytestmark = [
    # Keras 3.15 makes arrays of its variables in numpy's older way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.usefixtures("torch_settings_restored"),
    pytest.mark.skipif(
        importlib.util.find_spec("keras") is None, reason="the extra 'keras' is not installed"
    ),
]
MLP = ({"Dense": {"units": 128, "activation": "relu"}}, {"Dense": {"units": 64, "activation": "relu"}})
TOLERANCE = 1e-5


def network_of(*layers: Any, size: int = 8) -> Network:
    body = built(pixels(size), layers=layers or RICH)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network(body, LinearHead(body.width, 2))


# --- training --------------------------------------------------------------------------------------------


def test_steps_of_the_fit_loop_are_those_of_keras_own() -> None:
    """784-128-64-2 by SGD with Nesterov's momentum: each step's loss, and the weights behind the last."""
    keras, ours = on_torch(), network_of("Flatten", *MLP, size=28)
    theirs = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    for layer in (keras.layers.Dense(128, "relu"), keras.layers.Dense(64, "relu"), keras.layers.Dense(2)):
        theirs.add(layer)
    head = ours.head
    theirs.set_weights(
        [v.detach().numpy() for v in (*ours.body.state_dict().values(), head.weight.T, head.bias)]
    )
    rows, targets = squares(64)
    images = rows.images.repeat(1, 1, 4, 4)[:, :, :28, :28].contiguous()
    rows = replace(rows, images=images)
    fed = image_task().batch(rows, np.arange(64), None)["pixels"].permute(0, 2, 3, 1).numpy()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs.compile(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), loss)
    expected = [float(theirs.train_on_batch(fed, targets)) for _ in range(3)]
    plan = {
        "batch_size": 64,
        "learning_rate": 0.05,
        "optimizer": "sgd",
        "weight_decay": 0.0,
        "clip_norm": 0.0,
    }
    history = trained(ours, settings(epochs=3, schedule="constant", warmup=0.0, **plan), (rows, targets))
    assert [entry["train_loss"] for entry in history] == pytest.approx(expected, rel=1e-5)
    assert expected[2] < expected[0]
    made = [*ours.body.state_dict().values(), head.weight.T, head.bias]
    for own, other in zip(made, theirs.get_weights(), strict=True):
        np.testing.assert_allclose(own.detach().numpy(), other, atol=1e-6)


def test_train_and_eval_count_layer_by_layer() -> None:
    module, batch = built().module, torch.rand(6, 1, 8, 8)
    before = weights(module)
    module.eval()
    assert torch.equal(module(batch), module(batch)) and same(before, weights(module))
    module.get_submodule("batch_normalization").train()
    module(batch)
    moved = {name for name, value in weights(module).items() if not torch.equal(value, before[name])}
    assert moved == {f"batch_normalization.moving_{name}" for name in ("mean", "variance")}
    module.train()
    module(batch)
    assert not torch.equal(
        before["dropout.seed_generator_state"], weights(module)["dropout.seed_generator_state"]
    )


def test_names_and_values_do_not_depend_on_what_the_process_has_made_before() -> None:
    first = built(seed=1)
    classifier()
    again, other = built(seed=1), built(seed=2)
    assert first.config == again.config and same(weights(first.module), weights(again.module))
    assert not same(weights(first.module), weights(other.module))
    assert first.blocks(first.module) == ["conv2d", "batch_normalization", "dense"]
    assert first.width == 8 and first.module.get_parameter("conv2d.kernel").shape == (3, 3, 1, 4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"strategy": "lora"}, r"^training\.strategy: lora: for networks of PyTorch's own layers"),
        ({"optimizer": "muon"}, r"^training\.optimizer: muon: for networks"),
        ({"checkpoint_activations": True}, r"^training\.checkpoint_activations: for networks"),
        ({"halve_on_out_of_memory": True}, r"^training\.halve_on_out_of_memory: for networks"),
    ],
)
def test_what_looks_into_layers_of_pytorch_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        trained(network_of(), settings(**changes), squares(32))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["frozen", "head-then-full", "last-n", "full"])
def test_strategies_train_what_they_say(strategy: str) -> None:
    model = network_of()
    before = weights(model)
    history = trained(model, settings(strategy=strategy, dropout=0.1, epochs=4), squares(96), squares(40, 1))
    moved = {n.rpartition(".")[0] for n, t in weights(model).items() if not torch.equal(t, before[n])}
    whole = {"body.conv2d", "body.batch_normalization", "body.dense", "head"}
    drawn = {"body.dropout", "body.spatial_dropout2d"}
    expected = {"frozen": {"head"}, "last-n": {"body.dense", "head"}}.get(strategy, whole)
    assert moved - drawn == expected
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Also the states of dropout and BatchNorm."""
    case = Case(
        network_of, image_task(flip=True), settings(epochs=2, ema_decay=0.9), (squares(90), squares(40, 1))
    )
    undisturbed = case.run()
    place = CheckpointPlace(str(tmp_path), NEVER)
    assert case.stopped(place, after_losses=8) is None
    resumed = case.run(Checkpoints(place, DIGEST))
    assert same(undisturbed[0], resumed[0]) and undisturbed[1] == resumed[1]


# --- files of a Keras user -------------------------------------------------------------------------------


def saved(path: Path, model: Any) -> Path:
    model.save(path)
    return path


def edited(path: Path, change: Callable[[dict[str, Any]], Any], **more: bytes) -> Path:
    """A copy of the archive whose architecture says something else, with further parts."""
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()} | more
    config = json.loads(parts["config.json"])
    change(config)
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path.with_stem("edited"), "w") as out:
        for name, content in parts.items():
            out.writestr(name, content)
    return path.with_stem("edited")


def layer(config: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = config["config"]["layers"][number]
    return found


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a lambda": (lambda c: layer(c, 1).update(class_name="Lambda"), "holds 'Lambda' of 'keras.layers'"),
    "a pickle": (
        lambda c: layer(c, 1).update(module="keras.src.utils.torch_utils", class_name="TorchModuleWrapper"),
        "holds 'TorchModuleWrapper' of",
    ),
    "another module": (
        lambda c: layer(c, 1).update(module="os", class_name="system"),
        "holds 'system' of 'os'",
    ),
    "a download": (
        lambda c: layer(c, 2)["config"].update(
            activation={"module": "keras.utils", "class_name": "function", "config": "get_file"}
        ),
        "holds 'function' of 'keras.utils'",
    ),
    "a file": (lambda c: layer(c, 1).update(class_name="TextVectorization"), "holds 'TextVectorization'"),
    "far too large": (lambda c: layer(c, 3)["config"].update(units=10**12), "is too small to hold them"),
    "no layers": (lambda c: c.pop("config"), "cannot be built by Keras"),
    "units below zero": (
        lambda c: layer(c, 2)["config"].update(units=-5),
        "Keras 3.*expected a positive integer",
    ),
    "a layer without a name": (lambda c: layer(c, 1)["config"].update(name=""), "a layer is named ''"),
}


def swelling(good: Path) -> bytes:
    """The weights of an archive, where one array says to be 400 MB and nothing of it is stored."""
    h5py = pytest.importorskip("h5py")
    with zipfile.ZipFile(good) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content, "a") as file:
        del file["layers/dense/vars/0"]
        stored = {"chunks": (10**5,), "compression": "gzip"}
        file.create_dataset("layers/dense/vars/0", shape=(10**8,), dtype="f4", **stored)
    return content.getvalue()


def test_hostile_archives_are_refused_in_one_line(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.keras", classifier())
    for what, (change, says) in HOSTILE.items():
        with pytest.raises(UserError, match=says) as refused:
            built(weights=edited(good, change), fresh=False)
        assert "\n" not in str(refused.value), what
    with pytest.raises(UserError, match="an array in it would unpack to 400,000,000 bytes"):
        built(weights=edited(good, lambda _: None, **{"model.weights.h5": swelling(good)}), fresh=False)
    with pytest.raises(UserError, match=r"edited\.keras holds 'assets/x\.txt', and only"):
        built(weights=edited(good, lambda _: None, **{"assets/x.txt": b"x"}), fresh=False)
    (tmp_path / "text.keras").write_text("not at all")
    with pytest.raises(UserError, match=r"text\.keras is no whole \.keras archive .*; save it again"):
        built(weights=tmp_path / "text.keras", fresh=False)


def test_an_archive_is_a_start_without_its_head(tmp_path: Path) -> None:
    theirs = classifier(on_torch().layers.Conv2D(2, 5), on_torch().layers.Flatten(), shape=(8, 8, 3))
    path = saved(tmp_path / "theirs.keras", theirs)
    pinned = pin(Backbone(family="keras", weights=str(path)), tmp_path / "digests.json")
    assert pinned.weights_sha256 == sha256_file(path) and fetch(pinned) == path
    body = built(pixels(None, None), path, fresh=False)
    assert body.width == 32 and body.preprocessing["size"] == [8, 8] and body.preprocessing["channels"] == 3
    images = np.random.default_rng(0).random((5, 8, 8, 3), np.float32)
    with torch.no_grad():
        features = body.features(body.module.eval(), {"pixels": torch.from_numpy(images).permute(0, 3, 1, 2)})
    kernel, bias = theirs.layers[-1].get_weights()
    logits = features.numpy() @ kernel + bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, theirs.predict_on_batch(images), atol=1e-6)
    fresh = built(pixels(8, 3), path, fresh=True, seed=3)
    assert fresh.config == body.config and not same(weights(fresh.module), weights(body.module))


def test_a_head_is_taken_off_however_it_ends() -> None:
    layers = on_torch().layers
    for head in ((), (layers.Dense(3),), (layers.Dense(3), layers.Softmax()), (layers.Dense(3, "sigmoid"),)):
        below = layers.Flatten(), layers.Dense(5, activation="relu")

        def network(_: Any, __: Any, parts: Any = (*below, *head)) -> Any:
            return on_torch().Sequential(parts)

        assert built_from(network).width == 5


def test_a_model_inside_the_model_may_have_been_compiled(tmp_path: Path) -> None:
    keras, inner = on_torch(), classifier()
    inner.compile("adam", "sparse_categorical_crossentropy")
    images = keras.Input((8, 8, 1))
    outer = keras.Model(images, keras.layers.Dense(2)(inner(images)))
    assert built(weights=saved(tmp_path / "outer.keras", outer), fresh=False).width == 3


def test_pixels_are_from_0_to_255_where_scaling_follows_augmentation() -> None:
    layers: tuple[Any, ...] = ("RandomFlip", {"RandomRotation": {"factor": 0.1}})
    for scaling, std in (({"Rescaling": {"scale": 1 / 255}}, 1 / 255), ("BatchNormalization", 1.0)):
        assert built(layers=(*layers, scaling, "Flatten")).preprocessing["std"] == [pytest.approx(std)]


def test_images_that_an_archive_does_not_take_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "theirs.keras", classifier())
    with pytest.raises(
        UserError, match=r"^task\.size: backbone\.weights: theirs\.keras takes \[8, 8\]; set that"
    ):
        built(pixels(16), path)
    with pytest.raises(UserError, match=r"^task\.channels: .* takes 1; set that, or leave it out"):
        built(pixels(8, 3), path)
    with pytest.raises(UserError, match="Keras downloads its imagenet weights itself"):
        pin(Backbone(family="keras", weights="imagenet"), tmp_path / "digests.json")
    with pytest.raises(UserError, match="brings its own architecture"):
        built(pixels(), path, layers=("Flatten",))


@pytest.mark.slow
def test_a_network_of_keras_applications_is_made_again_from_its_json() -> None:
    """Pixels from 0 to 255, since it begins with Rescaling; layers with weights are its blocks."""
    made = built(pixels(32), name="MobileNetV3Small")
    again = family.restore(json.loads(canonical_json(made.config)))
    again.module.load_state_dict(made.module.state_dict())
    batch = {"pixels": torch.rand(2, 1, 32, 32) * 255}
    with torch.no_grad():
        features = [body.features(body.module.eval(), batch) for body in (made, again)]
    assert torch.equal(*features) and features[0].shape == (2, made.width)
    assert made.preprocessing["std"] == [pytest.approx(1 / 255)] and len(made.blocks(made.module)) == 86


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "MobilNetV3Small"}, r"has no 'MobilNetV3Small'; did you mean 'MobileNetV3Small'"),
        (
            {"layers": ("Flaten",)},
            r"backbone\.layers\.0: keras\.layers has no layer 'Flaten'; did you mean 'Flatten",
        ),
        ({"layers": ("Lambda",)}, r"backbone\.layers\.0: keras\.layers has no layer 'Lambda'"),
        ({"layers": ({"Dense": {"unit": 3}},)}, r"backbone\.layers\.0: Dense: "),
        ({"layers": ("Flatten",), "name": "VGG16"}, "leave one of them out"),
        ({"mean": 0.5}, "which network"),
        (
            {"layers": ({"Dense": {"units": 3, "kernel_regularizer": "l2"}}, "Flatten")},
            "has a kernel_regularizer",
        ),
        (
            {
                "layers": (
                    {"Reshape": {"target_shape": [8, 8]}},
                    {"GRU": {"units": 2, "bias_regularizer": "l2"}},
                )
            },
            "layer gru_cell has a bias_regularizer",
        ),
        ({"layers": ({"Flatten": {"name": ""}},)}, "a layer is named ''"),
        ({"layers": ({"Conv2D": {"filters": 3, "kernel_size": 3}},)}, "it gives features of shape"),
    ],
)
def test_a_network_that_is_none_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        built(**options)


def test_a_function_that_gives_no_model_is_told() -> None:
    with pytest.raises(UserError, match=r"its function gives NoneType; let it return a model of Keras"):
        built_from(lambda *_: None)


def test_a_keras_that_is_absent_or_on_another_backend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_torch().config, "backend", lambda: "jax")
    with pytest.raises(
        UserError, match=r"imported keras with its backend jax, .*; set KERAS_BACKEND=torch bef"
    ):
        built()
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(UserError, match=r"keras is not installed; pip install 'retrainer\[keras\]'$"):
        built()


@pytest.mark.slow
def test_a_process_that_has_tried_another_backend_before_is_told() -> None:
    ours = "from retrainer.models._keras import on_torch; on_torch()"
    said = ended(f"try:\n import keras\nexcept ImportError:\n pass\n{ours}")
    assert "keras cannot be imported (No module named 'jax')" in said and "KERAS_BACKEND=torch" in said


def ended(code: str) -> str:
    """The last line that the program says, whose environment asks Keras for a backend that is not here."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    return (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]


@pytest.mark.slow
def test_the_function_of_the_docs_goes_through_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/keras.md's own plug-in, on a recipe's digits: also registered, and asked as it is served. The
    environment asks Keras for another backend."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    page = (ROOT / "docs/keras.md").read_text(encoding="utf-8").partition("`plugins/my_digits.py`")[2]
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", page.partition("A registered model")[0], re.S))
    project = make_project(tmp_path / "project")
    recipe = yaml.safe_load((ROOT / "recipes/digits-keras.yaml").read_text(encoding="utf-8"))
    (project / "plugins/my_digits.py").write_text(blocks["python"], encoding="utf-8")
    (project / "recipes/mine.yaml").write_text(yaml.safe_dump(recipe | yaml.safe_load(blocks["yaml"])))
    assert "smoke: mine passes every step" in run(project, "smoke", "--recipe", "mine")
    config = json.loads((project / ".run/smoke/mine/model/model.json").read_text())["config"]
    assert config["width"] == 32


# --- handed over -----------------------------------------------------------------------------------------


def test_a_class_of_ones_own_is_named_where_it_is_not_known(tmp_path: Path) -> None:
    keras = on_torch()
    doubled = type("Doubled", (keras.layers.Layer,), {"call": lambda _, inputs: inputs * 2})
    name = keras.saving.get_registered_name(keras.saving.register_keras_serializable("of_a_test")(doubled))
    try:
        network = built_from(lambda *_: keras.Sequential([doubled(), keras.layers.Flatten()])).config[
            "network"
        ]
        assert own_classes(keras, network) == [name] == ["of_a_test>Doubled"]
    finally:
        del keras.saving.get_custom_objects()[name]
    with pytest.raises(UserError, match="holds 'Doubled' of"):
        require_plain(keras, network, "the network")
    with pytest.raises(ValueError, match=r"model\.keras holds a class .* README\.md .*: of_a_test>Doubled$"):
        keras_loader(tmp_path, {"file": "model.keras", "own_classes": [name]})


@pytest.mark.slow
def test_a_model_opens_in_keras_and_as_onnx(tmp_path: Path) -> None:
    """Each by its own `use_me.py`, and by `keras.saving.load_model` on pixels as they are."""
    request = image_request(tmp_path, {"family": "keras", "layers": list(RICH)}, 8, 1, rows=400)
    for form in ("keras", "onnx"):
        export(replace(request, form=form, out=tmp_path / form))
        assert (
            json.loads((tmp_path / form / "export.json").read_text())["parity"]["largest_difference"]
            < TOLERANCE
        )
    test = Dataset(request.dataset).split("test")
    expected = Predictor.load(request.model).probabilities(test)
    images = [image["bytes"] for image in test["image"].to_pylist()]
    opened = on_torch().saving.load_model(tmp_path / "keras" / "model.keras")
    rule = json.loads((tmp_path / "keras" / "preprocessing.json").read_text())
    read = np.stack([Images(rule)(image) for image in images]).transpose(0, 2, 3, 1)
    assert np.abs(opened.predict(read, verbose=0) - expected).max() < TOLERANCE
    again = built(pixels(None, None), tmp_path / "keras" / "model.keras", fresh=False)
    assert again.preprocessing["std"] == [pytest.approx(1 / 255)]


@pytest.mark.slow
def test_a_trained_model_is_loaded_and_is_a_start(squares_dataset: Path, tmp_path: Path) -> None:
    backbone = Backbone(family="keras", layers=list(RICH))
    first = train_to(tmp_path / "first", squares_dataset, settings(), backbone)
    again = train_to(tmp_path / "again", squares_dataset, settings(), backbone)
    assert first["model_sha256"] == again["model_sha256"]
    with pytest.raises(UserError, match=r"^backbone\.mean: first was trained with 0; set that, or leave"):
        built(weights=tmp_path / "first", mean=0.5)
    own = Backbone(family="keras")
    train_to(
        tmp_path / "second", squares_dataset, settings(strategy="frozen"), own, weights=tmp_path / "first"
    )
    bodies = [load_network(tmp_path / name).body.state_dict() for name in ("first", "second")]
    assert same(*bodies)
