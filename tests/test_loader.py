"""Where a split's rows lie, and when a batch is made, changes no number."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import Tensor

from retrainer.errors import UserError
from retrainer.tasks import _pixels, _storage
from retrainer.tasks._decode import EncodedImages
from retrainer.tasks._pixels import Augmentation, encode_images
from retrainer.tasks._storage import Parts
from retrainer.training.loader import Rows, load_batches

HOW: dict[str, Any] = {"size": [8, 6], "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
CHANGES = Augmentation(flip=True, shift=2)


def images(count: int = 7, broken: int | None = None) -> pa.Table:
    drawn = np.random.default_rng(0).integers(0, 256, (count, 8, 6, 3), dtype=np.uint8)
    encoded = []
    for number, pixels in enumerate(drawn):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG")
        encoded.append({"bytes": b"\xff\xd8 no image" if number == broken else file.getvalue()})
    return pa.table({"image": encoded, "origin": [f"photos/{n}.jpg" for n in range(count)]})


@pytest.fixture(params=["in memory", "mapped", "as files"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "in memory":
        monkeypatch.setattr(_storage, "memory_limit", lambda: 0)
        monkeypatch.setattr(_storage, "disk_room", lambda: 1 << 30)
    if request.param == "as files":
        monkeypatch.setattr(_pixels, "fits", lambda size: False)  # noqa: ARG005
    return str(request.param)


def test_images_are_the_same_wherever_they_lie(place: str) -> None:
    pixels = encode_images(images(), HOW)
    assert isinstance(pixels.images, EncodedImages) == (place == "as files") == pixels.make_ahead
    assert len(pixels) == 7 and pixels.nbytes == 7 * 3 * 8 * 6
    plain = Image.open(io.BytesIO(images()["image"][4].as_py()["bytes"]))
    expected = (torch.from_numpy(np.array(plain)).permute(2, 0, 1).float() / 255 - 0.5) / 0.25
    found = pixels.batch(np.array([4, 4, 0]), CHANGES, None)["pixels"]
    assert torch.allclose(found[0], expected, atol=1e-6) and torch.equal(found[0], found[1])


@pytest.mark.usefixtures("place")
def test_an_image_that_does_not_decode_is_named() -> None:
    with pytest.raises(UserError, match=r"photos/5\.jpg"):
        encode_images(images(broken=5), HOW).batch(np.array([1, 5]), CHANGES, None)


def test_a_mapped_file_has_no_name_and_goes_with_its_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(_storage, "memory_limit", lambda: 100)
    monkeypatch.setattr(_storage, "disk_room", lambda: 1 << 30)
    parts, expected = Parts(), np.arange(200, dtype=np.int32)
    for part in np.split(expected, 4):  # the first is kept in memory
        parts.append(part)
    array = parts.array(np.int32, (20, 10))
    assert np.array_equal(array.ravel(), expected)
    assert list(tmp_path.iterdir()) == []
    mapped = [m.path for m in psutil.Process().memory_maps() if m.path.startswith(str(tmp_path))]
    assert mapped, "it lies in the temporary directory"
    del parts, array
    assert not [m.path for m in psutil.Process().memory_maps() if m.path.startswith(str(tmp_path))]


def test_without_room_on_disk_it_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_storage, "memory_limit", lambda: 0)
    monkeypatch.setattr(_storage, "disk_room", lambda: 0)
    parts = Parts(expected_bytes=400)
    parts.append(np.arange(100, dtype=np.int32))
    assert not isinstance(parts.array(np.int32, (100,)).base, np.memmap)


BATCHES = [np.array([3, 1]), np.array([0, 5]), np.array([], np.int64), np.array([6, 2]), np.array([4])]


def rows_of(ahead: bool) -> Rows:
    def make(rows: np.ndarray, generator: torch.Generator | None) -> dict[str, Tensor]:
        assert generator is not None
        return {"x": torch.from_numpy(rows).float() + torch.rand(len(rows), generator=generator)}

    return Rows(make, torch.arange(7), np.ones(7, np.int64), 4, ahead)


def loaded(ahead: bool, done: int = 0, state: Tensor | None = None) -> tuple[list[Tensor], list[Tensor]]:
    """The batches, and at each one the mark that a checkpoint would keep."""
    generator = torch.Generator().manual_seed(1)
    if state is not None:
        generator.set_state(state)
    marks: list[Tensor] = []
    taken: list[Tensor] = []
    at_batch: list[Tensor] = []
    results = load_batches(
        rows_of(ahead), BATCHES, generator, done, lambda _: generator.get_state(), marks.append
    )
    for batch, targets, numbers in results:
        assert torch.equal(targets, torch.from_numpy(numbers))
        taken.append(batch.get("x", torch.empty(0)))
        at_batch.append(marks[-1])
    return taken, at_batch


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_made_ahead_the_batches_and_the_marks_are_the_same() -> None:
    plain, ahead = loaded(False), loaded(True)
    assert equal(plain[0], ahead[0]) and equal(plain[1], ahead[1])


@pytest.mark.parametrize("done", [1, 2, 4])
@pytest.mark.parametrize("ahead", [False, True])
def test_going_on_from_a_mark_the_rest_comes_out_the_same(ahead: bool, done: int) -> None:
    batches, marks = loaded(ahead)
    rest, _ = loaded(ahead, done, marks[done - 1])
    assert equal(rest, batches[done:])


def test_an_error_in_the_loading_thread_is_raised_at_its_batch_and_ends_the_thread() -> None:
    def make(rows: np.ndarray, generator: torch.Generator | None) -> dict[str, Tensor]:  # noqa: ARG001
        if 6 in rows:
            raise UserError("photos/6.jpg: not an image")
        return {"x": torch.from_numpy(rows)}

    def taken(results: Iterator[Any]) -> Iterator[int]:
        yield from (len(numbers) for _, _, numbers in results)

    rows = Rows(make, torch.arange(7), np.ones(7, np.int64), 4, True)
    seen: list[int] = []
    with pytest.raises(UserError, match=r"photos/6\.jpg"):
        seen.extend(taken(load_batches(rows, BATCHES, None)))
    left = load_batches(rows, BATCHES, None)
    next(left)
    left.close()  # as when training is stopped between two batches
    assert not [t for t in threading.enumerate() if t.name.startswith("loader")]


@pytest.mark.parametrize("ahead", [False, True])
def test_targets_that_an_augmentation_changed_stand_for_those_of_the_rows(ahead: bool) -> None:
    def make(rows: np.ndarray, generator: torch.Generator | None) -> dict[str, Tensor]:
        x = torch.from_numpy(rows).float()
        return {"x": x, "targets": 100 + x} if generator is not None else {"x": x}

    rows = Rows(make, torch.arange(7), None, 4, ahead)
    for generator, offset in ((torch.Generator(), 100), (None, 0)):
        for batch, targets, numbers in load_batches(rows, BATCHES[:2], generator):
            assert set(batch) == {"x"}
            assert targets.tolist() == [offset + number for number in numbers]
