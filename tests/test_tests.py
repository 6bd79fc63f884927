"""What holds of every test: it needs no other test, and it can fail."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.conftest import ROOT

FILES = sorted((ROOT / "tests").rglob("*.py"))


def test_no_test_imports_another() -> None:
    """What two of them need lies in a module that is no test: then each can be read, and run, alone."""
    importing = re.compile(r"^\s*(?:from tests\.test_|import tests\.test_|from tests import .*\btest_)", re.M)
    assert not [file.name for file in FILES if importing.search(file.read_text())]


def test_every_test_asserts_something() -> None:
    """By itself, or by a function of the tests that it calls."""
    tests = [(file, name) for file in FILES for name in functions(file) if name.startswith("test_")]
    assert len(tests) > 1000
    assert not [f"{file.name}: {name}" for file, name in tests if not asserts(file, name)]


@cache
def asserts(file: Path, name: str) -> bool:
    """Whether the function `name` of the file, or one of the tests' own that it calls, can fail."""
    function = functions(file).get(name)
    if function is None:
        imported = imports(file).get(name)
        return imported is not None and asserts(*imported)
    nodes = list(ast.walk(function))
    if any(map(is_assertion, nodes)):
        return True
    called = {
        node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return any(asserts(file, each) for each in called - {name})


def is_assertion(node: ast.AST) -> bool:
    """Also `pytest.raises` and its like, and what torch.testing and numpy.testing have."""
    match node:
        case ast.Assert():
            return True
        case ast.Attribute(value=ast.Name(id="pytest"), attr="raises" | "warns" | "fail"):
            return True
        case ast.Attribute(attr=name):
            return name.startswith("assert_")
    return False


@cache
def functions(file: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in definitions(file) if isinstance(node, ast.FunctionDef)}


@cache
def imports(file: Path) -> dict[str, tuple[Path, str]]:
    """Name → the module of the tests, and the name there, that it is imported from."""
    lines = [node for node in definitions(file) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in lines if (node.module or "").startswith("tests.")]
    return {
        alias.asname or alias.name: (ROOT / f"{(node.module or '').replace('.', '/')}.py", alias.name)
        for node in ours
        for alias in node.names
    }


@cache
def definitions(file: Path) -> list[ast.AST]:
    """The functions and the imports of the file, wherever they stand; each file is read and walked once."""
    nodes = ast.walk(ast.parse(file.read_text()))
    return [node for node in nodes if isinstance(node, ast.FunctionDef | ast.ImportFrom)]
