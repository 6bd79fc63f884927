"""Detectors of torchvision and Hugging Face as families: their own losses and boxes, image by image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from retrainer.errors import UserError
from retrainer.models import torchvision_detection as torchvision_family
from retrainer.models import transformers_detection as transformers_family

SPEC = {"kind": "pixels", "size": [64, 96], "channels": None, "maps": True, "classes": 3}
NAMES = ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"]
SLOW = ["fcos_resnet50_fpn", "retinanet_resnet50_fpn"]


def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))


def targets() -> torch.Tensor:
    rows = torch.full((2, 4, 5), -1.0)
    rows[0, 0] = torch.tensor([1, 10, 10, 50, 50])
    rows[0, 1] = torch.tensor([2, 40, 20, 90, 60])
    return rows


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_losses_are_torchvisions_own_of_each_image(name: str) -> None:
    body = torchvision_family.build(torchvision_family.Options(name=name), SPEC, None, 0, True)
    module: Any = body.module.eval()
    outputs = body.features(module, {"pixels": pixels()})
    torch.manual_seed(0)
    losses = outputs.losses(targets())
    first = int(name.startswith(("ssd", "faster")))
    torch.manual_seed(0)
    for number, rows in enumerate(targets()):
        there = rows[rows[:, 0] >= 0]
        objects = [{"boxes": there[:, 1:], "labels": there[:, 0].long() + first}]
        for part in [module, *(getattr(module, n) for n in ("rpn", "roi_heads") if hasattr(module, n))]:
            part.training = True  # losses, with the norms as they were for ours
        with torch.random.fork_rng():
            theirs = module([pixels()[number]], objects)
        for part in module.modules():
            part.training = False
        if "faster" not in name or not number:  # which draws other proposals for a second image
            torch.testing.assert_close(losses[number], torch.stack(list(theirs.values())).sum())
    with torch.no_grad():
        corners, scores = outputs.detections()
        found = module(list(pixels()))
    for number, one in enumerate(found):
        count = len(one["boxes"])
        assert torch.equal(corners[number, :count], one["boxes"])
        assert torch.equal(scores[number].amax(1)[:count], one["scores"])
        assert (scores[number, count:] == 0).all()


def test_weights_of_another_number_of_classes_start_all_but_the_classes(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    options = torchvision_family.Options(name=NAMES[0])
    other = torchvision_family.build(options, SPEC | {"classes": 7}, None, 1, True).module.state_dict()
    save_file({name: value.contiguous() for name, value in other.items()}, tmp_path / "coco.safetensors")
    body = torchvision_family.build(options, SPEC, tmp_path / "coco.safetensors", 0, False)
    own = body.module.state_dict()
    anew = [name for name, value in own.items() if not torch.equal(value, other.get(name, value * 0 - 1))]
    assert anew and all("classification_head" in name for name in anew)


def test_families_of_detectors_refuse_other_tasks() -> None:
    spec = {key: value for key, value in SPEC.items() if key != "classes"}
    with pytest.raises(UserError, match=r"set task\.kind: object_detection"):
        torchvision_family.build(torchvision_family.Options(), spec, None, 0, True)
    with pytest.raises(UserError, match="reads its architecture from them"):
        transformers_family.build(transformers_family.Options(), SPEC, None, 0, True)


def tiny(kind: str) -> Any:
    import transformers

    small = {"d_model": 32, "num_labels": 5, "num_queries": 10, "encoder_layers": 1, "decoder_layers": 1}
    small |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    small |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    resnet = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "layer_type": "basic"}
    if kind == "yolos":
        return transformers.YolosConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=[64, 96],
            num_detection_tokens=10,
            num_labels=5,
        )
    if kind == "detr":
        backbone = transformers.ResNetConfig(**resnet, out_features=["stage4"])
        return transformers.DetrConfig(
            backbone_config=backbone, use_timm_backbone=False, backbone=None, **small
        )
    backbone = transformers.RTDetrResNetConfig(**resnet, out_features=["stage2", "stage3", "stage4"])
    return transformers.RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=32,
        encoder_in_channels=[8, 16, 16],
        decoder_in_channels=[32] * 3,
        num_denoising=4,
        **small,
    )


@pytest.mark.parametrize("kind", ["yolos", "detr", "rt_detr"])
def test_hugging_face_detectors_start_from_their_weights(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForObjectDetection

    torch.manual_seed(0)
    given = AutoModelForObjectDetection.from_config(tiny(kind))
    given.save_pretrained(tmp_path)
    body = transformers_family.build(transformers_family.Options(), SPEC, tmp_path, 0, False)
    own, theirs = body.module.state_dict(), given.state_dict()
    anew = [name for name, value in own.items() if not torch.equal(value, theirs[name])]
    assert anew and len(anew) < len(own) / 3  # those that name classes
    outputs = body.features(body.module.train(), {"pixels": pixels()})
    torch.manual_seed(0)
    losses = outputs.losses(targets())
    assert losses.shape == (2,) and losses[0] > losses[1] > 0
    losses.sum().backward()
    body.module.eval()
    with torch.no_grad():
        corners, scores = outputs.detections()
    assert corners.shape == (2, 10, 4) and scores.shape == (2, 10, 3)
    again = transformers_family.restore(body.config).module.eval()
    again.load_state_dict(body.module.state_dict())
    with torch.no_grad():
        assert torch.equal(type(outputs)(again, pixels(), 3).detections()[0], corners)
