"""Weights to start from, and model directories."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from tests.bad_inputs.bricks import Case, Maker, written

HIDDEN = 6


def tensors(**more: np.ndarray) -> dict[str, np.ndarray]:
    """Those of family mlp for 8 × 8 grey pixels and one hidden layer; `more` replaces or adds some."""
    draw = np.random.default_rng(0)
    sound = {"0.weight": draw.normal(size=(HIDDEN, 64)), "0.bias": np.zeros(HIDDEN)}
    return {name: value.astype(np.float32) for name, value in (sound | more).items()}


SOUND_WEIGHTS = save(tensors())


def weights(name: str, content: bytes, **backbone: str) -> Maker:
    """A recipe that starts from the file."""

    def make(folder: Path) -> str:
        path = written(folder / name, content)
        settings = {"family": "mlp", "hidden": [HIDDEN], "weights": str(path), **backbone}
        task = {"kind": "image_classification", "size": 8, "channels": 1}
        return json.dumps({"task": task, "backbone": settings, "training": {"strategy": "full"}})

    return make


def pickled_directory(folder: Path) -> str:
    recipe = weights("net/pytorch_model.bin", pickle.dumps({"a": 1}))(folder)
    return recipe.replace("/pytorch_model.bin", "")


def header(content: str, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content.encode()


WEIGHTS = {
    "weights: another sha256": Case(
        weights("net.safetensors", SOUND_WEIGHTS, weights_sha256="0" * 64),
        r"backbone\.weights: .*net\.safetensors has sha256 [0-9a-f]{64}, but .*restore the file",
        "resolve",
    ),
    "weights: a pickle by name": Case(
        weights("net.pt", pickle.dumps({"a": 1})),
        r"net\.pt is no \.safetensors, \.keras or \.gguf file; pickled",
        "resolve",
    ),
    "weights: a directory of pickles": Case(
        pickled_directory, r"backbone\.weights: .*/net holds no \.safetensors file; weights can be", "resolve"
    ),
    "weights: not there": Case(
        weights("net.safetensors", b"", weights="/no/where.safetensors"),
        r"/no/where\.safetensors does not exist",
        "resolve",
    ),
    **{
        f"weights: {name}": Case(
            weights("net.safetensors", content),
            r"net\.safetensors is no whole \.safetensors file .*again",
            "resolve",
        )
        for name, content in {
            "empty": b"",
            "header cut short": SOUND_WEIGHTS[:40],
            "values cut short": SOUND_WEIGHTS[:-4],
            "more than the header says": SOUND_WEIGHTS + b"more",
            "a header of a terabyte": header("{}", 2**40),
            "a tensor of a terabyte": header(
                '{"a":{"dtype":"F32","shape":[274877906944],"data_offsets":[0,1099511627776]}}'
            ),
            "a pickle inside": pickle.dumps({"a": np.zeros(9)}),
            "no JSON inside": header("not JSON"),
        }.items()
    },
    "weights: NaN": Case(
        weights("net.safetensors", save(tensors(**{"0.bias": np.full(HIDDEN, np.nan)}))),
        r"backbone\.weights: 0\.bias holds values that are no numbers; choose other weights",
        "train",
    ),
    "weights: another shape": Case(
        weights("net.safetensors", save(tensors(**{"0.bias": np.zeros(7)}))),
        r"do not fit this architecture: they have another shape of 0\.bias; check",
        "train",
    ),
    "weights: a tensor too many": Case(
        weights("net.safetensors", save(tensors(**{"9.bias": np.zeros(7)}))),
        r"do not fit this architecture: they have unknown 9\.bias; check",
        "train",
    ),
    "weights: a tensor too few": Case(
        weights("net.safetensors", save({"0.bias": np.zeros(HIDDEN, np.float32)})),
        r"do not fit this architecture: they lack 0\.weight; check",
        "train",
    ),
}


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(model: Path) -> None:
        content = (model / name).read_text()
        assert old in content
        (model / name).write_text(content.replace(old, new))

    return edit


def flipped(model: Path) -> None:
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "model.safetensors").write_bytes(data)


def linked(model: Path) -> None:
    (model / "extra.txt").symlink_to(written(model.parent / "secret.txt", "secret"))


def dangling(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("/no/where")


# Each spoils a sound model directory.
MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "model: altered weights": (flipped, r"model/model\.safetensors was altered.*make the step again"),
    "model: an altered description": (
        edited("model.json", '"mlp"', '"timm"'),
        r"model/model\.json was altered",
    ),
    "model: an altered manifest": (
        edited("manifest.json", '"model_sha256": "', '"model_sha256": "0'),
        r"manifest\.json was altered: model_sha256 is not its files' digest; train again",
    ),
    "model: a manifest that is no JSON": (
        edited("manifest.json", "{", ""),
        r"manifest\.json was altered: it is no JSON",
    ),
    "model: no manifest": (lambda model: (model / "manifest.json").unlink(), r"manifest\.json is missing"),
    "model: a newer format": (
        edited("manifest.json", '"format_version": 2', '"format_version": 99'),
        r"has model format 99, this version reads 1, 2; read it with retrainer",
    ),
    "model: another kind": (
        edited("manifest.json", '"kind": "model"', '"kind": "dataset"'),
        "holds a 'dataset', not a 'model'",
    ),
    "model: a link to another file": (linked, r"model/extra\.txt does not belong"),
    "model: a link to nowhere": (dangling, r"model/model\.safetensors is missing"),
    "model: a pickle beside": (
        lambda model: (model / "model.pkl").touch(),
        r"model/model\.pkl does not belong",
    ),
}
