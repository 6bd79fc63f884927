"""year.html: the year as a timeline, and each month in words. One file that needs no script and no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.year.outcomes import KINDS
from benchmarks.year.timeline import CSS, look_of, month_by_month, seconds_of, timeline
from retrainer.pages import markdown
from retrainer.pages.page import document, escape, label_cell, number_cell, quiet, section, table, wide

Year = Mapping[str, Any]
Act = Mapping[str, Any]


def render(year: Year) -> str:
    title = f"{_count(len(year['months']))} months of retraining"
    return document(title, [_top(title, year), _months(year), _history(year)], CSS)


def metric_of(year: Year) -> str:
    """The gate's metric in words, as the first judged model was told it."""
    judged = [act["metric"] for month in year["months"] for act in month["acts"] if act["candidate"]]
    return str(judged[0]) if judged else "accuracy"


def _count(number: int) -> str:
    return {2: "Two", 3: "Three", 12: "Twelve"}.get(number, str(number))


def _top(title: str, year: Year) -> str:
    cpu, cores = year["machine"]["cpu"], year["machine"]["cores"]
    where = f"{year['when']}, {cores} cores ({cpu}), {year['seconds'] / 60:.1f} minutes in all"
    acts = [act for month in year["months"] for act in month["acts"]]
    right = sum(act["as_expected"] for act in acts)
    said = f"{right} of {len(acts)} outcomes are as they were expected before the year ran."
    legend = "".join(_badge(kind) + " " for kind in KINDS if any(act["kind"] == kind for act in acts))
    dots = quiet(
        f"Blue: the champion's {metric_of(year)} on each month's test rows, with its interval; dotted where"
        " nothing was judged. Hollow: a model that did not become champion."
        f"{_about_truth(year)} Below: the seconds of all commands."
    )
    months, metric = year["months"], metric_of(year)
    picture = f'<div class="year-wide">{wide(timeline(months, metric), "the year as a timeline")}</div>'
    picture += f'<div class="year-narrow">{month_by_month(months, metric)}</div>'
    under = f"{dots}<p>{legend}</p><p>{escape(said)}</p>"
    return f"<section><h1>{escape(title)}</h1>{quiet(where)}{picture}{under}</section>"


def _about_truth(year: Year) -> str:
    rows = year["holdout"]
    return f" Green: its {metric_of(year)} on {rows:,} rows that the product is never shown." if rows else ""


def _badge(kind: str) -> str:
    colour, path = look_of(kind)
    sign = f'<svg width="12" height="12" viewBox="-6 -6 12 12" aria-hidden="true"><path d="{path}"/></svg>'
    return f'<span class="outcome {colour}">{sign} {escape(kind)}</span>'


def _months(year: Year) -> str:
    rows = [row for month in year["months"] for row in _rows(month)]
    heads = ["month", "what came", "command", "what was decided", "why, in the product's words", "report"]
    return section("What came, what was decided, and why", table(heads, ["cost"], rows))


def _rows(month: Mapping[str, Any]) -> Iterator[str]:
    for at, act in enumerate(month["acts"]):
        first = at == 0
        came = f"{month['title']}. {month['came']} {month['rows']:,} rows in the file." if first else ""
        yield "".join(
            [
                label_cell(month["name"]) if first else f'<td class="again">{escape(month["name"])}</td>',
                label_cell(came),
                f"<td><code>{escape(act['command'])}</code></td>",
                f"<td>{_badge(act['kind'])}{_expectation(act)}</td>",
                f"<td>{_why(act)}</td>",
                f'<td><a href="{escape(act["page"])}">report</a></td>' if act["page"] else "<td></td>",
                number_cell(_cost(act)),
            ]
        )


def _expectation(act: Act) -> str:
    if act["as_expected"]:
        return quiet("as expected")
    return f'<p class="note">expected: {escape(act["expected"])}</p>'


def _why(act: Act) -> str:
    lines = [act["reason"]]
    lines += [f"trained because: {act['decision']}"] if act["decision"] and act["candidate"] else []
    lines += [f"data: {act['data']}"] if act["data"] else []
    first, *others = lines
    more = "".join(f'<span class="said quiet">{escape(line)}</span>' for line in others)
    return f'<span class="said">{escape(first)}</span>{more}'


def _cost(act: Act) -> str:
    """Seconds, and what the training used where the report says it."""
    cost = act["cost"]
    used = [f"{cost['kwh']:.4f} kWh"] if "kwh" in cost else []
    used += [f"{cost['money']:.4f} {cost.get('currency', '')}"] if "money" in cost else []
    return ", ".join([f"{act['seconds']:.0f} s", *used])


def _history(year: Year) -> str:
    words = quiet("What `make history` says at the end of the year.")
    return section(
        "Who was champion",
        words,
        wide(f"<pre class='listing'>{escape(year['history'])}</pre>", "the history"),
    )


def as_markdown(year: Year) -> str:
    """The same as a table for docs/year.md."""
    rows = []
    for month in year["months"]:
        for at, act in enumerate(month["acts"]):
            mark = "" if act["as_expected"] else f" (expected: {act['expected']})"
            name = f"{month['name']}: {month['title']}" if at == 0 else ""
            said = [act["reason"], *([f"trained because: {act['decision']}"] if act["candidate"] else [])]
            cells = [name, act["command"], act["kind"] + mark, "; ".join(said), f"{act['seconds']:.0f}"]
            rows.append([markdown.plain(cell) for cell in cells])
    total = sum(seconds_of(month) for month in year["months"])
    rows.append(["all", "", "", "", f"{total:.0f}"])
    heads = ["month", "command", "what was decided", "why", "seconds"]
    return "\n".join(markdown.table(heads, rows)) + "\n"
