"""The sections of report.html about classes: calibration, confusion, wrong answers, doubts, each class."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from retrainer.formats.report import MOST_IN_MATRIX, confusion_matrix
from retrainer.metrics._classes import Classes, classes
from retrainer.pages.heat_map import heat_map
from retrainer.pages.page import (
    bar_cell,
    escape,
    label_cell,
    number_cell,
    prose,
    quiet,
    section,
    share_cell,
    table,
)
from retrainer.pages.pairs import drawn_pairs, side
from retrainer.pages.reliability import reliability_chart
from retrainer.tasks._class_doubts import LABELS, NEIGHBOURS
from retrainer.tasks._class_examples import Mistake, mistakes, shown_rows
from retrainer.tasks._explained_panels import NOTHING, Beside, Explanation, beside_rows
from retrainer.tasks._nearest_rows import verdict

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

_MOST_PAIRS = 25
# Longer tables are folded away.
_MOST_OPEN = 40

# Of a label that an out-of-sample prediction contradicts.
_DOUBTED = "is the label given, which is doubted"

Details = dict[str, Any]


def panels(judged: Judged, details: Details) -> list[str]:
    found = classes(judged.predictions, judged.test)
    columns = tuple(judged.predictor.task.input_columns)
    wrong = mistakes(judged.test, found, columns)
    beside = beside_rows(judged, details, [verdict(one) for one in details["nearest"]])
    return [
        calibration_section(details),
        confusion_section(details),
        mistakes_section(wrong, int((~found.correct).sum()), details, beside),
        sample_section(judged, found, columns, details, beside),
        doubts_section(judged, found, columns, details, {miss.row for miss in wrong}),
        neighbours_section(judged, columns, details),
        per_class_section(details),
    ]


def calibration_section(details: Details) -> str:
    """The reliability diagram, and the error with and without the temperature."""
    bins = [(one["rows"], one["confidence"], one["accuracy"]) for one in details["calibration"]["bins"]]
    about = (
        "Each dot gathers answers of about the same confidence; a larger dot holds more of them. On the"
        " dashed line, of answers given with 80% confidence 80% are right. Below it the model is too sure of"
        " itself, above it not sure enough."
    )
    chart = reliability_chart(bins, "how sure the model is, and how often it is right")
    return section("Calibration", *(f"<p>{prose(one)}</p>" for one in details["notes"]), chart, quiet(about))


def confusion_section(details: Details) -> str:
    """A heat map, a list of pairs, or nothing (multi-label)."""
    confusion = details["confusion"]
    if confusion is None:
        return ""
    if len(confusion["labels"]) > MOST_IN_MATRIX:
        return _pairs(confusion)
    chart = heat_map(confusion["labels"], confusion_matrix(confusion), "confusion matrix")
    about = (
        "A row is a true class, a column the model's answer. The stronger the colour, the larger the share of"
        " the class."
    )
    return section("Confusion", quiet(about), chart)


def _pairs(confusion: dict[str, Any]) -> str:
    labels = confusion["labels"]
    support: dict[int, int] = {}
    for true, _, rows in confusion["cells"]:
        support[true] = support.get(true, 0) + rows
    errors = [cell for cell in confusion["cells"] if cell[0] != cell[1]]
    if not errors:
        return ""
    errors.sort(key=lambda cell: (-cell[2], -cell[2] / support[cell[0]], cell[0], cell[1]))
    rows = [
        label_cell(labels[true])
        + label_cell(labels[given])
        + number_cell(f"{count} of {support[true]}")
        + bar_cell(count / support[true])
        for true, given, count in errors[:_MOST_PAIRS]
    ]
    about = f"{min(len(errors), _MOST_PAIRS)} of {len(errors):,} pairs of classes with errors."
    shown = table(["true class", "answered as"], ["rows", "share of the true class"], rows)
    return section("Most confused classes", quiet(about), shown)


def mistakes_section(
    shown: list[Mistake], wrong: int, details: Details | None = None, beside: Beside = NOTHING
) -> str:
    """Those whose label is doubted carry a mark, and are not shown again."""
    if not shown:
        return section("Wrong answers", "<p>None on these rows.</p>")
    which = f"{len(shown)} of {wrong:,} wrong answers" if wrong > len(shown) else "All wrong answers"
    about = f"{which}, the surest first. The numbers are the probabilities that the model gave."
    doubted = set((details or {}).get(LABELS, ())) & {miss.row for miss in shown}
    if doubted:
        about += f" The labels of {len(doubted):,} of these may be wrong: they are marked as doubted."
    drawn = _drawn(shown, beside=beside, doubted=doubted)
    return section("Most confidently wrong", quiet(about), beside.about, drawn)


def sample_section(
    judged: Judged, found: Classes, columns: tuple[str, ...], details: Details, beside: Beside
) -> str:
    """Right answers, and what they rest on."""
    rows = [one["row"] for one in details["attributions"]["rows"] if one["sample"]]
    if not rows:
        return ""
    about = f"{len(rows)} of {int(found.correct.sum()):,} right answers, spread evenly over the test rows."
    drawn = _drawn(shown_rows(judged.test, found, columns, rows), beside=beside)
    return section("What right answers rest on", quiet(about), beside.about, drawn, beside.method)


def doubts_section(
    judged: Judged, found: Classes, columns: tuple[str, ...], details: Details, above: Collection[int]
) -> str:
    """Rows whose label the model has good reason to doubt; those that stand `above` are only counted."""
    if not (said := _said(details, LABELS)):
        return ""
    numbers = [row for row in details[LABELS] if row not in above]
    rows = shown_rows(judged.test, found, columns, numbers)
    more = " Either the label is wrong, or the model has much to learn." if details[LABELS] else ""
    if shown_above := len(details[LABELS]) - len(numbers):
        more += f" {shown_above:,} of them stand above, among the wrong answers, marked as doubted."
    drawn = _drawn(rows, "is the label given") if rows else ""
    return section("Rows to look at again", quiet(said + more), drawn)


def neighbours_section(judged: Judged, columns: tuple[str, ...], details: Details) -> str:
    """Test rows that the model sees as it sees a training row."""
    if not (said := _said(details, NEIGHBOURS)):
        return ""
    found = details[NEIGHBOURS]
    pairs = [(side(judged.test, one, columns), side(judged.train, other, columns)) for one, other, _ in found]
    shown = drawn_pairs(pairs, [f"cosine {cosine:.4f}" for *_, cosine in found]) if pairs else ""
    return section("Test rows like training rows", quiet(said), shown)


def _said(details: Details, name: str) -> str:
    """The sentence for a check's section; "" where it did not look."""
    check = next((one for one in details["checks"] if one["name"] == name), None)
    if check is None or check["level"] == "off":
        return ""
    return f"{check['count']:,} {check['note']}."


