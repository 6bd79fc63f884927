"""A run as a cluster leaves it: known to the API, its steps' outputs in S3 where Kubeflow puts them.

The steps have really run, by the command lines of the pipeline, on the tiny recipe of tests/project.py.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from components.command import main as components
from pipelines.cluster.connection import connect
from pipelines.cluster.submit import start
from pipelines.compile import compile_recipe, images_named
from retrainer.resolve import settle
from retrainer.services import dvc_remote
from retrainer.services.s3 import s3_client
from tests.conftest import ROOT
from tests.kfp_api import Api, running_api
from tests.project import RECIPE, TINY, draw_stripes
from tests.s3_server import KEY, SECRET, running_s3

IMAGES = images_named("registry.example/retrainer@sha256:" + "a" * 64)
BUCKET, DVC_BUCKET = "mlpipeline", "dvc"
PIPELINE = f"retrainer-{RECIPE}"
TOKEN = "canary-kfp-token-11bb"


def with_our_settings(folder: Path) -> Path:
    """A directory with this project's own settings, into which pipelines are compiled."""
    for name in ("params.yaml", "recipes"):
        (folder / name).symlink_to(ROOT / name)
    return folder


class ClusterRun:
    """`api` and the directory `s3` behind the buckets; `project` is a checkout with the tiny recipe."""

    def __init__(self, api: Api, s3: Path, address: str, project: Path) -> None:
        self.api, self.s3, self.address, self.project = api, s3, address, project
        self.run_id = ""

    def submit(self, *overrides: str) -> str:
        """A new run, which has not come to any step."""
        settings = [
            *overrides,
            "cluster.mlflow_secret=mlflow",
            f"source.path={self.project / 'data' / 'stripes'}",
            f"cluster.image_holds=[{self.project / 'data'}]",
        ]
        self.run_id = start(connect(), compile_recipe(RECIPE, settings, IMAGES, self.project))
        return self.run_id

    def put(self, step: str, port: str, made: Path, folder: str = "") -> None:
        """Stores an output as Kubeflow's launcher does."""
        place = f"v2/artifacts/{PIPELINE}/{self.run_id}/{step}/{folder or uuid.uuid4()}/{port}"
        files = sorted(path for path in made.rglob("*") if path.is_file()) if made.is_dir() else [made]
        for path in files:
            inside = f"/{path.relative_to(made).as_posix()}" if made.is_dir() else ""
            s3_client().upload_file(str(path), BUCKET, place + inside)

    def ingest(self, out: Path) -> Path:
        """Ingests the stripes, pushes them to DVC's remote, stores the rows and the pointer."""
        _, sections = settle(RECIPE, [f"source.path={self.project / 'data' / 'stripes'}"], self.project)
        raw = out / "raw"
        assert (
            components(["ingest", "--raw", str(raw), "--source", sections["source"].model_dump_json()]) == 0
        )
        dvc_remote.publish(raw, out / "pointer")
        folder = str(uuid.uuid4())
        self.put("ingest", "raw", raw, folder)
        self.put("ingest", "pointer", out / "pointer", folder)
        return raw


def make_checkout(folder: Path, address: str) -> Path:
    """Settings, the tiny recipe, its data, and a DVC repository with the cluster's remote."""
    (folder / "recipes").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    (folder / "recipes" / f"{RECIPE}.yaml").write_text(TINY)
    draw_stripes(folder / "data" / "stripes", rows=60)
    (folder / ".dvc").mkdir()
    remote = f"['remote \"team\"']\n    url = s3://{DVC_BUCKET}/team\n    endpointurl = {address}\n"
    (folder / ".dvc" / "config").write_text(f"[core]\n    no_scm = true\n    remote = team\n{remote}")
    return folder


@contextmanager
def cluster_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterRun]:
    """The servers and a checkout, and the environment that leads to them."""
    with running_api() as api, running_s3(folder) as (address, s3):
        for bucket in (BUCKET, DVC_BUCKET):
            (s3 / bucket).mkdir()
        api.token = TOKEN
        for name in ("KFP_NAMESPACE", "KFP_PIPELINE_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_S3_ENDPOINT_URL"):
            monkeypatch.delenv(name, raising=False)
        given = {"KFP_ENDPOINT": api.address, "KFP_TOKEN": TOKEN, "AWS_ENDPOINT_URL": address}
        given |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        given |= {"RETRAINER_DVC_REMOTE": f"s3://{DVC_BUCKET}/team"}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        yield ClusterRun(api, s3, address, make_checkout(folder / "checkout", address))


def stored(bucket: str) -> dict[str, int]:
    """Key and size of every object."""
    pages = s3_client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}


def read_yaml(path: Path) -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load(path.read_text())
    return content
