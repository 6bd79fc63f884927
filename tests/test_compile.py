"""What the compiled pipeline leaves open (nothing), what it refuses, and what it never holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from components.command import main as step_main
from components.steps import STEPS
from pipelines.compile import (
    cluster_settings,
    compile_recipe,
    images_named,
    note_launcher_keys,
    refuse_files_of_this_machine,
    require_registry,
)
from pipelines.spec import tasks_in
from retrainer.code.digests import project_code, step_digests
from retrainer.code.own import command_digest
from retrainer.errors import SettingError, UserError
from retrainer.formats.files import content_digest
from retrainer.services import weights
from retrainer.settings import Cluster
from tests.compiled_pipelines import (
    IMAGE,
    compile_made,
    compiled,
    container_of,
    default_of,
    documents,
    environment_of,
    project_of,
)
from tests.conftest import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return project_of(tmp_path)


def test_only_a_schedules_runs_ask_for_their_scheduled_time(project: Path) -> None:
    for scheduled, asked in ((True, "{{$.pipeline_job_schedule_time_utc}}"), (False, "")):
        made = compile_recipe("digits-mlp", [], images_named(IMAGE), project, scheduled=scheduled)
        tasks = tasks_in(documents(made.path.read_text())[0])
        told = {
            step: task["inputs"]["parameters"]["scheduled_time"]["runtimeValue"]["constant"]
            for step, task in tasks.items()
            if "scheduled_time" in task["inputs"]["parameters"]
        }
        assert told == {"ingest": asked, "register": asked}


def test_every_task_has_the_digest_of_its_code_as_a_constant(project: Path) -> None:
    made = compile_recipe("digits-mlp", [], images_named(IMAGE), project)
    tasks = tasks_in(documents(made.path.read_text())[0])
    told = {
        step: task["inputs"]["parameters"]["code_sha256"]["runtimeValue"]["constant"]
        for step, task in tasks.items()
    }
    _, settings, _ = cluster_settings("digits-mlp", [], project)
    assert told == step_digests(tasks, settings, project_code(ROOT), project)
    assert len(set(told.values())) == len(told)


@pytest.mark.parametrize("name", ["my_recipe", "Digits", "v1.2", "r" * 119])
def test_a_recipe_whose_name_kubeflow_refuses(project: Path, name: str) -> None:
    (project / f"recipes/{name}.yaml").write_text("registry: {name: other}")
    with pytest.raises(UserError, match=rf"RECIPE={name}: Kubeflow takes no such name"):
        compile_recipe(name, [], images_named(IMAGE), project)


def test_lineage_reaches_the_steps_by_their_environment(project: Path) -> None:
    spec, pods = compiled(project, "cluster.experiment=vision-team")
    for step in STEPS:
        assert environment_of(spec, step)["RETRAINER_IMAGE"] == IMAGE
        assert environment_of(spec, step)["MLFLOW_EXPERIMENT_NAME"] == "vision-team"
        assert {"name": "RETRAINER_KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"} in (
            pods[step]["fieldPathAsEnv"]
        )


# --- secrets -------------------------------------------------------------------------------------------


def test_a_rehearsals_versions_are_shown_nowhere(project: Path) -> None:
    setting = "registry.kubeflow=http://registry.kubeflow:8080"
    for rehearsed, address in ((False, "http://registry.kubeflow:8080"), (True, "")):
        made = compile_recipe("digits-mlp", [setting], images_named(IMAGE), project, rehearsed=rehearsed)
        assert default_of(documents(made.path.read_text())[0], "registry")["kubeflow"] == address


def test_a_secret_is_named_and_never_spelled_out(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "KFP_TOKEN", "RETRAINER_DVC_REMOTE"):
        monkeypatch.setenv(name, "do-not-write-me")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:do-not-write-me@mlflow.example")
    made = compile_made(project, "cluster.mlflow_secret=team-mlflow", "cluster.storage_secret=team-s3")
    assert "do-not-write-me" not in made.path.read_text()


def test_no_address_of_this_machine_is_compiled(project: Path) -> None:
    text = compile_made(project).path.read_text()
    assert not re.search(rf"{re.escape(str(ROOT))}|{re.escape(str(Path.home()))}|{project}", text)


# --- caching: equal inputs mean equal results ----------------------------------------------------------


def test_a_movable_image_turns_caching_off(project: Path) -> None:
    for image, cached in ((IMAGE, {"preprocess", "train"}), ("registry/name:trial", set())):
        tasks = tasks_in(compiled(project, image=image)[0])
        assert {step for step, task in tasks.items() if task["cachingOptions"].get("enableCache")} == cached


def test_a_training_that_a_clock_may_cut_short_is_not_cached(project: Path) -> None:
    tasks = tasks_in(compiled(project, "training.budget_seconds=60")[0])
    cached = {step for step, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert cached == {"preprocess"}


@pytest.mark.parametrize(
    ("overrides", "settled"),
    [
        ([], {"device": "cpu", "dtype": "float32", "threads": 2}),
        (["cluster.resources={train: {cpu: 2500m}}"], {"device": "cpu", "dtype": "float32", "threads": 3}),
        (["compute.device=cuda"], {"device": "cuda", "dtype": "bfloat16", "threads": 2}),
        (["cluster.gpus=1"], {"device": "cuda", "dtype": "bfloat16", "threads": 2}),
        (
            ["compute.dtype=bfloat16", "compute.threads=7"],
            {"device": "cpu", "dtype": "bfloat16", "threads": 7},
        ),
    ],
)
def test_nothing_that_changes_numbers_is_left_open(
    project: Path, overrides: list[str], settled: dict[str, Any]
) -> None:
    given = [] if any("dtype" in word for word in overrides) else ["compute.dtype=auto"]
    _, settings, _ = cluster_settings("digits-mlp", [*given, *overrides], project)
    assert settings["compute"] == {**settled, "packages": {}, "processes": 1, "fsdp": False, "compile": False}


def test_gpus_that_nothing_would_use_are_refused(project: Path) -> None:
    with pytest.raises(UserError, match=r"cluster\.gpus: 1, but compute\.device is cpu"):
        cluster_settings("digits-mlp", ["cluster.gpus=1", "compute.device=cpu"], project)


def test_code_and_weights_are_pinned_as_on_a_laptop(project: Path) -> None:
    (project / "my_train.py").write_text("first")
    command = "training.command=python my_train.py"
    _, settings, _ = cluster_settings("digits-mlp", [command], project)
    assert settings["training"]["code_digest"] == command_digest(
        "python my_train.py", project, project_code(project)
    )
    # The default recipe fine-tunes weights of a package, also where only the head is trained.
    _, settings, _ = cluster_settings(None, ["training.strategy=frozen"], project)
    assert len(settings["backbone"]["weights_sha256"]) == 64


# --- a team's names ------------------------------------------------------------------------------------


def test_a_prefix_keeps_teams_apart_in_one_registry(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = compile_made(project, "cluster.model_prefix=vision-")
    spec, *_ = documents(made.path.read_text())
    assert default_of(spec, "registry")["name"] == "vision-digits-mlp"
    assert made.experiment == "vision-digits-mlp"
    monkeypatch.setattr(weights, "pin", lambda backbone, *_: backbone)
    chained = [
        "cluster.model_prefix=vision-",
        "backbone.family=mlp",
        "backbone.weights=models:/digits-mlp@champion",
        "training.strategy=full",
    ]
    _, settings, _ = cluster_settings(None, chained, project)
    assert settings["backbone"]["weights"] == "models:/vision-digits-mlp@champion"
    chained[2] = "backbone.weights=models:/someone-elses@champion"
    assert cluster_settings(None, chained, project)[1]["backbone"]["weights"] == (
        "models:/someone-elses@champion"
    )


def test_a_dataset_that_changed_on_its_way_is_refused(tmp_path: Path, capsys: Any) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("text,label\n" + "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(40)))
    raw, digest = tmp_path / "raw", tmp_path / "outputs/raw_sha256"
    told = tmp_path / "outputs/metadata.json"
    ingest = ["ingest", "--source", json.dumps({"path": str(table)}), "--raw", str(raw)]
    handed = ["--raw-sha256", str(digest), "--scheduled-time", "2026-11-24"]
    handed += ["--executor-input", json.dumps({"outputs": {"outputFile": str(told)}})]
    assert step_main([*ingest, *handed]) == 0
    assert digest.read_text() == content_digest(raw)
    metadata = json.loads(told.read_text())["artifacts"]["raw"]["artifacts"][0]["metadata"]
    assert metadata["scheduled_time"] == "2026-11-24" and metadata["content_sha256"] == content_digest(raw)
    preprocess = ["preprocess", "--raw", str(raw), "--dataset", str(tmp_path / "dataset")]
    preprocess += ["--findings", str(tmp_path / "findings")]
    assert step_main([*preprocess, "--raw-sha256", digest.read_text()]) == 0
    assert step_main([*preprocess, "--raw-sha256", "0" * 64]) == 2
    assert "--raw: what arrived is not what the step before wrote" in capsys.readouterr().err


def test_the_manuals_example_compiles(project: Path) -> None:
    (example,) = re.findall(r"```yaml\n(cluster:.*?)```", (ROOT / "docs/operating.md").read_text(), re.DOTALL)
    with (project / "recipes/digits-mlp.yaml").open("a") as recipe:
        recipe.write(f"\n{example}")
    spec, pods = compiled(project, "compute.device=auto")
    assert default_of(spec, "compute")["device"] == "cuda"
    assert container_of(spec, "train")["resources"]["resourceCpuRequest"] == "8"
    spot = {step: [taint["key"] for taint in pods[step].get("tolerations", [])] for step in STEPS}
    assert spot.pop("train") == ["nvidia.com/gpu", "cloud.example/spot"]
    assert not any(spot.values())


# --- what our own images hold --------------------------------------------------------------------------


@pytest.fixture
def with_files(project: Path) -> Path:
    for name in ("data/rows.csv", "my_train.py", "plugins/my_train.py", "kept/weights.safetensors"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("")
    save_file({"x": torch.ones(1)}, project / "kept/weights.safetensors")
    return project


ROWS = ["source.kind=csv", "source.path=data/rows.csv"]
# As a recipe that starts from a file would say; the path is completed where it is used.
START = ["training.strategy=frozen", "backbone.weights={}/kept/weights.safetensors"]
LOCAL = {
    r"source\.path: data/rows\.csv is on this machine.*s3://.*cluster\.image_holds": ROWS,
    r"source\.test_path: data/rows\.csv is on this machine": [
        "source.kind=csv",
        "source.path=s3://bucket/rows.csv",
        "source.test_path=data/rows.csv",
    ],
    r"backbone\.weights: .*kept/weights\.safetensors is on this machine.*models:/NAME@ALIAS": START,
    r"training\.command: my_train\.py is not in the images.*plugins/.*image_holds": [
        "training.command=python my_train.py"
    ],
}


@pytest.mark.parametrize("message", LOCAL)
def test_what_no_pod_finds_is_refused_whatever_the_image(message: str, with_files: Path) -> None:
    overrides = [word.format(with_files) for word in LOCAL[message]]
    held = [*overrides, f"cluster.image_holds=[data, my_train.py, {with_files}/kept]"]
    # Only of an image of one's own can anyone say that it holds them.
    for given, ours in ((overrides, False), (overrides, True), (held, True)):
        with pytest.raises(SettingError, match=message):
            compile_recipe("digits-mlp", given, images_named(IMAGE, ours=ours), with_files)
    assert not (with_files / "build").exists()
    assert found_by_pods(with_files, *held)


def found_by_pods(project: Path, *overrides: str, rehearsed: bool = False) -> bool:
    _, settings, cluster = cluster_settings("digits-mlp", list(overrides), project)
    refuse_files_of_this_machine(settings, cluster.image_holds, project, rehearsed)
    return True


def test_what_pods_find_is_compiled(with_files: Path) -> None:
    assert found_by_pods(with_files, *ROWS, rehearsed=True)
    assert found_by_pods(with_files, "source.kind=csv", "source.path=s3://bucket/rows.csv")
    assert found_by_pods(with_files, "training.command=python plugins/my_train.py")
    # From scratch no weights are read, wherever they lie.
    assert found_by_pods(with_files, "training.strategy=scratch", START[1].format(with_files))


def test_a_pipeline_that_finds_no_mlflow_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    cure = "Make a Kubernetes secret with MLFLOW_TRACKING_URI.*SECRET=name"
    with pytest.raises(SettingError, match=f"mlflow_secret is empty, and MLFLOW_TRACKING_URI here.*{cure}"):
        compile_recipe("digits-mlp", ["cluster.mlflow_secret=''"], images_named(IMAGE), project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    require_registry(Cluster(), scheduled=False)
    assert "only if Kubeflow itself tells them" in capsys.readouterr().err
    monkeypatch.setenv("KFP_PIPELINE_ROOT", "s3://bucket/artifacts")
    note_launcher_keys(Cluster(storage_secret="s3", launcher_keys=True))
    assert not capsys.readouterr().err
    note_launcher_keys(Cluster(storage_secret="s3"))
    assert "set cluster.launcher_keys: true, or preprocess" in capsys.readouterr().err
    with pytest.raises(SettingError, match=f"mlflow_secret is empty: in scheduled runs.*{cure}"):
        require_registry(Cluster(), scheduled=True)
