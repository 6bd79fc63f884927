"""The closing table of a run, for the terminal: at most 78 columns, and nothing said by colour alone."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from retrainer.evaluation import privacy, words
from retrainer.evaluation.told import registered, told
from retrainer.evaluation.words import Report
from retrainer.gate.chance import p_value
from retrainer.texts import shortened

WIDTH = 78
_TITLE = 46
_NAME = 30
_LABEL = 12
_ROWS_THAT_TELL = 30
# A metric's title may need more room than its values.
_WIDER = 14
_METRIC = 9 + _WIDER - 1


def closing_table(report: Report, registration: dict[str, Any], report_path: Path) -> str:
    """What was measured, against whom, the verdict and why, of which data, and where it all is.

    `report` is the content of metrics.json, `registration` that of registration.json.
    """
    lines = [
        *_metric_rows(report),
        "",
        *_opponent_rows(report),
        "",
        *_verdict(report, registration),
        *_data(report, report_path),
        *_field("cost", words.training_cost(report)),
        *_where(report, registration, report_path),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _metric_rows(report: Report) -> list[str]:
    heading = f"{report['name'] or 'model'}, {report['rows']:,} test rows"
    percent = f"{100 * report['confidence']:g}% interval"
    lines = [f"{shortened(heading, _TITLE):<{_TITLE}}{'value':>10}{percent:>22}", "─" * WIDTH]
    for name in words.ordered(report):
        figure = report["metrics"][name]
        value = words.number(figure["value"], figure["n"])
        title = shortened(words.title(report, name), _TITLE - 1)
        lines.append(f"{title:<{_TITLE}}{value:>10}{words.interval(figure):>22}")
    return lines


def _opponent_rows(report: Report) -> list[str]:
    metric, heading = words.gate_metric(report), shortened(words.gate_title(report), _METRIC)
    lines = [
        f"{'on the same rows':<{_NAME - _WIDER}}{heading:>{9 + _WIDER}}"
        f"{'interval':>18}{'difference':>12}{'p':>9}",
        "─" * WIDTH,
    ]
    lines.append(_opponent_row("this model", report["metrics"][metric], "", ""))
    for name, one in words.opponents(report):
        gain = words.gain(report, one["difference"], "pts")
        lines.append(_opponent_row(name, one["metrics"][metric], gain, p_value(one["p_value"])))
    return lines


def _opponent_row(name: str, figure: dict[str, Any], gain: str, p: str) -> str:
    value = words.number(figure["value"], figure["n"])
    return f"{shortened(name, _NAME - 1):<{_NAME}}{value:>9}{words.interval(figure):>18}{gain:>12}{p:>9}"


def _verdict(report: Report, registration: dict[str, Any]) -> list[str]:
    lines = _field("verdict", registered(report, registration))
    for sentence in told(report).to_pass:
        lines += _field("to pass", sentence)
    for sentence in privacy.noteworthy(report):
        lines += _field("privacy", sentence)
    lines += _worst_slice(report)
    for sentence in words.notes(report):
        lines += _field("note", sentence)
    for name, one in words.opponents(report):
        lines += _field("note", f"{name}: {one['note']}") if one["note"] else []
    if report["no_baseline"]:
        lines += _field("note", f"no cheap baseline: {report['no_baseline']}")
    return lines + _field("detectable", words.detectable(report))


def _data(report: Report, report_path: Path) -> list[str]:
    """What the checks of the data found, and the page that shows it."""
    page = report_path.parent.parent / "findings" / "report.html"
    lines = _field("data", f"{words.data(report)}; {page}")
    for sentence in words.unknown_data(report):
        lines += _field("note", sentence)
    return lines


def _worst_slice(report: Report) -> list[str]:
    """The value with the worst figure, of those that have rows enough to say something."""
    large = [one for one in report["slices"] if one["rows"] >= _ROWS_THAT_TELL]
    if not large:
        return []
    higher = words.higher_is_better(report)
    worst = (min if higher else max)(large, key=lambda one: one["value"])
    value = words.number(worst["value"], worst["rows"])
    return _field("worst slice", f"{worst['by']} = {worst['name']}: {value} of {worst['rows']:,} rows")


def _where(report: Report, registration: dict[str, Any], report_path: Path) -> list[str]:
    lines = []
    if registration:
        held = f"version {registration['version']}, {registration['alias']}"
        champion = registration.get("champion")
        if champion and champion["version"] != registration["version"]:
            held += f" (the champion is version {champion['version']})"
        lines += _field("model", f"{registration['name']}, {held}")
        lines += _served(report, registration)
        lines += _kubeflow(registration)
        lines.append(f"{'MLflow runs':<{_LABEL}}{registration['train_run_id']} (train)")
        lines.append(f"{'':<{_LABEL}}{registration['evaluation_run_id']} (evaluate)")
    return [*lines, f"{'report':<{_LABEL}}{report_path}"]


def _served(report: Report, registration: dict[str, Any]) -> list[str]:
    """By how much a CPU's answers differ from a GPU's, where evaluate predicted on one."""
    device, difference = report.get("device", "cpu"), registration.get("served_difference")
    if device == "cpu" or difference is None:
        return []
    return _field(
        "served", f"a CPU answers as {device} did, but for {float(difference):.1g} in a number at most"
    )


def _kubeflow(registration: dict[str, Any]) -> list[str]:
    """Whether the second registry shows the version, where there is one."""
    told = registration.get("kubeflow")
    if told is None:
        return []
    said = {
        "told": f"shown at {told['address']}",
        "failed": f"NOT shown yet, MLflow alone has it: {told.get('why')}; make mirror tells it",
        "off": "not shown: registry.kubeflow is for an MLflow server, and MLflow is a file here"
        " (RETRAINER_KUBEFLOW_REGISTRY=address shows this one too)",
    }
    return _field("Kubeflow", said[told["state"]])


def _field(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{name:<{_LABEL}}",
        subsequent_indent=" " * _LABEL,
        break_on_hyphens=False,
    )
