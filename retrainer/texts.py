"""Texts that people read: cut to the room there is, and counted."""

from __future__ import annotations


def shortened(text: str, most: int) -> str:
    """At most `most` characters; an ellipsis stands for what is cut off."""
    return text if len(text) <= most else text[: most - 1] + "…"


def plural(count: int, one: str, several: str = "") -> str:
    """`1 image`, `2,000 images`; `several` where that is not `one` with an s behind it."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