def _drawn(
    rows: Sequence[Mistake],
    truth: str = "is true",
    beside: Beside = NOTHING,
    doubted: Collection[int] = (),
) -> str:
    small = all(miss.image and not miss.texts and miss.row not in beside.nearest for miss in rows)
    kind = "misses images" if small else "misses"
    drawn = "".join(_mistake(miss, _DOUBTED if miss.row in doubted else truth, beside) for miss in rows)
    return f'<div class="{kind}">{drawn}</div>'


def _mistake(miss: Mistake, truth: str, beside: Beside) -> str:
    why = beside.explanations.get(miss.row, Explanation())
    size = ' class="enlarged"' if miss.pixelated else ""
    image = f'<img{size} src="{escape(miss.image)}" alt="{escape(miss.where)}">' if miss.image else ""
    if why.picture:
        image = f'<div class="pair sides">{image}{why.picture}</div>'
    shown = why.texts or tuple(map(escape, miss.texts))
    texts = "".join(f'<blockquote dir="auto">{text}</blockquote>' for text in shown)
    return (
        f'<div class="miss">{image}{miss.sound}{why.sound}{texts}{why.words}'
        f'<p><span class="given">{escape(_names(miss.decided))}</span> '
        f"was the answer: {miss.confidence:.3f}</p>"
        f'<p><span class="true">{escape(_names(miss.truth))}</span> {truth}: '
        f"{miss.truth_probability:.3f}</p><p>{escape(miss.where)}</p>"
        f"{beside.nearest.get(miss.row, '')}</div>"
    )


def _names(labels: list[str]) -> str:
    return ", ".join(labels) or "no label"


def per_class_section(details: Details) -> str:
    """Figures of each class, the weakest first; classes without test rows last."""
    each = sorted(details["per_class"], key=lambda c: (c["f1"] is None, c["f1"] or 0.0, c["label"]))
    rows = [
        label_cell(c["label"])
        + bar_cell(c["f1"])
        + share_cell(c["precision"])
        + share_cell(c["recall"])
        + number_cell(f"{c['support']:,}")
        + number_cell(f"{c['predicted']:,}")
        for c in each
    ]
    shown = table(["class"], ["F1", "precision", "recall", "test rows", "times answered"], rows)
    if len(each) > _MOST_OPEN:
        shown = f"<details><summary>Show all {len(each):,} classes</summary>{shown}</details>"
    return section("By class", quiet("The weakest first."), shown)
