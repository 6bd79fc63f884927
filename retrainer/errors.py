"""Errors that are a person's to mend: the command line prints each in one line and exits with status 2."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Says in one line which setting, file or row is wrong, and the cure.

    The command line prints it without a traceback and exits with status 2. A program that calls the library
    tells the cases apart by the classes below.
    """


class SettingError(UserError):
    """A setting, recipe, option or environment variable is wrong, or does not fit the others."""


class Diverged(SettingError):
    """The loss of a training overflowed: a rate is too high for these rows."""


class DataError(UserError):
    """The source, a row, or a dataset or report on disk is wrong."""


class ModelError(UserError):
    """Weights, a model directory or a registered version is wrong, or was altered."""


class ServiceError(UserError):
    """MLflow, S3, Kubeflow, a container engine or another service refused, failed or did not answer."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known name is close, else the known names."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(names)}"
