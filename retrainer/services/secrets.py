"""Secrets do not belong into settings: those are kept with data, models and pipelines, and in MLflow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from retrainer.errors import SettingError
from retrainer.services.address import holds_secret

# In words apart: `--api-key`, `PGPASSWORD=`, `hfToken`, `source.db_pass`.
_PASSWORD = re.compile(r"(?:^|_)(?:\w*(?:password|passwd)|passphrase|pwd|pass)$")
_TOKEN = re.compile(
    r"(?:^|_)(?:\w*(?:secret|token)|credentials?|\w*apikey)$|(?:^|_)(?:api|access|account|private)_key$"
)
# A tokenizer's own: `pad_token`, `word_delimiter_token`.
_SPECIAL_TOKEN = re.compile(
    r"(?:pad|bos|eos|unk|sep|cls|mask|start|end|stop|eot|image|prefix|suffix|delimiter|blank|language|word)_?token$"
)
# The settings that name Kubernetes secrets, which hold the values.
_NAMES_OF_SECRETS = re.compile(r"cluster\.\w+_secret")
# What reads the secret from elsewhere: a variable, a file.
_ELSEWHERE = re.compile(r"\$\w+|\$\{\w+\}|@?[./~][\w./~-]*|@?[\w-]+/[\w./-]*\.[a-z]{1,5}|")
# What a token is not: a number, a switch, a column's name, a sign.
_NO_TOKEN = re.compile(r"(?i)\d{1,9}|true|false|none|null|[a-z_]{1,20}|\W{1,3}|<.*>")
_WRITTEN_OUT = re.compile(r"(?i)\bbearer\s+[\w.~+/=-]{8,}|(?:^|[\s;])(?:password|passwd|pwd)\s*=\s*[^\s;]+")


def refuse_secrets(settings: Mapping[str, Any]) -> None:
    """Raises SettingError for the first setting that holds a password, a token or a signed address."""
    for name, value in _values(settings):
        if _NAMES_OF_SECRETS.fullmatch(name):
            continue
        given = [(name.rpartition(".")[2], value)]
        given += _words(value) if name == "training.command" else []
        if holds_secret(value) or _WRITTEN_OUT.search(value) or any(_is_secret(*one) for one in given):
            raise SettingError(
                f"{name}: a password or token stands in it, and settings are kept with data, models, MLflow's"
                " runs and compiled pipelines; take it out, and let your code read an environment variable"
            )


def _values(settings: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every value that is not empty, as text, with its setting's name; a list's values have the list's."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _values(value, f"{name}.{key}" if name else str(key))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _values(value, name)
    elif settings not in (None, "", True, False):
        yield name, str(settings)


def _words(command: str) -> Iterator[tuple[str, str]]:
    """Options of a command line, and variables set on it, with their values; so of a command in it."""
    try:
        words = shlex.split(command)
    except ValueError:
        return
    for word in words:
        option, equals, value = word.partition("=")
        if equals:
            yield option, value
        if " " in word:
            yield from _words(word)
    for option, value in pairwise(words):
        if option.startswith("-") and not value.startswith("-"):
            yield option, value


def _is_secret(name: str, value: str) -> bool:
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    apart = re.sub(r"[-.]+", "_", apart).strip("_")
    if _ELSEWHERE.fullmatch(value) or _SPECIAL_TOKEN.search(apart):
        return False
    return bool(_PASSWORD.search(apart) or (_TOKEN.search(apart) and not _NO_TOKEN.fullmatch(value)))
