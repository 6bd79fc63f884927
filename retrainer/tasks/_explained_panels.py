"""Attributions and nearest training rows in report.html, beside the rows that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from retrainer.pages.attributions import bars, legend, overlay, painted
from retrainer.pages.page import escape, measured, quiet, section
from retrainer.pages.thumbnails import thumbnail
from retrainer.tasks._class_examples import MOST_CHARACTERS, row_place
from retrainer.texts import shortened

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

# Of a nearest training row's text.
_MOST_NEAREST = 120

Details = Mapping[str, Any]


@dataclass(frozen=True)
class Explanation:
    """HTML of one row: its `texts` painted, a `picture` with regions over it, the bars of a `sound`, `words`
    that say what for and what against. All empty where the row is not explained."""

    texts: tuple[str, ...] = ()
    picture: str = ""
    sound: str = ""
    words: str = ""


@dataclass(frozen=True)
class Beside:
    """What is shown beside a row, by its number: why it was answered so, and the training rows nearest to it
    (HTML). `about` goes before them: what the colours say, and whether they can be believed;
    `method`: how they were computed and tested, said once on a page."""

    explanations: Mapping[int, Explanation] = field(default_factory=dict)
    nearest: Mapping[int, str] = field(default_factory=dict)
    about: str = ""
    method: str = ""


NOTHING = Beside()


def beside_rows(
    judged: Judged,
    details: Details,
    said: Sequence[str],
    colours: tuple[str, str] = ("speaks for the answer", "against it"),
) -> Beside:
    """`said`: a sentence for each of `details["nearest"]`; `colours`: what blue does, and orange."""
    found = details["attributions"]
    return Beside(
        {one["row"]: _explanation(judged, one) for one in found["rows"]},
        _nearest_lists(judged, details["nearest"], said),
        _about(found, colours),
        quiet(found["note"]),
    )


def _about(found: Mapping[str, Any], colours: tuple[str, str]) -> str:
    """The warning, and what the colours say."""
    warning = f'<p class="note">{escape(found["warning"])}</p>' if found["warning"] else ""
    return warning + (legend(*colours) if found["rows"] else "")


def _explanation(judged: Judged, one: dict[str, Any]) -> Explanation:
    row = judged.test.slice(one["row"], 1).to_pylist()[0]
    said = f"Blue: for <b>{escape(one['towards'])}</b>"
    said += f"; orange: for <b>{escape(one['against'])}</b>" if one["against"] else "; orange: against it"
    words = f'<p class="sides">{said}.</p>'
    if "words" in one:
        return Explanation(texts=tuple(_painted(row, one["words"])), words=words)
    if "stretches" in one:
        return Explanation(sound=bars(one["stretches"]), words=words)
    size = judged.predictor.network.description.preprocessing["size"]
    where = row_place(row, one["row"])
    source, small = overlay(row["image"]["bytes"], where, (int(size[0]), int(size[1])), one["regions"])
    enlarged = ' class="enlarged"' if small else ""
    seen = "the same, coloured by what speaks for and against the answer"
    return Explanation(picture=f'<img{enlarged} src="{escape(source)}" alt="{seen}">', words=words)


def _painted(row: dict[str, Any], words: Sequence[Sequence[Any]]) -> list[str]:
    """Each text of the row; all are painted on one scale."""
    largest = max((abs(value) for *_, value in words), default=0.0)
    texts = []
    for column in ("text", "text_pair"):
        if row.get(column):
            own = [part for name, *part in words if name == column]
            texts.append(painted(row[column], own, largest, MOST_CHARACTERS))
    return texts


def _nearest_lists(judged: Judged, found: Sequence[Mapping[str, Any]], said: Sequence[str]) -> dict[int, str]:
    """HTML by the number of the test row: the training rows that are nearest, with their labels or targets
    and the cosine, below the sentence that is `said` of them."""
    lists = {}
    for one, sentence in zip(found, said, strict=True):
        items = "".join(
            f"<li>{_training_row(judged, number)} (cosine {cosine:.2f})</li>"
            for number, cosine in one["rows"]
        )
        lists[one["row"]] = f'<p class="nearest">{escape(sentence)}</p><ul class="nearest">{items}</ul>'
    return lists


def _training_row(judged: Judged, number: int) -> str:
    columns = judged.predictor.task.input_columns
    row = judged.train.slice(number, 1).to_pylist()[0]
    where = row_place(row, number)
    shown = ""
    if "image" in columns and row.get("image"):
        source, small = thumbnail(row["image"]["bytes"], where)
        enlarged = ' class="enlarged"' if small else ""
        shown = f'<img{enlarged} src="{escape(source)}" alt="">'
    texts = " / ".join(str(row[name]) for name in ("text", "text_pair") if name in columns and row.get(name))
    target = measured(row["target"]) if "target" in row else ", ".join(row["labels"] or ()) or "no label"
    content = f" <bdi>{escape(shortened(texts, _MOST_NEAREST))}</bdi>" if texts else f" {escape(where)}"
    return f"{shown}<b>{escape(target)}</b>:{content}"


def explained_section(judged: Judged, details: Details, said: Sequence[str]) -> str:
    """The rows of a task whose mistakes are shown elsewhere: numbers."""
    beside = beside_rows(judged, details, said, ("makes the prediction larger", "smaller"))
    shown = "".join(_explained_row(judged, one, beside) for one in details["attributions"]["rows"])
    drawn = f'<div class="misses">{shown}</div>' if shown else ""
    return section("What predictions rest on", beside.about, drawn, beside.method)


def _explained_row(judged: Judged, one: Mapping[str, Any], beside: Beside) -> str:
    row, why = judged.test.slice(one["row"], 1).to_pylist()[0], beside.explanations[one["row"]]
    texts = "".join(f'<blockquote dir="auto">{text}</blockquote>' for text in why.texts)
    figures = (
        f"predicted {measured(one['output'])}, true {measured(row['target'])};"
        f" for an empty input {measured(one['baseline'])}"
    )
    where = escape(row_place(row, one["row"]))
    near = beside.nearest.get(one["row"], "")
    return f'<div class="miss">{why.picture}{why.sound}{texts}<p>{figures}</p><p>{where}</p>{near}</div>'
