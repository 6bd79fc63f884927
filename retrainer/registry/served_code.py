"""Which code a registered model carries, found by following imports from what serving calls.

Serving must not need this project's checkout: a model of last year is loaded with last year's code.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

from retrainer.code.read import read
from retrainer.tasks._protocol import JUDGEMENT

LIBRARY = "retrainer"
# What serving calls by name; the model's family and task are added.
_ENTRY = "retrainer.predict"

# Where a package's import name says nothing of its distribution's.
_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}


def needed(family: str, task: str, more: tuple[str, ...] = ()) -> tuple[dict[str, Path], set[str]]:
    """Our and the plug-ins' modules that serving imports (name → file), and the other packages it imports.

    `family` and `task` are built-in names or dotted paths of plug-ins, `more` further modules.
    """
    roots = [_ENTRY, _module("models", family), _module("tasks", task), *more]
    own = {root.partition(".")[0] for root in roots if not _is_installed(root)}
    modules: dict[str, Path] = {}
    others = {root.partition(".")[0] for root in roots} - own
    waiting = roots
    while waiting:
        name = waiting.pop()
        if name in modules or name.partition(".")[0] not in own:
            continue
        file = _file_of(name)
        if file is None:  # `from package import function`: no module of that name
            continue
        modules[name] = file
        parents = name.split(".")[:-1]
        waiting += [".".join(parents[: count + 1]) for count in range(len(parents))]
        imported = set(_imports(name, file))
        waiting += imported
        others |= {top for top in (i.partition(".")[0] for i in imported) if top not in own}
    return modules, others - set(sys.stdlib_module_names)


def copy(modules: dict[str, Path], into: Path) -> list[Path]:
    """Copies the modules as packages below `into`; returns the packages' directories."""
    for name, file in modules.items():
        parts = name.split(".")
        target = into.joinpath(*parts, "__init__.py") if file.name == "__init__.py" else into.joinpath(*parts)
        target = target if file.name == "__init__.py" else target.with_name(f"{parts[-1]}.py")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return sorted(path for path in into.iterdir())


def requirements(packages: set[str]) -> list[str]:
    """What MLflow serves it with: `pinned`, and MLflow."""
    return pinned(packages | {"mlflow"})


def pinned(packages: set[str]) -> list[str]:
    """`name==version` of each import's distribution, as installed; what is not installed is not needed."""
    found = set()
    for package in packages:
        for distribution in _distributions(package):
            # A local build's label, as in 2.13.0+cpu, is known to no index.
            found.add(f"{distribution}=={version(distribution).partition('+')[0]}")
    return sorted(found, key=str.lower)


def _distributions(package: str) -> list[str]:
    name = _DISTRIBUTIONS.get(package, package)
    try:
        version(name)
    except PackageNotFoundError:
        return packages_distributions().get(package, [])
    return [name]


def _module(package: str, name: str) -> str:
    return name if "." in name else f"{LIBRARY}.{package}.{name}"


def _is_installed(name: str) -> bool:
    """Whether a plug-in comes from an installed package, which is then required and not copied."""
    top = name.partition(".")[0]
    file = _file_of(top)
    return top != LIBRARY and file is not None and "site-packages" in file.parts


def _file_of(name: str) -> Path | None:
    """The source of a module, found without importing any. None: no module, or a directory of modules."""
    top, *rest = name.split(".")
    spec = find_spec(top)
    for place in spec.submodule_search_locations or () if spec else ():
        path = Path(place, *rest)
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file
    return None


def _imports(name: str, file: Path) -> Iterator[str]:
    """Every module that `file` imports, but for what evaluation alone asks of a task.

    Of `from package import name` both: the name may be a module.
    """
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    asked, _ = read(file.read_text(encoding="utf-8"), package, JUDGEMENT)
    for found in asked.imports:
        yield found.module
        if found.name:
            yield f"{found.module}.{found.name}"
