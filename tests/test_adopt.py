"""The dataset of a cluster's run in the checkout: `make adopt`, DVC's remote, and the same rows again."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.command import main as components
from pipelines.cluster.adopt import adopt
from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.services import dvc_remote
from tests.cluster_run import DVC_BUCKET, TOKEN, ClusterRun, cluster_run, read_yaml, stored
from tests.project import RECIPE
from tests.s3_server import SECRET


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterRun]:
    with cluster_run(tmp_path, monkeypatch) as made:
        yield made


def files_below(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_runs_dataset_comes_into_the_checkout_row_for_row(
    run: ClusterRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.submit()
    raw = run.ingest(tmp_path)
    before = files_below(run.project)
    assert adopt(run.run_id, run.project) == 0
    printed = capsys.readouterr()
    written = set(files_below(run.project)) - set(before)
    assert {name for name in written if not name.startswith((".dvc/tmp", "build"))} == {
        f"datasets/{RECIPE}.dvc",
        "datasets/.gitignore",
    }
    assert f"dvc pull --remote team datasets/{RECIPE}.dvc" in printed.out
    assert SECRET not in printed.out + printed.err and TOKEN not in printed.out + printed.err
    pull = [sys.executable, "-m", "dvc", "pull", f"datasets/{RECIPE}.dvc"]
    done = subprocess.run(pull, cwd=run.project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files_below(run.project / "datasets" / RECIPE) == files_below(raw)
    source = json.dumps({"path": str(run.project / "datasets" / RECIPE)})
    assert components(["ingest", "--raw", str(tmp_path / "again"), "--source", source]) == 0
    assert Dataset(tmp_path / "again").content_sha256 == Dataset(raw).content_sha256


@pytest.mark.slow
def test_the_remote_holds_each_file_once_and_the_pod_no_copy(
    run: ClusterRun,  # noqa: ARG001 (its servers are in the environment)
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.parquet").write_bytes(b"a" * 1000)
    (raw / "b.parquet").write_bytes(b"b" * 1000)
    (raw / "a-again.parquet").write_bytes(b"a" * 1000)
    first = dvc_remote.push(raw, "raw")
    sizes = sorted(stored(DVC_BUCKET).values())
    assert len(sizes) == 3 and sizes[1:] == [1000, 1000], "two contents and the listing"
    assert (first["nfiles"], first["size"]) == (3, 3000)
    before = stored(DVC_BUCKET)
    assert dvc_remote.push(raw, "raw") == first
    assert stored(DVC_BUCKET) == before
    assert list(scratch.iterdir()) == []


def test_a_wrong_key_is_told_without_showing_it(
    run: ClusterRun,  # noqa: ARG001 (its servers are in the environment)
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a").write_text("a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-wrong")
    with pytest.raises(
        UserError, match=r"RETRAINER_DVC_REMOTE=s3://dvc/team: the dataset could not"
    ) as caught:
        dvc_remote.push(tmp_path / "raw", "raw")
    assert "canary-wrong" not in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setenv("RETRAINER_DVC_REMOTE", "s3://me:canary@dvc/team")
    with pytest.raises(UserError, match="holds a user or a password") as caught:
        dvc_remote.push(tmp_path / "raw", "raw")
    assert "canary" not in str(caught.value)


@pytest.mark.slow
def test_only_a_newer_run_replaces_a_pointer(
    run: ClusterRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.project / "datasets" / f"{RECIPE}.dvc"
    run.submit()
    run.api.runs[run.run_id]["created_at"] = "2026-01-02T03:00:00Z"
    older = run.run_id
    run.ingest(tmp_path / "one")
    adopt(older, run.project)
    adopt(older, run.project)
    assert "left as it is" in capsys.readouterr().out
    (next((run.project / "data/stripes/across").iterdir())).unlink()
    newer = run.submit()
    run.ingest(tmp_path / "two")
    adopt(newer, run.project)
    assert read_yaml(path)["meta"]["kfp_run_id"] == newer  # type: ignore[index]
    kept = path.read_text()
    with pytest.raises(UserError, match=r"is of a newer run .*FORCE=1"):
        adopt(older, run.project)
    assert path.read_text() == kept
    adopt(older, run.project, force=True)
    assert read_yaml(path)["meta"]["kfp_run_id"] == older  # type: ignore[index]


@pytest.mark.slow
def test_a_persons_own_pointer_is_not_overwritten(run: ClusterRun, tmp_path: Path) -> None:
    run.submit()
    run.ingest(tmp_path)
    path = run.project / "datasets" / f"{RECIPE}.dvc"
    path.parent.mkdir()
    for text, told in (
        (f"outs:\n- md5: {'0' * 32}.dir\n  path: {RECIPE}\n", "not of a run; FORCE=1 replaces it"),
        ("nonsense", "is not a DVC file"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=told):
            adopt(run.run_id, run.project)
        assert path.read_text() == text


@pytest.mark.slow
def test_a_run_that_pushed_nothing_says_how_to_change_that(
    run: ClusterRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.submit()
    with pytest.raises(
        UserError, match=r"there is no pointer of ingest at minio://mlpipeline.*KFP_PIPELINE_ROOT"
    ):
        adopt(run.run_id, run.project)
    monkeypatch.delenv("RETRAINER_DVC_REMOTE")
    run.ingest(tmp_path)
    with pytest.raises(UserError, match=r"had no RETRAINER_DVC_REMOTE.*cluster.storage_secret"):
        adopt(run.run_id, run.project)
    assert not (run.project / "datasets" / f"{RECIPE}.dvc").exists()


@pytest.mark.slow
def test_a_remote_that_is_not_known_here_is_spelled_out(
    run: ClusterRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.submit()
    run.ingest(tmp_path)
    (run.project / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    adopt(run.run_id, run.project)
    assert "dvc remote add cluster s3://dvc/team" in capsys.readouterr().out


def test_an_unknown_run_is_refused_in_the_apis_words(run: ClusterRun) -> None:
    with pytest.raises(UserError, match="Kubeflow Pipelines refuses: HTTP 404: runs nowhere not found"):
        adopt("nowhere", run.project)


# --- what a server, or whoever can write into the object store, may try --------------------------------


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)
)
SOUND = (
    "outs:\n- {md5: "
    + "0" * 32
    + ".dir, size: 1, nfiles: 1, hash: md5, path: raw}\nmeta: {remote: 's3://dvc/team'}\n"
)


SPOILED = (
    "outs: [{md5: ../../x, size: 1, nfiles: 1}]",
    SOUND.replace("s3://dvc/team", "s3://b; rm -rf ~ #"),
    BOMB + "outs: *y\n",
    "outs: xx",
    "- not a mapping",
    SOUND.replace("size: 1", "size: big"),
    SOUND.replace("nfiles: 1, ", ""),
    SOUND.replace("meta: {", "meta: {remote: *x, ") + "x: &x [1]\n",
    SOUND + "#" * 70_000,
)


@pytest.mark.parametrize(
    "text", [*SPOILED[:3], *(pytest.param(one, marks=pytest.mark.slow) for one in SPOILED[3:])]
)
def test_a_pointer_that_ingest_does_not_write_leaves_no_trace(
    run: ClusterRun, tmp_path: Path, text: str
) -> None:
    run.submit()
    (tmp_path / "pointer").write_text(text)
    run.put("ingest", "pointer", tmp_path / "pointer")
    before = files_below(run.project)
    with pytest.raises(UserError, match="what ingest left as its pointer is not one that it writes"):
        adopt(run.run_id, run.project)
    assert files_below(run.project) == before


def test_only_the_known_keys_of_a_pointer_reach_the_checkout(run: ClusterRun, tmp_path: Path) -> None:
    run.submit()
    (tmp_path / "pointer").write_text(SOUND.replace("hash: md5", "hash: md5, remote: evil, cache: false"))
    run.put("ingest", "pointer", tmp_path / "pointer")
    adopt(run.run_id, run.project)
    (out,) = read_yaml(run.project / "datasets" / f"{RECIPE}.dvc")["outs"]  # type: ignore[misc]
    assert sorted(out) == ["hash", "md5", "nfiles", "path", "size"]


def test_a_server_that_answers_with_another_run_is_refused(run: ClusterRun) -> None:
    run.submit()
    victim = run.project / "victim"
    victim.write_text("mine")
    run.api.runs[run.run_id]["run_id"] = "x/../../victim"
    with pytest.raises(UserError, match="the server answers with another run"):
        adopt(run.run_id, run.project)
    assert victim.read_text() == "mine"
