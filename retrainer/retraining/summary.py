"""A decision for the terminal and as a page: what was asked, what was found, what follows."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from retrainer.gate.chance import p_said
from retrainer.pages.page import document, escape, section

WIDTH = 78
_LABEL = 12


def decision_table(decision: Mapping[str, Any]) -> str:
    """At most 78 columns; `decision` is the content of decision.json."""
    lines = [_headline(decision), "─" * WIDTH]
    for name, text in _facts(decision):
        start, rest = f"{name:<{_LABEL}}", " " * _LABEL
        lines += textwrap.wrap(
            text, WIDTH, initial_indent=start, subsequent_indent=rest, break_on_hyphens=False
        )
    return "\n".join(lines)


def page(decision: Mapping[str, Any]) -> str:
    """The same as a self-contained HTML page."""
    title = _headline(decision)
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _facts(decision))
    shown = section("Whether this scheduled run trains, and why", f'<dl class="facts">{facts}</dl>')
    return document(title, [f"<h1>{escape(title)}</h1>", shown])


def _headline(decision: Mapping[str, Any]) -> str:
    verdict = "trains" if decision["choice"] == "train" else "nothing is trained"
    return f"{decision['name']}: {decision['reason'].replace('-', ' ')}, {verdict}"


def _facts(decision: Mapping[str, Any]) -> list[tuple[str, str]]:
    champion, rows, code = decision["champion"], decision["rows"], decision["code"]
    found = [("why", decision["why"])]
    found += [("policy", decision["policy"])] if decision["reason"] != "always" else []
    if champion:
        data = champion["dataset_sha256"][:12]
        found.append(("champion", f"version {champion['version']}, of data {data}"))
    if "new" in rows:
        found.append(("rows", _rows(rows)))
    for name, test in decision["tests"].items():
        found.append((name, _test(test, decision["alpha"])))
    if code:
        found.append(("note", f"the code is {code['now'][:60]} now; it is no reason to train by itself"))
    return found


def _rows(rows: Mapping[str, int]) -> str:
    text = f"{rows['new']:,} new, {rows['gone']:,} gone"
    if "independent" not in rows:
        return text
    text += f"; {rows['independent']:,} independent new ones beside {rows['reference']:,} of the champion's"
    return text + f"; {rows['relabelled']:,} of {rows['compared']:,} relabelled"


def _test(test: Mapping[str, Any], alpha: float) -> str:
    found = "drift" if test["adjusted"] <= alpha else "no drift"
    parts = ", ".join(f"{name} {value:.3g}" for name, value in test["parts"].items())
    largest = "; ".join(_largest(one) for one in test["largest"][:2])
    return f"{found}: {p_said(test['adjusted'], 3)} after Holm, alpha {alpha:g} ({parts}); most: {largest}"


def _largest(one: Mapping[str, Any]) -> str:
    if "label" in one:
        return f"{one['label'] or 'no label'} {one['found']:,}, expected {one['expected']:.1f}"
    return f"{one['measure']} {one['was']:.4g} → {one['now']:.4g} (medians)"
