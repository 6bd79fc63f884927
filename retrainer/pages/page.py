"""The bricks of report.html. What comes from outside (labels, texts, names) passes through `escape`."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape as _escape

_TRACK_PIXELS = 84


def escape(text: object) -> str:
    """Text as HTML or as an attribute's value, whatever is in it."""
    return _escape(str(text), quote=True)


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def quiet(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'


def label_cell(text: str) -> str:
    return f'<td class="label">{escape(text)}</td>'


def number_cell(text: str) -> str:
    return f'<td class="num">{escape(text)}</td>'


def share_cell(share: float | None) -> str:
    return number_cell("–" if share is None else f"{share:.3f}")


def bar_cell(share: float | None) -> str:
    """A share with a bar of its length."""
    if share is None:
        return share_cell(None)
    bar = f'<span class="bar" style="width:{round(_TRACK_PIXELS * share)}px"></span>'
    return f'<td class="num">{share:.3f}<span class="track">{bar}</span></td>'


def table(texts: Iterable[str], numbers: Iterable[str], rows: Iterable[str]) -> str:
    """A table whose first columns are texts and the others numbers; each row holds its cells."""
    heads = [f"<th>{escape(text)}</th>" for text in texts]
    heads += [f'<th class="num">{escape(text)}</th>' for text in numbers]
    body = "".join(f"<tr>{cells}</tr>" for cells in rows)
    head = f"<thead><tr>{''.join(heads)}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'
