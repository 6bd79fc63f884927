"""The bricks of a Markdown page. What comes from outside (labels, names, notes) passes through `plain`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

# Whatever begins markup inside a line, in CommonMark or in GitHub's dialect, where an address is a link.
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~!$&@^]|:(?=//)|(?<=mailto):|(?<=xmpp):|(?<=www)\.", re.IGNORECASE)


def plain(text: object) -> str:
    """Text that is shown as it is, on one line, whatever is in it. It must not begin a line."""
    shown = "".join(
        " " if unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp") else sign for sign in str(text)
    )
    return _SPECIAL.sub(lambda found: "\\" + found.group(), " ".join(shown.split()))


def heading(text: str) -> str:
    return f"## {text}"


def bullets(items: Iterable[str]) -> list[str]:
    """Lines of a list; each item is Markdown already, and one line."""
    return [f"- {item}" for item in items]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; cells are Markdown already."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]
