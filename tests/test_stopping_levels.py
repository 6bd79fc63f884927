"""What stops by default, and beyond which share: a person looks, or accepts it in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrainer.errors import UserError
from retrainer.findings import Finding, percent
from retrainer.settings import Checks, Task
from retrainer.strict_yaml import parse_yaml
from tests.raw_rows import LIMITS, TEXT, Row, run, told
from tests.small_datasets import png

CLASSES = ("cards", "loans", "savings", "transfers")
QUESTION = "how long does it take until the money that i sent to my friend abroad arrives on the account"


def sound(count: int = 400) -> list[Row]:
    """Rows of which none is like another: each word is of its own row."""
    return [
        {"text": " ".join(f"w{n}x{word}" for word in range(6)), "labels": [CLASSES[n % 4]]}
        for n in range(count)
    ]


def spoilt(count: int, **change: Any) -> list[Row]:
    rows = sound()
    return [{**row, **change} for row in rows[:count]] + rows[count:]


def cut(count: int) -> list[Row]:
    rows = sound()
    return [{**row, "text": row["text"] + " and so on" * 20} for row in rows[:count]] + rows[count:]


def conflicting(count: int) -> list[Row]:
    rows = sound()
    return [*rows, *({**row, "labels": [CLASSES[(n + 1) % 4]]} for n, row in enumerate(rows[: count // 2]))]


OWN_TEST = [{**row, "text": f"t{n} {row['text']} asked by a customer"} for n, row in enumerate(sound(150))]


def near(count: int) -> list[Row]:
    """Own test rows of which so many are nearly equal to training rows."""
    alike = [{"text": f"{QUESTION} {'!' * (1 + n)}", "labels": ["cards"]} for n in range(count)]
    return [*OWN_TEST[count:], *alike]


def never_seen(count: int) -> list[Row]:
    return [*OWN_TEST[count:], *({"text": f"never heard of {n}", "labels": ["new"]} for n in range(count))]


# Check → of 400 rows, and 150 own test rows, what its default lets pass, what not, and what accepts that.
Months = tuple[list[Row], list[Row] | None]
ASKED = [*sound(), {"text": QUESTION, "labels": ["cards"]}]
CASES: dict[str, tuple[Months, Months, str]] = {
    "empty": ((spoilt(20, text=" "), None), (spoilt(30, text=" "), None), "0.076"),
    "too_long": ((cut(40), None), (cut(60), None), "0.151"),
    "label_spelling": (
        (spoilt(0), None),
        (spoilt(40, labels=["Cards"]), None),
        "0.101",
    ),
    "conflicting_labels": ((conflicting(8), None), (conflicting(20), None), "0.049"),
    "test_overlap": ((sound(), OWN_TEST), (sound(), OWN_TEST[1:] + sound(1)), "warn"),
    "near_test_overlap": ((ASKED, near(12)), (ASKED, near(18)), "0.121"),
    "unseen_class": ((sound(), never_seen(5)), (sound(), never_seen(10)), "0.067"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_small_share_passes_and_a_large_one_stops_until_it_is_accepted(name: str, tmp_path: Path) -> None:
    passes, stops, accepted = CASES[name]
    task = TEXT.model_copy(update={"max_length": 20})
    run(tmp_path, *passes, task, Checks())
    with pytest.raises(UserError) as caught:
        run(tmp_path, *stops, task, Checks())
    said = str(caught.value)
    line = re.search(r"or set (checks: \{.*\})$", said)
    assert line is not None and said.startswith(f"checks.{name}: ") and "\n" not in said
    settings = parse_yaml(line[1], "the message")
    assert settings == {"checks": {name: settings["checks"][name]}}
    assert str(settings["checks"][name]) == accepted
    manifest = run(tmp_path, *stops, task, Checks.parse(settings["checks"], "checks"))
    assert name in told(manifest)


def test_what_stopped_names_the_share_and_the_bound(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^checks\.empty: 30 rows .*: 7\.5%, and more than 5% stops a run; "):
        run(tmp_path, spoilt(30, labels=None), None, TEXT, Checks())


def test_the_finding_carries_all_that_is_shown_of_it(tmp_path: Path) -> None:
    manifest = run(tmp_path, spoilt(8, text=""), None, TEXT, Checks())
    (found,) = (one for one in manifest["checks"] if one["name"] == "empty")
    assert (found["count"], found["share"], found["level"]) == (8, 0.02, 0.05)
    assert found["cure"] == "correct the source" and len(found["examples"]) == 5
    page = (tmp_path / "findings/report.html").read_text()
    assert "stops beyond 5%" in page and "2%" in page


def test_what_has_no_share_is_only_counted() -> None:
    """As where one text has several right translations: `error` alone stops that."""
    finding = Finding("conflicting_labels", 0.02, 90, "rows of which several may be right")
    assert not finding.stops and Finding("conflicting_labels", "error", 90, "rows").stops


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, "often", "", None, True, [0.1]])
def test_a_level_is_a_word_or_a_share(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^setting checks\.{name}: expected error, warn, off, or the share"):
        Checks.parse({name: value}, "checks")


def test_a_share_comes_as_text_too_and_survives_the_journey_to_a_step() -> None:
    checks = Checks.parse({"empty": "1e-3", "too_long": False, "broken": "error"}, "checks")
    assert (checks.empty, checks.too_long, checks.broken) == (0.001, "off", "error")
    assert Checks.parse(json.loads(json.dumps(checks.plain())), "checks") == checks


def test_other_checks_take_words_alone() -> None:
    with pytest.raises(UserError, match=r"^setting checks\.duplicates"):
        Checks.parse({"duplicates": 0.1}, "checks")


def test_the_accepting_share_is_just_above_what_was_found() -> None:
    for share in (0.0501, 0.0749999, 0.1, 0.5, 0.9989):
        finding = Finding("empty", 0.05, 7, "rows", share=share)
        accepted = parse_yaml(finding.in_one_line().rpartition("or set ")[2], "it")["checks"]["empty"]
        assert share < accepted <= share + 0.0011
    assert Finding("empty", 0.05, 7, "rows", share=1.0).in_one_line().endswith("{empty: warn}")


def test_shares_are_said_with_a_digit_that_tells() -> None:
    assert [percent(share) for share in (0.0004, 0.05, 0.075, 0.151, 1.0)] == [
        "0.04%", "5%", "7.5%", "15%", "100%",
    ]  # fmt: skip


def test_images_that_cannot_be_read_stop_beyond_one_in_twenty(tmp_path: Path) -> None:
    task = Task(kind="image_classification")
    noise = np.random.default_rng(0).integers(0, 256, (100, 8, 8), np.uint8)
    rows = [
        {"image": {"bytes": png(pixels), "path": None}, "labels": [CLASSES[n % 4]]}
        for n, pixels in enumerate(noise)
    ]
    broken = [{**row, "image": {"bytes": b"no image", "path": None}} for row in rows]
    assert told(run(tmp_path, [*broken[:5], *rows[5:]], None, task, Checks()))["broken"][0] == 5
    with pytest.raises(UserError, match=r"^checks\.broken: 6 images .*\{broken: 0\.061\}$"):
        run(tmp_path, [*broken[:6], *rows[6:]], None, task, Checks())
