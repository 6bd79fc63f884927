"""Speech recognition and audio classification: CTC, its search, the families, and a tiny training."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model, WhisperForConditionalGeneration

from retrainer.attribution.explain import Explainer, completeness_error
from retrainer.errors import UserError
from retrainer.formats.audio import decode_audio, encode_wav
from retrainer.formats.columns import ENCODED
from retrainer.formats.model import Trained, write_model
from retrainer.formats.network import load_network
from retrainer.models import speech_conv, speech_transformers
from retrainer.models._network import Network
from retrainer.predict import Predictor
from retrainer.settings import Backbone, Compute, Task, Training
from retrainer.tasks import audio_classification, speech_recognition
from retrainer.tasks._ctc import Lexicon, beam_search, ctc_loss, frames_needed, greedy, unit_ids
from retrainer.training.compute import resolve_compute
from retrainer.training.learner import Learner, Splits
from retrainer.training.loop import fit
from retrainer.training.train import build_network
from tests.whispers import tiny_whisper

pytestmark = pytest.mark.usefixtures("torch_settings_restored")

RATE = 8000
PLAIN = resolve_compute(Compute(device="cpu", dtype="float32", threads=1))
TINY = {"family": "speech_conv", "width": 32, "blocks": 1, "mels": 16, "stride": 1}


def clip(word: str, draws: np.random.Generator) -> bytes:
    """A tone a letter: a low one for a, a high one for b; a short silence between."""
    tones = {"a": 300, "b": 1500, " ": 0}
    at = np.arange(int(0.08 * RATE)) / RATE
    parts = [np.sin(2 * np.pi * tones[letter] * draws.uniform(0.9, 1.1) * at) for letter in word]
    quiet = np.zeros(int(0.04 * RATE))
    samples = np.concatenate([part for tone in parts for part in (tone, quiet)])
    return encode_wav(0.3 * samples + 0.01 * draws.standard_normal(len(samples)), RATE)


def clips(count: int, seed: int = 0, words: tuple[str, ...] = ("ab", "ba", "aab", "b b")) -> pa.Table:
    draws = np.random.default_rng(seed)
    texts = [words[row % len(words)] for row in range(count)]
    return pa.table(
        {
            "audio": pa.array([{"bytes": clip(text, draws), "path": None} for text in texts], ENCODED),
            "target_text": pa.array(texts, pa.string()),
            "labels": pa.array([[text] for text in texts], pa.list_(pa.string())),
            "origin": pa.array([f"clip {row}" for row in range(count)], pa.string()),
        }
    )


def recognition(**options: Any) -> Any:
    return speech_recognition.make(Task(kind="speech_recognition", **options), ())


def network_of(task: Any, train: pa.Table, weights: Path | None = None, **backbone: Any) -> Network:
    task.learn(train)
    strategy = "full" if weights else "scratch"
    return build_network(task, Backbone(**(backbone or TINY)), Training(strategy=strategy), weights)


def encoded(task: Any, network: Network, table: pa.Table) -> Any:
    body = network.description
    return task.encode(table, body.preprocessing, body.assets)


# --- CTC ---------------------------------------------------------------------------------------------------


def brute_force(logits: torch.Tensor, units: str) -> dict[str, float]:
    """Each text's probability: the sum over all ways through the frames."""
    chances = logits.softmax(1).tolist()
    found: dict[str, float] = {}
    for way in itertools.product(range(len(units) + 1), repeat=len(chances)):
        text = "".join(units[key - 1] for key, _ in itertools.groupby(way) if key)
        product = float(np.prod([frame[output] for frame, output in zip(chances, way, strict=True)]))
        found[text] = found.get(text, 0.0) + product
    return found


@pytest.mark.parametrize("seed", range(8))
def test_beam_search_finds_the_likeliest_text(seed: int) -> None:
    logits = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(seed)) * 2
    exact = brute_force(logits[0], "ab ")
    assert beam_search(logits, torch.tensor([5]), "ab ", 1000) == [max(exact, key=exact.__getitem__)]


@pytest.mark.parametrize("seed", range(8))
def test_with_a_lexicon_it_writes_its_words_alone(seed: int) -> None:
    logits = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(seed))
    exact = brute_force(logits[0], "ab ")
    allowed = ("", "ab", "b", "ab b", "b b", "b ab")
    likeliest = max((text for text in exact if text in allowed), key=exact.__getitem__)
    found = beam_search(logits, torch.tensor([5]), "ab ", 1000, Lexicon(["ab", "b"]))
    assert found == [likeliest]


