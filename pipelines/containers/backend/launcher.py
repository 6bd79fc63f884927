"""What the launcher makes of a step's command before it runs, and of what it wrote afterwards.

Sources: kubeflow/pipelines 2.17.0, backend/src/v2. What it does with files is in `in_pod.py`.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from pipelines.containers.backend.driver import Json, local_path
from pipelines.containers.backend.values import as_value, json_text, plain_text, read_json, value_of
from pipelines.containers.docker_api import StepFailed

_LEFT = re.compile(r"\{\{.*?(?:\}\}|$)")
# Kept as metadata alone; any other output must have content, or the step that reads it finds nothing.
METADATA_ONLY = {"system.Metrics", "system.ClassificationMetrics", "system.SlicedClassificationMetrics"}


def command(words: list[str], executor_input: Json, component: Json) -> list[str]:
    """The step's command with every placeholder that the launcher knows filled in.

    component/launcher_v2.go:1051-1074: `{{$}}` in all words, the others in all but the first. Raises
    StepFailed for any other: the launcher would pass it on as it stands.
    """
    full = with_defaults(executor_input, component)
    whole, known = json_text(full, escape=False), placeholders(full)
    program, *rest = (word.replace("{{$}}", whole) for word in words)
    filled = [program]
    for word in rest:
        for placeholder, value in known.items():
            word = word.replace(placeholder, value)
        filled.append(word)
    for place, word in enumerate(words):
        if left := unknown_in(word, known if place else {}):
            raise StepFailed(f"{left} in its command is filled in by nobody on a cluster: {word[:200]}")
    return filled


def unknown_in(template: str, known: dict[str, str]) -> str:
    """The first placeholder of the word that is none of the launcher's; empty when there is none.

    `{{` in a value is one too: Argo and the launcher look for placeholders in what they have filled in.
    """
    found = (match[0] for match in _LEFT.finditer(template))
    return next((left for left in found if left != "{{$}}" and left not in known), "")


def with_defaults(executor_input: Json, component: Json) -> Json:
    """The input with the component's own defaults (component/launcher_v2.go:1310-1331)."""
    full = copy.deepcopy(executor_input)
    given = full["inputs"].setdefault("parameterValues", {})
    for name, spec in component.get("inputDefinitions", {}).get("parameters", {}).items():
        if "defaultValue" in spec:
            given.setdefault(name, as_value(spec["defaultValue"]))
    return full


def placeholders(executor_input: Json) -> dict[str, str]:
    """Every placeholder with its text, but for `{{$}}` (component/launcher_v2.go:1077-1173)."""
    known = {}
    for side in ("inputs", "outputs"):
        for name, listed in executor_input[side].get("artifacts", {}).items():
            uri = listed["artifacts"][0]["uri"]
            known[f"{{{{$.{side}.artifacts['{name}'].uri}}}}"] = uri
            known[f"{{{{$.{side}.artifacts['{name}'].path}}}}"] = local_path(uri)
    for name, value in executor_input["inputs"].get("parameterValues", {}).items():
        if value is None:
            raise StepFailed(f"its parameter {name} is null (component/launcher_v2.go:1162)")
        known[f"{{{{$.inputs.parameters['{name}']}}}}"] = plain_text(value)
    for name, place in executor_input["outputs"].get("parameters", {}).items():
        known[f"{{{{$.outputs.parameters['{name}'].output_file}}}}"] = place["outputFile"]
    return known


def executor_output(text: str | None) -> Json:
    """What a step told of its outputs, read as strictly as the launcher does.

    component/launcher_v2.go:1208-1237, protojson. Nothing is fine. Raises StepFailed for text that is no
    ExecutorOutput: with NaN, or a field that none has.
    """
    from google.protobuf import json_format
    from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorOutput

    if text is None:
        return {}
    try:
        said = read_json(text)
        _check_objects(said)
        message = json_format.ParseDict(said, ExecutorOutput())
    except (ValueError, json_format.ParseError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise StepFailed(f"what it wrote about its outputs cannot be read: {reason}", 0) from None
    told: Json = json_format.MessageToDict(message)
    return told


def _check_objects(said: Any) -> None:
    """Raises ValueError for what Python's protobuf reads, and Go's does not."""
    listed = said.get("artifacts") if isinstance(said, dict) else None
    lists = list(listed.values()) if isinstance(listed, dict) else []
    if not all(isinstance(each, dict) for each in (said, *lists)):
        raise ValueError("a list stands where an object should")
    if {"parameterValues", "parameter_values"} <= said.keys():
        raise ValueError("parameterValues stands there twice")


def output_parameters(component: Json, told: Json, written: dict[str, str]) -> Json:
    """Output parameters: what the executor output says, else the file's text.

    component/launcher_v2.go:484-515. Raises StepFailed for one not written, or no value of its type.
    """
    values = dict(told.get("parameterValues", {}))
    for name, spec in component.get("outputDefinitions", {}).get("parameters", {}).items():
        if name in values:
            continue
        if name not in written:
            raise StepFailed(f"it exited with 0 but wrote nothing to its output {name}", 0)
        try:
            values[name] = value_of(written[name], spec["parameterType"])
        except ValueError as error:
            raise StepFailed(f"its output parameter {name} cannot be read: {error}", 0) from None
    return as_value(values)


def output_artifacts(outputs: Json, told: Json) -> dict[str, Json]:
    """The outputs with the metadata that the step told (component/launcher_v2.go:1188-1206).

    Raises StepFailed for one that is to lie elsewhere, which a rehearsal does not imitate.
    """
    merged = {}
    for name, listed in outputs["artifacts"].items():
        artifact = copy.deepcopy(listed["artifacts"][0])
        said = (told.get("artifacts", {}).get(name, {}).get("artifacts") or [{}])[0]
        if said.get("customPath") or said.get("uri", artifact["uri"]) != artifact["uri"]:
            raise StepFailed(f"it puts its output {name} elsewhere, which a rehearsal does not imitate", 0)
        artifact["metadata"] = {**artifact.get("metadata", {}), **as_value(said.get("metadata", {}))}
        merged[name] = artifact
    return merged


def published(artifact: Json, number: int) -> Json:
    """The artifact as the next step gets it, through the metadata store (metadata/converter.go:110-221).

    A boolean comes back as a number, and a list or mapping within one; the store adds its own words
    (metadata/client.go:1214-1260). Raises StepFailed for a null, which the store cannot hold.
    """
    added = {"display_name": artifact["name"], "store_session_info": "null"}
    stored = {
        **added,
        **{key: _stored(artifact["name"], key, each) for key, each in artifact["metadata"].items()},
    }
    return {"name": str(number), "uri": artifact["uri"], "type": {"instanceSchema": ""}, "metadata": stored}


def _stored(port: str, key: str, value: Any) -> Any:
    """metadata/converter.go:138-171, and back: 181-221."""
    if value is None:
        raise StepFailed(
            f"the metadata of its output {port} has null for {key}, which the metadata store refuses", 0
        )
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    return {"struct": value} if isinstance(value, dict) else value
