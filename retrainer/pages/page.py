"""The frame and the bricks of report.html: one file that needs no other, no network and no script.

What comes from outside (labels, texts, names) passes through `escape`, and the page's own policy forbids
scripts and anything from elsewhere besides. It works inside a sandboxed frame.
"""

from __future__ import annotations

import re
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


def prose(text: str) -> str:
    """A sentence as HTML: what stands between backticks is set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


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
    return f'<p class="quiet">{prose(text)}</p>'


def label_cell(text: str) -> str:
    return f'<td class="label">{escape(text)}</td>'


def number_cell(text: str) -> str:
    return f'<td class="num">{escape(text)}</td>'


def measured(value: float | None) -> str:
    """A measured number in four digits, or whole where it has more: 0.1235, 12.35, 1,000,123. None: –."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def share_cell(share: float | None) -> str:
    return number_cell("–" if share is None else f"{share:.3f}")


def bar_cell(share: float | None) -> str:
    """A share with a bar of its length."""
    if share is None:
        return share_cell(None)
    bar = f'<span class="bar" style="width:{round(_TRACK_PIXELS * share)}px"></span>'
    return f'<td class="num">{share:.3f}<span class="track">{bar}</span></td>'


def table(texts: Iterable[str], numbers: Iterable[str], rows: Iterable[str]) -> str:
    """A table whose first columns are texts and the others numbers; each row holds its cells.

    On a phone each row is a card, in which every cell stands under the name of its column.
    """
    texts, numbers = list(texts), list(numbers)
    heads = [f'<th scope="col">{escape(text)}</th>' for text in texts]
    heads += [f'<th scope="col" class="num">{escape(text)}</th>' for text in numbers]
    body = "".join(f"<tr>{_named_cells(cells, [*texts, *numbers])}</tr>" for cells in rows)
    head = f"<thead><tr>{''.join(heads)}</tr></thead>"
    return f'<div class="scroll"><table class="rows">{head}<tbody>{body}</tbody></table></div>'


def _named_cells(cells: str, heads: list[str]) -> str:
    """Each cell with its column's name, which the style shows where there is no room for columns."""
    before, *each = cells.split("<td")
    names = [f' data-head="{escape(head)}"' for head in heads] + [""] * len(each)  # more cells than columns
    return "".join([before, *(f"<td{name}{cell}" for name, cell in zip(names, each, strict=False))])


def wide(content: str, label: str) -> str:
    """What may be wider than a phone's screen, in a frame that scrolls by finger and by keyboard."""
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(label)}">{content}</div>'
