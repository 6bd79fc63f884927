"""A confusion matrix as a table whose cells are shaded: as wide as its place, read out cell by cell."""

from __future__ import annotations

from collections.abc import Sequence

from retrainer.pages.page import escape, wide
from retrainer.texts import shortened

_NAME_CHARACTERS = 22


def heat_map(labels: Sequence[str], counts: Sequence[Sequence[int]], label: str) -> str:
    """Counts: a row per true class, shaded by its share of that class; errors in another colour."""
    names = [_name(text) for text in labels]
    heads = "".join(f'<th scope="col"><span>{name}</span></th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{names[true]}</th>{_cells(labels, true, row)}</tr>'
        for true, row in enumerate(counts)
    )
    table = (
        f'<table class="heat" aria-label="{escape(label)}"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )
    return wide(table, label)


def _name(label: str) -> str:
    return f'<bdi title="{escape(label)}">{escape(shortened(label, _NAME_CHARACTERS))}</bdi>'


def _cells(labels: Sequence[str], true: int, row: Sequence[int]) -> str:
    return "".join(_cell(labels, true, given, count, sum(row)) for given, count in enumerate(row))


def _cell(labels: Sequence[str], true: int, given: int, count: int, total: int) -> str:
    if not count:
        return "<td></td>"
    # A few errors in a large class must still be seen.
    strength = 0.1 + 0.9 * (count / total) ** 0.7
    tooltip = escape(f"{labels[true]} answered as {labels[given]}: {count:,} of {total:,}")
    kind = "right" if true == given else "wrong"
    return f'<td class="{kind}" style="--shade:{strength:.2f}" title="{tooltip}">{count}</td>'
