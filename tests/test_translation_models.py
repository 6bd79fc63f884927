"""Encoder–decoders: the search with its cache, the small Transformer, and weights in Hugging Face layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from retrainer.errors import UserError
from retrainer.formats.files import canonical_json
from retrainer.models import _transformer, encoder_decoder, seq2seq
from retrainer.models._network import Body
from retrainer.settings import Task, Training
from retrainer.tasks import translation
from tests.translators import SENTENCES, save_bart, save_marian, save_t5


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Further ones only wait for each other in networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SAVED = {"marian": save_marian, "t5": save_t5, "bart": save_bart}
SCRATCH = Training(strategy="scratch")


def pairs(rows: list[tuple[str, str]] = SENTENCES) -> pa.Table:
    return pa.table({"text": [row[0] for row in rows], "target_text": [row[1] for row in rows]})


def task_of(**options: Any) -> translation.Translation:
    options = {"max_length": 12, "vocabulary": 320} | options
    task = translation.make(Task(kind="translation", **options), ())
    task.learn(pairs())
    return task


def scratch(task: translation.Translation, **options: Any) -> Body:
    sizes = {"width": 16, "heads": 2, "layers": 2, "feedforward": 24} | options
    return encoder_decoder.build(encoder_decoder.Options(**sizes), task.input_spec(), None, 3, True)


def encoded(task: translation.Translation, body: Body, table: pa.Table) -> dict[str, Tensor]:
    rows = task.encode(table, body.preprocessing, body.assets)
    return task.batch(rows, np.arange(len(table)), None)


def random_weights(body: Body) -> Body:
    """Values so large that the tokens' probabilities differ."""
    with torch.no_grad():
        for parameter in body.module.parameters():
            parameter.mul_(2.5)
    body.module.eval()
    return body


def brute_force(body: Body, batch: dict[str, Tensor], never: tuple[int, ...], length: int) -> list[list[int]]:
    """The likeliest next token, each time by a whole pass over everything: no cache."""
    start, end = body.preprocessing["start"], body.preprocessing["end"]
    answers = []
    for row in range(len(batch["input_ids"])):
        one = {name: batch[name][row : row + 1] for name in ("input_ids", "attention_mask")}
        found: list[int] = []
        while len(found) < length:
            fed = torch.tensor([[*start, *found]])
            logits = body.features(body.module, one | {"decoder_input_ids": fed})[0, -1].clone()
            logits[list(never)] = -torch.inf
            token = int(logits.argmax())
            if token == end:
                break
            found.append(token)
        answers.append(found)
    return answers


def trimmed(ids: Tensor, end: int) -> list[list[int]]:
    return [row[: row.index(end)] if end in row else row for row in ids.tolist()]


OPTIONS = {"length_penalty": 1.0, "max_length": 10}


# --- the search ------------------------------------------------------------------------------------------


@torch.no_grad()
def test_greedy_search_with_a_cache_writes_what_whole_passes_write() -> None:
    task = task_of()
    body = random_weights(scratch(task))
    batch = encoded(task, body, pairs().select(["text"]))
    found = body.generate(body.module, batch, {"beams": 1, **OPTIONS})
    expected = brute_force(body, batch, (body.config["pad"], body.config["start"]), 10)
    assert trimmed(found, body.config["end"]) == expected
    assert len({tuple(row) for row in expected}) > 1


def test_attention_by_products_is_pytorchs_and_so_is_its_gradient() -> None:
    draws = torch.Generator().manual_seed(0)
    padded = (torch.arange(7) < torch.tensor([7, 4, 2])[:, None])[:, None, None, :]
    for mask, causal in ((None, False), (None, True), (padded, False)):
        parts = [torch.randn(3, 2, 7, 8, generator=draws, requires_grad=True) for _ in range(3)]
        ours = _transformer._attend_by_products(*parts, attn_mask=mask, is_causal=causal)
        theirs = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask, is_causal=causal)
        torch.testing.assert_close(ours, theirs)
        given = torch.randn(ours.shape, generator=draws)
        torch.testing.assert_close(
            torch.autograd.grad(ours, parts, given), torch.autograd.grad(theirs, parts, given)
        )


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
def test_a_translation_does_not_depend_on_the_rows_beside_it(beams: int) -> None:
    task = task_of()
    body = random_weights(scratch(task))
    batch = encoded(task, body, pairs().select(["text"]))
    together = trimmed(body.generate(body.module, batch, {"beams": beams, **OPTIONS}), body.config["end"])
    for row, text in enumerate(pairs()["text"].to_pylist()):
        alone = encoded(task, body, pa.table({"text": [text]}))
        found = body.generate(body.module, alone, {"beams": beams, **OPTIONS})
        assert trimmed(found, body.config["end"]) == [together[row]]


