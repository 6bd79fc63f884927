"""The pipeline that predicts on a cluster: compiled, scheduled, and the very command of its pod."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines.cluster.schedule import schedule, unschedule
from pipelines.compile import compile_recipe, images_named
from pipelines.prediction import Scoring
from pipelines.spec import tasks_in
from retrainer.__main__ import main
from retrainer.errors import SettingError
from retrainer.services import storage
from tests.champions import Project, in_a_copy
from tests.cluster_run import with_our_settings
from tests.kfp_api import Api, running_api
from tests.predicting import read_csv
from tests.registered import png
from tests.s3_server import KEY, SECRET, running_s3

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]

IMAGES = images_named("registry.example/retrainer@sha256:" + "a" * 64, ours=True)
RECIPE = "digits-mlp"
SCORING = Scoring("s3://bucket/new", "s3://bucket/out/{time}.csv", top_k="2")
LENT = ["cluster.mlflow_secret=mlflow", "cluster.resources={predict: {memory: 9Gi}}"]


def compiled(project: Path, *overrides: str, recipe: str | None = RECIPE) -> tuple[Any, Any]:
    made = compile_recipe(recipe, [*LENT, *overrides], IMAGES, project, scoring=SCORING)
    spec, platform = yaml.load_all(made.path.read_text(), yaml.CSafeLoader)
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-predict"]


def test_it_is_one_task_that_no_cache_answers(tmp_path: Path) -> None:
    spec, pod = compiled(with_our_settings(tmp_path))
    assert (tmp_path / f"build/{RECIPE}--predict.yaml").is_file()
    assert spec["pipelineInfo"]["name"] == f"retrainer-{RECIPE}-predict"  # kfp joins the two dashes
    ((name, task),) = tasks_in(spec).items()
    assert name == "predict" and not task["cachingOptions"].get("enableCache")
    assert task["inputs"]["parameters"]["time"]["runtimeValue"]["constant"] == (
        "{{$.pipeline_job_schedule_time_utc}}"
    )
    container = spec["deploymentSpec"]["executors"]["exec-predict"]["container"]
    assert container["image"] == IMAGES.full and container["resources"]["resourceMemoryLimit"] == "9Gi"
    secrets = {entry["secretName"] for entry in pod["secretAsEnv"]}
    assert secrets == {"mlflow"} and pod["securityContext"]["runAsNonRoot"] is True


def test_what_no_pod_could_do_is_refused(tmp_path: Path) -> None:
    project = with_our_settings(tmp_path)
    given, out = "s3://bucket/new.csv", "s3://bucket/out.csv"
    for scoring, words in (
        (Scoring("new.csv", out), r"INPUT=new.csv: a pod reads and writes S3 alone"),
        (Scoring(given, ""), r"OUTPUT=: a pod"),
        (Scoring(given, "s3://bucket/{time}"), "OUTPUT ends in ''"),
        (Scoring(given, out, top_k="two"), "TOP_K=two"),
        # Kubernetes would put a secret of the pod's environment there, and half of the dollars.
        (Scoring("s3://bucket/$(AWS_SECRET_ACCESS_KEY)", out), r"INPUT=.*'\$\(' would be replaced"),
        (Scoring(given, "s3://bucket/$$.csv"), r"OUTPUT=.*'\$\$' would"),
        (Scoring(given, "s3://bucket/{{time}}.csv"), "OUTPUT=.*'{{' would"),
        (Scoring(given, out, version="{{workflow.name}}"), "VERSION=.*'{{' would"),
    ):
        with pytest.raises(SettingError, match=words):
            compile_recipe(RECIPE, LENT, IMAGES, project, scoring=scoring)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with running_api() as running:
        monkeypatch.setenv("KFP_ENDPOINT", running.address)
        for name in ("KFP_NAMESPACE", "KFP_PIPELINE_ROOT", "KFP_TOKEN", "MLFLOW_TRACKING_URI"):
            monkeypatch.delenv(name, raising=False)
        yield running


@pytest.mark.slow
def test_its_schedule_stands_beside_that_of_the_retraining(api: Api, tmp_path: Path) -> None:
    project = with_our_settings(tmp_path)
    assert schedule("0 0 3 1 * *", RECIPE, LENT, IMAGES, project) == 0
    for _ in range(2):
        assert schedule("0 0 4 * * *", RECIPE, LENT, IMAGES, project, scoring=SCORING) == 0
    names = sorted(each["display_name"] for each in api.recurring.values())
    assert names == [f"retrainer-{RECIPE}", f"retrainer-{RECIPE}--predict"]
    assert unschedule(RECIPE, [], project, predicts=True) == 0
    assert [each["display_name"] for each in api.recurring.values()] == names[:1]


@pytest.mark.slow
@pytest.mark.usefixtures("torch_settings_restored")
def test_its_command_predicts_from_s3_to_s3(
    three_versions: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With what the launcher puts in the place of its placeholders, where there is no project."""
    project = tmp_path / "project"
    project.mkdir()
    in_a_copy(three_versions, project, monkeypatch)
    (project / "params.yaml").write_text(
        "registry: {name: net}\nsource: {path: s3://bucket/rows}\ncompute: {threads: 1}\n"
        "task: {kind: image_classification, size: 8, channels: 1}\nbackbone: {family: mlp}\n"
    )
    spec, _ = compiled(project, recipe=None)
    (project / "params.yaml").unlink()
    given = {
        name: one["defaultValue"] for name, one in spec["root"]["inputDefinitions"]["parameters"].items()
    }
    given |= {"time": "2026-11-27T03:00:00Z"}
    container = spec["deploymentSpec"]["executors"]["exec-predict"]["container"]
    words = [
        re.sub(r"\{\{\$\.inputs\.parameters\['(\w+)'\]\}\}", lambda m: given[m[1]], w)
        for w in container["args"]
    ]
    draw = np.random.default_rng(0)
    with running_s3(tmp_path) as (address, root):
        (root / "bucket").mkdir()
        for name, value in (
            ("AWS_ENDPOINT_URL", address),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ):
            monkeypatch.setenv(name, value)
        for number in range(3):
            picture = tmp_path / f"{number}.png"
            picture.write_bytes(png(draw.integers(0, 256, (8, 8), np.uint8)) if number else b"broken")
            storage.put(picture, f"s3://bucket/new/{picture.name}", "test")
        assert main([container["command"][-1], *words]) == 0
        assert main([container["command"][-1], *(w.replace("bucket/out", "nowhere/out") for w in words)]) == 2
        # Before anything is fetched and predicted, for hours it may be.
        assert capsys.readouterr().err.endswith(
            "predict: OUTPUT: s3://nowhere/out/2026-11-27T03-00-00Z.csv: there is no bucket nowhere;"
            " make it, or name another\n"
        )
        found = storage.fetch("s3://bucket/out", tmp_path / "found")
    out = found / "2026-11-27T03-00-00Z.csv"
    rows = read_csv(out)
    assert [row["origin"] for row in rows] == ["new/1.png", "new/2.png"]
    assert {row["model_version"] for row in rows} == {"2"} and "top_k" in rows[0]
    endings = {path.name.removeprefix(out.name) for path in found.iterdir()}
    assert endings == {"", ".json", ".rejected.jsonl"}
