"""What an answer rests on: Captum's own result, in parts that people read, and the randomisation test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from retrainer.attribution.captum import captum, gradients
from retrainer.attribution.explain import Explainer, completeness_error, values_of
from retrainer.attribution.inputs import Path as InputPath
from retrainer.attribution.randomised import Randomised, correlations, randomisation_test, randomise
from retrainer.errors import UserError
from retrainer.predict import Predictor
from retrainer.settings import Backbone, Task, Training
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from tests.conftest import ROOT
from tests.small_datasets import reviews_table
from tests.small_networks import PLAIN
from tests.stripes import made, table

TEXTS = Task(kind="text_classification", max_length=16)


@pytest.fixture(scope="module")
def reader(reviews: Path, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Of sentences whose class is told by their first word alone."""
    model = tmp_path_factory.mktemp("reader") / "model"
    training = Training(
        strategy="full", epochs=2, learning_rate=1e-2, backbone_learning_rate=5e-3, batch_size=16
    )
    settings = Settings(TEXTS, Backbone(family="transformers", weights=str(bert)), training, PLAIN)
    train_model(Inputs(reviews, settings, bert), model)
    return Predictor.load(model)


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.load(made(tmp_path_factory.mktemp("viewer"))[1])


def contrasts_of(predictor: Predictor, rows: pa.Table) -> np.ndarray:
    found: np.ndarray = predictor.task.contrasts(predictor.predict(rows))  # type: ignore[attr-defined]
    return found


