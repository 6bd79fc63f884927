"""The modules of a few packages as a graph: who imports whom, inside functions too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from retrainer.code import read as reading
from retrainer.code.read import Import, Read, read
from retrainer.formats.files import write_text


class Modules:
    """Reads each file once.

    folders: top-level package → the folder that holds it. apart: functions that are read apart from the rest
    of their module. memory: a JSON file in which what was read is kept, by the files' content.
    """

    def __init__(
        self, folders: Mapping[str, Path], apart: Collection[str] = (), memory: Path | None = None
    ) -> None:
        self.folders, self.apart, self.memory = folders, tuple(apart), memory
        self._files: dict[str, Path | None] = {}
        self._folders: dict[str, frozenset[str]] = {}
        self._read: dict[Path, tuple[Read, Read]] = {}
        self._kept: dict[str, list[Any]] = {}
        self._imports: dict[tuple[str, bool], list[Import]] = {}

    def __contains__(self, name: str) -> bool:
        """Whether the module is in one of the packages, be there such a file or not."""
        return name.partition(".")[0] in self.folders

    def file_of(self, name: str) -> Path | None:
        """The module's file; None where there is no such module, or it is not of these packages."""
        if name not in self._files:
            self._files[name] = self._find(name)
        return self._files[name]

    def _find(self, name: str) -> Path | None:
        top = self.folders.get(name.partition(".")[0])
        if top is None:
            return None
        if "__init__.py" in self._names_in(name):
            return top.joinpath(*name.split("."), "__init__.py")
        package, _, last = name.rpartition(".")
        there = f"{last}.py" in self._names_in(package) if package else (top / f"{last}.py").is_file()
        return top.joinpath(*package.split("."), f"{last}.py") if there else None

    def _names_in(self, package: str) -> frozenset[str]:
        """What lies in the package's folder; nothing where there is no such folder.

        Each folder is listed once. Most imported names are functions and classes: to look for a file of each
        on the disk would take as long as all else here.
        """
        if package not in self._folders:
            top, *_ = parts = package.split(".")
            above = package.rpartition(".")[0]
            there = not above or parts[-1] in self._names_in(above)
            folder = self.folders[top].joinpath(*parts) if there else None
            found = folder.iterdir() if folder and folder.is_dir() else ()
            self._folders[package] = frozenset(path.name for path in found)
        return self._folders[package]

    def source(self, name: str, apart: bool = False) -> tuple[Read, ...]:
        """What the module says: all but the functions read apart; with `apart` also these."""
        file = self.file_of(name)
        assert file is not None, name
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        return self.source_of(file, package)[: 2 if apart else 1]

    def source_of(self, file: Path, package: str = "") -> tuple[Read, Read]:
        """Of any file: all but the functions read apart; and these. Raises SyntaxError for no Python."""
        if file not in self._read:
            content = file.read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            known, *parts = self._remembered.get(str(file), [""])
            found = _from_plain(parts) if known == sha256 else read(content.decode(), package, self.apart)
            self._read[file], self._kept[str(file)] = found, [sha256, *found]
        return self._read[file]

    def imports(self, name: str, apart: bool = False) -> list[Import]:
        """What the module imports (`apart`: also in functions read apart), as modules: `name` is empty."""
        if (name, apart) not in self._imports:
            written = [found for part in self.source(name, apart) for found in part.imports]
            resolved = [Import(self.module_of(found), "", found.at_once) for found in written]
            self._imports[name, apart] = list(dict.fromkeys(resolved))
        return self._imports[name, apart]

    def module_of(self, found: Import) -> str:
        """The module behind `from package import name`: a module of that name, or the one that defines it.

        A package's `__init__` that only passes a name on is not where it is defined.
        """
        if not found.name or found.module not in self:
            return found.module
        inner = f"{found.module}.{found.name}"
        if self.file_of(inner):
            return inner
        file = self.file_of(found.module)
        if file is not None and file.name == "__init__.py":
            passed_on = [i for i in self.source(found.module)[0].imports if i.name == found.name]
            if passed_on:
                return self.module_of(passed_on[0])
        return found.module

    @cached_property
    def _remembered(self) -> dict[str, Any]:
        """What was kept; nothing, when the file is absent, was damaged, or was read by other rules."""
        try:
            kept = json.loads(self.memory.read_text(encoding="utf-8")) if self.memory else {}
            return dict(kept["files"]) if kept["rules"] == self._rules else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    @cached_property
    def _rules(self) -> str:
        source = Path(reading.__file__).read_bytes()
        return hashlib.sha256(source + repr(sorted(self.apart)).encode()).hexdigest()

    def remember(self) -> None:
        """Writes down what was read, where something is new."""
        before = self._remembered
        if self.memory is None or all(
            before.get(file, [""])[0] == self._kept[file][0] for file in self._kept
        ):
            return
        write_text(self.memory, json.dumps({"rules": self._rules, "files": before | self._kept}))


def _from_plain(kept: list[Any]) -> tuple[Read, Read]:
    first, second = (
        Read(digest, tuple(Import(*each) for each in imports), tuple(opens))
        for digest, imports, opens in kept
    )
    return first, second
