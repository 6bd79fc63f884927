"""Who acts: a person at a machine, or the run of a pipeline or of CI that acts for them."""

from __future__ import annotations

import getpass
import os
import socket

_CHARACTERS = 120

# What tells that an automaton runs this, and the variables that say which run and for whom.
_AUTOMATA = (
    ("Kubeflow run", "RETRAINER_KFP_RUN_ID", ""),
    ("GitHub Actions run", "GITHUB_RUN_ID", "GITHUB_ACTOR"),
    ("GitLab job", "CI_JOB_ID", "GITLAB_USER_LOGIN"),
)


def who() -> str:
    """`user@host`, or for example `ann (GitHub Actions run 123)`; made of printable characters."""
    for kind, run, person in _AUTOMATA:
        if number := os.environ.get(run):
            named = os.environ.get(person, "") if person else ""
            return printable(f"{named} ({kind} {number})" if named else f"{kind} {number}")[:_CHARACTERS]
    return printable(f"{_user()}@{socket.gethostname()}")[:_CHARACTERS]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user that nobody has named
        return f"user {os.getuid()}"


def printable(text: str) -> str:
    """The text without what could harm a terminal or a database: control characters, lone surrogates."""
    return text if text.isprintable() else "".join(letter for letter in text if letter.isprintable())