def test_greedy_reads_the_likeliest_outputs() -> None:
    outputs = torch.tensor([[1, 1, 0, 1, 2, 2, 0, 0], [2, 0, 2, 1, 1, 1, 1, 1]])
    logits = torch.nn.functional.one_hot(outputs, 3).float()
    assert greedy(logits, torch.tensor([8, 4]), "ab") == ["aab", "bba"]


def test_the_loss_is_pytorchs_mean_over_targets() -> None:
    logits, frames = torch.randn(2, 9, 4), torch.tensor([9, 7])
    targets = torch.tensor([[1, 1, 2], [3, 0, 0]])
    theirs = torch.nn.functional.ctc_loss(
        logits.log_softmax(2).transpose(0, 1), torch.tensor([1, 1, 2, 3]), frames, torch.tensor([3, 1])
    )
    torch.testing.assert_close(ctc_loss(logits, frames, targets).mean(), theirs)


def test_a_text_that_does_not_fit_its_sound_is_refused() -> None:
    assert frames_needed(unit_ids(["aab"], "ab")[0]) == 4
    table = clips(4)
    table = table.set_column(1, "target_text", pa.array(["ab", "b" * 90, "a", "a"], pa.string()))
    task = recognition(sampling_rate=RATE)
    network = network_of(task, table)
    with pytest.raises(UserError, match="clip 1: a transcript of 90 characters is longer than its sound"):
        encoded(task, network, table)


# --- training and answers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught() -> tuple[Any, Network, list[dict[str, Any]]]:
    task = recognition(sampling_rate=RATE, noise=0.2, speed=0.05, shift_seconds=0.02, time_masks=1)
    train = clips(64)
    network = network_of(task, train)
    data = encoded(task, network, train), task.targets(train)
    training = Training(strategy="scratch", epochs=20, batch_size=8, learning_rate=1e-2)
    history = fit(Learner(network, task, training, PLAIN), Splits(data, data))
    return task, network, history


def test_a_small_network_learns_to_transcribe(taught: tuple[Any, Network, list[dict[str, Any]]]) -> None:
    task, network, history = taught
    test = clips(12, seed=5, words=("ba", "aab", "b b"))
    found = Predictor(network, task, "cpu", "").predict(test.drop_columns(["target_text"]))
    # What was said is never looked at, even where no network could say it in that time.
    impossible = test.set_column(
        test.column_names.index("target_text"), "target_text", pa.array(["a b " * 500] * 12, pa.string())
    )
    assert Predictor(network, task, "cpu", "").predict(impossible).equals(found)
    right = [
        a == b for a, b in zip(found["prediction"].to_pylist(), test["target_text"].to_pylist(), strict=True)
    ]
    assert sum(right) >= 10
    assert history[-1]["validation_loss"] < history[0]["validation_loss"] / 4


def test_a_written_model_predicts_the_same(taught: tuple[Any, Network, Any], tmp_path: Path) -> None:
    task, network, history = taught
    section = Task(kind="speech_recognition", sampling_rate=RATE)
    sections = {"training": {}, "task": section.plain()}
    write_model(tmp_path / "model", Trained(network, "speech_conv", (), history), sections, "0" * 64)
    test = clips(9, seed=7)
    loaded = Predictor.load(tmp_path / "model").predict(test)
    assert loaded.equals(Predictor(network, task, "cpu", "").predict(test))
    assert Predictor.load(tmp_path / "model").predict(test.slice(0, 0)).num_rows == 0
    searched = recognition(beams=8)
    assert Predictor(load_network(tmp_path / "model"), searched, "cpu", "").predict(test).num_rows == 9


def test_a_prediction_does_not_depend_on_the_rows_beside_it(taught: tuple[Any, Network, Any]) -> None:
    task, network, _ = taught
    test = clips(6, seed=9)
    network.eval()
    rows = encoded(task, network, test.drop_columns(["target_text"]))
    with torch.no_grad():
        together, frames = network(task.batch(rows, np.arange(6), None))
        for row in range(6):
            alone, count = network(task.batch(rows, np.array([row]), None))
            assert int(count) == int(frames[row])
            torch.testing.assert_close(
                together[row, : int(count)], alone[0, : int(count)], atol=1e-3, rtol=1e-3
            )


def test_a_lexicon_travels_with_the_model() -> None:
    task = recognition(sampling_rate=RATE, lexicon=True, beams=8)
    network = network_of(task, clips(4))
    assert network.description.preprocessing["words"] == ["aab", "ab", "b", "ba"]
    found = Predictor(network, task, "cpu", "").predict(clips(4, seed=1))["prediction"].to_pylist()
    assert all(word in ("aab", "ab", "b", "ba") for text in found for word in text.split())


