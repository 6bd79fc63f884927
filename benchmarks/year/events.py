"""The year: what comes in each month, and what the product is expected to make of it.

Every expectation was written down before the year ran for the first time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.year.attack import move_the_alias, swap_the_champion
from benchmarks.year.outcomes import (
    BY_A_PERSON,
    CHALLENGER,
    HELD,
    NOTHING_NEW,
    PREEMPTED,
    PROMOTED,
    ROLLED_BACK,
    STOPPED,
    Act,
    Month,
    Outcome,
    retrained,
)
from benchmarks.year.project import QUESTIONS, Project
from benchmarks.year.rows import (
    LABEL,
    NEW_CLASS,
    Arrivals,
    Row,
    mislabelled,
    typed_on_a_phone,
    with_its_queue,
)

# What a person writes for the first month: a pretrained encoder that stays as it is, and a linear head at the
# learning rate of params.yaml, which is meant for whole networks and is low for a head alone.
RECIPE: dict[str, Any] = {
    "registry": {"name": "bank-questions", "sign": True},
    "source": {"path": QUESTIONS, "label": LABEL},
    "task": {"kind": "text_classification", "max_length": 64},
    "training": {"strategy": "frozen", "epochs": 10, "learning_rate": 0.001, "dropout": 0},
    "evaluation": {"baseline": False},  # a linear model on TF-IDF each month: not what the year is about
    "retrain": {"policy": "drift", "growth": 0.05},
}
# What a person finds in October: a rate that fits a head, and more epochs, which cost seconds.
BETTER = {"training": {"strategy": "frozen", "epochs": 40, "learning_rate": 0.01, "dropout": 0}}
_DRIFTED = 3  # April, counted from 0


# --- the month's file ---------------------------------------------------------------------------------------


def so_far(months: Arrivals, month: int) -> list[Row]:
    """Every row until the end of the month; those of March and April were typed on phones."""
    rows = [row for arrived in months[: _DRIFTED - 1] for row in arrived]
    rows += [typed_on_a_phone(row) for arrived in months[_DRIFTED - 1 : _DRIFTED + 1] for row in arrived]
    rows += [row for arrived in months[_DRIFTED + 1 :] for row in arrived]
    return rows[: sum(map(len, months[: month + 1]))]


def february_again(months: Arrivals, month: int) -> list[Row]:
    return [*so_far(months, month - 1), *months[month - 1]]


def nothing(months: Arrivals, month: int) -> list[Row]:  # noqa: ARG001 (as every month's)
    return []


def labelled_in_haste(months: Arrivals, month: int) -> list[Row]:
    return [*so_far(months, month - 1), *mislabelled(months[month], share=0.6)]


def with_the_queue(months: Arrivals, month: int) -> list[Row]:
    return [with_its_queue(row) for row in so_far(months, month)]


# --- what is done -------------------------------------------------------------------------------------------


def retrain(*kinds: str, says: str = "") -> Act:
    return Act("make retrain", lambda project: retrained(project, project.pipelines("retrain")), kinds, says)


def judge_again(*kinds: str) -> Act:
    """The same model, against another champion: `make retrain` would find no new rows."""

    def do(project: Project) -> Outcome:
        evaluated = project.step("evaluate")
        if evaluated.status:
            return retrained(project, evaluated)
        said = project.pipelines("pipeline")
        return retrained(project, replace(said, seconds=evaluated.seconds + said.seconds))

    return Act("make step STEP=evaluate, make pipeline", do, kinds)


def by_hand(command: str, kind: str, why: str) -> Act:
    """`make rollback`, or `make promote` of the version that was registered last."""

    def do(project: Project) -> Outcome:
        newest = str(project.made("registration", "registration.json").get("version", ""))
        number = ["--", newest] if command == "promote" else []
        said = project.registry(command, f"--why={why}", *number)
        line = (said.printed.strip().splitlines() or [""])[0]
        return Outcome(STOPPED if said.status else kind, line, said.seconds, said.printed)

    return Act(f'make {command} {"VERSION=… " if command == "promote" else ""}WHY="{why}"', do, (kind,))


def _preempted(project: Project) -> Outcome:
    said = project.killed_while_training("retrain")
    if said.status >= 0:
        why = said.reason or "it ended before it could be killed"
        return Outcome(STOPPED, why, said.seconds, said.printed)
    return Outcome(PREEMPTED, "killed with SIGKILL while it trained", said.seconds, said.printed)


def months() -> Sequence[Month]:
    merits = (PROMOTED, CHALLENGER, HELD)  # whatever the gate says of the rows
    return (
        Month(
            "January",
            "the first model",
            "The first questions, labelled with 76 intents.",
            so_far,
            (retrain(PROMOTED, says="the first version, so there is none to compare it with"),),
        ),
        Month(
            "February",
            "twice the rows",
            "As many questions again.",
            so_far,
            (retrain(PROMOTED, says="better than the champion"),),
        ),
        Month(
            "March",
            "the same month twice",
            "The export has February's questions a second time instead of March's.",
            february_again,
            (retrain(NOTHING_NEW, says="trained on exactly these rows"),),
        ),
        Month(
            "April",
            "drift",
            "March's and April's questions come from a new app: typed on phones, lower case, with errors.",
            so_far,
            (retrain(PROMOTED, says="inputs drifted"),),
        ),
        Month(
            "May",
            "an attack on the registry",
            "Somebody swaps the champion's weights and changes every hash in MLflow's database to fit.",
            so_far,
            (
                retrain(STOPPED, says="altered after it was signed"),
                by_hand("rollback", ROLLED_BACK, "the champion was altered"),
                retrain(PROMOTED),
            ),
            before=swap_the_champion,
        ),
        Month(
            "June",
            "a new class",
            f"The bank offers a new service, and questions of a new intent come: {NEW_CLASS}.",
            so_far,
            (
                retrain(HELD, says=f"class '{NEW_CLASS}' appears"),
                by_hand("promote", BY_A_PERSON, "the new service, since June"),
            ),
        ),
        Month(
            "July",
            "wrong labels",
            "This month's questions were labelled in haste: six of ten have a wrong intent.",
            labelled_in_haste,
            (retrain(CHALLENGER, HELD, says="label noise"),),
        ),
        Month(
            "August",
            "an empty month",
            "The export failed: the file has a header and no row.",
            nothing,
            (retrain(STOPPED, says="no rows to train on"),),
        ),
        Month(
            "September",
            "a leak",
            "July's labels are corrected; but the export now writes the label into the text.",
            with_the_queue,
            (retrain(STOPPED, says="checks.leaks"),),
        ),
        Month(
            "October",
            "a truly better model",
            "The export is right again, and a person trains the head longer and at a rate that fits it.",
            so_far,
            (retrain(PROMOTED, says="training.learning_rate: 0.001 → 0.01"),),
            before=lambda project: project.change_recipe(BETTER),
        ),
        Month(
            "November",
            "a preempted training",
            "The machine is taken away in the middle of the training.",
            so_far,
            (
                Act("make retrain", _preempted, (PREEMPTED,)),
                retrain(*merits, says="going on from"),
            ),
        ),
        Month(
            "December",
            "an attack on the alias",
            "Somebody points the alias champion at January's model, which is whole and signed.",
            so_far,
            (
                retrain(HELD, says="another tool than retrainer moved the alias champion to version 1"),
                by_hand("rollback", ROLLED_BACK, "nobody of us moved it"),
                judge_again(*merits),
            ),
            before=move_the_alias,
        ),
    )
