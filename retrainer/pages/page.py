"""The frame and the bricks of report.html: one file that needs no other, no network and no script.

What comes from outside (labels, texts, names) passes through `escape`, and the page's own policy forbids
scripts and anything from elsewhere besides. It works inside a sandboxed frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape as _escape

from retrainer.pages.style import CSS

_POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; form-action 'none';"
    " base-uri 'none'"
)
_TRACK_PIXELS = 84


def escape(text: object) -> str:
    """Text as HTML or as an attribute's value, whatever is in it."""
    return _escape(str(text), quote=True)


def document(title: str, sections: Iterable[str], css: str = "") -> str:
    """The whole page; empty sections are left out. `css` is added to that of all pages."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}{css}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


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