def test_classes_of_sounds_are_learned_too() -> None:
    task = audio_classification.make(
        Task(kind="audio_classification", sampling_rate=RATE, noise=0.2), ("ab", "ba")
    )
    train = clips(48, words=("ab", "ba"))
    network = network_of(task, train, **TINY, recurrent=8, pooling="mean-max")
    data = encoded(task, network, train), task.targets(train)
    training = Training(strategy="scratch", epochs=8, batch_size=8, learning_rate=1e-2)
    history = fit(Learner(network, task, training, PLAIN), Splits(data, data))
    assert history[-1]["validation_accuracy"] > 0.9
    predictor, sounds = Predictor(network, task, "cpu", ""), clips(8, seed=3, words=("ab", "ba"))
    predicted = predictor.predict(sounds)
    assert predicted.column_names == ["label", "probabilities"]
    explained = Explainer.of(predictor, steps=64).explain(sounds, task.contrasts(predicted))
    assert completeness_error(explained) < 0.05
    lengths = [len(decode_audio(row["bytes"], "")[0]) / RATE for row in sounds["audio"].to_pylist()]
    ends = [row[-1]["end"] for row in explained["stretches"].to_pylist()]
    assert ends == pytest.approx(lengths, abs=0.03)  # a frame begins at the end, too


def test_models_that_do_not_say_how_they_pool_take_the_mean() -> None:
    task = audio_classification.make(Task(kind="audio_classification", sampling_rate=RATE), ("ab", "ba"))
    bodies = {
        pooling: network_of(task, clips(4), **TINY, pooling=pooling).description
        for pooling in ("mean", "mean-max")
    }
    assert {pooling: body.width for pooling, body in bodies.items()} == {"mean": 32, "mean-max": 64}
    older = {name: value for name, value in bodies["mean"].config.items() if name != "pooling"}
    assert speech_conv.restore(older).features is bodies["mean"].features


def test_settings_that_cannot_be_served_are_refused() -> None:
    with pytest.raises(UserError, match=r"task\.lexicon needs a search"):
        recognition(lexicon=True)
    with pytest.raises(UserError, match=r"unknown setting task\.speeed"):
        recognition(speeed=0.1)
    silent = clips(2).set_column(1, "target_text", pa.array([" ", None], pa.string()))
    with pytest.raises(UserError, match="no transcript with a character"):
        recognition().learn(silent)
    with pytest.raises(UserError, match="takes sound"):
        speech_conv.build(speech_conv.Options(), {"kind": "tokens"}, None, 0, True)
    with pytest.raises(UserError, match="odd number"):
        network_of(recognition(), clips(4), **TINY, kernel=4)


