"""The conditions that kfp's compiler writes for dsl.If, Elif and Else, and no others.

They are CEL (expression/expression.go:134-162): comparisons of parameters and constants, joined by `&&`, each
perhaps within `!( )`; sdk/python/kfp/compiler/pipeline_spec_builder.py:1005-1140 writes them.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from pipelines.containers.backend.driver import Json
from pipelines.containers.docker_api import StepFailed

_TERM = r"inputs\.parameter_values\['[^'\\]*'\]|'[^'\\]*'|true|false|-?\d[\d.]*(?:e[+-]?\d+)?"
_OPERAND = rf"(?:int|double)\((?:{_TERM})\)|{_TERM}"
_COMPARISON = rf"(!\()?({_OPERAND}) (==|!=|<=|>=|<|>) ({_OPERAND})(\))?"
_ONE = re.compile(_COMPARISON)
_ALL = re.compile(rf"(?:{_COMPARISON})(?: && (?:{_COMPARISON}))*")
_CAST = re.compile(r"(int|double)\((.*)\)")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def holds(condition: str, parameters: Json) -> bool:
    """Whether the task is to run. Raises StepFailed for two types, or an unknown form."""
    return all(_compares(each, condition, parameters) for each in comparisons(condition))


def comparisons(condition: str) -> list[re.Match[str]]:
    """The comparisons, all of which must hold. Raises StepFailed for a condition of another form."""
    found = list(_ONE.finditer(condition)) if _ALL.fullmatch(condition) else []
    if not found or any(bool(each[1]) != bool(each[5]) for each in found):
        raise StepFailed(f"the condition {condition} is of a form that a rehearsal does not imitate")
    return found


def _compares(match: re.Match[str], condition: str, parameters: Json) -> bool:
    left, right = _value(match[2], parameters), _value(match[4], parameters)
    numbers = all(isinstance(side, int | float) and not isinstance(side, bool) for side in (left, right))
    if type(left) is not type(right) and not numbers:
        raise StepFailed(f"the condition {condition} compares {left!r} with {right!r}, of another type")
    return _COMPARE[match[3]](left, right) is not bool(match[1])


def _value(operand: str, parameters: Json) -> Any:
    if cast := _CAST.fullmatch(operand):
        value = _value(cast[2], parameters)
        return int(value) if cast[1] == "int" else float(value)
    if operand.startswith("inputs."):
        name = operand.partition("'")[2].partition("'")[0]
        if name not in parameters:
            raise StepFailed(f"the condition's parameter {name} has no value")
        return parameters[name]
    if operand.startswith("'"):
        return operand[1:-1]
    return operand == "true" if operand in ("true", "false") else float(operand)
