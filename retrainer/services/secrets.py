"""Secrets do not belong into settings: those are kept with data, models and pipelines, and in MLflow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from retrainer.errors import SettingError
from retrainer.services.address import without_credentials

# `--api-key`, `WANDB_API_KEY=`, `source.password`. A tokenizer's special tokens are none.
_NAME = re.compile(
    r"(?i)(?:^|[-_.])(?:pass(?:word|wd|phrase)|pwd|secret|token|credentials?|(?:api|access|secret|private)[-_]?key|apikey)$"
)
_SPECIAL_TOKEN = re.compile(r"(?i)(?:pad|bos|eos|unk|sep|cls|mask|start|end)[-_]?token$")
# Names of secrets that Kubernetes keeps: the settings of the cluster check their form.
_KUBERNETES_SECRETS = {f"cluster.{name}_secret" for name in ("mlflow", "storage", "webhook")}
# What a secret hardly is: a number, a switch, a place where the secret is read from.
_PLAIN = re.compile(r"(?i)\d{1,9}|true|false|yes|no|none|null|[$@%].*|/.*\.\w+")


def refuse_secrets(settings: Mapping[str, Any]) -> None:
    """Raises SettingError for the first setting that holds a password, a token or a signed address."""
    for name, value in _texts(settings):
        words = _words(value) if name == "training.command" else []
        shown = without_credentials(value) != value or (_is_secret(name.rpartition(".")[2], value))
        if shown or any(_is_secret(option, given) for option, given in words):
            raise SettingError(
                f"{name}: a password or token stands in it, and settings are kept with data, models, MLflow's"
                " runs and compiled pipelines; take it out, and let your code read an environment variable"
            )


def _texts(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{before}{key}.")
        elif isinstance(value, str) and value and f"{before}{key}" not in _KUBERNETES_SECRETS:
            yield f"{before}{key}", value


def _words(command: str) -> Iterator[tuple[str, str]]:
    """The options of a command line and variables set on it, with their values."""
    try:
        words = shlex.split(command)
    except ValueError:
        return
    for word in words:
        option, _, value = word.partition("=")
        yield option, value
    for option, value in pairwise(words):
        if option.startswith("-") and not value.startswith("-"):
            yield option, value


def _is_secret(name: str, value: str) -> bool:
    if not value or not _NAME.search(name) or _SPECIAL_TOKEN.search(name):
        return False
    return not _PLAIN.fullmatch(value)
