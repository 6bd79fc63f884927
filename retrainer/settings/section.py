"""What every section of the settings is: frozen, and exact about unknown keys and wrong values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from retrainer.errors import SettingError, nearest


class Section(BaseModel):
    """A frozen group of settings. An unknown key is an error that names the nearest known one.

    Values are read by the fields' types: YAML takes `1e-4` for text, and Kubeflow turns 7 into 7.0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Keys of earlier versions, and what they are called now.
    RENAMED: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str) -> Self:
        """Validates plain data. Raises UserError naming the key as `where.key`."""
        for old in [key for key in cls.RENAMED if key in data]:
            raise SettingError(f"setting {where}.{old} is called {where}.{cls.RENAMED[old]} now")
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise SettingError(_explain(error, cls, where)) from None

    def plain(self) -> dict[str, Any]:
        """The section as JSON-ready data, every default written out."""
        return self.model_dump(mode="json")


def _explain(error: ValidationError, section: type[BaseModel], where: str) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join([where, *(str(part) for part in first["loc"] if part != "[key]")])
    if first["type"] == "extra_forbidden":
        nested = len(first["loc"]) > 1
        return f"unknown setting {key}" + (
            "" if nested else nearest(str(first["loc"][0]), section.model_fields)
        )
    if first["type"] == "missing":
        return f"setting {key} is missing"
    return f"setting {key}: {first['msg'].removeprefix('Value error, ')} (got {first['input']!r})"


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return {key: _whole(item) for key, item in value.items()} if isinstance(value, Mapping) else value


class OpenSection(Section):
    """A section whose further keys belong to the chosen file's `Options`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _whole_options(cls, data: Any) -> Any:
        """No field's type reads these keys here: Kubeflow's 7.0 must give the same bytes as 7."""
        return {key: value if key in cls.model_fields else _whole(value) for key, value in data.items()}

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})