@torch.no_grad()
@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize(("beams", "penalty"), [(1, 1.0), (4, 1.0), (3, 0.0), (3, 2.0)])
def test_the_search_finds_what_transformers_finds(
    kind: str, beams: int, penalty: float, tmp_path: Path
) -> None:
    network = SAVED[kind](tmp_path / kind)
    task = task_of()
    body = pretrained(tmp_path / kind, task)
    batch = encoded(task, body, pairs().select(["text"]))
    found = body.generate(body.module, batch, {"beams": beams, "length_penalty": penalty, "max_length": 10})
    forced = {"forced_bos_token_id": body.config["start"][1]} if kind == "bart" else {}
    expected = network.generate(
        **batch, num_beams=beams, length_penalty=penalty, max_new_tokens=10 + len(body.config["start"]) - 1,
        do_sample=False, early_stopping=False, bad_words_ids=[[body.config["pad"]]], **forced,
    )  # fmt: skip
    fed = len(body.config["start"])
    assert trimmed(found, body.config["end"]) == trimmed(expected[:, fed:], body.config["end"])


@pytest.mark.parametrize("kind", ["scratch", *SAVED])
def test_every_value_is_used_and_a_body_is_described_by_plain_data(kind: str, tmp_path: Path) -> None:
    task = task_of()
    if kind == "scratch":
        body = scratch(task)
    else:
        SAVED[kind](tmp_path / kind)
        body = pretrained(tmp_path / kind, task)
    batch = encoded(task, body, pairs())
    targets = batch.pop("targets")
    task.loss(body.features(body.module.train(), batch), targets, 0.0).mean().backward()
    trained = [(name, value) for name, value in body.module.named_parameters() if value.requires_grad]
    assert [name for name, value in trained if value.grad is None] == []
    assert "/" not in canonical_json([body.config, body.preprocessing]).decode()


def test_no_rows_have_no_translations() -> None:
    task = task_of()
    body = scratch(task)
    batch = encoded(task, body, pa.table({"text": pa.array([], pa.string())}))
    assert body.generate(body.module, batch, {"beams": 2, **OPTIONS}).shape == (0, 10)


# --- the small Transformer -------------------------------------------------------------------------------


@torch.no_grad()
def test_padding_and_later_tokens_change_no_logit() -> None:
    task = task_of()
    body = random_weights(scratch(task))
    batch = encoded(task, body, pairs())
    together = body.features(body.module, batch)
    for row in range(len(SENTENCES)):
        one = encoded(task, body, pairs([SENTENCES[row]]))
        there = one["decoder_input_ids"].shape[1]
        alone = body.features(body.module, one)
        torch.testing.assert_close(together[row : row + 1, :there], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_same_seed_draws_the_same_network_and_a_config_restores_it() -> None:
    task = task_of()
    first, again = scratch(task), scratch(task)
    assert first.assets == again.assets
    restored = encoder_decoder.restore(first.config)
    restored.module.load_state_dict(first.module.state_dict(), strict=True)
    batch = encoded(task, first, pairs())
    for other in (again, restored):
        torch.testing.assert_close(other.features(other.module, batch), first.features(first.module, batch))


def test_the_decoder_has_as_many_layers_as_it_is_given_or_as_the_encoder() -> None:
    task = task_of()
    same, fewer = scratch(task), scratch(task, decoder_layers=1)
    assert [len(body.module.decoder) for body in (same, fewer)] == [2, 1]
    assert len(encoder_decoder.restore(fewer.config).module.decoder) == 1
    of_earlier = {key: value for key, value in same.config.items() if key != "decoder_layers"}
    assert len(encoder_decoder.restore(of_earlier).module.decoder) == 2


def test_it_learns_a_few_sentences_by_heart() -> None:
    task = task_of(beams=2)
    body = scratch(task, width=32)
    batch = encoded(task, body, pairs())
    targets = batch.pop("targets")
    optimiser = torch.optim.Adam(body.module.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = task.loss(body.features(body.module, batch), targets, 0.0).mean()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    body.module.eval()
    network = type("Network", (), {"description": body, "body": body.module})
    found = task.predict(network, encoded(task, body, pairs().select(["text"])), 1.0)
    assert found["prediction"].to_pylist() == [target for _, target in SENTENCES]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 30, "heads": 4}, "backbone.width: 30 is no multiple of twice the 4 heads; set 24"),
        ({"width": 8, "heads": 8}, "backbone.width: 8 is no multiple of twice the 8 heads; set 16"),
    ],
)
def test_a_width_that_the_heads_cannot_share_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        scratch(task_of(), **options)


def test_another_family_or_strategy_is_refused() -> None:
    task = task_of()
    body = scratch(task)
    with pytest.raises(UserError, match=r"training.strategy: frozen trains a head alone"):
        task.head(body, Training(strategy="frozen"))
    body.generate = None
    with pytest.raises(UserError, match=r"backbone.family: translation needs one that writes texts"):
        task.head(body, SCRATCH)
    with pytest.raises(UserError, match=r"encoder_decoder writes texts; set task.kind: translation"):
        encoder_decoder.build(encoder_decoder.Options(), {"kind": "tokens"}, None, 0, True)


def test_dropout_is_that_of_the_training() -> None:
    task = task_of()
    body = scratch(task)
    task.head(body, Training(strategy="scratch", dropout=0.25))
    batch = encoded(task, body, pairs())
    assert not torch.equal(body.features(body.module, batch), body.features(body.module, batch))
    body.module.eval()
    torch.testing.assert_close(body.features(body.module, batch), body.features(body.module, batch))


