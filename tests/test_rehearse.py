"""Rehearsals in real containers: green, and red for each way in which a step can fail."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.cluster.replay import replay
from pipelines.containers import record as records
from pipelines.containers import rehearse
from pipelines.containers.background import Background
from pipelines.containers.docker_api import OWNER, StepFailed, _lines, engine, told
from pipelines.containers.docker_api import run as run_container
from pipelines.containers.images import built
from pipelines.containers.loopback import serve
from pipelines.containers.record import Record, artifact_sha256, rehearsal, remove_old
from pipelines.containers.rehearse import perform
from retrainer.errors import UserError
from retrainer.resolve import settle
from retrainer.services.processes import this_process
from retrainer.settings import Compute
from tests.conftest import ROOT
from tests.project import RECIPE, make_project
from tests.project import run as run_project
from tests.rehearsal import IMAGE, SECRET, engine_with_image, no_servers, record_of

CANARY = "0123456789abcdef" * 3
WRITE = "import sys; open(sys.argv[1], 'w').write('made')"
WAIT = "import time; print('ready'); time.sleep(60)"


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with engine_with_image() as found:
        yield found


@pytest.fixture
def run(client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a chain of steps; returns the exit status, run.json and what was shown."""

    def call(*codes: str, **options: Any) -> tuple[int, dict[str, Any], str]:
        record = record_of(tmp_path, *codes, **options)
        status = perform(record, no_servers)
        assert containers_of(client, record.run["owner"]) == []
        return status, rehearsal(tmp_path, record.run["id"]), capsys.readouterr().out

    return call


def containers_of(client: Any, of: str) -> list[Any]:
    return list(client.containers.list(all=True, filters={"label": f"{OWNER}={of}"}, sparse=True))


