"""Predicts with the model in this folder. `README.md` names the packages that it needs.

    python use_me.py "a lovely day" "what a mess"       # texts; of two texts a row: "first<TAB>second"
    python use_me.py photo.jpg another.png              # images
    python use_me.py - < lines.txt                      # one text, or one image's path, a line

It prints one JSON object a row. In Python: `from use_me import Model; Model().predict(["a lovely day"])`;
a row is a text, a pair (text, text), or an image's path or encoded bytes.

Legend: B rows of a batch, T tokens, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
BATCH = 32

Batch = dict[str, np.ndarray]
Network = Callable[[Batch], np.ndarray]  # a batch → float32 [B, K], before any softmax


class Model:
    """The folder's model, in memory."""

    def __init__(self, folder: Path = HERE) -> None:
        self.about: dict[str, Any] = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        rule = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
        self.encode: Any = Texts(folder, rule) if rule["kind"] == "tokens" else Images(rule)
        self.network: Network = LOADERS[self.about["network"]["library"]](folder, self.about["network"])

    def predict(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """One answer a row: `label` (or `labels`) and `probabilities`, or of a number `prediction`.

        Raises ValueError, which names the row, for an image that cannot be read.
        """
        return [self.answer(one) for one in self.outputs(rows)]

    def outputs(self, rows: Sequence[Any]) -> np.ndarray:
        """float32 [rows, K]: what the network says, before any softmax."""
        made: np.ndarray = np.zeros((len(rows), self.about["answers"]["outputs"]), np.float32)
        for start in range(0, len(rows), 2048):  # so many are held in memory
            encoded = [self._encoded(row, start + n) for n, row in enumerate(rows[start : start + 2048])]
            for places in batches(encoded):
                batch = self.encode.batch([encoded[n] for n in places])
                made[[start + n for n in places]] = self.network(batch)
        return made

    def _encoded(self, row: Any, number: int) -> Any:
        try:
            return self.encode(row)
        except Exception as error:  # Pillow raises many kinds of errors on broken files
            raise ValueError(f"row {number}: {error}") from error

    def answer(self, outputs: np.ndarray) -> dict[str, Any]:
        """One row's outputs [K] → what it means."""
        answers = self.about["answers"]
        if answers["kind"] == "number":
            return {"prediction": float(outputs[0])}
        logits, names = outputs / np.float32(answers["temperature"]), answers["labels"]
        if answers["multi_label"]:
            shares = 1 / (1 + np.exp(-logits.clip(-80)))
            answer: dict[str, Any] = {
                "labels": [n for n, share in zip(names, shares, strict=True) if share > 0.5]
            }
        else:
            powers = np.exp(logits - logits.max())
            shares = powers / powers.sum()
            answer = {"label": names[int(shares.argmax())]}
        return answer | {"probabilities": dict(zip(names, shares.tolist(), strict=True))}


def batches(encoded: Sequence[Any]) -> Iterator[list[int]]:
    """Numbers of rows: texts of similar length share a batch, so that little is padded."""
    order = sorted(range(len(encoded)), key=lambda n: len(encoded[n]) if isinstance(encoded[n], list) else 0)
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


class Texts:
    """A text, or a pair of texts, → [(token id, type), …], cut to the model's length."""

    def __init__(self, folder: Path, rule: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self.rule = rule
        self.tokenizer: Any = Tokenizer.from_file(str(folder / rule["tokenizer"]))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(rule["max_length"])

    def __call__(self, row: Any) -> list[tuple[int, int]]:
        texts = [row] if row is None or isinstance(row, str) else list(row)
        encoding = self.tokenizer.encode(*(text or "" for text in texts))
        return list(zip(encoding.ids, encoding.type_ids, strict=True))

    def batch(self, rows: Sequence[list[tuple[int, int]]]) -> Batch:
        """int64 [B, T], T the longest row's."""
        shape = len(rows), max(map(len, rows))
        ids: np.ndarray = np.full(shape, self.rule["pad_id"], np.int64)
        mask: np.ndarray = np.zeros(shape, np.int64)
        types: np.ndarray = np.zeros(shape, np.int64)
        for n, row in enumerate(rows):
            ids[n, : len(row)], types[n, : len(row)] = np.array(row).reshape(-1, 2).T
            mask[n, : len(row)] = 1
        batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        return {name: batch[name] for name in self.rule["inputs"]}


class Images:
    """An image's path or encoded bytes → uint8 [C, H, W]: upright, opaque on white, scaled until it covers
    the model's size, and its centre kept."""

    def __init__(self, rule: dict[str, Any]) -> None:
        self.rule = rule
        self.mean, self.std = (
            np.array(rule[key], np.float32).reshape(-1, 1, 1) * 255 for key in ("mean", "std")
        )

    def __call__(self, row: Any) -> np.ndarray:
        from PIL import Image, ImageOps

        height, width = self.rule["size"]
        encoded = row if isinstance(row, bytes) else Path(row).read_bytes()
        with Image.open(io.BytesIO(encoded), formats=self.rule["formats"]) as image:
            # A JPEG far larger than needed is decoded at a half, a quarter or an eighth.
            image.draft(None, (2 * max(height, width),) * 2)
            plain = eight_bit(ImageOps.exif_transpose(image)).convert(
                "RGB" if self.rule["channels"] == 3 else "L"
            )
        if plain.size != (width, height):
            plain = ImageOps.fit(plain, (width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(plain)
        return pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]

    def batch(self, rows: Sequence[np.ndarray]) -> Batch:
        """Normalised float32 [B, C, H, W]."""
        return {"pixels": (np.stack(rows).astype(np.float32) - self.mean) / self.std}


def eight_bit(image: Any) -> Any:
    """8 bits a channel, transparency on white; 16-bit grey is scaled."""
    from PIL import Image

    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, 65_535)
        return Image.fromarray((values // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        opaque = Image.new("RGB", image.size, (255, 255, 255))
        opaque.paste(coloured, mask=coloured.getchannel("A"))
        return opaque
    return image


def onnx(folder: Path, network: dict[str, Any]) -> Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / network["file"], providers=["CPUExecutionProvider"])
    return lambda batch: session.run([network["output"]], batch)[0]


def transformers(folder: Path, network: dict[str, Any]) -> Network:
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, **network["arguments"]).eval()

    def run(batch: Batch) -> np.ndarray:
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
            return model(**tensors).logits.numpy()

    return run


def timm(folder: Path, network: dict[str, Any]) -> Network:
    from timm import create_model

    weights = str(folder / network["file"])
    return on_pixels(create_model(network["name"], checkpoint_path=weights, **network["arguments"]))


def torchvision(folder: Path, network: dict[str, Any]) -> Network:
    from safetensors.torch import load_file
    from torchvision.models import get_model

    model = get_model(network["name"], **network["arguments"])
    model.load_state_dict(load_file(folder / network["file"]))
    return on_pixels(model)


def keras(folder: Path, network: dict[str, Any]) -> Network:
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    for name in network["own_classes"]:
        if keras.saving.get_registered_object(name) is None:
            raise ValueError(
                f"{network['file']} holds a class of its maker's own; README.md says what to do: {name}"
            )
    model = keras.saving.load_model(folder / network["file"])
    before = keras.Model(model.input, model.get_layer(network["output"]).output)
    return lambda batch: before.predict_on_batch(batch["pixels"].transpose(0, 2, 3, 1))


def on_pixels(model: Any) -> Network:
    import torch

    model.eval()

    def run(batch: Batch) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(batch["pixels"])).numpy()

    return run


LOADERS = {
    "onnx": onnx,
    "transformers": transformers,
    "timm": timm,
    "torchvision": torchvision,
    "keras": keras,
}


def main(words: list[str]) -> int:
    if not words:
        print(__doc__)
        return 2
    lines = [line.rstrip("\n") for line in sys.stdin] if words == ["-"] else words
    try:
        model = Model()
        pairs = model.encode.rule.get("texts") == 2
        rows = [tuple(line.split("\t", 1)) if pairs and "\t" in line else line for line in lines]
        answers = model.predict(rows)
    except ModuleNotFoundError as error:
        reason = f"the package {error.name} is not installed; README.md names those that are needed"
        print(f"use_me.py: {reason}", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"use_me.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for answer in answers:
        print(json.dumps(answer, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
