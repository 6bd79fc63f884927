"""`make tune`: settings of a recipe that do better on its validation rows, written as a recipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines._recipe_lock import RUNNER, recipe_lock
from pipelines.local import outputs, prepare, preprocessed
from retrainer.resolve import recipe_name


def tune(recipe: str | None, overrides: Sequence[str], force: bool, root: Path = Path()) -> int:
    """Brings the data up to date, tries settings on them and says what did best. Returns the exit status."""
    from retrainer.tuning.command import check
    from retrainer.tuning.command import tune as tuned
    from retrainer.tuning.recipe import Tuned

    name = recipe_name(recipe, root)
    with recipe_lock(name, root):
        resolved = prepare(name, list(overrides), root)
        check(resolved.settings)
        outcome = preprocessed(resolved, root)
        if outcome.failed:
            print(f"tune: stopped at {outcome.failed} (its reason stands above)", file=sys.stderr)
            return 1
        # The processes that train end with this one, and the next run knows them by it.
        os.environ[RUNNER] = str(os.getpid())
        best = tuned(resolved.settings, outputs(resolved, root), lambda line: print(f"── {line}", flush=True))
    print(f"\n{'best':<12}{best.said()}")
    if best.is_own:
        print(f"{'recipe':<12}stays as it is: no trial did better than its own settings")
        return 0
    made = Tuned.of(name, best.values, overrides, root)
    lines = made.write(force)
    print("\n".join([f"{'recipe':<12}{lines[0]}", *lines[1:], *made.difference()]))
    judged = "trains it, and the gate judges it by the test rows"
    print(f"{'next':<12}make pipeline RECIPE={made.path.stem}: {judged}")
    return 0
