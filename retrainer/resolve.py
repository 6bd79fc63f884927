"""Before the steps: one canonical settings file per recipe, in which nothing can change any more.

`resolve` merges `params.yaml` ← the recipe ← overrides, validates every section, and turns what may move
(source bytes, `models:/x@alias`, a hub branch, device, thread count, a plug-in's code) into digests and
plain values that the stages depend on. It writes only below the git-ignored `.run/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrainer import extend
from retrainer.code.digests import project_code, step_digests
from retrainer.code.modules import Modules
from retrainer.code.own import command_digest, plugin_digest
from retrainer.errors import SettingError, nearest
from retrainer.formats.files import write_json
from retrainer.layers import Layer, merged, origins
from retrainer.messages import logger
from retrainer.no_effect import without_effect
from retrainer.services.secrets import refuse_secrets
from retrainer.settings import SECTIONS, SHORTHAND, Section, Source, Task
from retrainer.starts import READS, start_below
from retrainer.strict_yaml import parse_yaml
from retrainer.tasks import make_task

PARAMS = "params.yaml"
RUN = ".run"
# Before the name of the task, in the origin of a layer.
START = "start of "
# By ingest, whatever the task.
_ALWAYS_READ = {"text", "text_pair", "image", "labels"}


@dataclass(frozen=True)
class Resolved:
    """A recipe's name, its directory below `.run/`, and its sections as plain data."""

    recipe: str
    directory: Path
    settings: dict[str, dict[str, Any]]

    def section(self, name: str) -> Section:
        return SECTIONS[name].parse(self.settings[name], name)


def resolve(
    recipe: str | None,
    overrides: list[str],
    root: Path = Path(),
    directory: Path | None = None,
    steps: Iterable[str] = (),
) -> Resolved:
    """Settles a recipe's settings and writes `settings.json` into `directory` (`.run/<recipe>`).

    The file also holds, as `code`, one digest of the code of each of the `steps` in `components/`.
    Raises UserError that names the setting, the file and the cure.
    """
    name, layers = layers_of(recipe, overrides, root)
    sections = settled(layers)
    for line in _remarks(layers, sections):
        logger("resolve").info(line)
    where = directory or root / RUN / name
    code = project_code(root, where)
    settings = {key: section.plain() for key, section in pin(sections, root, where, code).items()}
    digests = step_digests(steps, settings, code, root)
    code.remember()
    _write_if_changed(where / "settings.json", settings | ({"code": digests} if digests else {}))
    return Resolved(name, where, settings)


def settle(recipe: str | None, overrides: list[str], root: Path) -> tuple[str, dict[str, Section]]:
    """The recipe's name and its valid sections, in which nothing is pinned to this machine or moment yet."""
    name, layers = layers_of(recipe, overrides, root)
    return name, settled(layers)


def settled(layers: Sequence[Layer]) -> dict[str, Section]:
    """The valid sections of all layers together."""
    together = merged(layers)
    refuse_secrets(together)
    return validate(together)


def layers_of(recipe: str | None, overrides: list[str], root: Path) -> tuple[str, list[Layer]]:
    """The recipe's name, and what its settings are made of, the lowest first: params.yaml, the start of its
    task where the recipe needs one, the recipe, and what `overrides` say for this run."""
    name = recipe_name(recipe, root)
    base = read_yaml(root / PARAMS)
    default = registry_name(base)
    if name == default and (root / "recipes" / f"{name}.yaml").is_file():
        raise SettingError(
            f"recipes/{name}.yaml: {name} is the recipe of {PARAMS} itself (its registry.name);"
            " change it there, or rename this file"
        )
    below = [] if name == default else [Layer(PARAMS, base)]
    own = Layer(PARAMS, base) if name == default else Layer(f"recipes/{name}.yaml", read_recipe(root, name))
    given = [Layer(f"SET={text}", parse_override(text)) for text in overrides]
    start = start_below(chosen := merged([own, *given]), merged(below), _kind_of_source(chosen))
    return name, [*below, *([Layer(f"{START}{start.task}", start.sections)] if start else []), own, *given]


def _kind_of_source(sections: Mapping[str, Any]) -> str:
    """Of the recipe's own source; "" where it names none, or one that is not there, which `pin` reports."""
    from retrainer.data.fingerprint import choose_kind

    try:
        return choose_kind(Source.parse(sections["source"], "source")) if "source" in sections else ""
    except SettingError:
        return ""


def _remarks(layers: Sequence[Layer], sections: Mapping[str, Section]) -> Iterator[str]:
    """What a person should know of how these settings came about, a line each."""
    below = PARAMS if any(layer.origin.startswith("recipes/") for layer in layers) else ""
    for layer in layers:
        if layer.origin.startswith(START):
            backbone, training = sections["backbone"].plain(), sections["training"].plain()
            yield (
                f"the recipe names no backbone; the {layer.origin} sets"
                f" {'task.kind, ' if 'task' in layer.sections else ''}backbone.weights={backbone['weights']}"
                f" ({backbone['family']}), training.strategy={training['strategy']}; make resolve lists all"
            )
    written = {
        section: [key for key, origin in keys.items() if origin != below and not origin.startswith(START)]
        for section, keys in origins(layers).items()
    }
    yield from without_effect(sections, written)


