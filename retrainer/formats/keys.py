"""Groups of keys of a JSON file: their types, what each is for, and the one error that a wrong one gives.

docs/reference.md is made from the same descriptions, so what is written there is what is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from retrainer.errors import ModelError, nearest


class Keys(BaseModel):
    """The keys that a reader asks for. Values are taken as they stand: "7" is no number, and 7.0 none that
    counts."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    @classmethod
    def check(cls, data: Mapping[str, Any], where: str) -> None:
        """Raises ModelError that names the first key that is missing or wrong, and says what it is for.

        Further keys are left alone: `refuse_unknown` is for those who write.
        """
        try:
            cls.model_validate(dict(data))
        except ValidationError as error:
            raise ModelError(f"{where}: {_explain(error, cls)}") from None

    @classmethod
    def refuse_unknown(cls, data: Mapping[str, Any], where: str) -> None:
        """Raises ModelError that names a key which nobody reads, and the nearest that somebody does."""
        for key in data:
            if key not in cls.model_fields:
                raise ModelError(
                    f"{where}: nobody reads '{key}'; remove or rename it{nearest(str(key), cls.model_fields)}"
                )


def _explain(error: ValidationError, keys: type[Keys]) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:  # what several keys must have in common
        return str(first["msg"]).removeprefix("Value error, ")
    meaning = _meaning(keys, first["loc"])
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"'{key}' is missing; add it: {meaning}"
    reason = str(first["msg"]).removeprefix("Value error, ")
    found = repr(first["input"])
    found = found if len(found) <= 60 else f"{found[:59]}…"
    return f"'{key}': {reason[0].lower()}{reason[1:]}, found {found}; needed: {meaning}"


def _meaning(keys: type[Keys], place: tuple[int | str, ...]) -> str:
    """What the innermost key of `place` is for; numbers in it count the entries of a list."""
    meaning = ""
    for name in place:
        if field := keys.model_fields.get(str(name)):
            meaning = str(field.description)
            keys = inner_keys(field) or keys
    return meaning


def inner_keys(field: FieldInfo) -> type[Keys] | None:
    """The keys of the object that stands there, or None where a plain value does."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Keys)), None)
