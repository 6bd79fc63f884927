"""The README of an exported folder: what it is, how it is loaded, and how its answers compare."""

from __future__ import annotations

from typing import Any

from retrainer.export.description import Exported
from retrainer.export.parity import Parity

# What `use_me.py` imports beside numpy and what reads the rows.
PACKAGES = {
    "onnx": ("onnxruntime",),
    "onnx-int8": ("onnxruntime",),
    "transformers": ("torch", "transformers"),
    "timm": ("torch", "timm", "safetensors"),
    "torchvision": ("torch", "torchvision", "safetensors"),
    "keras": ("torch", "keras"),
}


def packages_of(exported: Exported, form: str) -> str:
    reader = "tokenizers" if exported.preprocessing["kind"] == "tokens" else "pillow"
    return " ".join((*PACKAGES[form], "numpy", reader))


def readme(exported: Exported, form: str, network: dict[str, Any], parity: Parity) -> str:
    model, sha256 = exported.model, exported.model.predictor.model_sha256
    name = f"{model.name} version {model.version}" if model.name else "A model"
    return "\n".join(
        [
            f"# {name}, as {form}",
            "",
            f"Task: {exported.task_kind}. Made from the model with sha256 `{sha256}`. {_answers(exported)}",
            "",
            "## Predict",
            "",
            f"    pip install {packages_of(exported, form)}",
            f"    python use_me.py {_argument(exported)}",
            "",
            "In Python: `from use_me import Model; Model().predict([…])`. `use_me.py` needs the files beside"
            " it and nothing else.",
            "",
            f"## Load it by {network['library']}",
            "",
            "```python",
            *_loading(exported, form, network),
            "```",
            "",
            *_notes(exported, form, network),
            "",
            "## Beside the model that it was made from",
            "",
            *_table(parity),
            "",
            f"Measured on {parity.rows:,} test rows that the model has not learned from, by `use_me.py`"
            " on the rows as they were, on the machine that wrote this folder. `export.json` has the same"
            " figures and the sha256 of each file.",
            "",
        ]
    )


def _argument(exported: Exported) -> str:
    return '"a text" "another"' if exported.preprocessing["kind"] == "tokens" else "photo.jpg another.png"


def _answers(exported: Exported) -> str:
    if exported.is_number:
        return "It answers with a number."
    labels = exported.model.predictor.labels
    # As code, in one line: a label may hold anything.
    words = [f"`{' '.join(name.replace('`', ' ').split())}`" for name in labels[:12]]
    shown = ", ".join(words) + (f" and {len(labels) - 12} more" if len(labels) > 12 else "")
    how = "any of" if exported.has_several else "one of"
    return f"It answers with {how} {len(labels)} classes: {shown}."


def _loading(exported: Exported, form: str, network: dict[str, Any]) -> list[str]:
    arguments = network.get("arguments", {})
    words = "".join(f", {key}={value!r}" for key, value in arguments.items())
    if form == "transformers":
        return [
            "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            f'model = AutoModelForSequenceClassification.from_pretrained("."{words})',
            'batch = tokenizer(["a text"], padding=True, truncation=True, return_tensors="pt")',
            "logits = model(**batch).logits",
        ]
    if form == "timm":
        return [
            "import timm",
            f'model = timm.create_model("{network["name"]}", checkpoint_path="{network["file"]}"{words})',
            "model.eval()",
        ]
    if form == "torchvision":
        return [
            "from safetensors.torch import load_file",
            "from torchvision.models import get_model",
            f'model = get_model("{network["name"]}"{words}).eval()',
            f'model.load_state_dict(load_file("{network["file"]}"))',
        ]
    if form == "keras":
        height, width = exported.preprocessing["size"]
        shape = f"[rows, {height}, {width}, {exported.preprocessing['channels']}]"
        return [
            "import os",
            'os.environ.setdefault("KERAS_BACKEND", "torch")',
            "import keras",
            f'model = keras.saving.load_model("{network["file"]}")',
            f"{'numbers' if exported.is_number else 'probabilities'} = model.predict(images)"
            f"  # {shape}, values from 0 to 255",
        ]
    inputs = ", ".join(f'"{name}": {name}' for name in exported.inputs)
    outputs = "prediction" if exported.is_number else "logits, probabilities"
    return [
        "import onnxruntime",
        f'session = onnxruntime.InferenceSession("{network["file"]}")',
        f"{outputs} = session.run(None, {{{inputs}}})" + ("[0]" if exported.is_number else ""),
    ]


def _notes(exported: Exported, form: str, network: dict[str, Any]) -> list[str]:
    notes = []
    if exported.preprocessing["kind"] == "tokens":
        notes.append("Texts become the network's input as `preprocessing.json` and `tokenizer.json` say.")
    else:
        notes.append(
            "Images become the network's input as `preprocessing.json` says: size, resizing, mean, std. A"
            " library's own transforms resize otherwise and give slightly other answers."
        )
    if not exported.is_number and form not in ("onnx", "onnx-int8", "keras"):
        temperature = exported.model.predictor.temperature
        notes.append(f"Divide the logits by {temperature:.6g} for the probabilities that `use_me.py` gives.")
    if network.get("arguments", {}).get("trust_remote_code"):
        notes.append(
            "`trust_remote_code` runs `pooled_classifier.py` in this folder, 60 lines: the library has no"
            " classifier of its own for this encoder's pooling."
        )
    if own := network.get("own_classes"):
        names = ", ".join(f"`{name}`" for name in own)
        notes.append(
            f"The network holds classes of its maker's own: {names}. Import the code that registers them"
            " before you load it; `use_me.py` needs that import too."
        )
    if form == "onnx-int8":
        notes.append(
            "Weights are integers of 8 bits: a smaller file. Whether it is faster depends on the processor:"
            " measure it. Answers differ a little."
        )
    return notes


def _table(parity: Parity) -> list[str]:
    name, own, exported = parity.metric
    what = "a number" if parity.same is None else "a probability"
    rows = ["| | model | this folder |", "|---|---|---|", f"| {name} | {own:.4f} | {exported:.4f} |", ""]
    rows.append(f"Largest difference in {what}: {parity.difference:.2g}.")
    if parity.same is not None:
        rows.append(f"Same answer in {parity.same:.2%} of the rows.")
    return rows
