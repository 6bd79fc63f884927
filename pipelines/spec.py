"""The steps of a compiled pipeline: conditions and exit handlers are pipelines inside it, with steps too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_FROM_OUTSIDE = {"parameters": "componentInputParameter", "artifacts": "componentInputArtifact"}


def tasks_in(spec: Json) -> dict[str, Json]:
    """Every task that runs a container, by its name; its inputs as if all stood side by side in the root.

    Raises KeyError for what no compiler writes.
    """
    return dict(_walk(spec, spec["root"]["dag"], None))


def _walk(spec: Json, dag: Json, outer: Json | None) -> Iterator[tuple[str, Json]]:
    for name, task in dag["tasks"].items():
        inputs = _from_root(task.get("inputs", {}), outer)
        component = spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            yield from _walk(spec, component["dag"], inputs)
        else:
            yield name, {**task, "inputs": inputs}


def _from_root(inputs: Json, outer: Json | None) -> Json:
    """The inputs of a task; what it has from its own pipeline's inputs replaced by where those come from."""
    if outer is None:
        return inputs
    return {
        kind: {
            name: outer[kind][entry[word]] if (word := _FROM_OUTSIDE[kind]) in entry else entry
            for name, entry in entries.items()
        }
        for kind, entries in inputs.items()
    }