# --- Hugging Face layout ---------------------------------------------------------------------------------


def pretrained(path: Path, task: translation.Translation, **options: str) -> Body:
    body = seq2seq.build(seq2seq.Options(**options), task.input_spec(), path, 0, False)
    body.module.eval()
    return body


@torch.no_grad()
@pytest.mark.parametrize("kind", SAVED)
def test_training_sees_the_targets_that_transformers_would_shift(kind: str, tmp_path: Path) -> None:
    network = SAVED[kind](tmp_path / kind)
    task = task_of()
    body = pretrained(tmp_path / kind, task)
    batch = encoded(task, body, pairs())
    targets = batch.pop("targets")
    logits = body.features(body.module, batch)
    # Their targets have all tokens that follow the first one fed; we ask for none that is forced.
    forced = torch.tensor(body.config["start"][1:], dtype=torch.int64).expand(len(targets), -1)
    labels = torch.cat([forced, targets[:, forced.shape[1] :]], dim=1)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = network(**inputs, labels=labels).logits
    there = targets >= 0
    torch.testing.assert_close(logits[there], expected[there])


def test_marians_tokenizer_gives_the_ids_that_transformers_gives(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    from transformers import MarianTokenizer

    save_marian(tmp_path / "marian")
    theirs = MarianTokenizer.from_pretrained(tmp_path / "marian")
    recwarn.clear()  # it recommends another package
    task = task_of(max_length=30)
    body = pretrained(tmp_path / "marian", task)
    texts = [*(pair[0] for pair in SENTENCES), "  ein   Hund ", "ein ﬁscher Zebra", "Katze\tsitzt"]
    rows = task.encode(pa.table({"text": texts}), body.preprocessing, body.assets)
    ids = [rows.batch(np.array([n]))["input_ids"][0].tolist() for n in range(len(texts))]
    assert ids == [theirs(text).input_ids for text in texts]
    goals = [pair[1] for pair in SENTENCES]
    rows = task.encode(pa.table({"text": texts[:5], "target_text": goals}), body.preprocessing, body.assets)
    wanted = [rows.batch(np.array([n]))["targets"][0].tolist() for n in range(5)]
    assert wanted == [theirs(text_target=text).input_ids for text in goals]


@torch.no_grad()
@pytest.mark.parametrize("kind", SAVED)
def test_a_config_restores_given_weights(kind: str, tmp_path: Path) -> None:
    SAVED[kind](tmp_path / kind)
    task = task_of()
    body = pretrained(tmp_path / kind, task)
    restored = seq2seq.restore(body.config)
    restored.module.load_state_dict(body.module.state_dict(), strict=True)
    restored.module.eval()
    batch = encoded(task, body, pairs())
    batch.pop("targets")
    torch.testing.assert_close(restored.features(restored.module, batch), body.features(body.module, batch))


@pytest.mark.parametrize("kind", SAVED)
def test_lora_trains_matrices_beside_given_weights(kind: str, tmp_path: Path) -> None:
    from retrainer.training._lora import adapted

    SAVED[kind](tmp_path / kind)
    task = task_of()
    body = pretrained(tmp_path / kind, task)
    batch = encoded(task, body, pairs())
    targets = batch.pop("targets")
    before = {name: value.clone() for name, value in body.module.state_dict().items()}
    with adapted(body, Training(strategy="lora", lora_rank=2)):
        trained = [p for p in body.module.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(trained, lr=1e-2)
        losses = []
        for _ in range(4):
            optimiser.zero_grad()
            loss = task.loss(body.features(body.module, batch), targets, 0.0).mean()
            loss.backward()
            losses.append(float(loss.detach()))
            optimiser.step()
    assert losses[-1] < losses[0]
    after = body.module.state_dict()
    assert after.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(before[name].dim() == 2 for name in moved)


def without(*names: str) -> Callable[[Path], None]:
    def remove(path: Path) -> None:
        for name in names:
            (path / name).unlink()

    return remove


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            without("source.spm"),
            "marian has no tokenizer.json .nor Marian's source.spm, target.spm, vocab.json.; save",
        ),
        (without("config.json"), "marian/config.json cannot be read: "),
        (without("model.safetensors"), "marian cannot be loaded: "),
        (lambda path: (path / "source.spm").write_bytes(b"no model"), "source.spm "),
    ],
)
def test_weights_that_are_not_whole_are_refused(
    spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    save_marian(tmp_path / "marian")
    spoil(tmp_path / "marian")
    with pytest.raises(UserError, match=f"^backbone.weights: {message}"):
        pretrained(tmp_path / "marian", task_of())


def test_a_length_beyond_the_weights_positions_is_refused(tmp_path: Path) -> None:
    save_marian(tmp_path / "marian")
    task = task_of(max_length=64)
    with pytest.raises(
        UserError, match=r"^task.max_length: 64, but this model takes 40 tokens; set that or less$"
    ):
        pretrained(tmp_path / "marian", task)
