"""What the dataset says of itself, and what the model does not see of it: facts for the card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer.formats.dataset import Dataset

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged


def data_facts(data: Dataset, judged: Judged, details: dict[str, Any]) -> dict[str, Any]:
    """`data` of metrics.json: rows by split, rows left out by reason, what preprocess and the task found, and
    how many test rows are cut to `max_length` tokens (both null where the model reads no tokens)."""
    manifest = data.manifest
    limit, cut = _cut_rows(judged)
    return {
        "rows": manifest["rows"],
        "dropped": manifest.get("dropped", {}),
        "checks": [
            *(check for check in manifest.get("checks", ()) if check.get("count")),
            *details.get("checks", ()),
        ],
        "max_length": limit,
        "cut_rows": cut,
    }


def _cut_rows(judged: Judged) -> tuple[int | None, int | None]:
    """The limit in tokens, and how many rows have more: the task's own encoder, allowed one token more."""
    body, task = judged.predictor.network.description, judged.predictor.task
    limit = body.preprocessing.get("max_length")
    if body.preprocessing.get("kind") != "tokens" or not isinstance(limit, int):
        return None, None
    roomier = {**body.preprocessing, "max_length": limit + 1}
    inputs = [name for name in judged.test.column_names if name in task.input_columns]
    lengths = task.lengths(task.encode(judged.test.select(inputs), roomier, body.assets))
    return limit, None if lengths is None else int((lengths > limit).sum())
