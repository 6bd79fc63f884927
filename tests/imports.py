"""What this project's code imports, read by the library's own reader (`retrainer.code`)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from retrainer.code.modules import Modules
from tests.conftest import ROOT

OURS = ("retrainer", "components", "pipelines", "plugins")
EXTENSIBLE = ("data/sources", "tasks", "models", "metrics")
CODE = Modules(dict.fromkeys(OURS, ROOT))
# What a bare training machine has.
BARE = {"torch", "torchvision", "transformers", "numpy", "pyarrow", "pydantic", "pydantic_core"}
BARE |= {"safetensors", "tokenizers", "PIL", "tqdm", "yaml", "psutil", "jinja2"}


def modules(*folders: str) -> list[str]:
    """The dotted names of every Python file below the folders of the project."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [dotted(path) for path in files]


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_package(module: str) -> bool:
    file = CODE.file_of(module)
    return file is not None and file.name == "__init__.py"


@cache
def text(module: str) -> str:
    path = CODE.file_of(module)
    assert path is not None, module
    return path.read_text(encoding="utf-8")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(text(module))


@cache
def imported(module: str, only_at_once: bool = False) -> frozenset[str]:
    """Every module that `module` imports: of the files that a setting chooses, all."""
    found = {each.module for each in CODE.imports(module) if each.at_once or not only_at_once}
    if only_at_once:
        return frozenset(found)
    opened = [package for part in CODE.source(module) for package in part.opens]
    packages = {each for package in opened for each in ([package] if package else EXTENSIBLE)}
    return frozenset(found | set(modules(*(f"retrainer/{package}" for package in packages))))


def reach(module: str, only_at_once: bool = False) -> set[str]:
    """Everything imported by `module` or by what it imports; of other people's packages the first name."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imported(waiting.pop(), only_at_once):
            known = name if name in CODE else name.partition(".")[0]
            if known not in seen:
                seen.add(known)
                waiting += [known] if CODE.file_of(known) else []
    return seen
