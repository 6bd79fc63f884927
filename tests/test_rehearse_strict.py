"""What no cluster would survive turns a rehearsal red: real containers, under the launcher's rules."""

# No `from __future__ import annotations` here: kfp reads the annotations themselves, not their text.
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, kubernetes

from pipelines.containers.record import REHEARSALS, rehearsal
from pipelines.containers.rehearse import perform
from pipelines.kubeflow import section_text
from tests.rehearsal import IMAGE, SECRET, engine_with_image, no_servers, record_with

# Containers begin in seconds; the rules by themselves are in test_launcher.py, which is quick.
pytestmark = pytest.mark.slow

OUTPUT_FILE = dsl.PIPELINE_TASK_EXECUTOR_OUTPUT_PATH_PLACEHOLDER
EXECUTOR_INPUT = dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER
# The step's own way to what the launcher reads of its outputs.
TELL = """
import json, os, sys
model, asked = sys.argv[1], json.loads(sys.argv[2])
def tell(metadata):
    text = json.dumps({'artifacts': {'model': {'artifacts': [{'metadata': metadata}]}}})
    open(asked['outputs']['outputFile'], 'w').write(text)
"""


@pytest.fixture(scope="module", autouse=True)
def _engine() -> Iterator[None]:
    with engine_with_image():
        yield


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a pipeline; returns its run.json and what was shown."""

    def call(pipeline: Any) -> tuple[dict[str, Any], str]:
        record = record_with(tmp_path, pipeline)
        perform(record, no_servers)
        assert not (record.folder / "pods").exists(), "a pod's disk is freed"
        return rehearsal(tmp_path, record.run["id"]), capsys.readouterr().out

    return call


@dsl.container_component
def make(model: dsl.Output[dsl.Model], code: str) -> dsl.ContainerSpec:
    command = ["python3", "-uc", code]
    return dsl.ContainerSpec(image=IMAGE, command=command, args=[model.path, EXECUTOR_INPUT])


@dsl.container_component
def use(model: dsl.Input[dsl.Model], code: str) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "-uc", code], args=[model.path, EXECUTOR_INPUT])


@dsl.container_component
def tell_by_file(model: dsl.Output[dsl.Model]) -> dsl.ContainerSpec:
    code = "import sys; open(sys.argv[1], 'w').write('m'); open(sys.argv[2], 'w').write('{}')"
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "-c", code], args=[model.path, OUTPUT_FILE])


@dsl.container_component
def digest(sha256: dsl.OutputPath(str)) -> dsl.ContainerSpec:  # type: ignore[valid-type]
    code = "import sys; open(sys.argv[1], 'w').write('abc')"
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "-c", code], args=[sha256])


@dsl.container_component
def say(text: str) -> dsl.ContainerSpec:
    code = "import sys; print('said', *sys.argv[1:])"
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "-uc", code], args=[text])


@dsl.container_component
def notify(status: dsl.PipelineTaskFinalStatus, name: str) -> dsl.ContainerSpec:
    code = "import sys; print('told', *sys.argv[1:])"
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "-uc", code], args=[status, name])


def with_tmp(task: Any) -> Any:
    return kubernetes.empty_dir_mount(task, "tmp", "/tmp")


def one(code: str) -> Any:
    """A pipeline of a step with this code, and of one that uses what it made."""

    @dsl.pipeline(name="tiny")
    def tiny() -> None:
        made = with_tmp(make(code=code))
        with_tmp(use(model=made.output, code="print('used')"))

    return tiny


WRITE = TELL + "open(model, 'w').write('m')\n"
RED = {
    "null in metadata": (WRITE + "tell({'champion': None})", "its output model has null for champion"),
    "NaN in metadata": (WRITE + "tell({'loss': float('nan')})", "cannot be read: NaN is not JSON"),
    "a field that there is not": (
        WRITE + "open(asked['outputs']['outputFile'], 'w').write('{\"model\": 1}')",
        "cannot be read",
    ),
    "a file beside the code": (WRITE + "open('/output.json', 'w')", "it exited with 1"),
    "an empty directory": (TELL + "os.makedirs(model + '/empty')", "wrote nothing to its output model"),
    "a link to a directory": (
        TELL + "os.makedirs(model + '/a'); open(model + '/a/f', 'w'); os.symlink('a', model + '/b')",
        "/model/b is a link to a directory, which the launcher cannot upload",
    ),
    "a link to nothing": (TELL + "os.makedirs(model); os.symlink('x', model + '/b')", "is a link to nothing"),
    "a process left behind": (
        WRITE + "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)",
        "a process that it left behind holds its output (sleep 600)",
    ),
}


@pytest.mark.parametrize("case", RED)
def test_a_step_that_would_fail_on_a_cluster_fails(
    run: Callable[..., Any], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.containers.steps.PATIENCE_SECONDS", 2.0)
    code, reason = RED[case]
    told_of, shown = run(one(code))
    (step,) = told_of["steps"]
    assert told_of["state"] == step["state"] == "failed"
    assert reason in step["error"] and f"rehearsal: make failed: {step['error']}" in shown
    assert "use           not reached" in shown


def test_a_process_that_ends_soon_after_the_step_is_waited_for(run: Callable[..., Any]) -> None:
    code = WRITE + "import subprocess; subprocess.Popen(['sh', '-c', 'sleep 0.5; echo late'])"
    told_of, shown = run(one(code))
    assert told_of["state"] == "succeeded" and "[make] late" in shown


def test_the_placeholder_of_the_executor_output_alone_is_no_ones(run: Callable[..., Any]) -> None:
    @dsl.pipeline(name="tiny")
    def tiny() -> None:
        with_tmp(tell_by_file())

    told_of, shown = run(tiny)
    assert told_of["state"] == "failed" and told_of["steps"][0]["exit_code"] is None
    assert "{{$.outputs.output_file}} in its command is filled in by nobody on a cluster" in shown


def test_without_a_tmp_of_its_own_a_read_only_pod_does_not_begin(run: Callable[..., Any]) -> None:
    @dsl.pipeline(name="tiny")
    def bare() -> None:
        digest()

    told_of, _ = run(bare)
    assert told_of["steps"][0]["error"] == "the launcher cannot make /tmp/kfp/outputs: Read-only file system"

    @dsl.pipeline(name="tiny")
    def mounted() -> None:
        with_tmp(digest())

    told_of, _ = run(mounted)
    assert told_of["steps"][0]["results"] == {"sha256": "abc"}


def test_any_user_and_what_a_step_is_told(run: Callable[..., Any]) -> None:
    """Also of what the step before has made, as the metadata store gives it."""
    first = WRITE + "assert os.getuid() == 4711 and os.getgid() == 0; tell({'yes': True, 'rows': [1, 2]})"
    second = """
