"""`make curve`: the learning curve of a recipe, of its data as they are today."""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines._recipe_lock import recipe_lock
from pipelines.local import outputs, prepare, preprocessed
from retrainer.resolve import recipe_name


def curve(recipe: str | None, overrides: list[str], sizes: str, root: Path = Path()) -> int:
    """Brings the data up to date, trains on parts of them and says what more rows would give."""
    from retrainer.need.command import draw_curve, said

    name = recipe_name(recipe, root)
    with recipe_lock(name, root):
        resolved = prepare(name, overrides, root)
        outcome = preprocessed(resolved, root)
        if outcome.failed:
            print(f"curve: stopped at {outcome.failed} (its reason stands above)", file=sys.stderr)
            return 1
        known = resolved.directory / "curve.json"
        folder = outputs(resolved, root)
        found = draw_curve(
            resolved.settings, folder, known, sizes, lambda line: print(f"── {line}", flush=True)
        )
    print("\n".join(["", *said(found), f"{'page':<12}{folder / 'curve' / 'curve.html'}"]))
    return 0
