"""One digest of the code that a step runs: an edit of any of it, and of nothing else, runs the step again.

Counted are the modules that the step's component imports, and what these import, at their tops or inside
functions; of the files that settings choose by name (`extend.load`) the chosen ones; of plug-ins and of a
trainer of the user's own every file, and what these import of the library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from retrainer import extend
from retrainer.code.modules import Modules
from retrainer.code.own import command_files, plugin_digest, plugin_files
from retrainer.errors import SettingError
from retrainer.settings import Task
from retrainer.tasks import make_task
from retrainer.tasks._protocol import JUDGEMENT

LIBRARY = "retrainer"
_MEMORY = "code.json"
_EVALUATION = f"{LIBRARY}.evaluation."
# Runs a trainer of the user's own.
_COMMAND = f"{LIBRARY}.training._command"

Sections = Mapping[str, Mapping[str, Any]]


def project_code(root: Path, memory: Path | None = None) -> Modules:
    """The library, and the components in `root`; the folder `memory` keeps what was read of each file."""
    library = Path(extend.__file__).parents[1]
    return Modules({LIBRARY: library, "components": root}, JUDGEMENT, memory and memory / _MEMORY)


def step_digests(steps: Iterable[str], sections: Sections, code: Modules, root: Path) -> dict[str, str]:
    """Step → sha256 of its code under these resolved settings."""
    reach = Reach(sections, code, root)
    return {step: reach.digest(f"components.{step}") for step in steps}


class Reach:
    """Which code a module runs under resolved settings. `root` is where a trainer's command is run."""

    def __init__(self, sections: Sections, code: Modules, root: Path = Path()) -> None:
        self.sections, self.code, self.root = sections, code, root

    def digest(self, module: str) -> str:
        """Sha256 of what every file says that the module runs."""
        names = self.modules(module)
        judges = _judges(names)
        lines = "".join(f"{name} {self._said(name, judges)}\n" for name in sorted(names))
        return hashlib.sha256(lines.encode()).hexdigest()

    def modules(self, module: str) -> set[str]:
        """The module and all of the library that it runs; plug-ins by the names that settings give them.

        Raises UserError where there is no such module.
        """
        if not self.code.file_of(module):
            raise SettingError(f"there is no {module.replace('.', '/')}.py here; run in the project's root")
        names = self._follow(module, judges=False)
        return self._follow(module, judges=True) if _judges(names) else names

    def _follow(self, module: str, judges: bool) -> set[str]:
        seen: set[str] = set()
        waiting = [module]
        while waiting:
            name = waiting.pop()
            if name not in seen and (name in self._plugins or self.code.file_of(name)):
                seen.add(name)
                waiting += self._next(name, judges)
        return seen

    def _next(self, name: str, judges: bool) -> Iterator[str]:
        if name in self._plugins:
            yield from self._imported_by(plugin_files(name))
            return
        yield from (found.module for found in self.code.imports(name, judges))
        for part in self.code.source(name, judges):
            for package in part.opens:
                yield from self._opened(package)
        if name == _COMMAND and (command := self._setting("training", "command")):
            yield from self._imported_by(command_files(command, self.root))

    def _imported_by(self, files: Iterable[Path]) -> Iterator[str]:
        """What files of the user's own import; nothing of one that is not Python."""
        for file in files:
            with suppress(SyntaxError, ValueError):
                for part in self.code.source_of(file):
                    yield from (self.code.module_of(found) for found in part.imports)

    def _opened(self, package: str) -> Iterator[str]:
        """The files of the package that the settings choose: all of them where they leave it open."""
        for each in [package] if package else self._chosen:
            for name in self._chosen[each] or extend.builtin_names(each):
                yield name if "." in name else f"{LIBRARY}.{each.replace('/', '.')}.{name}"

    def _said(self, name: str, judges: bool) -> str:
        if name in self._plugins:
            return plugin_digest(name, self.code)
        return " ".join(part.digest for part in self.code.source(name, judges))

    @cached_property
    def _chosen(self) -> dict[str, list[str]]:
        """Package → the files of it that the settings name."""
        named = {
            "data/sources": ("source", "kind"),
            "tasks": ("task", "kind"),
            "models": ("backbone", "family"),
        }
        chosen = {package: [name] if (name := self._setting(*key)) else [] for package, key in named.items()}
        return chosen | {"metrics": self._metrics()}

    def _metrics(self) -> list[str]:
        task = Task.parse(self.sections.get("task", {}), "task")
        return sorted({*make_task(task).metrics, self._setting("gate", "metric")} - {""})

    @cached_property
    def _plugins(self) -> set[str]:
        return {name for names in self._chosen.values() for name in names if "." in name}

    def _setting(self, section: str, key: str) -> str:
        return str(self.sections.get(section, {}).get(key, ""))


def _judges(names: set[str]) -> bool:
    return any(name.startswith(_EVALUATION) for name in names)
