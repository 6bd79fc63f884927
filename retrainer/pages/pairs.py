"""Two rows side by side, for the eye to judge whether they are the same thing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from retrainer.pages.page import escape
from retrainer.pages.players import player
from retrainer.pages.thumbnails import thumbnail
from retrainer.texts import shortened

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_CHARACTERS = 300


def side(rows: pa.Table, row: int, columns: Sequence[str]) -> str:
    """A row's texts, image, sound (those of `columns`), labels, and where it stands, without any folder."""
    origin = rows["origin"][row].as_py() if "origin" in rows.column_names else None
    where = PurePath(origin or f"row {row}").name
    parts = []
    for name in columns:
        content = rows[name][row].as_py() if name in rows.column_names else None
        if isinstance(content, dict) and name == "image":
            source, small = thumbnail(content["bytes"], where)
            size = ' class="enlarged"' if small else ""
            parts.append(f'<img{size} src="{escape(source)}" alt="{escape(where)}">')
        elif isinstance(content, dict) and name == "audio":
            parts.append(player(content["bytes"], where))
        elif content:
            text = escape(shortened(str(content), _MOST_CHARACTERS))
            parts.append(f'<blockquote dir="auto">{text}</blockquote>')
    if "labels" in rows.column_names:
        labels = ", ".join(rows["labels"][row].as_py() or ()) or "no label"
        parts.append(f"<p>{escape(labels)}</p>")
    return f"<div>{''.join(parts)}<p>{escape(where)}</p></div>"


def drawn_pairs(pairs: Iterable[tuple[str, str]], notes: Iterable[str] = ()) -> str:
    """Pairs of sides, each with its note where there are notes."""
    said = iter(notes)
    shown = []
    for one, other in pairs:
        note = next(said, "")
        below = f"<p>{escape(note)}</p>" if note else ""
        shown.append(f'<div class="miss"><div class="pair sides">{one}{other}</div>{below}</div>')
    return f'<div class="pair">{"".join(shown)}</div>'
