"""`backbone.stem: small`, and small images decoded in several processes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from retrainer.errors import UserError
from retrainer.models import timm, torchvision
from retrainer.tasks import _decode

WANTED = {"kind": "pixels", "size": [32, 32], "channels": 3}
FAMILIES: dict[str, Any] = {"torchvision": torchvision, "timm": timm}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_small_stem_keeps_every_pixel(family: str) -> None:
    module = FAMILIES[family]
    body = module.build(module.Options(name="resnet18", stem="small"), WANTED, None, 0, True)
    assert body.config["stem"] == "small"
    assert tuple(body.module.conv1.weight.shape) == (64, 3, 3, 3)
    seen: list[torch.Size] = []
    body.module.layer1.register_forward_hook(lambda _, __, out: seen.append(out.shape))
    body.features(body.module.eval(), {"pixels": torch.zeros(1, 3, 32, 32)})
    assert tuple(seen[0][2:]) == (32, 32)
    again = module.restore(body.config)
    again.module.load_state_dict(body.module.state_dict())
    usual = module.build(module.Options(name="resnet18"), WANTED, None, 0, True)
    assert "stem" not in usual.config and tuple(usual.module.conv1.weight.shape) == (64, 3, 7, 7)


def test_weights_of_the_other_stem_are_refused(tmp_path: Path) -> None:
    module = torchvision
    usual = module.build(module.Options(name="resnet18"), WANTED, None, 0, True)
    file = tmp_path / "weights.safetensors"
    save_file({name: t.contiguous() for name, t in usual.module.state_dict().items()}, file)
    with pytest.raises(UserError, match=r"^backbone\.stem: the weights begin with 7×7 filters .* with 3×3"):
        module.build(module.Options(name="resnet18", stem="small"), WANTED, file, 0, False)
    module.build(module.Options(name="resnet18"), WANTED, file, 0, False)


def test_a_network_without_such_a_stem_is_named() -> None:
    with pytest.raises(UserError, match=r"^backbone\.stem: small is for residual networks .* mobilenet_v2"):
        torchvision.build(torchvision.Options(name="mobilenet_v2", stem="small"), WANTED, None, 0, True)


def test_processes_decode_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(0)
    encoded: list[bytes | None] = []
    for _ in range(40):
        stream = io.BytesIO()
        Image.fromarray(draws.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(stream, "JPEG")
        encoded.append(stream.getvalue())
    names = [f"row {row}" for row in range(40)]
    plain = _decode.decode_images(encoded, (16, 16), 3, names)
    monkeypatch.setattr(_decode, "_IMAGES_WORTH_PROCESSES", 10)
    monkeypatch.setattr(_decode, "_FEWEST_CORES", 1)
    monkeypatch.setattr(_decode, "_MOST_PROCESSES", 2)
    with monkeypatch.context() as patch:
        patch.delattr(_decode, "decode_image")  # nothing is decoded here
        assert np.array_equal(_decode.decode_images(encoded, (16, 16), 3, names), plain)
    encoded[33] = b"no image"
    with pytest.raises(UserError, match=r"^row 33: the image cannot be decoded"):
        _decode.decode_images(encoded, (16, 16), 3, names)
