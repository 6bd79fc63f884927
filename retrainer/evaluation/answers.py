"""The first screen of report.html: is it better, by how much, is it safe to use, what changed, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from retrainer.evaluation import privacy, words
from retrainer.evaluation.told import told
from retrainer.evaluation.words import Report
from retrainer.gate.chance import p_said
from retrainer.gate.decision import DECISION
from retrainer.gate.exact import mcnemar_p_value
from retrainer.pages.page import escape, prose
from retrainer.texts import plural

# Of settings that differ from the champion's.
_MOST_SETTINGS = 4
# With fewer test rows than this nobody should be sure of anything.
_FEW_ROWS = 100


@dataclass(frozen=True)
class Answer:
    """`head`: the answer in a word or two, "" where the sentences say it all; `kind`: the colour of it."""

    question: str
    head: str
    sentences: tuple[str, ...]
    kind: Literal["good", "wait", "bad", "calm"]


def answers(report: Report) -> list[Answer]:
    return [_better(report), _how_much(report), _safe(report), _changed(report), _to_do(report)]


def drawn(report: Report) -> str:
    """As HTML: a list of questions and answers."""
    return f'<dl class="answers">{"".join(map(_drawn, answers(report)))}</dl>'


def _drawn(one: Answer) -> str:
    head = f"<b>{escape(one.head)}</b> " if one.head else ""
    said = prose(" ".join(map(_sentence, one.sentences)))
    return f'<div class="{one.kind}"><dt>{escape(one.question)}</dt><dd>{head}{said}</dd></div>'


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _better(report: Report) -> Answer:
    champion, note = report["champion"], words.rules(report)[0]["note"]
    question, simple = "Is it better?", _simple(report)
    if champion is None:
        return _answer(question, "", [note, *simple], "wait" if _unbeaten(report) else "good")
    if champion["same"]:
        return _answer(question, "It is the champion.", [note], "calm")
    if not champion["compared"]:
        return _answer(question, "Not known.", [note], "bad")
    head, said, kind = _against(report, f"the champion (version {champion['version']})")
    return _answer(question, head, [said, *(simple if _unbeaten(report) else [])], kind)


def _against(report: Report, champion: str) -> tuple[str, str, str]:
    """Head, sentence and kind of a comparison with the champion."""
    gate, gap = report["gate"], report["champion"]["difference"]
    chance = f"({p_said(gate['p_value'])})"
    passed, margin = words.rules(report)[0]["passed"], f"{gate['margin']:g}"
    if gate["policy"] == "not-worse":
        if passed:
            return (
                "Not worse.",
                f"it is worse than {champion} by less than {margin}, if at all {chance}",
                "good",
            )
        return "Perhaps worse.", f"it may be worse than {champion} by {margin} or more {chance}", "bad"
    if passed:
        return "Yes.", f"it is better than {champion}, by more than luck explains {chance}", "good"
    if gap > 0:
        return "Not shown.", f"it is ahead of {champion}, but luck may explain that {chance}", "wait"
    if _clearly_worse(report):
        return "No.", f"it is worse than {champion}, by more than luck explains", "bad"
    if not gap:
        return "No.", f"there is no difference to {champion}", "calm"
    return "No.", f"it does no better than {champion} {chance}", "bad"


def _clearly_worse(report: Report) -> bool:
    """The same one-sided test, asked the other way round."""
    champion, gate = report["champion"], report["gate"]
    if champion["better"] is not None:
        return mcnemar_p_value(champion["worse"], champion["better"]) <= gate["alpha"]
    return bool(champion["difference"] < 0 and gate["p_value"] >= 1 - gate["alpha"])


def _unbeaten(report: Report) -> list[str]:
    """Baselines that the paired test does not show the model to beat."""
    alpha = report["gate"]["alpha"]
    return [one["title"] for one in report["baselines"].values() if one["p_value"] > alpha]


def _simple(report: Report) -> list[str]:
    """The model beside what little effort gives."""
    if unbeaten := _unbeaten(report):
        who = "a simple method does" if len(unbeaten) == 1 else "simple methods do"
        return [f"{who} as well: {_listed(unbeaten)}"]
    beaten = [one["title"] for one in _baselines(report)]
    return [f"it does better than simple methods: {_listed(beaten)}"] if beaten else []


def _listed(titles: list[str]) -> str:
    return "; ".join(titles)


def _baselines(report: Report) -> list[dict[str, Any]]:
    """The cheap ones; where there is none, the trivial one."""
    found = list(report["baselines"].values())
    return [one for one in found if not one["trivial"]] or found


def _how_much(report: Report) -> Answer:
    metric, champion = words.gate_metric(report), report["champion"]
    figure, less = report["metrics"][metric], "" if words.higher_is_better(report) else ", less is better"
    interval = words.interval(figure).replace("–", "to")
    rows = plural(report["rows"], "test row")
    said = [f"{words.gate_title(report)} {_value(figure)} ({interval}{less}) on {rows}"]
    head, kind = "", "calm"
    if champion and champion["compared"]:
        head = _gap(report, champion["difference"])
        shown, gap = words.rules(report)[0]["passed"], champion["difference"]
        kind = "calm" if not gap else "bad" if gap < 0 else "good" if shown else "wait"
        said.append(f"champion: {_value(champion['metrics'][metric])}{_alone(champion)}")
    others = [f"{one['title']} {_value(one['metrics'][metric])}" for one in _baselines(report)]
    said += [f"simple method: {_listed(others)}"] if others else []
    return _answer("By how much?", head, said, kind)


def _value(figure: dict[str, Any]) -> str:
    return words.number(figure["value"], figure["n"])


def _gap(report: Report, gap: float) -> str:
    size = words.gain(report, abs(gap)).removeprefix("+")
    return f"{size} {'better' if gap > 0 else 'worse'}." if gap else "No difference."


def _alone(champion: dict[str, Any]) -> str:
    if champion["better"] is None:
        return ""
    better, worse = champion["better"], champion["worse"]
    return f"; {plural(better, 'row')} only the new model has right, {worse:,} only the champion"


def _safe(report: Report) -> Answer:
    """By the gate's rules other than the comparison, and by what a person should have seen."""
    question, cautions = "Is it safe to use?", _cautions(report)
    others = [rule for rule in words.rules(report)[1:] if rule["name"] != DECISION]
    if failed := [rule["note"] for rule in others if not rule["passed"]]:
        return _answer(question, "No.", [*failed, *cautions], "bad")
    said = f"the gate's {plural(len(others), 'other rule')} {'holds' if len(others) == 1 else 'hold'}"
    tested = sum(not one["too_few"] for one in report["gate"].get("parts", ()))
    if tested and any(rule["name"] == "collapse" for rule in others):
        said += f"; of {plural(tested, 'class or slice', 'classes and slices')} none collapses"
    said = said if others else "the gate asks for nothing but the comparison"
    if cautions:
        return _answer(question, "Look first.", [*cautions, said], "wait")
    return _answer(question, "As far as tested.", [said, "rows of another kind were not tested"], "good")