import json, os, sys
assert os.getuid() == 10001 and open(sys.argv[1]).read() == 'm'
open(sys.argv[1], 'w').write('its own copy')
artifact = json.loads(sys.argv[2])['inputs']['artifacts']['model']['artifacts'][0]
print(json.dumps([artifact['uri'], artifact['metadata']]))
assert os.environ['KFP_POD_NAME'] and not os.path.exists('/tmp/kfp')
"""

    @dsl.pipeline(name="tiny")
    def tiny() -> None:
        made = kubernetes.set_security_context(with_tmp(make(code=first)), run_as_user=4711)
        with_tmp(use(model=made.output, code=second))

    told_of, shown = run(tiny)
    assert told_of["state"] == "succeeded", shown
    line = next(line for line in shown.splitlines() if line.startswith("[use] ["))
    uri, metadata = json.loads(line.removeprefix("[use] "))
    assert uri.startswith("minio://mlpipeline/v2/artifacts/tiny/") and uri.endswith("/model")
    assert (metadata["yes"], metadata["rows"]) == (1, {"list": [1, 2]})
    made, used = told_of["steps"]
    assert used["inputs"]["model"] == made["outputs"]["model"]
    assert Path(made["outputs"]["model"]["path"]).read_text() == "m"


def saying(text: str) -> Any:
    @dsl.pipeline(name="tiny")
    def tiny(text: str = text) -> None:
        with_tmp(say(text=text))

    return tiny


def test_a_secret_named_in_a_setting_is_neither_expanded_nor_shown(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    setting = "$(PASSWORD) $(GREETING) $$ {{$.inputs.parameters['text']}} {{workflow.uid}} \\ \" ü"
    told_of, shown = run(saying(setting))
    assert told_of["state"] == "failed"
    assert "Kubernetes would write the secret PASSWORD into its command" in shown
    told_of, shown = run(saying("$(GREETING) $$ $(NONE)"))
    assert "[say] said hello $ $(NONE)" in shown, "as the kubelet does"
    told_of, shown = run(saying(section_text({"x": setting})))
    assert told_of["state"] == "succeeded", shown
    said = next(line for line in shown.splitlines() if line.startswith("[say] said"))
    assert json.loads(said.removeprefix("[say] said ")) == {"x": setting}
    written = [path for path in (tmp_path / REHEARSALS).rglob("*") if path.is_file()]
    assert written and not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_a_macro_that_nobody_fills_in(run: Callable[..., Any]) -> None:
    told_of, shown = run(saying("[[ScheduledTime]]"))
    assert told_of["state"] == "failed"
    assert "rehearsal: say failed: its parameter text holds [[ScheduledTime]]" in shown


@pytest.mark.parametrize("breaks", [False, True])
def test_conditions_and_the_exit_task(run: Callable[..., Any], breaks: bool) -> None:
    @dsl.pipeline(name="tiny")
    def tiny(name: str = "it") -> None:
        with dsl.ExitHandler(with_tmp(notify(name=name))):
            decided = with_tmp(digest())
            with dsl.If(decided.output == "abc"):
                with_tmp(make(code=WRITE + ("1/0" if breaks else "")))
            with dsl.Else():
                with_tmp(say(text="never"))

    told_of, shown = run(tiny)
    assert [step["name"] for step in told_of["steps"]] == ["digest", "make", "notify"]
    assert told_of["state"] == ("failed" if breaks else "succeeded")
    told = next(line for line in shown.splitlines() if line.startswith("[notify] told"))
    status = json.loads(told.removeprefix("[notify] told ").removesuffix(" it"))
    assert status["state"] == ("FAILED" if breaks else "COMPLETE")
    assert "say           left out" in shown
    assert ("rehearsal: make failed: it exited with 1" in shown) is breaks


@dsl.container_component
def post() -> dsl.ContainerSpec:
    code = "import os, urllib.request as r; r.urlopen(os.environ['RETRAINER_WEBHOOK'], b'{\\n}').read()"
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "-uc", f"{code}; print(os.environ)"])


def test_a_webhook_of_its_own_for_the_step_whose_secret_names_it(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    @dsl.pipeline(name="tiny")
    def tiny() -> None:
        keys = {"RETRAINER_WEBHOOK": "RETRAINER_WEBHOOK"}
        kubernetes.use_secret_as_env(with_tmp(post()), "chat", keys)

    told_of, shown = run(tiny)
    assert told_of["state"] == "succeeded", shown
    (said,) = tmp_path.rglob("webhook.jsonl")
    assert said.read_text() == "{ }\n" and "/***" in shown, "the address is a secret"


def test_a_secret_without_what_a_step_needs_starts_no_pod(run: Callable[..., Any]) -> None:
    @dsl.pipeline(name="tiny")
    def tiny() -> None:
        kubernetes.use_secret_as_env(with_tmp(digest()), "mlflow", {"OTHER": "OTHER"})

    told_of, _ = run(tiny)
    assert told_of["steps"][0]["error"] == "its secret has no OTHER: the pod would not start"
