"""The LSTM speaker encoder: its windows, its sound, Resemblyzer's weights; long recordings in pieces."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

from retrainer.convert.speaker_encoder import converted_speaker_encoder
from retrainer.data.ingest import ingest
from retrainer.errors import UserError
from retrainer.formats.columns import ENCODED
from retrainer.formats.dataset import Dataset
from retrainer.formats.files import sha256_file
from retrainer.formats.model import Trained, write_model
from retrainer.models import speaker_encoder
from retrainer.models._network import Network
from retrainer.models._speaker_encoder import STEP, WINDOW, SpeakerEncoder, windows_of
from retrainer.predict import Predictor
from retrainer.resolve import source_columns
from retrainer.services import weights
from retrainer.settings import Backbone, Source, Task
from retrainer.tasks import make_task
from retrainer.tasks._audio import Augmentation, augment_waves
from retrainer.tasks._log_mel import Spectrum, log_mel
from retrainer.tasks._verification_head import EmbeddingHead
from tests.synthetic_voices import saved, spoken

SMALL = speaker_encoder.Options(width=8, hidden=6, layers=2, mels=8)
SPEAKERS = Task(kind="speaker_verification")


def sounds(*seconds: float) -> pa.Table:
    rows = [{"bytes": saved(spoken(n, one), 16_000), "path": None} for n, one in enumerate(seconds)]
    return pa.table({"audio": pa.array(rows, ENCODED)})


def built(start: Path | None = None) -> Any:
    return speaker_encoder.build(SMALL, make_task(SPEAKERS).input_spec(), start, 0, start is None)


def test_windows_are_those_of_resemblyzer() -> None:
    """`VoiceEncoder.compute_partial_slices` of Resemblyzer 0.1.4, of samples, with its own defaults."""

    def theirs(samples: int) -> int:
        frames = -(-(samples + 1) // 160)
        begins = range(0, max(1, frames - WINDOW + STEP + 1), STEP)
        left_out = (samples - begins[-1] * 160) / (WINDOW * 160) < 0.75 and len(begins) > 1
        return len(begins) - left_out

    samples = np.random.default_rng(0).integers(1, 400_000, 500)
    assert windows_of(torch.from_numpy(samples // 160 + 1)).tolist() == [theirs(int(one)) for one in samples]


def test_a_sounds_vector_does_not_depend_on_the_sounds_beside_it() -> None:
    body, task = built(), make_task(SPEAKERS)
    encoded = task.encode(sounds(0.4, 2.0, 3.6), body.preprocessing, {})
    with torch.no_grad():
        together = body.features(body.module, task.batch(encoded, np.arange(3), None))
        alone = torch.cat(
            [body.features(body.module, task.batch(encoded, np.array([n]), None)) for n in range(3)]
        )
        none = body.features(body.module, task.batch(encoded, np.arange(0), None))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    assert none.shape == (0, 8)
    lengths = together.norm(dim=1)
    torch.testing.assert_close(lengths[lengths > 0], torch.ones(int((lengths > 0).sum())))


def test_quiet_sounds_are_raised_and_loud_ones_stay() -> None:
    spectrum = Spectrum(16_000, 400, 160, 40, normalise="power", level_dbfs=-30.0)
    wave, length = torch.sin(torch.arange(16_000) * 0.3)[None], torch.tensor([16_000])
    levels = {gain: log_mel(gain * wave, length, spectrum) for gain in (1e-3, 1e-2, 0.5, 1.0, 0.0)}
    torch.testing.assert_close(levels[1e-3], levels[1e-2], rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(4 * levels[0.5], levels[1.0])
    raised = levels[1.0] * 10**-3 * 2  # a sine's mean square is 1/2
    torch.testing.assert_close(levels[1e-2], raised, rtol=1e-2, atol=1e-9)
    assert not levels[0.0].any()


def test_in_training_a_stretch_is_drawn() -> None:
    waves = torch.arange(20.0)[None].repeat(3, 1)
    lengths = torch.tensor([20, 9, 4])
    draws = torch.Generator().manual_seed(0)
    assert augment_waves(waves, lengths, 10, Augmentation(crop_seconds=0.01), draws)[0].shape[1] == 1
    cut, left = augment_waves(waves, lengths, 10, Augmentation(crop_seconds=0.6), draws)
    assert left.tolist() == [6, 6, 4] and cut.shape == (3, 6)
    for row, length in zip(cut, lengths.tolist(), strict=True):
        kept = row[: min(6, length)]
        assert (kept.diff() == 1).all() and kept[-1] < length
    task = make_task(Task(kind="speaker_verification", crop_seconds=1.6))
    assert task.options.augmentation().crop_seconds == 1.6


def checkpoint(file: Path) -> SpeakerEncoder:
    """As Resemblyzer's authors saved theirs."""
    torch.manual_seed(0)
    network = SpeakerEncoder(8, 6, 2, 8)
    state = network.state_dict() | {"similarity_weight": torch.ones(1), "similarity_bias": torch.zeros(1)}
    momentum = {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"step": 1, "model_state": state, "optimizer_state": momentum}, file)
    return network


