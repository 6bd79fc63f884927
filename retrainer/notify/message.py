"""An event as the bodies that receivers take as they are.

slack   {"text": …}                        Slack's incoming webhooks
teams   a message with one Adaptive Card   Teams' workflows and incoming webhooks
json    {"text": …, every field of Event}  anything else; receivers that speak Slack's format read `text`

One body for all does not exist: both vendors read `attachments`, and each another thing in it; neither says
that it passes over fields that it does not know.
"""

from __future__ import annotations

from typing import Any

from retrainer.notify.event import Event, Rule
from retrainer.services.webhook import Format

_CARD = "application/vnd.microsoft.card.adaptive"
# How a step ends that a person must mend. Preprocess asks no service: what it refuses is data or settings.
_REFUSED = 2
_SCHEMA = "http://adaptivecards.io/schemas/adaptive-card.json"


def body(event: Event, format: Format) -> dict[str, Any]:
    if format == "slack":
        return {"text": _for_slack(f"*{title(event)}*", facts(event))}
    if format == "teams":
        return _card(event)
    return {"text": "\n".join([title(event), *_lines(facts(event))]), **event.plain()}


def title(event: Event) -> str:
    """What happened, in one line."""
    what = {
        "failed": _failed(event),
        "promoted": f"version {event.version} of {event.model} is the new champion",
        "refused": f"version {event.version} of {event.model} stays challenger",
        "nothing-new": _nothing_new(event),
        "finished": "the run ended well; MLflow does not say what came of it",
        "test": "a test: notifications arrive here",
    }
    return f"{event.recipe or 'a recipe'}: {what[event.event]}"


def _failed(event: Event) -> str:
    if event.step == "preprocess" and event.exit_status == _REFUSED:
        return (
            "preprocess stopped the run: it refused the data, or their settings; the log says which and why"
        )
    where = event.step or "the run"
    why = [event.cause or "", f"exit status {event.exit_status}" if event.exit_status is not None else ""]
    reason = ", ".join(part for part in why if part)
    return f"{where} failed ({reason})" if reason else f"{where} failed"


def _nothing_new(event: Event) -> str:
    if event.step == "register":
        return f"no new data came: the same rows gave version {event.version} of {event.model}, the champion"
    return "nothing new, so nothing was trained"


def facts(event: Event) -> list[tuple[str, str]]:
    found = [
        ("champion", f"version {event.champion}" if event.champion else ""),
        (event.metric or "", f"{event.value:.4g}" if event.metric and event.value is not None else ""),
        *((rule.rule, _rule(rule)) for rule in event.rules),
        ("data", _data(event)),
        ("took", f"{event.seconds:.0f} s" if event.seconds is not None else ""),
        ("ended", event.time or ""),
        ("Kubeflow run", event.kfp_run_id or ""),
        ("MLflow", event.link or ""),
    ]
    return [(name, value) for name, value in found if value]


def _data(event: Event) -> str:
    if event.rows_in is None or event.left_out is None:
        return ""
    found = ", ".join(f"{one.check.replace('_', ' ')} {one.count:,}" for one in event.found or ())
    return f"{event.rows_in:,} rows in, {event.left_out:,} left out; found: {found or 'nothing'}"


def _rule(rule: Rule) -> str:
    value = "nothing measured" if rule.value is None else f"{rule.value:.4g} (bound {rule.bound:.4g})"
    return f"{'holds' if rule.passed else 'fails'}: {value}"


def _lines(pairs: list[tuple[str, str]]) -> list[str]:
    return [f"{name}: {value}" for name, value in pairs]


def _for_slack(heading: str, pairs: list[tuple[str, str]]) -> str:
    """Slack reads <…> as links and mentions, so its three control characters are written as entities."""
    text = "\n".join([heading, *_lines(pairs)])
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _card(event: Event) -> dict[str, Any]:
    pairs = [(name, value) for name, value in facts(event) if name != "MLflow"]
    card: dict[str, Any] = {
        "$schema": _SCHEMA,
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": [
            {"type": "TextBlock", "text": title(event), "weight": "Bolder", "wrap": True},
            {"type": "FactSet", "facts": [{"title": name, "value": value} for name, value in pairs]},
        ],
    }
    if event.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "MLflow", "url": event.link}]
    return {"type": "message", "attachments": [{"contentType": _CARD, "contentUrl": None, "content": card}]}