def test_a_rehearsal_that_succeeds_leaves_its_outputs_and_log_without_secrets(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    copy = (
        "import os, shutil, sys; os.mkdir(sys.argv[1]); shutil.copy(sys.argv[2], sys.argv[1]); print('ünder')"
    )
    status, told_of, shown = run(f"import os; print(dict(os.environ)); {WRITE}", copy)
    assert status == 0 and told_of["state"] == "succeeded"
    first, second = told_of["steps"]
    assert (first["name"], first["state"], first["exit_code"], first["image"]) == (
        "step-a",
        "succeeded",
        0,
        IMAGE,
    )
    assert Path(first["outputs"]["a"]["path"]).read_text() == "made"
    assert second["inputs"]["a"] == first["outputs"]["a"]
    assert first["outputs"]["a"]["sha256"] == artifact_sha256(Path(first["outputs"]["a"]["path"]))
    assert second["outputs"]["b"]["type"] == "system.Dataset"
    assert "[step-b] ünder" in shown and "[step-b] ünder" in log_of(told_of)
    assert "─" in shown and "succeeded" in shown
    # Secrets are masked in what is shown, and stand in no file.
    assert "'PASSWORD': '***'" in shown and "'GREETING': 'hello'" in shown
    folder = tmp_path / records.REHEARSALS / told_of["id"]
    assert [path for path in folder.rglob("*") if path.is_file() and SECRET in path.read_text()] == []


def log_of(told_of: dict[str, Any]) -> str:
    artifact = Path(told_of["steps"][0]["outputs"]["a"]["path"])
    folder = next(parent for parent in artifact.parents if parent.name == told_of["id"])
    return (folder / "rehearsal.log").read_text()


@pytest.mark.slow
def test_a_step_runs_as_on_a_cluster(run: Callable[..., Any], client: Any) -> None:
    code = """
import os, pathlib, sys
facts = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)
assert os.getuid() == 10001, os.getuid()
assert facts['NoNewPrivs'].strip() == '1' and int(facts['CapBnd'], 16) == 0
try: open('/etc/anything', 'w')
except OSError as error: assert error.errno == 30, error
else: raise SystemExit('the root file system can be written')
open('/tmp/anything', 'w').write('x')
shared = os.statvfs('/dev/shm'); assert shared.f_blocks * shared.f_frsize == 2**26
assert os.environ['GREETING'] == 'hello'
limits = [pathlib.Path('/sys/fs/cgroup', name) for name in ('memory.max', 'memory/memory.limit_in_bytes')]
print('limit', *[limit.read_text().strip() for limit in limits if limit.exists()])
open(sys.argv[1], 'w').write('made')
"""
    status, _, shown = run(code, memory="96Mi")
    assert status == 0, shown
    if client.info().get("MemoryLimit"):
        assert f"[step-a] limit {96 * 2**20}" in shown


FAILURES = {
    "exits 3": (
        "import sys; print(*(f'line {n}' for n in range(100)), sep='\\n');"
        " print('last words', end='', flush=True); print('its error', file=sys.stderr); sys.exit(3)",
        3,
        "it exited with 3; a cluster is told exit code 1",
    ),
    "raises": ("1/0", 1, "it exited with 1"),
    "no such program": ("", None, "no-such-program cannot be started: No such file or directory"),
    "writes nothing": ("print('done')", 0, "wrote nothing to its output a"),
    "writes an empty file": ("import sys; open(sys.argv[1], 'w')", 0, "wrote nothing to its output a"),
    "writes nonsense beside it": (
        "import os, sys; open(os.path.dirname(sys.argv[1]) + '/output_metadata.json', 'w').write('{')",
        0,
        "what it wrote about its outputs cannot be read",
    ),
    "writes an empty folder": ("import os, sys; os.mkdir(sys.argv[1])", 0, "wrote nothing to its output a"),
}


@pytest.mark.parametrize(
    "case",
    [
        "exits 3",
        pytest.param("writes nothing", marks=pytest.mark.slow),
        *(
            pytest.param(case, marks=pytest.mark.release)
            for case in [*FAILURES][1:]
            if case != "writes nothing"
        ),
    ],
)
def test_a_failed_step_fails_the_rehearsal(
    run: Callable[..., Any], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, exit_code, reason = FAILURES[case]
    if case == "no such program":
        monkeypatch.setattr("tests.rehearsal.PYTHON", "no-such-program")
    status, told_of, shown = run(code, WRITE)
    assert status == 1 and told_of["state"] == "failed"
    (step,) = told_of["steps"]
    assert (step["state"], step["exit_code"]) == ("failed", exit_code)
    assert reason in step["error"] and f"rehearsal: step-a failed: {step['error']}" in shown
    assert "step-b        not reached" in shown and told_of["id"] in shown
    if case == "exits 3":  # its last lines are shown again
        again = shown.partition("the last lines of step-a:")[2]
        assert "its error" in again and "    line 99" in again
        assert "    last words" in again and "    line 10\n" not in again


@pytest.mark.slow
@pytest.mark.parametrize("act", ["kill", "remove"])
def test_a_container_ended_from_outside(
    run: Callable[..., Any], client: Any, tmp_path: Path, act: str
) -> None:
    def interfere() -> None:
        # Its lines arrive: the SDK leaves a connection open where a container goes before it is listened to.
        wait_for(lambda: any("ready" in log.read_text() for log in tmp_path.rglob("rehearsal.log")))
        (mine,) = containers_of(client, this_process())
        mine.kill() if act == "kill" else mine.remove(force=True)

    outside = threading.Thread(target=interfere)
    outside.start()
    status, told_of, shown = run(WAIT)
    outside.join()
    (step,) = told_of["steps"]
    assert status == 1 and step["state"] == "failed" and step["error"] in shown
    killed = (137, "it was killed by SIGKILL, perhaps for lack of memory (exit code 137)")
    vanished = (None, "its container vanished: something outside the rehearsal removed it")
    # Removing kills first, and the exit code may be read in between.
    assert (step["exit_code"], step["error"]) in ([killed] if act == "kill" else [killed, vanished])


@pytest.mark.slow
def test_a_container_that_vanished_has_not_succeeded(client: Any) -> None:
    def remove(_: str) -> None:
        containers_of(client, "here:1:1")[0].remove(force=True)

    with pytest.raises(StepFailed, match="its container vanished"):
        run_container(client, IMAGE, ["python3", "-uc", WAIT], remove, labels={OWNER: "here:1:1"})


def wait_for(ready: Callable[[], Any], seconds: float = 20) -> Any:
    until = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < until, "it never came"
        time.sleep(0.1)
    return found


@pytest.mark.slow
def test_a_step_out_of_memory_is_reported_as_killed(run: Callable[..., Any], client: Any) -> None:
    if not client.info().get("MemoryLimit"):
        pytest.skip("this engine cannot limit memory")
    status, told_of, _ = run("print(len(bytearray(2**28)))", memory="64Mi")
    assert status == 1 and "perhaps for lack of memory" in told_of["steps"][0]["error"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_ended_rehearsal_leaves_nothing_running(
    client: Any, tmp_path: Path, number: signal.Signals
) -> None:
    """The process is ended while its step runs. Where there is podman, it has started that itself."""
    folder = tmp_path / "it"
    own_engine = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    servers = "servers" if number == signal.SIGKILL else "none"
    command = [sys.executable, "-m", "tests.rehearsal", str(folder), WAIT, servers]
    with subprocess.Popen(command, cwd=ROOT, env=own_engine, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if "ready" in line:
                break
        (name,) = [path.name for path in (folder / records.REHEARSALS).iterdir()]
        of = rehearsal(folder, name)["owner"]
        assert len(containers_of(client, of)) == 1
        assert len(programs_in(folder)) >= (2 if servers == "servers" else 0)
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(30) == (-9 if number == signal.SIGKILL else 130)
    wait_for(lambda: not containers_of(client, of) and not programs_in(folder))
    told_of = rehearsal(folder, name)
    assert told_of["state"] == "interrupted"
    assert told_of["steps"][0]["state"] == ("running" if number == signal.SIGKILL else "interrupted")


def programs_in(folder: Path) -> list[str]:
    """Command lines of the servers whose files lie there."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(folder) in words and "tests.rehearsal" not in words:
            found.append(words)
    return found


@pytest.mark.slow
def test_only_containers_of_the_dead_are_removed(client: Any) -> None:
    where, pid, born = this_process().rsplit(":", 2)
    gone = subprocess.Popen(["true"])
    gone.wait()
    owners = {
        "mine": this_process(),
        "dead": f"{where}:{gone.pid}:{born}",
        "reborn": f"{where}:{pid}:1",
        "of another machine": f"elsewhere/1:{gone.pid}:{born}",
    }
    made = {}
    for name, label in owners.items():
        made[name] = client.containers.create(IMAGE, ["sleep", "60"], labels={OWNER: label})
    try:
        with Background() as background, engine(background, [IMAGE], "nobody:1:1"):
            left = {c.id for c in client.containers.list(all=True, filters={"label": OWNER}, sparse=True)}
        assert [name for name in made if made[name].id in left] == ["mine", "of another machine"]
    finally:
        for container in client.containers.list(all=True, filters={"label": OWNER}, sparse=True):
            if container.id in {each.id for each in made.values()}:
                container.remove(force=True)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Path]]:
    folder = tmp_path_factory.mktemp("served")
    with Background() as background:
        services = serve(background, folder)
        values = {*services.environment.values()}
        assert set(services.secrets) <= values
        yield services.environment, folder


@pytest.mark.slow
def test_mlflow_keeps_its_files_in_s3(
    served: tuple[dict[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    environment, folder = served
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    mlflow = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    kept = mlflow.create_run(mlflow.create_experiment("one")).info
    mlflow.log_text(kept.run_id, "of the run", "notes/note.txt")
    assert kept.artifact_uri.startswith("s3://mlflow/")
    assert [path.read_text() for path in (folder / "s3").rglob("note.txt")] == ["of the run"]


@pytest.mark.slow
def test_s3_asks_for_the_key(served: tuple[dict[str, str], Path]) -> None:
    import boto3
    from botocore.exceptions import ClientError

    environment, _ = served
    keys = (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    for key, secret in (keys[::-1], (keys[0], "guessed")):
        s3 = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )
        with pytest.raises(ClientError):
            s3.list_buckets()


@pytest.mark.slow
def test_no_key_on_a_command_line_or_on_disk(served: tuple[dict[str, str], Path]) -> None:
    environment, folder = served
    keys = [environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]]
    lines = programs_in(folder)
    assert len(lines) >= 2 and not any(key in line for key in keys for line in lines)
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(key.encode() in content for key in keys for content in written)


@pytest.mark.slow
def test_an_image_that_kubernetes_would_refuse(client: Any, tmp_path: Path) -> None:
    made = client.containers.create(IMAGE, ["true"])
    try:
        made.commit("localhost/retrainer-tests", "root", changes="USER root")
    finally:
        made.remove()
    try:
        with pytest.raises(UserError, match=r"runs as root: .* set USER"):
            perform(record_of(tmp_path, WRITE, image="localhost/retrainer-tests:root"), no_servers)
    finally:
        client.images.remove("localhost/retrainer-tests:root")


@pytest.mark.usefixtures("client")
def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    record = record_of(tmp_path, WRITE, image="localhost/no-such:1")
    with pytest.raises(UserError, match="localhost/no-such:1 is not on this machine; run make images"):
        perform(record, no_servers)
    assert rehearsal(tmp_path, record.run["id"])["state"] == "failed"


def test_an_engine_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(UserError, match=r"DOCKER_HOST=unix://.* does not answer"):
        perform(record_of(tmp_path, WRITE), no_servers)


def test_a_program_that_does_not_start(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    with Background() as background:
        with pytest.raises(UserError, match="no-such-program cannot be started"):
            background.start(["no-such-program"], {}, log)
        number = background.start(["sh", "-c", "echo no room >&2; exit 1"], dict(os.environ), log)
        with pytest.raises(UserError, match=r"it did not start; .*it\.log ends: no room"):
            background.wait_until(number, lambda: False, log)


def test_the_newest_five_are_kept(tmp_path: Path) -> None:
    made = [Record(tmp_path, "tiny") for _ in range(8)]
    for number, record in enumerate(made):
        record.run["started"] = f"2026-01-0{number + 1}T00:00:00+00:00"
        if number != 7:  # all but the newest came to a step
            record.run["steps"] = [{}]
        if number != 1:
            record.finish("succeeded")
    said = remove_old(tmp_path)
    gone = [record for record in made if not record.folder.exists()]
    assert gone == [made[0], made[7]]  # the second still runs
    assert said == [f"removed {made[0].folder}", f"removed {made[7].folder}"]


def test_an_unknown_rehearsal(tmp_path: Path) -> None:
    made = Record(tmp_path, "tiny")
    with pytest.raises(UserError, match=f"RUN=tiny-2026: there is no such rehearsal.*'?{made.run['id']}"):
        rehearsal(tmp_path, "tiny-2026")


def test_a_digest_tells_folders_apart(tmp_path: Path) -> None:
    for name, inside in (("one", "a"), ("two", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / inside).write_text("x")
    assert artifact_sha256(tmp_path / "one") != artifact_sha256(tmp_path / "two")
    assert artifact_sha256(tmp_path / "none") == ""


def test_lines_are_whole_however_the_stream_is_cut() -> None:
    text = "eins\nzwölf\n\nohne Ende"
    for size in (1, 3, 100):
        cut = [text.encode()[at : at + size] for at in range(0, len(text.encode()), size)]
        assert list(_lines(cut)) == ["eins", "zwölf", "", "ohne Ende"]


@pytest.mark.parametrize(
    ("code", "words"), [(3, "it exited with 3"), (143, "SIGTERM (exit code 143)"), (255, "signal 127")]
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert words in told(code)


UNSUITED = {
    "backbone.weights=models:/x@champion": r"backbone\.weights: models:/x@champion lies in your registry",
    "compute.device=cuda": r"compute\.device: cuda, but .* add SET=compute\.device=cpu",
    "source={path: no/such.csv}": r"SET=source=.*: expected section\.key=value",
    "source.path=no/such.csv": r"source\.path: there is nothing at .*no/such\.csv",
}


@pytest.mark.parametrize("setting", UNSUITED)
def test_what_cannot_be_rehearsed_is_said_before_anything_runs(tmp_path: Path, setting: str) -> None:
    for name in ("recipes", "plugins"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with pytest.raises(UserError, match=UNSUITED[setting]):
        rehearse.rehearse("digits-mlp", [setting], tmp_path, {"full": "a:1", "light": "b:1"})
    assert not (tmp_path / "build" / "rehearsals").exists()


def test_what_a_rehearsal_overrides_are_settings() -> None:
    sections = settle("digits-mlp", [], ROOT)[1]
    compute = sections["compute"]
    assert isinstance(compute, Compute)
    again = settle("digits-mlp", rehearse._of_this_machine(compute), ROOT)[1]
    assert again.keys() == sections.keys()


@pytest.mark.slow
def test_a_registry_that_disagrees_fails_the_rehearsal(
    served: tuple[dict[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served[0]["MLFLOW_TRACKING_URI"])
    record = Record(tmp_path, "tiny")
    said = {"name": "tiny", "version": 1.0, "alias": "champion", "model_sha256": "0" * 64}
    record.begin("register", IMAGE, {}, {})
    record.end("succeeded", outputs={"registration": {"metadata": said}})
    with pytest.raises(StepFailed, match="the registry does not hold it"):
        rehearse._registered(record)


@pytest.fixture
def images() -> dict[str, str]:
    try:
        return built(ROOT)
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.release
@pytest.mark.timeout(900)
def test_the_model_is_the_one_of_make_pipeline(
    images: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the project's own images, on files of this machine; CI rehearses a recipe on a package's data."""
    project = make_project(tmp_path / "project")
    chosen = ["training.epochs=3", "compute.device=cpu", "compute.dtype=float32"]
    monkeypatch.setattr("pipelines.containers.loopback.secrets.token_hex", lambda size: CANARY[: 2 * size])
    monkeypatch.chdir(project)
    status = rehearse.rehearse(RECIPE, chosen, project, images)
    shown = capsys.readouterr().out
    assert status == 0, shown
    (folder,) = (project / records.REHEARSALS).iterdir()
    told_of = rehearsal(project, folder.name)
    steps = {step["name"]: step for step in told_of["steps"]}
    assert list(steps) == ["ingest", "preprocess", "train", "evaluate", "register"]
    check_dashboard(steps)
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in written if CANARY[:20].encode() in path.read_bytes()] == []

    settings = [word for pair in chosen for word in ("--set", pair)]
    run_project(project, "pipeline", "--recipe", RECIPE, *settings)
    here = json.loads((project / "runs" / RECIPE / "model" / "manifest.json").read_text())["model_sha256"]
    assert steps["train"]["results"]["model_sha256"] == here and here in shown


def check_dashboard(steps: dict[str, dict[str, Any]]) -> None:
    """What Kubeflow's pages draw, in the forms that they know."""
    dataset = steps["preprocess"]["outputs"]["dataset"]["metadata"]
    assert {"rows", "content_sha256", "git_commit", "image"} <= dataset.keys()
    assert {"model_sha256", "git_commit", "image"} <= steps["train"]["outputs"]["model"]["metadata"].keys()
    shown = steps["evaluate"]["outputs"]
    kinds = {"html": "system.HTML", "metrics": "system.Metrics", "confusion": "system.ClassificationMetrics"}
    assert {port: shown[port]["type"] for port in kinds} == kinds
    metrics, confusion = shown["metrics"]["metadata"], shown["confusion"]["metadata"]
    assert 0 < metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"] <= 1
    names = [each["displayName"] for each in confusion["confusionMatrix"]["annotationSpecs"]]
    rows = [each["row"] for each in confusion["confusionMatrix"]["rows"]]
    assert [len(row) for row in rows] == [len(names)] * len(names)
    assert sum(map(sum, rows)) == metrics["test_rows"]
    points = confusion["confidenceMetrics"]
    assert points[0]["falsePositiveRate"] == points[0]["recall"] == 0
    assert points[-1]["falsePositiveRate"] == points[-1]["recall"] == 1
    assert all(math.isfinite(value) for point in points for value in point.values())
    page = Path(shown["html"]["path"]).read_text()
    assert "<html" in page and not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", page)


@pytest.mark.release
@pytest.mark.timeout(600)
def test_what_fails_in_its_container_fails_the_same_way_in_a_replay(
    images: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path / "project")
    monkeypatch.chdir(project)
    wrong = ["training.epochs=2", "training.learning_rate=1e30", "training.clip_norm=0"]
    assert rehearse.rehearse("digits-mlp", wrong, project, images) == 1
    (folder,) = (project / records.REHEARSALS).iterdir()
    failed = rehearsal(project, folder.name)["steps"][-1]
    assert (failed["name"], failed["exit_code"]) == ("train", 2)
    assert "the loss is no longer a number" in capfd.readouterr().out
    assert replay(folder.name, "train", project) == 2
    assert "the loss is no longer a number" in capfd.readouterr().err