def read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SettingError(f"{path} does not exist; run in the project's root")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise SettingError(f"{path}: expected sections ({', '.join(SECTIONS)}), found {data!r:.60}")
    return {str(key): expanded(str(key), value, path) for key, value in data.items()}


def expanded(key: str, value: Any, path: Path) -> dict[str, Any]:
    """A section as a mapping; a bare word stands for the section's main key."""
    if key not in SECTIONS:
        raise SettingError(f"{path}: unknown section '{key}'{nearest(key, SECTIONS)}")
    if isinstance(value, str):
        if key == "source":
            return {"kind": value} if _is_kind(value) else {"path": value}
        if key in SHORTHAND:
            return {SHORTHAND[key]: value}
    if not isinstance(value, dict):
        raise SettingError(f"{path}: section '{key}' must hold settings, found {value!r:.60}")
    return value


def _is_kind(word: str) -> bool:
    return word in extend.builtin_names("data/sources") or word.startswith("plugins.")


def read_recipe(root: Path, name: str) -> dict[str, Any]:
    """A recipe's own settings. Its model goes by the recipe's name unless it gives another."""
    data = read_yaml(recipe_file(root, name))
    return data | {"registry": {"name": name} | data.get("registry", {})}


def recipe_file(root: Path, name: str) -> Path:
    path = root / "recipes" / f"{name}.yaml"
    if not path.is_file():
        raise SettingError(f"RECIPE={name}: there is no {path}{nearest(name, _recipe_stems(root))}")
    return path


def _recipe_stems(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "recipes").glob("*.yaml"))


def known_recipes(root: Path, default: str) -> list[str]:
    return sorted({default, *_recipe_stems(root)})


def default_recipe(root: Path) -> str:
    return registry_name(read_yaml(root / PARAMS))


def recipe_name(given: str | None, root: Path) -> str:
    """The name that RECIPE gives, or the default's. Directories are named by it: no path will do."""
    if given and not re.fullmatch(r"\w[\w.-]*", given):
        raise SettingError(f"RECIPE={given}: needed is the name of a file of recipes/, without .yaml")
    return given or default_recipe(root)


def registry_name(params: Mapping[str, Any]) -> str:
    return str(params.get("registry", {}).get("name", "model"))


def registered_names(root: Path) -> dict[str, str]:
    """Registered model name → the recipe that makes it."""
    base = read_yaml(root / PARAMS)
    names = {registry_name(base): registry_name(base)}
    for stem in _recipe_stems(root):
        names.setdefault(registry_name(read_recipe(root, stem)), stem)
    return names


def parse_override(text: str) -> dict[str, Any]:
    """`training.epochs=3` → {"training": {"epochs": 3}}."""
    key, equals, value = text.partition("=")
    section, dot, name = key.partition(".")
    if not (equals and dot and name) or section not in SECTIONS:
        raise SettingError(f"SET={text}: expected section.key=value, as in SET=training.epochs=3")
    return {section: {name: parse_yaml(value, f"SET={text}")}}


def validate(merged: Mapping[str, Any]) -> dict[str, Section]:
    """Every section, with the chosen files' own keys checked."""
    sections = {name: kind.parse(merged.get(name, {}), name) for name, kind in SECTIONS.items()}
    for name, package, key in (("task", "tasks", "kind"), ("backbone", "models", "family")):
        section: Any = sections[name]
        module = extend.load(package, getattr(section, key), f"{name}.{key}")
        if hasattr(module, "Options"):
            module.Options.parse(section.options, name)
    _refuse_unknown_slices(sections)
    _refuse_unsuited_metric(sections)
    return sections


def _refuse_unsuited_metric(parts: Mapping[str, Any]) -> None:
    """Evaluation would refuse it too, but only after the training."""
    chosen = parts["gate"].metric
    if not chosen:
        return
    target = getattr(extend.load("metrics", chosen, "gate.metric"), "TARGET", None)
    task = make_task(parts["task"])
    if target is not None and target not in task.target_columns:
        raise SettingError(
            f"gate.metric: {chosen} compares {target}, which {parts['task'].kind} does not predict; set one"
            f" of {', '.join(task.metrics)}, or a plug-in's"
        )


def _refuse_unknown_slices(parts: Mapping[str, Any]) -> None:
    """Evaluation would refuse them too, but only after the training."""
    asked = {"evaluation.slices": parts["evaluation"].slices, "gate.slice_floors": parts["gate"].slice_floors}
    if not any(asked.values()):
        return  # and imports no numpy
    from retrainer.evaluation.slices import CLASS, COMMON, own_slices

    known = [CLASS, *own_slices(make_task(parts["task"])), *COMMON, *parts["source"].metadata]
    for setting, names in asked.items():
        for name in names:
            if name not in known:
                raise SettingError(
                    f"{setting}: there is no slice {name!r}{nearest(name, known)}; there are"
                    f" {', '.join(known)} (name further columns in source.metadata)"
                )


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


def _write_if_changed(path: Path, value: Any) -> None:
    """Leaves an equal file alone, so that its time does not make anyone look again."""
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) == value:
        return
    write_json(path, value)
