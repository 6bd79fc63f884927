"""Random changes per image: each does what its name says, to its own image alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from retrainer.errors import UserError
from retrainer.settings import Task
from retrainer.tasks import image_classification
from retrainer.tasks._pixels import Augmentation, _bend, augment
from retrainer.tasks._randaugment import KINDS, Changes, draw, recolour
from retrainer.training.loader import stream
from tests.small_networks import image_task, squares


def noise(count: int = 4, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, 16, 12, generator=stream(0, "noise")) * 200 + 20


def only(kind: str, strengths: list[float]) -> Changes:
    """The first change of every image is of that kind, the second none."""
    kinds = torch.tensor([[KINDS.index(kind), 0]]).expand(len(strengths), 2)
    return Changes(kinds, torch.tensor([strengths, [1.0] * len(strengths)]).T)


def bent(pixels: Tensor, changes: Changes, **more: Any) -> Tensor:
    return _bend(pixels, Augmentation(**more), torch.zeros(len(pixels), 5), changes)


COLOURS = [kind for kind in KINDS[6:] if kind != "autocontrast"]


@pytest.mark.parametrize("kind", COLOURS)
def test_a_colour_change_of_strength_zero_changes_nothing(kind: str) -> None:
    pixels = noise().floor()
    torch.testing.assert_close(recolour(pixels.clone(), only(kind, [0.0] * 4)), pixels)


@pytest.mark.parametrize("kind", KINDS[6:])
def test_a_colour_changes_its_own_image_alone(kind: str) -> None:
    pixels = noise()
    kinds = torch.zeros(4, 2, dtype=torch.int64)
    kinds[2, 1] = KINDS.index(kind)
    made = recolour(pixels.clone(), Changes(kinds, torch.full((4, 2), 0.9)))
    assert torch.equal(made[[0, 1, 3]], pixels[[0, 1, 3]]) and not torch.equal(made[2], pixels[2])
    assert made.min() >= 0 and made.max() <= 255


def test_colours_do_what_they_say() -> None:
    pixels, up, down = noise(2), [1.0, 1.0], [-1.0, -1.0]
    brightness = recolour(pixels.clone(), only("brightness", [0.5, -0.5]))
    assert brightness[0].mean() > pixels[0].mean() and brightness[1].mean() < pixels[1].mean()
    for kind in ("contrast", "sharpness"):
        assert recolour(pixels.clone(), only(kind, down)).std() < pixels.std()
    grey = recolour(pixels.clone(), only("saturation", down))
    assert grey.std(dim=1).mean() < 0.2 * pixels.std(dim=1).mean()
    assert torch.equal(recolour(noise(2, 1), only("saturation", up)), noise(2, 1)), "grey has no colour"
    assert set(recolour(pixels.clone(), only("posterize", up)).unique().tolist()) <= set(range(0, 256, 16))
    torch.testing.assert_close(recolour(pixels.clone(), only("solarize", up)), 255 - pixels)
    wide = recolour(pixels.clone(), only("autocontrast", up))
    assert wide.amin((2, 3)).eq(0).all() and wide.amax((2, 3)).sub(255).abs().max() < 1e-3


def test_shapes_move_pixels_from_where_they_say() -> None:
    ramp = torch.arange(33.0).expand(1, 1, 33, 33).contiguous()  # a pixel's value is its column
    centre = (slice(None), slice(None), 16, 16)
    assert float(bent(ramp, only("shift_x", [0.1]))[centre]) == pytest.approx(16 - 0.1 * 0.45 * 33, abs=1e-3)
    assert float(bent(ramp, only("shift_y", [0.1]))[centre]) == pytest.approx(16, abs=1e-3)
    sheared = bent(ramp, only("shear_x", [1.0]))[0, 0, :, 16]
    assert float(sheared[26] - sheared[16]) == pytest.approx(0.3 * 10, abs=1e-3)
    turned = bent(ramp, only("rotate", [1.0]))[0, 0]
    assert float(turned[26, 16] - turned[16, 16]) == pytest.approx(-10 * np.sin(np.radians(30)), abs=1e-3)
    assert torch.equal(bent(ramp, only("nothing", [1.0])), bent(ramp, only("posterize", [1.0])))


def test_two_changes_of_shape_are_one_map() -> None:
    """Interpolated once: the same as the sum of both shifts."""
    pixels = noise(1)
    kinds = torch.tensor([[KINDS.index("shift_x"), KINDS.index("shift_x")]])
    both = bent(pixels, Changes(kinds, torch.tensor([[0.3, -0.1]])))
    torch.testing.assert_close(both, bent(pixels, only("shift_x", [0.2])), rtol=0, atol=1e-2)
    ramp = torch.arange(33.0).expand(1, 1, 33, 33).contiguous()
    mirrored = _bend(ramp, Augmentation(flip=True), -torch.ones(1, 5), only("shift_x", [0.1]))
    assert float(mirrored[0, 0, 16, 16]) == pytest.approx(16 + 0.1 * 0.45 * 33, abs=1e-3), (
        "of what is mirrored"
    )


def test_every_kind_is_drawn_and_strengths_reach_the_magnitude() -> None:
    changes = draw(4000, 6.0, stream(0, "draws"))
    assert torch.bincount(changes.kinds.flatten(), minlength=len(KINDS)).min() > 400
    assert 0.59 < float(changes.strengths.abs().max()) <= 0.6


def test_images_draw_apart_and_the_same_again() -> None:
    task = image_task(randaugment=9, flip=True)
    rows = squares(64)[0]
    same_image = np.zeros(64, int)
    made = [task.batch(rows, same_image, stream(seed, "views"))["pixels"] for seed in (0, 0, 1)]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    assert len({image.numpy().tobytes() for image in made[0]}) > 50
    assert made[0].isfinite().all()


def test_without_randaugment_no_further_random_numbers_are_drawn() -> None:
    """So that older settings give the views that they gave."""
    plain, drawn = stream(0, "views"), stream(0, "views")
    augment(noise(), Augmentation(shift=1, rotate_degrees=5), drawn)
    torch.rand(4, 5, generator=plain)
    assert torch.equal(plain.get_state(), drawn.get_state())


def test_the_magnitude_has_a_range() -> None:
    with pytest.raises(UserError, match=r"setting task\.randaugment: .*less than or equal to 10"):
        image_classification.make(Task(kind="image_classification", randaugment=11), ("a", "b"))
