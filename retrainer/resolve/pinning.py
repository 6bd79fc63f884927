"""Digests and plain values in the place of what may move: source bytes, `models:/x@alias`, a hub branch, the
device, a plug-in's code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrainer.code.modules import Modules
from retrainer.code.own import command_digest, plugin_digest
from retrainer.errors import SettingError, nearest
from retrainer.resolve.recipes import registered_names
from retrainer.settings import Section, Source, Task
from retrainer.starts import READS
from retrainer.tasks import make_task

# By ingest, whatever the task.
_ALWAYS_READ = {"text", "text_pair", "image", "labels"}


def pin(sections: dict[str, Section], root: Path, memory: Path, code: Modules) -> dict[str, Section]:
    """Turns every mutable reference into a digest; file digests are remembered in `memory`."""
    from retrainer.data.fingerprint import choose_kind, source_digest
    from retrainer.services import storage
    from retrainer.training.compute import resolve_compute

    source: Any = sections["source"]
    source = source.model_copy(update={"kind": choose_kind(source)})
    _refuse_unsuited_source(source, sections["task"])
    pinned = pin_code_and_weights(sections | {"source": source}, root, memory, code)
    source = pinned["source"]
    remote = storage.is_remote(source.path) or storage.is_remote(source.test_path)
    digest = storage.digest(source) if remote else source_digest(source, memory / "source-digest.json")
    return pinned | {
        "source": source.model_copy(update={"digest": digest}),
        "compute": resolve_compute(sections["compute"]),  # type: ignore[arg-type]
    }


def source_columns(task: Task) -> dict[str, str]:
    """The task's columns and their types, for `source.columns`; none where ingest reads them anyway.

    Further inputs than the first may be absent, which a ? says.
    """
    made = make_task(task)
    first, *further = made.input_columns
    columns = {first: made.input_columns[first]}
    columns |= {name: f"{made.input_columns[name]}?" for name in further} | dict(made.target_columns)
    return {} if columns.keys() <= _ALWAYS_READ and "labels" in columns else columns


def _refuse_unsuited_source(source: Source, task: Any) -> None:
    """Ingest would refuse it too, but it knows neither the recipe nor the cure."""
    reads = READS.get(source.kind)
    needs = list(make_task(task).input_columns)
    if reads and reads not in needs:
        raise SettingError(
            f"task.kind: {task.kind} reads {needs[0]}, and {source.path or source.kind} is read by"
            f" source.kind {source.kind}, which gives {reads}; set another task.kind or source.kind,"
            f" or let make init DATA={source.path} write a recipe for it"
        )


def _refuse_unknown_source_keys(source: Source) -> None:
    """Further keys of `source` name the user's columns, or are the source's own (its `Options`)."""
    from retrainer.data.fingerprint import source_module

    own = {key: value for key, value in source.options.items() if key not in source.columns}
    module = source_module(source)
    options = module.Options.model_fields if hasattr(module, "Options") else {}
    if unknown := sorted(own.keys() - options.keys()):
        known = [*Source.model_fields, *source.columns, *options]
        where = (
            "" if options or "." not in source.kind else f"; {source.kind} names none of its own in Options"
        )
        if unknown[0] in ("test", "test_set", "test_file"):
            raise SettingError(
                f"unknown setting source.{unknown[0]}; your own test set is named by source.test_path{where}"
            )
        raise SettingError(f"unknown setting source.{unknown[0]}{nearest(unknown[0], known)}{where}")
    if options:
        module.Options.parse(own, "source")


def pin_code_and_weights(
    sections: dict[str, Section], root: Path, memory: Path, code: Modules
) -> dict[str, Section]:
    """What is the same on every machine: the digests of plug-ins, of a trainer's code and of the weights."""
    from retrainer.models import reads_weights
    from retrainer.services import weights

    parts: dict[str, Any] = dict(sections)
    parts["source"] = parts["source"].model_copy(update={"columns": source_columns(parts["task"])})
    _refuse_unknown_source_keys(parts["source"])
    own = {
        "source": plugin_digest(parts["source"].kind, code),
        "task": plugin_digest(parts["task"].kind, code),
        "backbone": plugin_digest(parts["backbone"].family, code),
        "training": command_digest(parts["training"].command, root, code),
    }
    for name, digest in own.items():
        parts[name] = parts[name].model_copy(update={"code_digest": digest})
    if reads_weights(parts["backbone"], parts["training"]):
        parts["backbone"] = weights.pin(parts["backbone"], memory / "weights.json", registered_names(root))
    return parts
