"""The dataset that a cluster's run ingested, as a `.dvc` file of this checkout: to commit, and to train on.

The run's ingest has pushed the rows to DVC's remote and left the pointer among its artifacts; here only the
pointer is written. `source: datasets/RECIPE`, after `dvc pull`, reads exactly those rows again.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from pipelines.cluster.artifacts import Output, fetch, run_of, specification
from pipelines.cluster.connection import connect
from pipelines.cluster.dvc_remotes import remotes_with
from retrainer.errors import ServiceError, SettingError
from retrainer.formats.files import write_text
from retrainer.services import dvc_remote
from retrainer.services.scratch import scratch_directory

DATASETS = Path("datasets")
POINTER = "pointer"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# An object store is not trusted: nothing else of what lies there reaches the checkout, or a printed command.
_POINTER_BYTES = 65_536
_REMOTE = re.compile(r"(\w+://|/)[\w./@:+=-]*")
_TIME = re.compile(r"([\d:TZ+-]{1,40})?")
_MD5_OF_DIRECTORY = re.compile(r"[0-9a-f]{32}\.dir")


def adopt(run_id: str, root: Path = Path(), force: bool = False) -> int:
    """`make adopt`: writes `datasets/RECIPE.dvc`. Raises UserError rather than losing a newer pointer."""
    connection = connect()
    run = run_of(connection, run_id)
    pipeline = str(specification(connection, run)["pipelineInfo"]["name"])
    recipe = _recipe_of(pipeline)
    path = root / DATASETS / f"{recipe}.dvc"
    pointer, meta = _pointer_of(Output(run, pipeline, "ingest", POINTER), connection.namespace)
    told = {**meta, "kfp_run_id": run_id, "kfp_run_created": run.created_at.isoformat()}
    print(_write(path, {**pointer, "path": recipe}, told, force))
    _keep_rows_out_of_git(path.parent, recipe)
    _tell_what_next(path.relative_to(root), pointer["md5"], meta["remote"] or "s3://BUCKET/PREFIX", root)
    return 0


def _recipe_of(pipeline: str) -> str:
    """The recipe whose pipeline it is; it may be gone from this checkout."""
    if not re.fullmatch(r"retrainer-[a-z0-9][a-z0-9-]*", pipeline):
        raise ServiceError(f"the run is of the pipeline '{pipeline}', which this project did not make")
    return pipeline.removeprefix("retrainer-")


def _pointer_of(output: Output, namespace: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What ingest wrote as its pointer: the known keys of its `outs` and its `meta`, each checked."""
    run = output.run
    with scratch_directory() as aside:
        file = fetch(output, namespace, aside / POINTER)
        text = file.read_bytes()[: _POINTER_BYTES + 1] if file.is_file() else b""
    try:
        content = yaml.load(text.decode(), Loader=_LOADER)  # noqa: S506 (a safe one)
        outs, meta = content["outs"], content.get("meta") or {}
        remote, scheduled = meta.get("remote") or "", str(meta.get("scheduled_time") or "")
        if outs:
            (out,) = outs
            pointer = {
                "md5": out["md5"],
                "size": int(out["size"]),
                "nfiles": int(out["nfiles"]),
                "hash": "md5",
            }
            sound = _MD5_OF_DIRECTORY.fullmatch(out["md5"]) and _REMOTE.fullmatch(remote)
            if not sound or not _TIME.fullmatch(scheduled) or len(text) > _POINTER_BYTES:
                raise ValueError
    except (yaml.YAMLError, AttributeError, TypeError, LookupError, ValueError):
        raise SettingError(
            f"RUN={run.run_id}: what ingest left as its pointer is not one that it writes"
        ) from None
    if not outs:
        raise SettingError(
            f"RUN={run.run_id}: its ingest pushed nothing, as its pod had no {dvc_remote.VARIABLE}; put"
            f" {dvc_remote.VARIABLE}=s3://BUCKET/PREFIX into the secret cluster.storage_secret, and run again"
        )
    return pointer, {"remote": remote} | ({"scheduled_time": scheduled} if scheduled else {})


def _write(path: Path, pointer: dict[str, Any], told: dict[str, str], force: bool) -> str:
    """Writes the pointer; says what became of the one that was there."""
    before = _read(path)
    if before is not None:
        if before["outs"][0].get("md5") == pointer["md5"]:
            return f"{path} has this dataset already ({pointer['md5']}): left as it is"
        created = str((before.get("meta") or {}).get("kfp_run_created", ""))
        if not force and not created:
            raise ServiceError(f"{path} points to another dataset and is not of a run; FORCE=1 replaces it")
        if not force and created >= told["kfp_run_created"]:
            raise ServiceError(f"{path} is of a newer run (of {created}); FORCE=1 goes back to this one")
    write_text(path, dvc_remote.pointer_text([pointer], told))
    return f"written: {path} ({pointer['nfiles']} files, {pointer['size'] / 1e6:.1f} MB, {pointer['md5']})"


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506
        assert content["outs"][0]
    except (yaml.YAMLError, OSError, LookupError, TypeError, AssertionError):
        raise ServiceError(f"{path} is not a DVC file; move it away first") from None
    return content


def _keep_rows_out_of_git(folder: Path, recipe: str) -> None:
    """As `dvc add` does: git gets the pointer alone."""
    path, line = folder / ".gitignore", f"/{recipe}"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if line not in lines:
        write_text(path, "\n".join([*lines, line]) + "\n")


def _tell_what_next(path: Path, md5: str, remote: str, root: Path) -> None:
    holders = remotes_with(md5, root)
    if not holders:
        print("note: no DVC remote of this checkout has it; first:")
        print(f"      dvc remote add cluster {shlex.quote(remote)}")
        print("      (for another server than Amazon's also: dvc remote modify cluster endpointurl ADDRESS)")
    print(f"next: git add {path} {path.parent / '.gitignore'}")
    print(f"      dvc pull --remote {holders[0] if holders else 'cluster'} {path}")
    rows = f"source: {path.with_suffix('')}"
    print(f"      in a recipe, to train on exactly these rows: {rows}")
