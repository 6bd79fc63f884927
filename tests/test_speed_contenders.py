"""The contenders of `make bench` at a tiny size: each does the work it is timed for."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.speed import cifar10, mlp, resnet
from benchmarks.speed.__main__ import jobs
from benchmarks.speed._texts import MINILM, prepare_banking, prepare_dataset, write_settings
from benchmarks.speed.race import Contender, Figures

pytestmark = [pytest.mark.release, pytest.mark.filterwarnings("ignore")]


def _texts(work: Path) -> None:
    write_settings(work, MINILM, epochs=1, batch_size=16, learning_rate=1e-3, keep="last")


def _banking(work: Path) -> None:
    prepare_banking(work, 154, 77)
    _texts(work)


def _senses(work: Path) -> None:
    prepare_dataset(work, [], "test", 64, 32)
    _texts(work)


class Tiny(NamedTuple):
    """What prepares so few rows, and options in place of the job's own."""

    prepare: Callable[[Path], None]
    options: dict[str, Any]


_RESNET = Tiny(lambda work: resnet.prepare(work, 4, 2, 40), {"epochs": 1, "side": 32})
_CIFAR = Tiny(lambda work: cifar10.prepare(work, 8, 2), {"epochs": 1})
_MLP = Tiny(lambda work: mlp.prepare(work, 12, 4), {"epochs": 1})
# Jobs that share contenders are tried once.
TINY = {
    "banking77": Tiny(_banking, {}),
    "bert-base": Tiny(_senses, {}),
    "resnet18-cached": _RESNET,
    "resnet18-full": _RESNET,
    "cifar10": _CIFAR,
    "mlp": _MLP,
}


def test_no_contender_is_left_out() -> None:
    def calls(names: Iterable[str]) -> set[str]:
        return {contender.call for name in names for contender in jobs()[name].contenders}

    assert calls(TINY) == calls(jobs())


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("name", TINY)
def test_all_contenders_of_a_job_do_the_same_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, tiny = jobs()[name], TINY[name]
    tiny.prepare(tmp_path)
    found = []
    for contender in job.contenders:
        monkeypatch.setenv("RACE_BEGAN", repr(time.time()))
        found.append(_run(contender, tmp_path, tiny.options))
    assert all(one["seconds"] > 0 and 0 <= one["accuracy"] <= 1 for one in found)
    whole = {
        one["tokens"]
        for one, racer in zip(found, job.contenders, strict=True)
        if "tokens" in one and "rows" not in racer.options
    }
    assert len(whole) <= 1, "rows, and so tokens, are the same for all"
    if job.measure == "to_target":
        assert all(one["to_target"] is None or one["to_target"] > 0 for one in found)


def _run(contender: Contender, work: Path, options: dict[str, Any]) -> Figures:
    module, _, name = contender.call.partition(":")
    train: Callable[..., Figures] = getattr(importlib.import_module(module), name)
    return train(work, seed=1, **contender.options | options)
