"""How figures are said, in the terminal and in the report alike. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from retrainer.cost import in_words, of_runs
from retrainer.findings import found_by, left_out, percent, rows_in
from retrainer.gate.chance import p_said
from retrainer.texts import plural

Report = dict[str, Any]

# From so many rows on, the fourth decimal says something.
_FINE_ROWS = 2000
# Of a metric that is no share: larger values need fewer decimals.
_LARGE = 10
# Digits that mean nothing would fill the table.
_VERY_LARGE = 100_000.0
# Three decimals of a smaller value would be zeros.
_SMALL = 0.001


def ordered(report: Report) -> list[str]:
    """The names of the metrics in reading order: the gate's, then those of which more is better."""
    about, first = report["about"], gate_metric(report)
    return sorted(report["metrics"], key=lambda n: (n != first, not about[n]["higher_is_better"], n))


def title(report: Report, metric: str) -> str:
    return str(report["about"][metric]["title"])


def gate_metric(report: Report) -> str:
    """The name of the metric that the gate goes by."""
    return str(report["headline"])


def gate_title(report: Report) -> str:
    """The gate's metric, in words."""
    return title(report, gate_metric(report))


def higher_is_better(report: Report) -> bool:
    """Of the gate's metric."""
    return bool(report["about"][gate_metric(report)]["higher_is_better"])


def in_points(report: Report) -> bool:
    """Whether differences of the gate's metric are said in points of a hundredth."""
    return bool(report["about"][gate_metric(report)]["unit"] == "share")


def number(value: float, rows: int) -> str:
    if abs(value) >= _VERY_LARGE:
        return f"{value:.4g}"
    if abs(value) >= _LARGE:
        return f"{value:.2f}"
    if 0 < abs(value) < _SMALL:
        return f"{value:.2g}"
    return f"{value:.{4 if rows >= _FINE_ROWS else 3}f}"


def interval(figure: dict[str, Any]) -> str:
    return f"{number(figure['low'], figure['n'])} – {number(figure['high'], figure['n'])}"


def gain(report: Report, difference: float, points: str = "points") -> str:
    """By how much the model is better in the gate's metric, with its sign."""
    return f"{100 * difference:+.1f} {points}" if in_points(report) else f"{difference:+.4g}"


def rules(report: Report) -> list[dict[str, Any]]:
    """The gate's rules: name, setting, value (None: nothing to measure), bound, passed, note."""
    return list(report["gate"].get("rules", ()))


def floor_of(report: Report, by: str) -> float | None:
    """The gate's floor for every value of a slice."""
    return next(
        (rule["bound"] for rule in rules(report) if rule["setting"] == f"gate.slice_floors.{by}"), None
    )


def notes(report: Report) -> list[str]:
    """What a person must know of the judgement beside its reasons: a sentence each."""
    doubted = report["details"].get("attributions", {}).get("warning", "")
    return [
        *moved_champion(report),
        *learned(report),
        *label_noise(report),
        *parts(report),
        *not_beaten(report),
        *([doubted] if doubted else []),
    ]


def moved_champion(report: Report) -> list[str]:
    """Says that the compared champion is not the one that retrainer made; nothing where it is."""
    champion = report["champion"]
    before = champion.get("moved_from") if champion else None
    if not before:
        return []
    return [
        f"another tool than retrainer moved the alias champion to version {champion['version']}; retrainer's"
        f" own last move was to version {before}: `make history` shows the moves, `make promote"
        f" VERSION={before}` gives it back"
    ]


def attributions(report: Report) -> str:
    """How far the attributions of the answers were tested, or why there are none."""
    found = report["details"].get("attributions")  # neither has it a report of an older version
    return "No attributions: this task has none." if found is None else str(found["note"])


def data(report: Report) -> str:
    """Rows in, rows left out and why, and what the checks of the data found."""
    about = report["data"]
    gone = sorted(about["dropped"].items(), key=lambda item: (-item[1], item[0]))
    why = ", ".join(f"{rows:,} {reason}" for reason, rows in gone)
    lost = f"{left_out(about):,} left out ({why})" if gone else "none left out"
    return f"{rows_in(about):,} rows in, {lost}; found: {_found(about['checks'])}"


def _found(checks: list[dict[str, Any]]) -> str:
    """Each check that found something, the largest share first; or one word."""
    shares = {check["name"]: check.get("share") for check in checks}
    counts = found_by({"checks": checks})
    said = []
    for name in sorted(counts, key=lambda name: -(shares[name] or 0)):
        share = shares[name]
        said.append(f"{name.replace('_', ' ')} {counts[name]:,}" + (f" ({percent(share)})" if share else ""))
    return ", ".join(said) or "nothing"


def unknown_data(report: Report) -> list[str]:
    """Says that the champion's data could not be compared with today's; nothing where they could, or need
    not be."""
    champion = report["champion"]
    if not champion or champion["same"] or any(rule["setting"] == "gate.changes" for rule in rules(report)):
        return []
    return [
        f"version {champion['version']}, the champion, keeps no figures of its data (an older version made"
        " it): whether the data changed since is not known"
    ]


def learned(report: Report) -> list[str]:
    """What is said of test rows that the model has learned from; nothing where there are none."""
    count = report["test_set"].get("learned", 0)
    if not count:
        return []
    rows = plural(count, "further test row is", "further test rows are")
    why = "this model, or the one it started from, was trained on them or on rows linked to them"
    return [f"{rows} left out: {why}"]


