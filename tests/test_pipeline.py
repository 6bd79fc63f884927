"""`make pipeline` on a laptop, for real: DVC, MLflow's registry and a tiny model in a project of its own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from components.command import step_named
from retrainer.code.digests import Reach, project_code
from retrainer.contract import contract_of
from tests.imports import CODE, is_package
from tests.project import ORDER, RECIPE, copied, environment, made, make_project, pipeline, run, steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ALL = dict.fromkeys(ORDER, "ran")
JUDGED = {"evaluate": "ran", "register": "ran"}


@pytest.fixture
def project(finished_project: Path, tmp_path: Path) -> Path:
    """A copy of the finished project to spoil."""
    return copied(finished_project, tmp_path / "project")


def champion(project: Path) -> str:
    with sqlite3.connect(project / "mlflow.db") as database:
        query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'"
        found = database.execute(query, (RECIPE,)).fetchall()
    assert len(found) == 1
    return str(found[0][0])


def test_what_a_clock_may_cut_short_is_never_restored(project: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipelines.local import _reproduce, prepare;"
        f"settled = prepare({RECIPE!r}, sys.argv[1:], Path());"
        "sys.exit(bool(_reproduce(['train'], settled, Path()).failed))"
    )

    def trained(*settings: str) -> str:
        command = [sys.executable, "-c", code, *settings]
        done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return steps(done.stdout)["train"]

    budget = "training.budget_seconds=600"
    assert [trained(budget), trained(), trained(budget)] == ["ran", "restored", "ran"]


def test_a_recipe_trains_promotes_and_skips_what_is_unchanged(project: Path) -> None:
    """Unchanged; one section changed; changed back; the source edited; the registry lost."""
    first = made(project, "registration", "registration.json")
    assert first["alias"] == "champion" and champion(project) == str(first["version"])

    printed = pipeline(project)
    assert steps(printed) == {}
    assert printed.startswith(
        "Nothing to do: tiny is up to date (version 1, champion). Report: runs/tiny/report"
    )

    assert steps(pipeline(project, "gate.alpha=0.1")) == JUDGED, "only evaluate reads the gate"
    assert made(project, "registration", "registration.json")["version"] == first["version"], "the same model"

    printed = pipeline(project, "gate.alpha=0.1", "training.seed=1")
    assert steps(printed) == {"train": "ran", **JUDGED}
    second = made(project, "registration", "registration.json")
    assert second["model_sha256"] != first["model_sha256"] and second["version"] != first["version"]

    printed = pipeline(project)
    assert steps(printed) == {"train": "restored", **JUDGED}, (
        "seen before: restored, but judged and registered afresh"
    )
    assert made(project, "registration", "registration.json")["model_sha256"] == first["model_sha256"]

    image = project / "data" / "stripes" / "down" / "001.png"
    image.write_bytes((project / "data" / "stripes" / "down" / "003.png").read_bytes())
    assert steps(pipeline(project)) == ALL, "an edited source file"

    for file in project.glob("mlflow.db*"):
        file.unlink()
    assert steps(pipeline(project)) == JUDGED, (
        "the registry is gone: judged without a champion, registered again"
    )
    assert champion(project) == "1"
    assert steps(pipeline(project)) == {}


def test_where_nothing_has_changed_dvc_is_not_even_loaded(project: Path) -> None:
    """DVC says once that there is nothing to do; an output that somebody alters has it asked again.

    Nothing else is loaded either that the user's own folder would have to be read with, or a server asked.
    """
    code = (
        "import sys; from pipelines.__main__ import main; status = main(sys.argv[1:]);"
        "heavy = 'dvc.repo torch mlflow transformers pandas boto3 numpy pyarrow ssl http.client'.split();"
        "print(*([m for m in heavy if m in sys.modules] or ['nothing'])); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, "pipeline", "--recipe", RECIPE]

    def loaded() -> bool:
        done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0 and "Nothing to do" in done.stdout, done.stderr
        modules = done.stdout.splitlines()[-1].split()
        assert "dvc.repo" in modules or modules == ["nothing"]
        return "dvc.repo" in modules

    assert [loaded(), loaded()] == [True, False]
    registration = project / "runs" / RECIPE / "registration" / "registration.json"
    os.utime(registration)
    assert [loaded(), loaded()] == [True, False]
    registration.write_text(registration.read_text() + " ")
    assert steps(pipeline(project)) == {"register": "ran"}


def test_an_edit_of_a_comment_runs_nothing(project: Path) -> None:
    for file in ("retrainer/errors.py", "retrainer/training/loop.py", "components/train.py"):
        path = project / file
        path.write_text(f"# another comment\n{path.read_text()}")
    assert steps(pipeline(project)) == {}


def test_an_edit_of_code_runs_the_steps_that_reach_it(project: Path) -> None:
    def edit(file: str) -> None:
        with (project / file).open("a") as code:
            code.write("\n_ADDED = 1\n")

    edit("retrainer/notify/message.py")
    assert steps(pipeline(project)) == {}, "no step imports it"
    edit("retrainer/models/timm.py")
    assert steps(pipeline(project)) == {}, "the settings choose another family"
    edit("retrainer/training/schedule.py")
    assert steps(pipeline(project)) == {"train": "ran"}, "the same model came of it: nothing to judge again"
    edit("retrainer/evaluation/slices.py")
    assert steps(pipeline(project))["evaluate"] == "ran"
    assert steps(pipeline(project)) == {}


def test_a_failed_step_names_the_cause_and_gives_back_the_model(project: Path) -> None:
    model = made(project, "model", "manifest.json")["model_sha256"]
    printed = pipeline(project, "training.strategy=full", status=1)
    assert "train: training.strategy" in printed and "stopped at train" in printed
    assert "Traceback" not in printed and "dvc" not in printed.lower()
    assert made(project, "model", "manifest.json")["model_sha256"] == model
    assert steps(pipeline(project)) == {}, "and nothing of the failure stays"


def test_other_recipes_outputs_and_locks_stay(project: Path) -> None:
    (project / "recipes" / "other.yaml").write_text((project / "recipes" / f"{RECIPE}.yaml").read_text())
    assert steps(run(project, "step", "ingest", "--recipe", "other")) == {"ingest": "ran"}
    assert steps(pipeline(project)) == {}
    named = json.loads((project / "recipes" / "stages.json").read_text())["recipes"]
    assert named == ["other", RECIPE], "those that were ever run, and no other file of recipes/"


def test_a_second_run_of_a_recipe_is_refused_by_name(project: Path) -> None:
    with (project / ".run" / RECIPE / "lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4242")
        held.flush()
        printed = pipeline(project, status=2)
    assert "process 4242 is running tiny" in printed
    assert steps(pipeline(project)) == {}, "a lock falls with its process"


def test_what_a_killed_run_leaves_is_put_right(project: Path) -> None:
    """A cut `dvc.lock`, DVC's lock on a path by a number that lives again, half-written outputs."""
    (project / ".run" / RECIPE / "lock").write_text(str(os.getpid()))
    lock = project / "dvc.lock"
    lock.write_text(lock.read_text()[: len(lock.read_text()) // 2] + "\n  - [")
    path = str(project / "runs" / RECIPE / "model")
    info = {"pid": os.getpid(), "cmd": "dvc repro"}
    (project / ".dvc" / "tmp" / "rwlock").write_text(
        json.dumps({"write": {path: info}, "read": {path: [info]}})
    )
    half = project / "runs" / RECIPE / ".model.4242"
    half.mkdir()
    assert steps(pipeline(project, "training.seed=2")) == {"train": "ran", **JUDGED}
    assert not half.exists()


def test_a_torn_lock_file_of_dvc_is_no_obstacle(project: Path) -> None:
    (project / ".run" / RECIPE / "lock").write_text("4242424")
    (project / ".dvc" / "tmp" / "rwlock").write_text('{"write": {"/so')
    assert steps(pipeline(project)) == {}


def test_one_step_alone(project: Path) -> None:
    assert steps(run(project, "step", "train", "--recipe", RECIPE)) == {"train": "ran"}
    assert steps(pipeline(project)) == {}, "it made the same bytes, and dvc.lock knows"
    assert "did you mean 'train'" in run(project, "step", "trian", "--recipe", RECIPE, status=2)


def test_a_moved_alias_is_not_taken_back_and_a_verdict_against_an_older_champion_is_given_again(
    project: Path,
) -> None:
    """A person has the last word: an unchanged pipeline leaves the champion that they chose."""
    pipeline(project, "training.seed=1")
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("UPDATE registered_model_aliases SET version = 1 WHERE alias = 'champion'")
        database.execute("DELETE FROM registered_model_aliases WHERE alias = 'challenger'")
    printed = pipeline(project, "training.seed=1")
    assert steps(printed) == {} and "the champion is version 1" in printed
    assert champion(project) == "1"

    # Killed before register, and meanwhile the champion changed: register must not refuse for ever.
    shutil.rmtree(project / "runs" / RECIPE / "registration")
    report = project / "runs" / RECIPE / "report" / "metrics.json"
    assert report.is_file()
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("DELETE FROM registered_model_aliases")
    assert steps(pipeline(project, "training.seed=1")) == JUDGED
    assert made(project, "registration", "registration.json")["alias"] == "champion"


def test_a_rollback_is_told_by_the_next_run_and_stays(project: Path) -> None:
    passing = ("gate.policy=not-worse", "gate.margin=0.95", "training.seed=1")
    nowhere = {"RETRAINER_KUBEFLOW_REGISTRY": "http://127.0.0.1:1"}
    told = " ".join(pipeline(project, *passing, status=1, **nowhere).split())
    assert "is champion in MLflow, and the second registry does not show it yet" in told
    assert "Kubeflow NOT shown yet, MLflow alone has it" in told and "stopped at register" in told
    assert steps(pipeline(project, *passing)) == {"register": "ran"}
    assert champion(project) == "2"
    command = [sys.executable, "-m", "retrainer", "rollback", "--recipe", RECIPE, "--why", "too slow"]
    subprocess.run(command, cwd=project, env=environment(), capture_output=True, check=True)
    printed = pipeline(project, *passing)
    assert steps(printed) == JUDGED and "── since this recipe's last run: on " in printed
    told = " ".join(printed.split())
    assert "verdict challenger: on " in told and "(make rollback: too slow)" in told
    registration = made(project, "registration", "registration.json")
    assert (registration["alias"], registration["verdict"]) == ("challenger", "challenger")
    assert "(make rollback: too slow)" in registration["reasons"][0] and champion(project) == "1"
    printed = pipeline(project, *passing)
    assert steps(printed) == {} and "Version 2, challenger: on " in printed


def test_data_and_models_travel_by_dvc(project: Path, tmp_path: Path) -> None:
    """The source added to DVC; push, commit, clone, pull: the clone has the same bytes, without a run."""
    run_dvc(project, "add", "data/stripes")
    run_dvc(project, "push", "--run-cache")
    for command in (("add", "-A"), ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "model")):
        subprocess.run(["git", *command], cwd=project, check=True)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
    shutil.copytree(project / ".dvc-remote", clone / ".dvc-remote")
    told = run_dvc(clone, "pull", "--run-cache", "--allow-missing")
    assert "No file hash info" not in told, "of recipes that were never run there is nothing to pull"
    assert made(clone, "model", "manifest.json") == made(project, "model", "manifest.json")
    printed = pipeline(clone)
    assert steps(printed) == {"register": "ran"}, "data, model and verdict are there; its registry is empty"


@pytest.mark.parametrize("step", ORDER)
def test_a_step_imports_no_code_that_its_digest_does_not_cover(step: str, project: Path) -> None:
    """What the source says of imports (test_code.py), seen in a running step."""
    ports = contract_of(step_named(step)).named("input", "output")
    paths = [word for port in ports for word in (f"--{port}", f"runs/{RECIPE}/{port}")]
    command = [sys.executable, "-X", "importtime", "-m", "components", step]
    done = subprocess.run(
        [*command, "--settings", f".run/{RECIPE}/settings.json", *paths],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    ]
    ours = {name for name in lines if name.startswith("retrainer.") and not is_package(name)}
    assert len(ours) > 5
    sections = json.loads((project / ".run" / RECIPE / "settings.json").read_text())
    covered = Reach(sections, project_code(project)).modules(f"components.{step}")
    # How messages are printed changes nothing that a step makes.
    assert ours - {"retrainer.messages"} <= covered | passed_on_by_packages_of(ours)


def passed_on_by_packages_of(names: set[str]) -> set[str]:
    """What a package's `__init__` imports for others: importing it defines names, and no more."""
    packages = {name.rpartition(".")[0] for name in names}
    return {each.module for name in packages if is_package(name) for each in CODE.imports(name)}


def run_dvc(project: Path, *words: str) -> str:
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(
        command, cwd=project, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_an_older_commits_model_can_be_read(project: Path) -> None:
    """DVC at a git revision sees the matrix of recipes, which therefore is in git."""
    for command in (("add", "-A"), ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "model")):
        subprocess.run(["git", *command], cwd=project, check=True)
    code = """
from dvc.api import DVCFileSystem
print(DVCFileSystem(".", rev="HEAD").info("runs/tiny/model")["md5"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment(), capture_output=True, text=True
    )
    assert done.stdout.strip().endswith(".dir"), done.stderr


def test_smoke_touches_nothing_else(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    printed = run(project, "smoke", "--recipe", RECIPE)
    assert "tiny passes every step" in printed
    status = subprocess.run(
        ["git", "status", "--short", "--ignored"], cwd=project, capture_output=True, text=True
    )
    changed = {line[3:] for line in status.stdout.splitlines() if "__pycache__" not in line}
    assert changed == {".run/", "data/"}, "data/ is the recipe's own source"
    assert not (project / ".run" / RECIPE).exists()
    run_dvc(project, "add", "data/stripes")
    assert (project / "data" / "stripes.dvc").is_file(), "DVC works before any run"