# --- Hugging Face's networks -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["layer", "group"])
def wav2vec2(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one, with random values; of its two kinds of first layers, one looks at a whole row."""
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (8, 4)}
    rest = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "layerdrop": 0.0}
    folder = tmp_path_factory.mktemp("wav2vec2")
    torch.manual_seed(0)
    Wav2Vec2Model(
        Wav2Vec2Config(**shape, **convolutions, **rest, feat_extract_norm=request.param)
    ).save_pretrained(folder)
    note = {"sampling_rate": 16_000, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(note))
    return folder


WAV2VEC2 = {"family": "speech_transformers"}


def test_wav2vec2_gives_what_transformers_gives(wav2vec2: Path) -> None:
    task = recognition()
    network = network_of(task, clips(4), wav2vec2, **WAV2VEC2).eval()
    rows = encoded(task, network, clips(3))
    theirs = Wav2Vec2Model.from_pretrained(wav2vec2).eval()
    with torch.no_grad():
        states, frames = network.features(task.batch(rows, np.arange(3), None))
        for row in range(3):
            alone = task.batch(rows, np.array([row]), None)
            one = theirs(alone["audio"]).last_hidden_state[0]
            assert int(frames[row]) == len(one)
            torch.testing.assert_close(states[row, : len(one)], one, atol=2e-4, rtol=2e-3)


def test_wav2vec2_trains_and_is_written(wav2vec2: Path, tmp_path: Path) -> None:
    task, train = recognition(speed=0.1), clips(8)
    network = network_of(task, train, wav2vec2, **WAV2VEC2)
    data = encoded(task, network, train), task.targets(train)
    training = Training(strategy="full", epochs=2, batch_size=4)
    history = fit(Learner(network, task, training, PLAIN), Splits(data))
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    again_written(network, task, tmp_path, history, train)


def again_written(network: Network, task: Any, folder: Path, history: Any, table: pa.Table) -> None:
    """Writes the model, loads it, and compares the predictions."""
    sections = {"training": {}, "task": Task(kind="speech_recognition").plain()}
    trained = Trained(network, "speech_transformers", (), history)
    write_model(folder / "model", trained, sections, "0" * 64)
    predictor = Predictor.load(folder / "model")
    assert predictor.predict(table).equals(Predictor(network, task, "cpu", "").predict(table))
    click = encode_wav(np.zeros(3, np.float32), RATE)
    assert predictor.predict(
        pa.table({"audio": pa.array([{"bytes": click, "path": None}], ENCODED)})
    ).num_rows


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.mark.parametrize("strategy", ["full", "lora", "last-n"])
def test_whisper_trains_writes_and_is_written(whisper: Path, tmp_path: Path, strategy: str) -> None:
    """`last-n` of the decoder's layers, of which it has one: the encoder stays as it is."""
    task, train = recognition(max_seconds=2, max_length=12), clips(8, words=("ab", "ba"))
    network = network_of(task, train, whisper, **WAV2VEC2)
    batch = task.batch(encoded(task, network, train), np.arange(2), None)
    assert batch["decoder_input_ids"][0, :2].tolist() == [1, 2]
    assert batch["targets"][0, 0] == -100 and batch["targets"][0, -1] == 0
    data = encoded(task, network, train), task.targets(train)
    heard = {name: tensor.clone() for name, tensor in network.body.get_encoder().state_dict().items()}
    training = Training(strategy=strategy, epochs=3, batch_size=4, backbone_learning_rate=1e-2)
    history = fit(Learner(network, task, training, PLAIN), Splits(data, data))
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    now = network.body.get_encoder().state_dict()
    assert all(torch.equal(now[name], heard[name]) for name in heard) == (strategy == "last-n")
    again_written(network, task, tmp_path, history, train)


def test_a_whisper_leaves_out_symbols_unless_the_training_rows_have_them(tmp_path: Path) -> None:
    """Two letters stand for brackets here; untrained, the network writes both."""
    weights = tiny_whisper(tmp_path, suppressed=(3, 4), first=(0,))
    for words, never, first, written in (
        (("a b", "b a"), [], [0], "ab "),
        (("b", "b"), [3], [0], "b "),
        (("b", " "), [3], [], "b "),
    ):
        task, train = recognition(max_seconds=2, max_length=12), clips(8, words=words)
        network = network_of(task, train, weights, **WAV2VEC2)
        config = network.description.config
        assert (config["never"], config["never_first"]) == (never, first)
        found = Predictor(network, task, "cpu", "").predict(train)["prediction"].to_pylist()
        assert set("".join(found)) == set(written)


def test_their_encoders_give_one_vector_for_classes(wav2vec2: Path, whisper: Path) -> None:
    for weights in (wav2vec2, whisper):
        task = audio_classification.make(Task(kind="audio_classification", max_seconds=2), ("ab", "ba"))
        network = network_of(task, clips(4), weights, **WAV2VEC2).eval()
        rows = encoded(task, network, clips(4))
        with torch.no_grad():
            assert network.features(task.batch(rows, np.arange(4), None)).shape == (4, 16)


def test_a_whisper_of_a_shorter_window_is_that_of_transformers_with_fewer_positions(whisper: Path) -> None:
    task = audio_classification.make(Task(kind="audio_classification", max_seconds=0.5), ("ab", "ba"))
    shorter = Backbone(family="speech_transformers", window_seconds=0.5)
    network = build_network(task, shorter, Training(strategy="full"), whisper).eval()
    batch = task.batch(encoded(task, network, clips(4)), np.arange(4), None)
    assert batch["audio"].shape[1] == 50
    theirs = WhisperForConditionalGeneration.from_pretrained(whisper).model.encoder.eval()
    theirs.config.max_source_positions = 25
    theirs.embed_positions = torch.nn.Embedding.from_pretrained(theirs.embed_positions.weight[:25])
    with torch.no_grad():
        states = theirs(batch["audio"].transpose(1, 2)).last_hidden_state
        ours = network.features(batch)
    for row, frames in enumerate((batch["lengths"] + 1) // 2):
        torch.testing.assert_close(ours[row], states[row, :frames].mean(0))
    shorter = Backbone(family="speech_transformers", window_seconds=9.0)
    with pytest.raises(UserError, match=r"backbone.window_seconds: 9, but these weights hear 2 s"):
        build_network(task, shorter, Training(strategy="full"), whisper)


def test_weights_that_hear_nothing_are_refused(tmp_path: Path, whisper: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    task = recognition()
    with pytest.raises(UserError, match="is a bert, which hears nothing"):
        network_of(task, clips(4), tmp_path, **WAV2VEC2)
    with pytest.raises(UserError, match=r"task.max_seconds: 30, but this network hears 2 s"):
        network_of(task, clips(4), whisper, **WAV2VEC2)
    with pytest.raises(UserError, match="reads its architecture from them"):
        speech_transformers.build(speech_transformers.Options(), {"kind": "audio"}, None, 0, True)
