"""Texts that people read, cut to the room there is."""

from __future__ import annotations


def shortened(text: str, most: int) -> str:
    """At most `most` characters; an ellipsis stands for what is cut off."""
    return text if len(text) <= most else text[: most - 1] + "…"