def test_words_have_the_sum_of_captums_own_attributions(reader: Predictor) -> None:
    rows = reviews_table(1, "x")
    contrasts = contrasts_of(reader, rows)
    (explained,) = Explainer.of(reader).explain(rows, contrasts).to_pylist()
    body = reader.network.description
    batch = reader.task.batch(reader.task.encode(rows, body.preprocessing, body.assets), np.arange(1), None)
    first, second = contrasts[0]

    def margin(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits = reader.network({"input_ids": ids, "attention_mask": mask}) / reader.temperature
        return logits[:, first] - logits[:, second]

    ids = batch["input_ids"]
    baseline = torch.where(ids > 3, 0, ids)  # 0 to 3 are [PAD], [CLS], [SEP], [UNK]
    method = captum().LayerIntegratedGradients(margin, body.module.get_input_embeddings())
    theirs = method.attribute(ids, baseline, additional_forward_args=(batch["attention_mask"],), n_steps=16)
    inside = theirs.sum(2)[0, 1:-1].detach().numpy()
    words = explained["words"]
    np.testing.assert_allclose([word["value"] for word in words], inside, rtol=1e-4, atol=1e-5)
    text = rows["text"][0].as_py()
    assert [text[word["start"] : word["end"]] for word in words] == text.split()
    with torch.no_grad():
        ends = [float(margin(tokens, batch["attention_mask"])[0]) for tokens in (ids, baseline)]
    assert [explained["output"], explained["baseline"]] == pytest.approx(ends, rel=1e-4)


def test_regions_have_the_sum_of_captums_own_attributions(viewer: Predictor) -> None:
    rows = table(("down",), 2, 7)
    contrasts = contrasts_of(viewer, rows)
    explained = Explainer.of(viewer).explain(rows, contrasts)
    body = viewer.network.description
    pixels = viewer.task.batch(viewer.task.encode(rows, body.preprocessing, {}), np.arange(2), None)["pixels"]

    def margin(values: torch.Tensor) -> torch.Tensor:
        logits = viewer.network({"pixels": values}) / viewer.temperature
        places = torch.arange(len(logits)) % 2
        return (
            logits[range(len(logits)), contrasts[places, 0]]
            - logits[range(len(logits)), contrasts[places, 1]]
        )

    theirs = captum().IntegratedGradients(margin).attribute(pixels, 0.0, n_steps=16).sum(1).detach().numpy()
    for one, whole in zip(explained["regions"].to_pylist(), theirs, strict=True):
        for part in one:
            area = whole[part["top"] : part["bottom"], part["left"] : part["right"]]
            assert part["value"] == pytest.approx(float(area.sum()), rel=1e-3, abs=1e-4)
        assert {(part["top"], part["left"]) for part in one} == {(y, x) for y in range(8) for x in range(8)}


def test_values_add_up_to_what_the_answer_gained(reader: Predictor, viewer: Predictor) -> None:
    for predictor, rows in ((reader, reviews_table(20, "x")), (viewer, table(("down", "across"), 20, 7))):
        contrasts = contrasts_of(predictor, rows)
        few, many = (
            completeness_error(Explainer.of(predictor, steps).explain(rows, contrasts)) for steps in (2, 64)
        )
        assert many < 0.02 and many < few


def test_the_word_that_tells_the_class_weighs_most(reader: Predictor) -> None:
    rows = reviews_table(40, "x")
    explained = reader.explain(rows)
    first = [int(np.argmax(np.abs(values))) == 0 for values in values_of(explained)]
    assert np.mean(first) > 0.9
    assert explained["towards"].to_pylist() == reader.predict(rows)["label"].to_pylist()


def test_a_row_is_explained_alike_in_any_company(reader: Predictor) -> None:
    rows = reviews_table(30, "x")
    whole = values_of(reader.explain(rows))
    alone = values_of(reader.explain(rows.slice(17, 1)))
    np.testing.assert_allclose(whole[17], alone[0], rtol=1e-3, atol=1e-5)


def test_words_that_are_cut_off_and_empty_texts(reader: Predictor) -> None:
    texts = ["w5 " * 40, "", "  w7!  ", None]
    explained = reader.explain(pa.table({"text": pa.array(texts, pa.string())}))
    counts = [len(words) for words in explained["words"].to_pylist()]
    assert counts[0] == 14 and counts[1] == counts[3] == 0  # of 16 tokens two are the model's own
    assert [(word["text"], word["start"]) for word in explained["words"][2].as_py()] == [("w7", 2), ("!", 4)]


def test_a_table_without_the_input_is_refused_by_name(reader: Predictor) -> None:
    with pytest.raises(UserError, match="no column 'text'"):
        reader.explain(pa.table({"body": ["w1"]}))


def test_a_task_that_does_not_say_what_to_explain_is_told(reader: Predictor) -> None:
    class Other:
        labels, input_columns = ("a",), {"text": "string"}

    silent = Predictor(reader.network, Other(), "cpu", "")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no attributions: this task"):
        silent.explain(reviews_table(2, "x"), np.zeros((2, 2), np.int64))


def randomised(predictor: Predictor, rows: pa.Table) -> Randomised:
    """Of what is shipped."""
    explainer, contrasts = Explainer.of(predictor), contrasts_of(predictor, rows)

    def explain(network: Any, count: int) -> pa.Table:
        return explainer.with_network(network).explain(rows.slice(0, count), contrasts[:count])

    return randomisation_test(predictor.network, values_of(explain(predictor.network, len(rows))), explain, 4)


def test_what_is_shipped_passes_the_randomisation_test(reader: Predictor, viewer: Predictor) -> None:
    for predictor, rows in ((reader, reviews_table(40, "x")), (viewer, table(("down", "across"), 40, 7))):
        found = randomised(predictor, rows)
        assert found.passed and found.rows == 40 and found.whole is not None


def outcome(network: Any, explain: Callable[[Any], np.ndarray]) -> Randomised:
    """A method that gives the values [N, P] of the parts."""
    trained = list(explain(network))
    return randomisation_test(
        network, trained, lambda other, count: regions(explain(other)[:count]), len(trained)
    )


def regions(values: np.ndarray) -> pa.Table:
    """Attributions [N, P], as a method gives them."""
    return pa.table({"regions": [[{"value": float(one)} for one in row] for row in values]})


def test_a_saliency_of_the_input_alone_fails(viewer: Predictor) -> None:
    rows = table(("down", "across"), 20, 7)
    body = viewer.network.description
    encoded = viewer.task.encode(rows, body.preprocessing, {})
    pixels = viewer.task.batch(encoded, np.arange(20), None)["pixels"][:, 0].numpy()
    edges = np.abs(np.gradient(pixels, axis=2)).reshape(20, -1)
    found = outcome(viewer.network, lambda _: edges)
    assert found.head == found.whole == 1.0 and not found.passed


def test_a_saliency_that_ignores_the_head_fails_by_the_head(viewer: Predictor) -> None:
    """How much each pixel moves the features, whatever the answer is."""
    rows = table(("down", "across"), 20, 7)
    body = viewer.network.description
    encoded = viewer.task.encode(rows, body.preprocessing, {})

    def explain(network: Any) -> np.ndarray:
        pixels = viewer.task.batch(encoded, np.arange(20), None)["pixels"].requires_grad_()
        network.features({"pixels": pixels}).square().sum().backward()
        assert pixels.grad is not None
        return pixels.grad.reshape(20, -1).numpy()

    found = outcome(viewer.network, explain)
    assert found.head == 1.0 and found.whole is not None and found.whole < 0.5
    assert not found.passed


def test_nothing_to_compare_is_no_pass(viewer: Predictor) -> None:
    found = outcome(viewer.network, lambda _: np.ones((5, 9)))
    assert found.largest is None and not found.passed


def test_random_weights_are_of_their_size_and_the_trained_ones_stay(viewer: Predictor) -> None:
    before = {name: tensor.clone() for name, tensor in viewer.network.state_dict().items()}
    copy, again = (randomise(viewer.network, "") for _ in range(2))
    for name, tensor in viewer.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    for name, parameter in copy.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
        assert not torch.equal(parameter, before[name])
        if parameter.numel() > 100:
            assert float(parameter.detach().std()) == pytest.approx(float(before[name].std()), rel=0.3)
    head = randomise(viewer.network, "head")
    changed = {name for name, one in head.named_parameters() if not torch.equal(one, before[name])}
    assert changed == {"head.weight", "head.bias"}


def test_the_correlation_is_scipys() -> None:
    from scipy.stats import spearmanr

    draw = np.random.default_rng(0)
    first = [draw.integers(-4, 5, size).astype(float) for size in (5, 30, 3, 12)] + [np.ones(9)]
    second = [draw.normal(size=len(one)) for one in first]
    theirs = [spearmanr(first[n], second[n]).statistic for n in (0, 1, 3)]
    np.testing.assert_allclose(correlations(first, second), theirs, atol=1e-12)


def test_a_network_without_an_embedding_is_told() -> None:
    from retrainer.attribution.inputs import embedding

    with pytest.raises(UserError, match="no embedding layer"):
        embedding(nn.Linear(2, 2))
    assert embedding(nn.Sequential(nn.Linear(2, 2), nn.Embedding(3, 2))).weight.shape == (3, 2)


@pytest.mark.slow
def test_the_drawings_that_nobody_needs_are_not_imported() -> None:
    code = (
        "from retrainer.attribution.captum import captum; import sys; captum();"
        " print([name for name in sys.modules if name.startswith('matplotlib.pyplot')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]


@pytest.mark.usefixtures("torch_settings_restored")
def test_a_gradient_that_has_no_deterministic_form_is_taken_all_the_same() -> None:
    def forward(values: torch.Tensor) -> torch.Tensor:
        sums = values.sum(dim=1)
        return sums.clone().put_(torch.tensor([0]), sums[:1])  # PyTorch refuses it in deterministic mode

    values = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    torch.set_deterministic_debug_mode("error")
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        forward(values)
    found = gradients(forward, InputPath(values, torch.zeros_like(values), None, 4), ())
    assert torch.allclose(found, values)
    assert torch.get_deterministic_debug_mode() == 2
