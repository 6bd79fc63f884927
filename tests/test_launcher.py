"""The rules of Kubeflow's driver and launcher, one by one and without a container.

What is expected was printed by the functions of kubeflow/pipelines 2.17.0 themselves, for the same cases.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.containers.backend import driver, in_pod, launcher
from pipelines.containers.backend.conditions import holds
from pipelines.containers.backend.driver import Dag, Execution, Job
from pipelines.containers.backend.kubelet import expand, expand_words
from pipelines.containers.backend.values import argument_text, as_value, json_text, plain_text, value_of
from pipelines.containers.docker_api import StepFailed

NUMBERS = {
    5.0: ("5", "5", "5"),
    1234567.5: ("1.2345675e+06", "1234567.5", "1234567.5"),
    1e-5: ("1e-05", "0.00001", "0.00001"),
    1e-7: ("1e-07", "1e-7", "0.0000001"),
    1e20: ("1e+20", "100000000000000000000", "100000000000000000000"),
    1.5e22: ("1.5e+22", "1.5e+22", "15000000000000000000000"),
    -0.5: ("-0.5", "-0.5", "-0.5"),
}


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_are_written_as_go_writes_them(number: float) -> None:
    assert (argument_text(number), json_text(number), plain_text(number)) == NUMBERS[number]


def test_sections_as_structures_come_as_the_driver_writes_them() -> None:
    section = as_value({"b": 7, "a": "<x> & é", "c": [True, None, {}]})
    assert argument_text(section) == '{"a":"\\u003cx\\u003e \\u0026 é","b":7,"c":[true,null,{}]}'


EXECUTOR_INPUT: dict[str, Any] = {
    "inputs": {
        "parameterValues": {"n": 7.0, "text": "a 'b' $c"},
        "artifacts": {"raw": {"artifacts": [{"uri": "minio://bucket/run/raw", "metadata": {}}]}},
    },
    "outputs": driver.provision(
        {
            "outputDefinitions": {
                "artifacts": {"model": {"artifactType": {"schemaTitle": "system.Model"}}},
                "parameters": {"digest": {"parameterType": "STRING"}},
            }
        },
        "s3://bucket/run/train/salt",
    ),
}


def test_the_launchers_placeholders_are_filled_in() -> None:
    words = [
        "python",
        "{{$.inputs.parameters['n']}}",
        "x-{{$.inputs.parameters['text']}}",
        "{{$.inputs.artifacts['raw'].path}}",
        "{{$.inputs.artifacts['raw'].uri}}",
        "{{$.outputs.artifacts['model'].path}}",
        "{{$.outputs.parameters['digest'].output_file}}",
        "{{$}}",
    ]
    *filled, whole = launcher.command(words, EXECUTOR_INPUT, {})
    assert filled == [
        "python",
        "7",
        "x-a 'b' $c",
        "/minio/bucket/run/raw",
        "minio://bucket/run/raw",
        "/s3/bucket/run/train/salt/model",
        "/tmp/kfp/outputs/digest",
    ]
    assert json.loads(whole)["outputs"]["outputFile"] == "/s3/bucket/run/train/salt/output_metadata.json"
    assert json.loads(whole)["outputs"]["artifacts"]["executor-logs"]


@pytest.mark.parametrize(
    "word",
    [
        "{{$.outputs.output_file}}",
        "{{$.outputs.output_metadata_uri}}",
        "{{$.inputs.parameters['other']}}",
        "{{$.inputs.artifacts['raw'].metadata}}",
        "{{$.pipeline_job_uuid}}",
        "{{workflow.uid}}",
        "{{$",
    ],
)
def test_any_other_placeholder_is_a_failure(word: str) -> None:
    with pytest.raises(StepFailed, match="is filled in by nobody on a cluster"):
        launcher.command(["python", word], EXECUTOR_INPUT, {})


def test_in_a_programs_name_only_the_whole_input_is_filled_in() -> None:
    with pytest.raises(StepFailed, match="filled in by nobody"):
        launcher.command(["{{$.inputs.parameters['n']}}"], EXECUTOR_INPUT, {})


def test_the_driver_leaves_words_with_outputs_to_the_launcher() -> None:
    words = ["{{$.inputs.parameters['n']}}", "{{$.inputs.parameters['n']}} {{$.outputs.artifacts['m'].path}}"]
    assert driver.pod_arguments(words, {"n": 7.0}) == ["7", words[1]]
    with pytest.raises(StepFailed, match="has no such parameter"):
        driver.pod_arguments(words, {})


METADATA = '{"artifacts": {"model": {"artifacts": [{"metadata": %s}]}}}'


@pytest.mark.parametrize(
    "text",
    [
        METADATA % '{"a": NaN}',
        METADATA % '{"a": [-Infinity]}',
        METADATA % '{"a": 1e999}',
        METADATA % '{"a": 1, "a": 2}',
        METADATA % r'{"a": "\ud800"}',
        METADATA % "[]",
        '{"artefacts": {}}',
        '{"artifacts": {"model": 1}}',
        "{} {}",
        "[]",
        "null",
        "",
    ],
)
def test_an_executor_output_that_the_launcher_cannot_read(text: str) -> None:
    with pytest.raises(StepFailed, match="what it wrote about its outputs cannot be read"):
        launcher.executor_output(text)


def test_no_executor_output_is_none() -> None:
    assert launcher.executor_output(None) == launcher.executor_output("{}") == {}


def test_metadata_comes_to_the_next_step_as_the_store_gives_it() -> None:
    told = launcher.executor_output(METADATA % '{"n": 3, "yes": true, "rows": [1, null], "of": {"a": null}}')
    artifact = launcher.output_artifacts(EXECUTOR_INPUT["outputs"], told)["model"]
    stored = launcher.published(artifact, 7)
    assert (stored["name"], stored["uri"]) == ("7", "s3://bucket/run/train/salt/model")
    assert {key: stored["metadata"][key] for key in ("n", "yes", "rows", "of")} == {
        "n": 3.0,
        "yes": 1.0,
        "rows": {"list": [1.0, None]},
        "of": {"struct": {"a": None}},
    }


def test_a_null_in_metadata_fails_the_step() -> None:
    told = launcher.executor_output(METADATA % '{"champion": null}')
    artifact = launcher.output_artifacts(EXECUTOR_INPUT["outputs"], told)["model"]
    with pytest.raises(StepFailed, match="its output model has null for champion"):
        launcher.published(artifact, 1)


def test_an_output_that_is_to_lie_elsewhere_is_refused() -> None:
    told = launcher.executor_output('{"artifacts": {"model": {"artifacts": [{"uri": "s3://other"}]}}}')
    with pytest.raises(StepFailed, match="puts its output model elsewhere"):
        launcher.output_artifacts(EXECUTOR_INPUT["outputs"], told)


GOOD = {
    ("STRING", " 5\n"): " 5\n",
    ("NUMBER_INTEGER", " +5\n"): 5.0,
    ("NUMBER_INTEGER", "9007199254740993"): 9007199254740992.0,
    ("NUMBER_DOUBLE", "1e3"): 1000.0,
    ("BOOLEAN", " True "): True,
    ("BOOLEAN", "f"): False,
    ("LIST", '[1, "x"]'): [1.0, "x"],
    ("STRUCT", '{"a": 1}'): {"a": 1.0},
}


@pytest.mark.parametrize(("kind", "text"), GOOD)
def test_output_parameters_are_read_by_their_types(kind: str, text: str) -> None:
    component = {"outputDefinitions": {"parameters": {"x": {"parameterType": kind}}}}
    read = launcher.output_parameters(component, {}, {"x": text})["x"]
    assert read == GOOD[kind, text] and type(read) is type(GOOD[kind, text])
    assert launcher.output_parameters(component, {"parameterValues": {"x": "said"}}, {"x": text}) == {
        "x": "said"
    }
    with pytest.raises(StepFailed, match="wrote nothing to its output x"):
        launcher.output_parameters(component, {}, {})


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("NUMBER_INTEGER", "5.0"),
        ("NUMBER_INTEGER", "- 5"),
        ("NUMBER_DOUBLE", "NaN"),
        ("BOOLEAN", "yes"),
        ("LIST", "{}"),
        ("STRUCT", "[]"),
        ("STRUCT", '{"a": NaN}'),
        ("TASK_FINAL_STATUS", "{}"),
    ],
)
def test_an_output_parameter_of_another_type_fails_the_step(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        value_of(text, kind)


# --- files ---------------------------------------------------------------------------------------------


def uploaded(local: Path) -> dict[str, str]:
    """What arrives at the next step."""
    stored, arrived = local.with_name("stored"), local.with_name("arrived")
    in_pod.upload(local, stored)
    in_pod.download(stored, arrived)
    return {str(path.relative_to(arrived)): path.read_text() for path in arrived.rglob("*") if path.is_file()}


def test_which_files_of_a_directory_reach_the_next_step(tmp_path: Path) -> None:
    local = tmp_path / "local"
    (local / "deep" / "er").mkdir(parents=True)
    (local / "empty").mkdir()
    (local / "deep" / "er" / "file").write_text("x")
    (local / "zero").write_text("")
    (local / "link").symlink_to(local / "deep" / "er" / "file")
    assert uploaded(local) == {"deep/er/file": "x", "zero": "", "link": "x"}
    assert not (tmp_path / "arrived" / "empty").exists()
    assert not (tmp_path / "arrived" / "link").is_symlink()


def test_an_empty_directory_does_not_arrive(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    assert uploaded(tmp_path / "local") == {} and not (tmp_path / "arrived").exists()


@pytest.mark.parametrize(
    ("to", "reason"),
    [(".", "a link to a directory"), ("nowhere", "a link to nothing"), ("/dev/null", "is no file")],
)
def test_links_that_the_launcher_cannot_upload(tmp_path: Path, to: str, reason: str) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "link").symlink_to(to)
    with pytest.raises(in_pod.Failed, match=reason):
        in_pod.upload(tmp_path / "local", tmp_path / "stored")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(in_pod.Failed, match=r"the launcher cannot make .*/file/outputs: Not a directory"):
        in_pod.make_folders([str(tmp_path / "file" / "outputs")])


# --- kubelet -------------------------------------------------------------------------------------------


def test_what_the_kubelet_expands() -> None:
    cases = {
        "$(A)": "1",
        "$$(A)": "$(A)",
        "$$": "$",
        "$$$$": "$$",
        "$(B)": "$(B)",
        "$A": "$A",
        "$(A": "$(A",
        "x$(A)y$": "x1y$",
        "$()": "$()",
    }
    assert {text: expand(text, {"A": "1"}) for text in cases} == cases


def test_a_secret_never_comes_into_a_command() -> None:
    assert expand_words(["$(A)"], {"A": "1"}, ("2",)) == ["1"]
    with pytest.raises(StepFailed, match="write the secret A into its command") as failed:
        expand_words(["--x=$(A)"], {"A": "hidden"}, ("hidden",))
    assert "hidden" not in str(failed.value)


# --- conditions and inputs -----------------------------------------------------------------------------

VERDICT = "inputs.parameter_values['decide-verdict']"
CONDITIONS = {
    f"{VERDICT} == 'train'": True,
    f"{VERDICT} != 'train'": False,
    f"!({VERDICT} == 'train')": False,
    f"{VERDICT} == ' && '": False,
    "int(inputs.parameter_values['n']) == 3": True,
    "!(inputs.parameter_values['ok'] == false) && int(inputs.parameter_values['n']) > 2": True,
    f"{VERDICT} == 'train' && !(int(inputs.parameter_values['n']) != 4)": False,
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_of_kfps_compiler(condition: str) -> None:
    given = {"decide-verdict": "train", "n": 3.0, "ok": True}
    assert holds(condition, given) is CONDITIONS[condition]


@pytest.mark.parametrize(
    "condition", ["size('x') == 1", f"{VERDICT} == 'a' || true", f"!({VERDICT} == 'a'", ""]
)
def test_a_condition_of_another_form_is_refused(condition: str) -> None:
    with pytest.raises(StepFailed, match="of a form that a rehearsal does not imitate"):
        holds(condition, {"decide-verdict": "a"})


JOB = Job("retrainer-x", "run-1", "2026-01-31T23:59:59Z", "minio://bucket/run-1")


def resolved(value: Any, kind: str = "STRING", **declared: Any) -> Any:
    task = {"inputs": {"parameters": {"x": {"runtimeValue": {"constant": value}}}}}
    component = {"inputDefinitions": {"parameters": {"x": {"parameterType": kind, **declared}}}}
    parameters, _ = driver.resolve(Dag(component={"dag": {"tasks": {"it": task}}}), "it", component, JOB)
    return parameters["x"]


def test_constants_that_stand_for_the_run() -> None:
    assert resolved("{{$.pipeline_job_schedule_time_utc}}") == "2026-01-31T23:59:59Z"
    assert resolved("{{$.pipeline_job_uuid}}") == "run-1"
    assert resolved("at {{$.pipeline_job_uuid}}") == "at {{$.pipeline_job_uuid}}", "only as the whole text"
    assert resolved(5.0) == "5"


@pytest.mark.parametrize("macro", ["[[ScheduledTime]]", "[[ScheduledTime.15-04-05]]", "at [[Index]]"])
def test_a_macro_that_nobody_fills_in_fails_the_step(macro: str) -> None:
    with pytest.raises(StepFailed, match=r"Kubeflow 2\.17 never fills in"):
        resolved(macro)


@pytest.mark.parametrize(
    ("value", "kind"), [("7", "NUMBER_INTEGER"), ({}, "LIST"), (None, "STRUCT"), (1.0, "BOOLEAN")]
)
def test_a_parameter_of_another_type_fails_the_step(value: Any, kind: str) -> None:
    with pytest.raises(StepFailed, match=f"should be {kind}"):
        resolved(value, kind)


def test_an_input_that_nobody_made_fails_the_step() -> None:
    source = {"taskOutputArtifact": {"producerTask": "train", "outputArtifactKey": "model"}}
    dag = Dag(component={"dag": {"tasks": {"it": {"inputs": {"artifacts": {"model": source}}}}}})
    dag.done["train"] = Execution("COMPLETE")
    with pytest.raises(StepFailed, match="train has not made its output model"):
        driver.resolve(dag, "it", {}, JOB)
