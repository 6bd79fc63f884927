"""Parameter values: JSON values whose numbers are all doubles, as protobuf's `Value` holds them."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

# Go's encoding/json escapes these.
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_INT64 = 2**63
_BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True)
_BOOLEANS |= dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)


def as_value(plain: Any) -> Any:
    """The value with every number a float: 7 becomes 7.0, and whole numbers above 2**53 lose digits."""
    if isinstance(plain, dict):
        return {str(key): as_value(each) for key, each in plain.items()}
    if isinstance(plain, list):
        return [as_value(each) for each in plain]
    return float(plain) if isinstance(plain, int) and not isinstance(plain, bool) else plain


def number_text(value: float, exponents: bool = False) -> str:
    """5.0 → `5`. With `exponents` as in Go's JSON: below 1e-6 and from 1e21 on it is 1e-7, 1e+21."""
    digits = Decimal(repr(value))
    if exponents and value and not 1e-6 <= abs(value) < 1e21:
        return f"{digits.normalize():e}"
    return f"{digits:f}".removesuffix(".0")


def json_text(value: Any, escape: bool = True) -> str:
    """JSON as Go writes it: keys in order, no blanks, 5.0 as 5, and with `escape` `<` as \\u003c."""
    if isinstance(value, dict):
        pairs = (f"{json_text(key, escape)}:{json_text(value[key], escape)}" for key in sorted(value))
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(json_text(each, escape) for each in value) + "]"
    if isinstance(value, float):
        return number_text(value, exponents=True)
    text = json.dumps(value, ensure_ascii=False)
    for sign, escaped in _ESCAPED.items() if escape else ():
        text = text.replace(sign, escaped)
    return text


def argument_text(value: Any) -> str:
    """A parameter as the driver writes it into a pod's arguments (driver/util.go:138-163)."""
    if isinstance(value, float) and not (value.is_integer() and abs(value) < _INT64):
        return _short(value)
    return "" if value is None else plain_text(value)


def _short(value: float) -> str:
    """Go's %g: with an exponent of two digits below 1e-4 and from 1e6 on."""
    if 1e-4 <= abs(value) < 1e6:
        return number_text(value)
    digits, exponent = f"{Decimal(repr(value)).normalize():e}".split("e")
    return f"{digits}e{int(exponent):+03d}"


def plain_text(value: Any) -> str:
    """A parameter as the launcher writes it, and as a STRING takes any other value.

    component/launcher_v2.go:1139-1164; metadata/converter.go:15-48.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number_text(value)
    return "" if value is None else json_text(value)


def value_of(text: str, kind: str) -> Any:
    """What a step wrote into an output parameter's file (metadata/converter.go:50-96, TextToPbValue).

    Raises ValueError for text that is no value of that kind.
    """
    if kind == "STRING":
        return text
    if kind == "NUMBER_INTEGER":
        return float(_whole(text.strip()))
    if kind == "NUMBER_DOUBLE":
        return _finite(text.strip())
    if kind == "BOOLEAN":
        if text.strip() not in _BOOLEANS:
            raise ValueError(f"{text.strip()!r} is no boolean")
        return _BOOLEANS[text.strip()]
    if kind not in ("LIST", "STRUCT"):
        raise ValueError(f"an output parameter of type {kind} cannot be read")
    value = as_value(read_json(text))
    if not isinstance(value, list if kind == "LIST" else dict):
        raise ValueError(f"it holds no {kind}")
    return value


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text) or not -_INT64 <= int(text) < _INT64:
        raise ValueError(f"{text!r} is no whole number of 64 bits")
    return int(text)


def _finite(text: str) -> float:
    """Stricter than the launcher: it takes NaN, and the step that should get it fails."""
    number = float(text)
    if not math.isfinite(number) or not text.isascii():
        raise ValueError(f"{text} is no number that Kubeflow passes on")
    return number


def read_json(text: str) -> Any:
    """Strict JSON, as Go's protojson reads it: no NaN or Infinity, no number too large, no key twice.

    Raises ValueError.
    """

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is not JSON")

    def finite(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else refuse(digits)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} stands there twice")
        return dict(pairs)

    value = json.loads(text, parse_constant=refuse, parse_float=finite, object_pairs_hook=unique)
    json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text
    return value