def _cautions(report: Report) -> list[str]:
    said = [*words.moved_champion(report), *words.label_noise(report), *privacy.noteworthy(report)]
    said += words.parts(report)
    if report["rows"] < _FEW_ROWS:
        said.append(f"{plural(report['rows'], 'test row')} say little about rows to come")
    return said


def _changed(report: Report) -> Answer:
    question, champion = "What changed?", report["champion"]
    if champion is None:
        made = [f"this model: {report['start']}"] if report["start"] else []
        return _answer(question, "", ["there was no champion before", *made], "calm")
    if champion["same"]:
        return _answer(question, "Nothing.", ["the same rows gave the same model"], "calm")
    said = [*_since(report.get("since") or {}), *_test_rows(report), *_classes(report["gate"])]
    return _answer(question, "", said or ["not known of this champion"], "calm")


def _since(since: dict[str, Any]) -> list[str]:
    """What differs from the champion: its settings and rows (retrainer/evaluation/since.py)."""
    said, rows, settings = [], since.get("rows"), since.get("settings")
    if since.get("same_data"):
        said.append("data: the very rows of the champion")
    elif rows:
        said.append(f"data: {rows[1]:,} rows, the champion's had {rows[0]:,}")
    if settings is not None:
        shown = "; ".join(f"`{one}`" for one in settings[:_MOST_SETTINGS])
        more = f" and {len(settings) - _MOST_SETTINGS} more" if len(settings) > _MOST_SETTINGS else ""
        said.append(f"settings: {shown}{more}" if settings else "settings: the same")
    return said


def _test_rows(report: Report) -> list[str]:
    met = report["test_set"]["champion"]
    if met is None:
        return []
    if not met["new"] and not met["gone"]:
        return ["test rows: the same"]
    return [f"test rows: {met['new']:,} new, {met['gone']:,} gone, {met['same']:,} as before"]


def _classes(gate: dict[str, Any]) -> list[str]:
    return [
        f"{'class' if len(names) == 1 else 'classes'} {what}: {', '.join(names)}"
        for what, names in (("added", gate.get("appeared", ())), ("gone", gate.get("vanished", ())))
        if names
    ]


def _to_do(report: Report) -> Answer:
    question, champion = "What to do?", report["champion"]
    if champion and champion["same"]:
        return _answer(question, "Nothing.", ["the champion stays"], "calm")
    if report["gate"]["verdict"] == "champion":
        return _after_promotion(report, question)
    head, stays = "Do not use it yet.", "no version is champion"
    if champion:
        head, stays = "Keep the champion.", f"version {champion['version']} stays in use"
    return _answer(question, head, [stays, *_decided(report), *told(report).to_pass], "wait")


def _after_promotion(report: Report, question: str) -> Answer:
    becomes = f"it becomes champion, which programs load as `models:/{report['name'] or 'NAME'}@champion`"
    said = [becomes, *(["`make rollback` takes it back"] if report["champion"] else [])]
    if _unbeaten(report):
        said.append("a method that costs less does as well")
        return _answer(question, "Consider the simple method.", said, "wait")
    if _cautions(report):
        return _answer(question, "Look first.", ["at what the answer above names", *said], "wait")
    return _answer(question, "Nothing more.", said, "good")


def _decided(report: Report) -> list[str]:
    """What somebody decided about this very model, where that holds it."""
    failing = [rule for rule in words.rules(report) if not rule["passed"]]
    return [rule["note"] for rule in failing if rule["name"] == DECISION]


def _answer(question: str, head: str, sentences: list[str], kind: Any) -> Answer:
    return Answer(question, head, tuple(sentences), kind)