def label_noise(report: Report) -> list[str]:
    """What preprocess found of wrong training labels, where it is worth a word."""
    checks = report.get("data", {}).get("checks", ())
    found = [one for one in checks if one["name"] == "label_noise" and one["count"]]
    return [f"{one['count']:,} {one['note']}" for one in found]


def need(report: Report) -> dict[str, Any]:
    """The learning curve of the cheap head, or `missing`."""
    return report.get("need") or {"missing": "an older version wrote this report"}


def uses(report: Report) -> str:
    count = report["test_set"]["uses"]
    judged = f"judged {plural(count, 'model')} of this name, this one included"
    return (
        f"At least half of these test rows have {judged}." if count > 1 else f"These test rows have {judged}."
    )


def changes(report: Report) -> list[str]:
    """Today's test rows beside those of the champion, in sentences; none where no champion answered them."""
    champion, met = report["champion"], report["test_set"]["champion"]
    if not champion or champion["same"]:
        return []
    if met is None:
        return ["Whether the champion was trained or tested on some of these rows is not known."]
    said = f"All {report['rows']:,} test rows are those that the champion was judged by."
    if met["new"] or met["gone"]:
        said = (
            f"Of {report['rows']:,} test rows {met['same']:,} are the same as when the champion was judged,"
            f" {met['new']:,} are new, and {met['gone']:,} are gone since."
        )
    left_out = "The champion was trained on none of them."
    if met["left_out"]:
        rows = plural(met["left_out"], "row is", "rows are")
        why = "the champion was trained on them or on rows linked to them"
        left_out = f"{rows} left out of the comparison, because {why}"
        again = met.get("saved_again")
        left_out += f" ({again:,} known by what they show or sound like)." if again else "."
    return [said, left_out]


def cost(report: Report) -> str:
    """Size and time of an answer, in a sentence."""
    latency, size = report["cost"]["latency_ms"], report["cost"]["model_mb"]
    time = "how long an answer takes was not measured (gate.max_latency_ms is 0)"
    if latency is not None:
        time = f"one row takes {latency:.4g} ms, in the median, on one core of the machine that evaluated"
    return f"The model takes {size:.4g} MB; {time}."


def training_cost(report: Report) -> str:
    """What the training cost, in a phrase."""
    spent = report.get("training_cost")  # a report of an older version has none
    if spent is None:
        return "not known: MLflow here has no run that trained this model and was measured"
    runs = of_runs(spent)
    return f"{in_words(spent)}{runs and '; '}{runs}"


def opponents(report: Report) -> list[tuple[str, dict[str, Any]]]:
    """(title, figures) of what the model is compared with on the same rows: champion first, then baselines.

    The figures have `metrics`, `note`, and `difference` and `p_value` of the model against it.
    """
    champion = report["champion"]
    found = []
    if champion and champion["compared"]:
        found.append((f"champion (version {champion['version']})", champion))
    anchor = report.get("anchor")  # a report of an older version has none
    if anchor and anchor["compared"]:
        found.append((f"anchor (version {anchor['version']})", anchor))
    # The trivial one says least.
    trivial = [name for name, one in report["baselines"].items() if one["trivial"]]
    cheap = [name for name in sorted(report["baselines"]) if name not in trivial]
    for name in [*cheap, *trivial]:
        found.append((report["baselines"][name]["title"], report["baselines"][name]))
    return found


def parts(report: Report) -> list[str]:
    """What must be known of the comparison of classes and slices with the champion beyond its rules."""
    gate = report["gate"]
    tested = gate.get("parts", ())  # a report of an older version has none
    few, said = sum(one["too_few"] for one in tested) + gate.get("untested", 0), []
    if tested and few:
        which = plural(few, "class or slice has", "classes and slices have")
        said.append(f"{which} too few test rows to see a collapse, even a whole one.")
    if needless := gate.get("needless"):
        what = "gate.accept_classes or gate.accept_slices names"
        said.append(
            f"{what} {', '.join(needless)}, and nothing became of it: take it out, lest it hides the next."
        )
    return said


def not_beaten(report: Report) -> list[str]:
    """A sentence for each baseline that the paired test does not show the model to beat."""
    return [
        f"The model does not beat {one['title']} on these rows ({p_said(one['p_value'])})."
        for one in report["baselines"].values()
        if one["p_value"] > report["gate"]["alpha"]
    ]


def detectable(report: Report) -> str:
    """The smallest difference that these rows can show, in a sentence."""
    gate = report["gate"]
    smallest, rows = gate["smallest_difference"], gate["compared_rows"] or report["rows"]
    if smallest is None and not gate["share"]:
        return (
            f"how small a difference in {gate['title']} these rows can show is known only once two models"
            " answer differently"
        )
    if smallest is None:
        return f"{rows:,} test rows are too few to show that any model is better than another"
    size = f"{100 * smallest:.1f} points" if in_points(report) else f"{smallest:.4f}"
    what = f"the smallest gain that {rows:,} test rows show"
    if gate["policy"] == "not-worse":
        what = f"the least true gain at which {rows:,} test rows show a model to be not worse"
    return f"{size} in {gate['title']} is {what} with probability {gate['power']:g}, {_given(gate)}"


def _given(gate: dict[str, Any]) -> str:
    """The spread between two models that a smallest difference supposes."""
    if not gate["share"]:
        return "as far as these two differ"
    share = f"on {100 * gate['discordant_share']:.3g}% of the rows only one of two models is right"
    return f"if {share}" if gate["discordant_assumed"] else f"as {share}"
