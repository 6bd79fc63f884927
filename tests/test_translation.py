"""The task of translation: tokens, loss, baselines, and its part of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF

from retrainer.errors import UserError
from retrainer.formats.dataset import About, write_dataset
from retrainer.gate.scores import scores_of
from retrainer.predict import Predictor
from retrainer.settings import Backbone, Checks, Compute, Evaluation, Task, Training
from retrainer.tasks import translation
from retrainer.tasks._protocol import Judged
from retrainer.tasks._text_pairs import IGNORED, decode, train_tokenizer
from retrainer.training._compiled import compiled
from retrainer.training.compute import resolve_compute
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.learner import Learner
from retrainer.training.loader import shuffled_batches, stream
from retrainer.training.loop import _try_two_rows
from retrainer.training.strategies import placed_rows
from retrainer.training.train import build_network, train_model
from tests.translators import SENTENCES

GERMAN, ENGLISH = ([pair[side] for pair in SENTENCES] for side in range(2))
FRAME = {
    "kind": "text_to_text", "tokenizer": "t", "target_tokenizer": "t", "max_length": 16, "pad_id": 0,
    "start": [1], "end": 2,
}  # fmt: skip


def table(sources: list[Any] = GERMAN, targets: list[Any] = ENGLISH) -> pa.Table:
    return pa.table({"text": pa.array(sources, pa.string()), "target_text": pa.array(targets, pa.string())})


def task_of(**options: Any) -> translation.Translation:
    task = translation.make(Task(kind="translation", vocabulary=300, **options), ())
    task.learn(table())
    return task


@pytest.fixture(scope="module")
def assets() -> dict[str, bytes]:
    return {"t": train_tokenizer(GERMAN + ENGLISH, 300)}


# --- tokens ----------------------------------------------------------------------------------------------


def test_the_same_texts_make_the_same_tokenizer(assets: dict[str, bytes]) -> None:
    assert train_tokenizer(iter(GERMAN + ENGLISH), 300) == assets["t"]
    assert len(json.loads(assets["t"])["model"]["vocab"]) == 300
    assert train_tokenizer(ENGLISH, 300) != assets["t"]


@pytest.mark.parametrize(
    "text", ["a dog runs", "日本 🐕 ½ ẞ", "  spaces   within ", "", "\t\n", "<s> </s> <pad>"]
)
def test_any_text_comes_back_from_its_tokens(text: str, assets: dict[str, bytes]) -> None:
    rows = task_of().encode(table([text], [text]), FRAME | {"max_length": 64}, assets)
    ids = rows.batch(np.array([0]))["targets"]
    expected = text.strip()
    for special in ("<s>", "</s>", "<pad>"):  # written out, they are no text
        expected = expected.replace(special, "")
    assert decode(ids, FRAME, assets)[0].split() == expected.split()


def test_decoder_inputs_are_the_targets_one_place_later(assets: dict[str, bytes]) -> None:
    task = task_of()
    batch = task.batch(task.encode(table(), FRAME, assets), np.arange(len(SENTENCES)), None)
    inputs, targets = batch["decoder_input_ids"], batch["targets"]
    assert inputs.shape == targets.shape and (inputs[:, 0] == 1).all()
    there = targets != IGNORED
    assert (inputs[:, 1:][there[:, 1:]] == targets[:, :-1][there[:, 1:]]).all()
    assert (targets.gather(1, there.sum(1, keepdim=True) - 1) == 2).all()
    assert decode(targets.clamp(min=0), FRAME, assets) == ENGLISH


def test_rows_to_translate_have_no_targets(assets: dict[str, bytes]) -> None:
    task = task_of()
    rows = task.encode(table().select(["text"]), FRAME, assets)
    assert set(task.batch(rows, np.arange(2), None)) == {"input_ids", "attention_mask"}
    np.testing.assert_array_equal(task.lengths(rows), rows.source.lengths)


def test_rows_are_sorted_by_the_target_and_then_by_the_source(assets: dict[str, bytes]) -> None:
    task = task_of()
    rows = task.encode(table(["a a a", "a", "a a a a"], ["a", "a a a", "a"]), FRAME, assets)
    lengths = task.lengths(rows)
    assert lengths is not None and np.argsort(lengths).tolist() == [0, 2, 1]


def test_batches_of_pairs_have_little_padding_on_either_side(assets: dict[str, bytes]) -> None:
    drawn = np.random.default_rng(0)
    sources, targets = (
        [" ".join("ein" for _ in range(count)) for count in drawn.integers(3, 15, 6000)] for _ in range(2)
    )
    task = task_of()
    rows = task.encode(table(sources, targets), FRAME, assets)
    placed = placed_rows(task, (rows, np.zeros(6000, np.int64)), torch.nn.Identity(), torch.device("cpu"))
    batches = shuffled_batches(6000, 8, placed.lengths, stream(0, "order"), None, placed.window_batches)
    for side in (rows.source, rows.target):
        assert side is not None
        places = sum(len(batch) * side.lengths[batch].max() for batch in batches)
        assert places < 1.08 * side.lengths.sum()


def test_long_texts_are_cut_and_still_end(assets: dict[str, bytes]) -> None:
    task = task_of()
    rows = task.encode(table(["dog " * 50], ["dog " * 50]), FRAME, assets)
    batch = task.batch(rows, np.array([0]), None)
    assert batch["input_ids"].shape == batch["targets"].shape == (1, 16)
    assert batch["input_ids"][0, -1] == batch["targets"][0, -1] == 2


def test_a_language_token_is_fed_and_not_asked_for(assets: dict[str, bytes]) -> None:
    task = task_of()
    rows = task.encode(table(), FRAME | {"start": [2, 1]}, assets)
    batch = task.batch(rows, np.arange(2), None)
    assert (batch["decoder_input_ids"][:, :2] == torch.tensor([2, 1])).all()
    assert (batch["targets"][:, 0] == IGNORED).all() and (batch["targets"][:, 1] >= 0).all()
    assert batch["decoder_input_ids"].shape == batch["targets"].shape


# --- loss ------------------------------------------------------------------------------------------------


def test_the_mean_loss_is_nats_a_word_of_the_whole_data(assets: dict[str, bytes]) -> None:
    task = task_of()
    batch = task.batch(task.encode(table(), FRAME, assets), np.arange(len(SENTENCES)), None)
    targets = batch["targets"]
    logits = torch.randn(*targets.shape, 300, generator=torch.Generator().manual_seed(0))
    each = task.loss(logits, targets, 0.0)
    total = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    words = sum(len(text.split()) for text in ENGLISH)
    assert float(each.mean()) == pytest.approx(float(total) / words, rel=1e-6)
    padded = torch.nn.functional.pad(targets, (0, 3), value=IGNORED)
    longer = torch.nn.functional.pad(logits, (0, 0, 0, 3))
    torch.testing.assert_close(task.loss(longer, padded, 0.1), task.loss(logits, targets, 0.1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_and_its_gradient_are_pytorchs(dtype: torch.dtype, smoothing: float) -> None:
    draws = torch.Generator().manual_seed(1)
    logits = (8 * torch.randn(6, 5, 300, generator=draws)).to(dtype)
    targets = torch.randint(0, 300, (6, 5), generator=draws)
    targets[:, 3:] = IGNORED
    weights, task, kept = torch.rand(6, generator=draws), task_of(), logits.clone()
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    losses = task.loss(ours, targets, smoothing)
    losses.backward(weights)
    expected = torch.nn.functional.cross_entropy(
        theirs.float().flatten(0, 1), targets.flatten(), reduction="none", label_smoothing=smoothing
    )
    expected = expected.view(6, 5).sum(1) / task._words
    expected.backward(weights)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert bool((ours.detach() == kept).all()) and not ours.grad[:, 3:].any()


def test_token_accuracy_counts_no_padding() -> None:
    targets = torch.tensor([[5, 6, 7], [5, IGNORED, IGNORED]])
    logits = torch.nn.functional.one_hot(torch.tensor([[5, 6, 0], [5, 0, 0]]), 8).float()
    np.testing.assert_allclose(task_of().figures(logits, targets)["token_accuracy"], [2 / 3, 1.0])


def test_a_dataset_trains_a_model_that_predicts(tmp_path: Path) -> None:
    rows = table(GERMAN * 4, ENGLISH * 4).append_column("origin", pa.array([f"row {n}" for n in range(20)]))
    splits = {"train": rows, "validation": rows.slice(0, 5), "test": rows.slice(0, 0)}
    write_dataset(tmp_path / "dataset", splits, About(types={"target_text": "string"}))
    section = Task.parse({"kind": "translation", "vocabulary": 300, "max_length": 12, "beams": 2}, "task")
    backbone = Backbone.parse({"family": "encoder_decoder", "width": 32, "heads": 2, "layers": 1}, "backbone")
    training = Training.parse(
        {
            "strategy": "scratch",
            "epochs": 12,
            "batch_size": 10,
            "learning_rate": 1e-2,
            "label_smoothing": 0.1,
        },
        "training",
    )
    compute = resolve_compute(Compute(device="cpu", dtype="float32", threads=1))
    settings = Settings(section, backbone, training, compute)
    train_model(Inputs(tmp_path / "dataset", settings), tmp_path / "model")
    history = json.loads((tmp_path / "model" / "history.json").read_text())
    assert history[-1]["validation_loss"] < 0.5 * history[0]["validation_loss"]
    assert 0.9 < history[-1]["validation_token_accuracy"] <= 1
    predictor = Predictor.load(tmp_path / "model")
    found = predictor.predict(rows.slice(0, 5).select(["text"]))
    assert found["prediction"].to_pylist() == ENGLISH
    assert predictor.predict(rows.slice(0, 0).select(["text"])).num_rows == 0


# --- judgement -------------------------------------------------------------------------------------------


def test_baselines_copy_the_source_and_look_up_the_nearest_text() -> None:
    test = table(["ein Hund rennt schnell", "Zebra", None], ["a dog runs fast", "zebra", "x"])
    found = task_of().baselines(table(), test, Evaluation()).found
    assert [baseline.name for baseline in found] == ["copy_source", "nearest_text"]
    assert found[0].predictions["prediction"].to_pylist() == ["ein Hund rennt schnell", "Zebra", None]
    assert found[1].predictions["prediction"].to_pylist() == ["a dog runs", "a dog runs", "a dog runs"]
    assert found[0].fitted_rows == 0 and found[1].fitted_rows == len(SENTENCES)
    alone = task_of().baselines(table(), test, Evaluation(baseline=False))
    assert len(alone.found) == 1 and alone.missing == "evaluation.baseline is false"


def judged(count: int = 100) -> Judged:
    draw = np.random.default_rng(0)
    references = [" ".join(draw.choice(ENGLISH, 1 + n % 3)) for n in range(count)]
    predictions = [text if draw.random() < 0.5 else text.replace("dog", "<b>cat</b>") for text in references]
    sources = [" ".join(draw.choice(GERMAN, 1 + n % 3)) for n in range(count)]
    rows = table(sources, references).append_column(
        "origin", pa.array([f"x.de:line {n}" for n in range(count)])
    )
    return Judged(None, table(), rows, pa.table({"prediction": predictions}), Evaluation(), Checks())


def test_details_tell_the_metrics_by_length_and_the_worst_and_best() -> None:
    one = judged()
    details = task_of().details(one)
    json.dumps(details)
    assert sum(bucket["rows"] for bucket in details["buckets"]) == 100
    sources, references = (one.test[name].to_pylist() for name in ("text", "target_text"))
    predictions = one.predictions["prediction"].to_pylist()
    first = details["buckets"][0]
    low, _, high = first["words"].partition(" to ")
    inside = [n for n in range(100) if int(low) <= len(sources[n].split()) <= int(high or low)]
    assert len(inside) == first["rows"]
    hypotheses, truth = [predictions[n] for n in inside], [references[n] for n in inside]
    assert first["bleu"] == pytest.approx(BLEU(force=True).corpus_score(hypotheses, [truth]).score)
    assert first["chrf"] == pytest.approx(CHRF().corpus_score(hypotheses, [truth]).score)
    worst, best = details["worst"][0], details["best"][0]
    assert worst["chrf"] == pytest.approx(
        CHRF().sentence_score(worst["prediction"], [worst["reference"]]).score
    )
    assert worst["chrf"] <= best["chrf"] == 100 and worst["where"].startswith("x.de:line")
    words = [sum(len(text.split()) for text in texts) for texts in (predictions, references)]
    assert details["length_ratio"] == words[0] / words[1]


def test_panels_show_them_and_nothing_that_a_text_could_do_to_a_page() -> None:
    one = judged()
    report = {"details": task_of().details(one), "about": scores_of(task_of()).about()}
    lengths, examples = task_of().panels(one, report)
    assert "BLEU" in lengths and "chrF" in lengths
    assert "&lt;b&gt;cat" in examples and "<b>cat" not in examples


def test_few_rows_make_one_bucket_and_none_make_none() -> None:
    assert len(task_of().details(judged(3))["buckets"]) == 1
    assert task_of().details(judged(0))["buckets"] == []
    task_of().panels(judged(0), {"details": task_of().details(judged(0))})


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(UserError, match=r"^unknown setting task.beam; did you mean 'beams'"):
        translation.make(Task(kind="translation", beam=3), ())


def test_a_trial_step_takes_the_targets_of_the_batch() -> None:
    """As before a training on a GPU, where an operation that does not repeat itself is looked for."""
    task, rows = task_of(), table()
    task.learn(rows)
    backbone = Backbone.parse({"family": "encoder_decoder", "width": 32, "heads": 2, "layers": 1}, "backbone")
    training = Training.parse({"strategy": "scratch"}, "training")
    network = build_network(task, backbone, training, None)
    body = network.description
    train = task.encode(rows, body.preprocessing, body.assets), task.targets(rows)
    compute = resolve_compute(Compute(device="cpu", dtype="float32", threads=1))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _try_two_rows(Learner(network, task, training, compute), train, torch.device("cpu"))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    placed = placed_rows(task, train, network, torch.device("cpu"))
    batch, targets = placed.load(np.arange(2), None)
    assert "targets" not in batch and targets.shape == batch["decoder_input_ids"].shape


def test_a_network_of_texts_is_not_compiled_and_says_so() -> None:
    task = task_of()
    task.learn(table())
    backbone = Backbone.parse({"family": "encoder_decoder", "width": 32, "heads": 2, "layers": 1}, "backbone")
    training = Training.parse({"strategy": "scratch"}, "training")
    network = build_network(task, backbone, training, None)
    rows: Any = None
    assert compiled(Learner(network, task, training, Compute(compile="auto")), rows) is network
    with pytest.raises(UserError, match="networks that read text_to_text are not compiled"):
        compiled(Learner(network, task, training, Compute(compile=True)), rows)
