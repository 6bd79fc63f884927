"""Where Kubeflow keeps what a run's steps wrote, and how to get it.

<root>/<pipeline>/<run>/<step>/<a random id>/<port>   an object, or the objects below it for a directory

The root is the run's own, else KFP_PIPELINE_ROOT, else Kubeflow's default, which in an installation for
several users is another one in each namespace. It lies in S3, also where it reads minio://: at
AWS_ENDPOINT_URL or MLFLOW_S3_ENDPOINT_URL, with the credentials that boto3 finds.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.cluster.connection import Connection
from retrainer.errors import ServiceError, SettingError
from retrainer.services.s3 import SCHEME, s3_client, s3_explained, split_address

DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"
# KFP 2.17: manifests/kustomize/base/installs/multi-user/pipelines-profile-controller/sync.py:285
NAMESPACE_ROOT = "minio://mlpipeline/private-artifacts/{namespace}/v2/artifacts"
_MINIO = "minio://"


def check_run_id(run_id: str) -> None:
    """It becomes part of addresses and paths. Raises UserError for what cannot be one."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", run_id):
        raise SettingError(
            f"RUN='{run_id}': expected the id of a run, as make runs and make rehearse print it"
        )


def run_of(connection: Connection, run_id: str) -> Any:
    """The run as the API tells it. Raises UserError for another one: its id becomes part of paths."""
    check_run_id(run_id)
    run = connection.runs.run_service_get_run(run_id)
    if run.run_id != run_id:
        raise SettingError(f"RUN={run_id}: the server answers with another run; check KFP_ENDPOINT")
    return run


def specification(connection: Connection, run: Any) -> dict[str, Any]:
    """The run's compiled pipeline, also where the run only names a version of an uploaded one."""
    spec = run.pipeline_spec
    if not spec and (reference := run.pipeline_version_reference):
        version = connection.pipelines.pipeline_service_get_pipeline_version(
            reference.pipeline_id, reference.pipeline_version_id
        )
        spec = version.pipeline_spec
    if not spec:
        raise SettingError(f"RUN={run.run_id}: Kubeflow no longer has this run's pipeline")
    whole: dict[str, Any] = spec.get("pipeline_spec", spec)
    return whole


def roots_of(run: Any, namespace: str) -> list[str]:
    """Where the run's artifacts may lie, the likeliest first."""
    given = run.runtime_config.pipeline_root if run.runtime_config else ""
    named = str(given or os.environ.get("KFP_PIPELINE_ROOT") or "")
    of_namespace = [NAMESPACE_ROOT.format(namespace=namespace)] if namespace else []
    roots = [named] if named else [*of_namespace, DEFAULT_ROOT]
    return [root.partition("?")[0].rstrip("/") for root in roots]


@dataclass(frozen=True)
class Output:
    """An output of a step of a run."""

    run: Any
    pipeline: str
    step: str
    port: str

    def below(self, root: str) -> str:
        return f"{root}/{self.pipeline}/{self.run.run_id}/{self.step}"


def fetch(output: Output, namespace: str, into: Path) -> Path:
    """Downloads the output to `into`, a file or a directory.

    Raises UserError when there is none: the step did not end well, or was answered from the cache, and its
    output lies with an earlier run.
    """
    roots = roots_of(output.run, namespace)
    for root in roots:
        if _fetch_from(root, output, into):
            return into
    raise SettingError(
        f"RUN={output.run.run_id}: there is no {output.port} of {output.step} at"
        f" {' or '.join(output.below(root) for root in roots)}: the step did not end well, or came from the"
        " cache, or artifacts lie elsewhere (KFP_PIPELINE_ROOT, KFP_NAMESPACE)"
    )


def _fetch_from(root: str, output: Output, into: Path) -> bool:
    """Downloads the output if it lies below this root; says whether it does."""
    address = root.replace(_MINIO, SCHEME, 1)
    if not address.startswith(SCHEME):
        raise ServiceError(
            f"{root}: artifacts can be fetched from s3:// and minio:// only; copy them by hand"
        )
    bucket, prefix = split_address(output.below(address), "KFP_PIPELINE_ROOT")
    with s3_explained(f"KFP_PIPELINE_ROOT: {root}"):
        client = s3_client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        objects = [entry for page in pages for entry in page.get("Contents", ())]
        newest = _newest(objects, prefix, output.port)
        for key in newest:
            inside = key.removeprefix(f"{prefix}/").split("/", 2)[2:]
            target = into.joinpath(*(PurePosixPath(part) for part in inside))
            if not target.resolve().is_relative_to(into.resolve()):
                raise SettingError(
                    f"RUN={output.run.run_id}: the object {key} would leave its folder; not fetched"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, key, str(target))
    return bool(newest)


def _newest(objects: list[dict[str, Any]], prefix: str, port: str) -> list[str]:
    """The keys of the port in the folder that was written last: a run that is retried has several."""
    folders: dict[str, list[dict[str, Any]]] = {}
    for entry in objects:
        folder, _, inside = str(entry["Key"]).removeprefix(f"{prefix}/").partition("/")
        if inside.split("/", 1)[0] == port and not inside.endswith("/"):
            folders.setdefault(folder, []).append(entry)
    if not folders:
        return []
    latest = max(folders.values(), key=lambda entries: max(entry["LastModified"] for entry in entries))
    return [str(entry["Key"]) for entry in latest]
