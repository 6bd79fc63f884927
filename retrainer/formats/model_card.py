"""The model card: what is known of a model when it has just been trained, and nothing else."""

from __future__ import annotations

from typing import Any

from retrainer.formats.privacy import PRIVACY, sentences

# Names of classes that are written out.
_SHOWN = 20


def model_card(
    description: dict[str, Any],
    sections: dict[str, dict[str, Any]],
    dataset_sha256: str,
    history: list[dict[str, Any]],
    parameters: int,
) -> str:
    """Markdown from facts alone. How well the model does on test rows stands in the report, not here."""
    labels, task, training = description["labels"], sections.get("task", {}), sections.get("training", {})
    backbone = sections.get("backbone", {})
    kept = next((entry for entry in history if entry.get("kept")), {})
    facts = {
        "Task": task.get("kind", "unknown") + (", multi-label" if task.get("multi_label") else ""),
        "Input": _input(description["preprocessing"]),
        **({"Classes": _classes(labels)} if labels else {}),
        "Family": description["family"],
        "Parameters": f"{parameters:,}",
        "Started from": _start(backbone, training),
        "Dataset": f"content sha256 `{dataset_sha256}`",
        "Trained": _trained(training, kept),
        **({"Privacy": "; ".join(sentences(description[PRIVACY]))} if PRIVACY in description else {}),
        **({"Calibration": _calibration(description["temperature"])} if labels else {}),
    }
    lines = ["# Model card", "", *(f"- **{key}**: {value}" for key, value in facts.items()), ""]
    figures = {k: v for k, v in kept.items() if isinstance(v, float)}
    if figures:
        rows = (f"| {name} | {value:.6g} |" for name, value in figures.items())
        lines += ["| figure of the kept epoch | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _classes(labels: list[str]) -> str:
    shown = ", ".join(_inline(name) for name in labels[:_SHOWN])
    return f"{len(labels)}: {shown}" + (", …" if len(labels) > _SHOWN else "")


def _inline(name: str) -> str:
    """A label as Markdown code: it is data, whatever is in it."""
    return "`" + " ".join(name.replace("`", "'").split()) + "`"


def _input(preprocessing: dict[str, Any]) -> str:
    if preprocessing.get("kind") == "pixels":
        height, width = preprocessing["size"]
        return f"images, {height} × {width} pixels, {preprocessing['channels']} channel(s)"
    if preprocessing.get("kind") == "tokens":
        return f"text, up to {preprocessing['max_length']} tokens"
    return _inline(str(preprocessing.get("kind")))


def _start(backbone: dict[str, Any], training: dict[str, Any]) -> str:
    if training.get("command"):
        return "whatever the trainer of `training.command` starts from"
    if training.get("strategy") == "scratch" or backbone.get("weights", "none") == "none":
        return "random values"
    digest = backbone.get("weights_sha256") or backbone.get("revision") or "no digest"
    return f"{_inline(str(backbone['weights']))} ({digest})"


def _calibration(temperature: float) -> str:
    if temperature == 1.0:
        return "none, temperature 1"
    return f"temperature {temperature:.6g}, fitted to the validation rows; logits are divided by it"


def _trained(training: dict[str, Any], kept: dict[str, Any]) -> str:
    if training.get("command"):
        return f"by {_inline(str(training['command']))}"
    epoch = f", epoch {kept['epoch']} kept" if "epoch" in kept else ""
    examples = training.get("examples_per_class")
    few = f"; of the training rows, {examples} of each class, the others unused" if examples else ""
    return (
        f"strategy {training.get('strategy')}, {training.get('epochs')} epoch(s){epoch}, batches of"
        f" {training.get('batch_size')}, seed {training.get('seed')}{few}"
    )
