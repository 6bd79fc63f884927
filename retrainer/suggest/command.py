"""`make suggest`: which rows of a file or folder without labels to label first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import ModelError, SettingError
from retrainer.resolve import settle
from retrainer.settings import Checks, Compute, Registry, Source

if TYPE_CHECKING:
    from retrainer.predict import Predictor
    from retrainer.suggest.pool import Pool

MOST_ROWS = 100_000


@dataclass(frozen=True)
class Request:
    """What a person asks for: `rows` of the file or folder `path`, by the model directory `model`, or else
    the recipe's champion, or its latest model."""

    recipe: str
    path: str
    rows: int
    model: Path | None = None
    root: Path = Path()


def parse_rows(text: str) -> int:
    """Raises SettingError for what is no number of rows."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MOST_ROWS:
        raise SettingError(f"ROWS={text}: needed is a number of rows, from 1 to {MOST_ROWS:,}")
    return int(text)


def suggest(request: Request) -> list[str]:
    """Writes runs/RECIPE/suggestions and returns what to say of it, line by line.

    The same input, model and number of rows give the same list. Raises UserError where there is no model, the
    task has no classes, or no row is left.
    """
    from retrainer.services.scratch import scratch_directory

    if not request.path:
        raise SettingError("INPUT is empty; name a file or folder of rows without labels")
    if not Path(request.path).exists():
        raise SettingError(
            f"INPUT={request.path} does not exist; name a file or folder of rows without labels"
        )
    recipe, sections = settle(request.recipe or None, [], request.root)
    folder = request.root / "runs" / recipe
    with scratch_directory() as scratch:
        directory, title = model_of(request.model, sections["registry"], folder, scratch)
        return _suggested(request, sections, folder, directory, title)


def model_of(model: Path | None, registry: Any, folder: Path, scratch: Path) -> tuple[Path, str]:
    """The directory `model`, or that of the champion or the latest model; and which it is in words."""
    from retrainer.registry.champion import fetch_champion

    assert isinstance(registry, Registry)
    if model is not None:
        return model, str(model)
    champion = fetch_champion(registry.name, scratch)
    if champion is not None:
        return champion.directory, f"the champion, version {champion.version} of {registry.name}"
    if (folder / "model").is_dir():
        return folder / "model", f"the latest model, {folder / 'model'} (there is no champion)"
    raise ModelError(
        f"there is no champion of {registry.name}, nor {folder / 'model'}; run make pipeline, or give MODEL"
    )


def _suggested(request: Request, sections: Any, folder: Path, directory: Path, title: str) -> list[str]:
    from retrainer.predict import Predictor
    from retrainer.suggest.known import known_rows, without_near
    from retrainer.suggest.pool import read_pool, unlabelled_source
    from retrainer.suggest.rows import METHOD, chosen_rows
    from retrainer.suggest.write import CSV, earlier, write_suggestions
    from retrainer.training.compute import for_scoring, prepare, resolve_compute

    source, compute, checks = (sections[name] for name in ("source", "compute", "checks"))
    assert isinstance(source, Source)
    assert isinstance(compute, Compute)
    assert isinstance(checks, Checks)
    predictor = Predictor.load(directory, str(prepare(for_scoring(resolve_compute(compute)))))
    _require_classes(predictor)
    pool = read_pool(
        unlabelled_source(source, request.path, predictor),
        predictor,
        known_rows(directory, folder / "dataset"),
    )
    pool = without_near(pool, folder / "dataset", checks)
    rows = chosen_rows(pool, predictor, request.rows)
    out = folder / "suggestions"
    before = earlier(out)
    about = {
        "input": Path(request.path).name,
        "rows": len(rows),
        "candidates": len(pool.features),
        "model_sha256": predictor.model_sha256,
        "method": METHOD,
        "left_out": {reason: count for reason, (count, _) in pool.left_out.items()},
    }
    write_suggestions(out, rows, about)
    replaced = [f"{'replaced':<14}{before}"] if before else []
    return [*_summary(request, title, pool, rows), *replaced, f"{'written':<14}{out / CSV}"]


def _require_classes(predictor: Predictor) -> None:
    task = predictor.task
    if not task.labels or not {"features", "calibration"} <= task.abilities:
        raise SettingError(
            "make suggest chooses rows for texts, images and sounds with classes; this model predicts none,"
            " or makes no one vector of a row"
        )


def _summary(request: Request, title: str, pool: Pool, rows: list[dict[str, Any]]) -> list[str]:
    lines = [f"{'model':<14}{title}"]
    for reason, (count, first) in pool.left_out.items():
        lines.append(f"{'left out':<14}{count:,} {reason} (the first: {first})")
    few = "" if len(rows) == request.rows else ", which are all"
    unsure = sum(row["reason"].startswith("unsure") for row in rows)
    lines.append(
        f"{'to label':<14}{len(rows):,} of {len(pool.features):,} rows{few}; the model is unsure of"
        f" {unsure:,} of them"
    )
    return lines