def test_the_packages_weights_are_converted_once_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "resemblyzer"
    package.mkdir()
    network = checkpoint(package / "pretrained.pt")
    (package / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    backbone = Backbone.parse({"family": "speaker_encoder", "weights": "package:resemblyzer"}, "backbone")
    with pytest.raises(UserError, match=r"pretrained\.pt is not the published file; install"):
        weights.pin(backbone, tmp_path / "weights.json")
    monkeypatch.setitem(weights.PUBLISHED, "resemblyzer", sha256_file(package / "pretrained.pt"))
    pinned = weights.pin(backbone, tmp_path / "weights.json")
    place = weights.fetch(pinned)
    assert isinstance(place, Path)
    written = (place / "model.safetensors").stat().st_ino
    assert weights.fetch(pinned) == place and (place / "model.safetensors").stat().st_ino == written
    own = built(place).module.state_dict()
    assert all(torch.equal(one, own[name]) for name, one in network.state_dict().items())
    (place / "model.safetensors").write_bytes(b"altered")  # and is made again
    assert weights.fetch(pinned) == place and (place / "model.safetensors").stat().st_size > 1000


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "pretrained.pt")
    with pytest.raises(UserError, match="holds no model_state"):
        converted_speaker_encoder(tmp_path / "pretrained.pt", "0" * 64, tmp_path)
    checkpoint(tmp_path / "pretrained.pt")
    place = converted_speaker_encoder(tmp_path / "pretrained.pt", "1" * 64, tmp_path)
    with pytest.raises(UserError, match="do not fit this architecture"):
        speaker_encoder.build(speaker_encoder.Options(), make_task(SPEAKERS).input_spec(), place, 0, False)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (Task(kind="speech_recognition"), "makes one vector of a sound, and no text"),
        (Task(kind="speaker_verification", sampling_rate=8000), "hears 16,000 samples a second"),
    ],
)
def test_tasks_that_it_cannot_serve_are_refused(task: Task, says: str) -> None:
    with pytest.raises(UserError, match=says):
        speaker_encoder.build(SMALL, make_task(task).input_spec(), None, 0, True)


def test_a_model_is_written_and_read_again(tmp_path: Path) -> None:
    network = Network(built(), EmbeddingHead(8, 4, 0)).eval()
    task = SPEAKERS.plain() | {"embedding": 4}
    trained = Trained(network, "speaker_encoder", ())
    write_model(tmp_path / "model", trained, {"task": task}, "0" * 64)
    found = Predictor.load(tmp_path / "model").predict(sounds(0.5, 1.0))
    assert [len(one) for one in found["embedding"].to_pylist()] == [4, 4]
    assert found["identity"].to_pylist() == [None, None] and found["threshold"].to_pylist() == [2.0, 2.0]


# --- recordings of speakers ----------------------------------------------------------------------------


def ingested(root: Path, **changes: Any) -> pa.Table:
    source = {"kind": "audio_folder", "path": str(root / "sounds"), "columns": source_columns(SPEAKERS)}
    ingest(Source.parse(source | changes, "source"), root / "raw")
    return Dataset(root / "raw").split("all")


def record(root: Path, names: dict[str, float]) -> None:
    for number, (name, seconds) in enumerate(names.items()):
        place = root / "sounds" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(saved(spoken(number, seconds)))


def test_each_folder_is_a_speaker(tmp_path: Path) -> None:
    record(tmp_path, {"ann/1.wav": 0.1, "ann/2.wav": 0.1, "bob/1.wav": 0.1})
    rows = ingested(tmp_path)
    assert rows["group"].to_pylist() == ["ann", "ann", "bob"] and "labels" not in rows.column_names
    assert ingested(tmp_path, test_groups=["bob"])["group"].to_pylist() == ["ann", "ann"]


def test_long_recordings_become_rows_of_one_length(tmp_path: Path) -> None:
    names = {"103-1240-0000.wav": 1.1, "1034-7-1.wav": 0.6, "20-1-1.wav": 0.2}
    record(tmp_path, names)
    (tmp_path / "sounds/9-1-1.wav").write_bytes(b"RIFF, and no sound")
    cut = {"pattern": "{group}-{session}.wav", "metadata": ["session"], "piece_seconds": 0.4}
    rows = ingested(tmp_path, **cut)
    assert rows["group"].to_pylist() == ["103", "103", "1034", "20", "9"]
    assert rows["origin"].to_pylist()[:3] == [
        "sounds/103-1240-0000.wav, piece 1",
        "sounds/103-1240-0000.wav, piece 2",
        "sounds/1034-7-1.wav",
    ]
    assert rows["metadata"].to_pylist()[0] == '{"session":"1240-0000"}'
    lengths = [len(soundfile.read(io.BytesIO(one["bytes"]))[0]) for one in rows["audio"].to_pylist()[:-1]]
    assert lengths == [3200, 3200, 3200, 1600]
