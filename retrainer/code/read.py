"""What one Python file says and imports, read from its source: nothing is imported for it.

The digest covers the syntax tree, so that comments, docstrings, blank lines and line breaks do not count, nor
does what stands there for type checkers alone. It is the same in every Python that this project runs on.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Collection
from functools import cache
from importlib.util import resolve_name
from typing import Any, NamedTuple

_IN_A_TEXT = re.compile(r"\bfrom (\w+(?:\.\w+)+) import (\w+)")
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Import(NamedTuple):
    """`import module`, or `from module import name`; `at_once`: when the file itself is imported."""

    module: str
    name: str
    at_once: bool


class Read(NamedTuple):
    """`opens`: packages of which `extend.load` opens a file; "" where the source does not tell which."""

    digest: str
    imports: tuple[Import, ...] = ()
    opens: tuple[str, ...] = ()


@cache
def read(text: str, package: str, apart: tuple[str, ...] = ()) -> tuple[Read, Read]:
    """What the source of a module in `package` says: all but the functions named in `apart`; and these.

    Raises SyntaxError for a text that is not Python.
    """
    tree = ast.parse(text)
    rest = _Reader(package, _constants(tree), apart)
    rest.take(tree)
    functions = _Reader(package, rest.constants)
    functions.take(rest.left_out)
    return rest.read(), functions.read()


def _constants(tree: ast.Module) -> dict[str, str]:
    """The texts that the module gives a name: `NAME = "text"`."""
    found = {}
    for line in tree.body:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                found[name] = text
    return found


class _Reader:
    """Walks a syntax tree once, for its digest and its imports."""

    def __init__(self, package: str, constants: dict[str, str], apart: Collection[str] = ()) -> None:
        self.package, self.constants, self.apart = package, constants, apart
        self.left_out: list[ast.AST] = []
        self._said: list[str] = []
        self._imports: dict[Import, None] = {}
        self._opens: dict[str, None] = {}

    def read(self) -> Read:
        digest = hashlib.sha256("\n".join(self._said).encode("utf-8", "surrogatepass")).hexdigest()
        return Read(digest, tuple(self._imports), tuple(self._opens))

    def take(self, value: Any, at_once: bool = True) -> None:
        if isinstance(value, ast.AST):
            self._take_node(value, at_once)
        elif isinstance(value, list):
            self._said.append("[")
            for each in value:
                if not self._is_silent(each):
                    self.take(each, at_once)
            self._said.append("]")
        else:
            self._said.append(repr(value))

    def _take_node(self, node: ast.AST, at_once: bool) -> None:
        self._note_imports(node, at_once)
        self._said.append(type(node).__name__)
        inside = at_once and not isinstance(node, _Function)
        for field in node._fields:
            value = getattr(node, field, None)
            # `ctx` follows from the place. Fields that a newer Python has added are empty in older code.
            if value is not None and value != [] and field != "ctx":
                self._said.append(field)
                self.take(value, inside)
        self._said.append(".")

    def _is_silent(self, node: Any) -> bool:
        """Whether a statement does nothing when the program runs, or belongs to `left_out`."""
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                return True  # a docstring
            case ast.If(test=test, orelse=[]):
                return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
            case ast.Assign(targets=[ast.Name(id="__version__")]):
                return True
            case ast.FunctionDef(name=name) if name in self.apart:
                self.left_out.append(node)
                return True
        return False

    def _note_imports(self, node: ast.AST, at_once: bool) -> None:
        match node:
            case ast.Import(names=names):
                self._imports |= {Import(alias.name, "", at_once): None for alias in names}
            case ast.ImportFrom(module=module, names=names, level=level):
                relative = "." * level + (module or "")
                base = resolve_name(relative, self.package) if level and self.package else relative
                self._imports |= {Import(base, alias.name, at_once): None for alias in names}
            case ast.Call(func=ast.Attribute(attr="with_name"), args=[ast.Constant(value=str(file))]):
                if file.endswith(".py"):  # a script beside this file, which it starts
                    self._imports |= {Import(self.package, file.removesuffix(".py"), False): None}
            case ast.Constant(value=str(text)):  # may be a program for `python -c`
                found = _IN_A_TEXT.findall(text)
                self._imports |= {Import(module, name, False): None for module, name in found}
            case ast.Call(func=function, args=[named, _, _]) if ast.unparse(function) in (
                "load",
                "extend.load",
            ):
                self._opens |= {self._text(named): None}

    def _text(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Name(id=name):
                return self.constants.get(name, "")
        return ""
