"""What the code imports, read from its source: inside functions too, but not what is for types alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from retrainer.tasks._protocol import JUDGEMENT
from tests.conftest import ROOT

OURS = ("retrainer", "components", "pipelines", "plugins")
EXTENSIBLE = ("data/sources", "tasks", "models")


@dataclass(frozen=True)
class Found:
    """One imported module (or a name in it) and whether importing the importer is enough to import it."""

    name: str
    at_once: bool


def modules(*folders: str) -> list[str]:
    """The dotted names of every Python file below the folders of the project."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [dotted(path) for path in files]


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def tree(module: str) -> ast.Module:
    path = file_of(module)
    assert path is not None, module
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[Found]:
    """Every module that `module` imports, its own project's by their full names."""
    return frozenset(_walk(tree(module), at_once=True))


def _walk(node: ast.AST, at_once: bool) -> Iterator[Found]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.FunctionDef) and child.name in JUDGEMENT:
            continue  # what only evaluation asks of a task
        yield from (Found(name, at_once) for name in _named(child))
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _walk(child, at_once and not inside)


def _named(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "imports are absolute"
        inner = [f"{node.module}.{alias.name}" for alias in node.names]
        return (
            [name if file_of(name) else node.module for name in inner]
            if _is_ours(node.module)
            else [node.module]
        )
    return _loaded(node)


def _loaded(node: ast.AST) -> list[str]:
    """`extend.load("tasks", …)` may import any file of that package; given a variable, of all three."""
    if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("extend.load") and node.args):
        return []
    given = node.args[0]
    packages = [given.value] if isinstance(given, ast.Constant) else EXTENSIBLE
    return modules(*(f"retrainer/{package}" for package in packages))


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in OURS


def reach(module: str, only_at_once: bool = False) -> set[str]:
    """Everything imported by `module` or by what it imports; of other people's packages the first name."""
    seen: set[str] = set()
    queue = [module]
    while queue:
        for found in imports(queue.pop()):
            name = found.name if _is_ours(found.name) else found.name.partition(".")[0]
            if name in seen or (only_at_once and not found.at_once):
                continue
            seen.add(name)
            if _is_ours(name):
                queue.append(name)
    return seen
