"""The check `personal_data`: addresses and numbers of persons in texts, which are masked on request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from retrainer.data.task_columns import TaskColumns
from retrainer.findings import Findings, share_of
from retrainer.personal_data import mask_columns, without_personal_data
from retrainer.settings import Task

# Of tasks that mask what they read, also when they serve (retrainer/tasks/_text_input.py).
MASK = "mask_personal_data"


def check_personal_data(table: pa.Table, columns: TaskColumns, task: Task, findings: Findings) -> pa.Table:
    """Counts the rows whose texts hold personal data; the table, masked where the task asks for it."""
    names, masks = columns.texts(), bool(task.options.get(MASK))
    if not names or not (masks or findings.looks("personal_data")):
        return table
    _tell(_kinds(table, names), table["origin"].to_pylist(), masks, findings)
    return mask_columns(table, names) if masks else table


def _kinds(table: pa.Table, names: Sequence[str]) -> list[set[str]]:
    """The kinds that each row holds."""
    columns = (table[name].to_pylist() for name in names)
    return [
        {kind for text in texts if text for kind in without_personal_data(text)[1]}
        for texts in zip(*columns, strict=True)
    ]


def _tell(kinds: Sequence[set[str]], origins: Sequence[str], masks: bool, findings: Findings) -> None:
    """Examples name the row and the kind, never what was found."""
    rows = [row for row, held in enumerate(kinds) if held]
    counts = Counter(kind for held in kinds for kind in held)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    note = "rows with personal data in a text" + (f" ({listed})" if listed else "")
    examples = (f"{origins[row]}: {', '.join(sorted(kinds[row]))}" for row in rows)
    share = share_of(len(rows), len(kinds))
    if masks:  # which stops no run
        findings.add("masked_personal_data", len(rows), f"{note}, masked", examples, share=share)
        return
    cure = f"take it out, or set task.{MASK}: true"
    findings.add("personal_data", len(rows), note, examples, cure, share)
