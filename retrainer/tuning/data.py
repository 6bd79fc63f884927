"""The rows that a trial may see: those of the splits train and validation, and none of the test."""

from __future__ import annotations

from pathlib import Path

from retrainer.errors import DataError
from retrainer.formats.dataset import FORMAT_VERSIONS, KIND
from retrainer.formats.files import MANIFEST, stated_manifest, write_json

SEEN = ("train", "validation")


def without_test(dataset: Path, into: Path) -> Path:
    """A dataset directory `into` that links to these splits' files alone; none of the test's is opened.

    It has the classes of all splits, so that a trial's network has the outputs of the recipe's own. Raises
    UserError when there are no validation rows.
    """
    manifest = stated_manifest(dataset, KIND, *FORMAT_VERSIONS)
    rows = manifest.get("rows", {})
    if not rows.get("validation"):
        raise DataError(
            f"{dataset} has no validation rows to compare trials by; set split.validation above 0"
        )
    files = {name: digest for name, digest in manifest["files"].items() if name.startswith(SEEN)}
    into.mkdir(parents=True)
    for name in files:
        (into / name).symlink_to((dataset / name).absolute())
    classes = {
        split: counts if split in SEEN else dict.fromkeys(counts, 0)
        for split, counts in manifest["classes"].items()
    }
    seen = {"rows": {split: rows[split] for split in SEEN}, "classes": classes, "files": files}
    write_json(into / MANIFEST, manifest | seen)
    return into
