"""What the dataset says of itself, and what the model does not see of it: facts for the card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer.formats.dataset import Dataset

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.predict import Predictor


def data_facts(
    data: Dataset, predictor: Predictor, test: pa.Table, doubts: list[dict[str, Any]]
) -> dict[str, Any]:
    """`data` of metrics.json: rows by split, rows left out by reason, what the checks found and the model
    doubts, and how many test rows are cut to `max_length` tokens (both null where it reads no tokens)."""
    manifest = data.manifest
    limit, cut = _cut_rows(predictor, test)
    return {
        "rows": manifest["rows"],
        "dropped": manifest.get("dropped", {}),
        "checks": [*(check for check in manifest.get("checks", ()) if check.get("count")), *doubts],
        "max_length": limit,
        "cut_rows": cut,
    }


def _cut_rows(predictor: Predictor, test: pa.Table) -> tuple[int | None, int | None]:
    """The limit in tokens, and how many rows have more: the task's own encoder, allowed one token more."""
    body = predictor.network.description
    limit = body.preprocessing.get("max_length")
    if body.preprocessing.get("kind") != "tokens" or not isinstance(limit, int):
        return None, None
    roomier = {**body.preprocessing, "max_length": limit + 1}
    lengths = predictor.task.lengths(predictor.task.encode(test, roomier, body.assets))
    return limit, None if lengths is None else int((lengths > limit).sum())
