"""What a person should know of the rows before a machine learns from them: leaks, shortcuts, wrong labels."""

from __future__ import annotations

import pyarrow as pa

from retrainer.data.label_noise import Suspect, check_labels
from retrainer.data.odd_labels import check_age_of_test, check_placeholders
from retrainer.data.shortcuts import check_shortcuts
from retrainer.data.splits import Rows
from retrainer.data.task_columns import TaskColumns
from retrainer.findings import Findings


def check_training_rows(
    table: pa.Table, columns: TaskColumns, rows: Rows, training: list[int], findings: Findings
) -> list[Suspect]:
    """All checks of what would be learned from the rows at the places `training`; the labels suspected to be
    wrong, the most suspect first. Raises UserError where a check at `error` finds something."""
    if columns.classes is not None:
        check_placeholders(rows, findings)
    check_age_of_test(rows, training, findings)
    check_shortcuts(table, columns, rows, training, findings)
    return check_labels(table, columns, rows, training, findings)
