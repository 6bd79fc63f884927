"""One contract, three doors: a step's signature, its stage in dvc.yaml, its task in the Kubeflow pipeline."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kfp import compiler

from components.command import executor_output, hand_over, parser_of, step_named
from components.command import main as step_main
from components.steps import DECIDE, FACTS, STEPS
from pipelines.compile import check_image
from pipelines.kubeflow import pipeline_of, section_text
from pipelines.spec import tasks_in
from retrainer.contract import contract_of, edges
from retrainer.errors import UserError
from retrainer.settings import SECTIONS, Cluster, Retrain
from tests.compiled_pipelines import IMAGE, IMAGES, LIGHT_IMAGE, container_of, defaults, documents
from tests.conftest import ROOT, first_quick

CONTRACTS = {step: contract_of(step_named(step)) for step in STEPS}


@dataclass(frozen=True)
class Map:
    """What all three doors are reduced to: (producer, port, consumer), and each step's sections."""

    edges: frozenset[tuple[str, str, str]]
    sections: dict[str, frozenset[str]]


def from_signatures() -> Map:
    sections = {step: frozenset(contract.sections) for step, contract in CONTRACTS.items()}
    return Map(frozenset(edges(list(CONTRACTS.values()))), sections)


def without(whole: Map, step: str) -> Map:
    edges = frozenset(edge for edge in whole.edges if step not in edge)
    return Map(edges, {name: sections for name, sections in whole.sections.items() if name != step})


def stages() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return found


def out_path(entry: Any) -> str:
    return str(next(iter(entry))) if isinstance(entry, dict) else str(entry)


def from_dvc() -> Map:
    producers = {out_path(out): step for step, stage in stages().items() for out in stage["outs"]}
    found = {
        (producers[dep], dep.rpartition("/")[2], step)
        for step, stage in stages().items()
        for dep in stage.get("deps", ())
        if dep in producers
    }
    return Map(
        frozenset(found), {step: params_of(stage) - {f"code.{step}"} for step, stage in stages().items()}
    )


def params_of(stage: dict[str, Any]) -> frozenset[str]:
    return frozenset(key for entry in stage["params"] for keys in entry.values() for key in keys)


def from_kubeflow(spec: dict[str, Any], scheduled: str = "") -> Map:
    tasks = tasks_in(spec)
    found = set()
    for step, task in tasks.items():
        for port, source in task["inputs"].get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            assert output["outputArtifactKey"] == port
            found.add((output["producerTask"], port, step))
    sections = {}
    for step, task in tasks.items():
        given = dict(task["inputs"]["parameters"])
        for producer, port, consumer in found:
            if consumer == step and port in CONTRACTS[step].sealed("input"):
                digest = given.pop(f"{port}_sha256")["taskOutputParameter"]
                assert digest == {"producerTask": producer, "outputParameterKey": f"{port}_sha256"}
        assert len(given.pop("code_sha256")["runtimeValue"]["constant"]) in (0, 64)
        if FACTS[step].scheduled:
            assert given.pop("scheduled_time") == {"runtimeValue": {"constant": scheduled}}
        assert given == {name: {"componentInputParameter": name} for name in given}
        sections[step] = frozenset(given)
    return Map(frozenset(found), sections)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The compiled pipeline, with the decision whether to train in it, and its platform part."""
    settings = defaults() | {"retrain": Retrain(policy="drift").plain()}
    return compile_with(tmp_path_factory.mktemp("kfp"), settings, Cluster())


def compile_with(folder: Path, settings: dict[str, dict[str, Any]], cluster: Cluster) -> list[dict[str, Any]]:
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline_of("some-recipe-1", settings, IMAGES, cluster), str(path))
    return documents(path.read_text())


def test_dvc_yaml_is_the_signatures() -> None:
    assert from_dvc() == from_signatures()


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_depends_on_its_steps_code_and_on_no_file_of_it(step: str) -> None:
    assert f"code.{step}" in params_of(stages()[step])
    assert all(str(path).startswith("runs/") for path in stages()[step].get("deps", ()))


def test_the_kubeflow_pipeline_is_the_signatures(compiled: list[dict[str, Any]]) -> None:
    assert from_kubeflow(compiled[0]) == from_signatures()


def test_the_steps_are_the_same_everywhere(compiled: list[dict[str, Any]]) -> None:
    assert tuple(stages()) == STEPS
    assert set(tasks_in(compiled[0])) == set(STEPS)


def test_what_follows_a_decision_waits_for_it(compiled: list[dict[str, Any]], tmp_path: Path) -> None:
    tasks = compiled[0]["root"]["dag"]["tasks"]
    (gate,) = set(tasks) - set(STEPS)
    assert set(tasks) - {gate} == {"ingest", "preprocess", DECIDE}
    assert tasks[gate]["triggerPolicy"]["condition"].endswith(" == 'train'")
    asked = {"producerTask": DECIDE, "outputParameterKey": "decision_choice"}
    assert {"taskOutputParameter": asked} in tasks[gate]["inputs"]["parameters"].values()
    # By the policy `always` the pipeline is as it was before there were policies.
    spec = compile_with(tmp_path, defaults(), Cluster())[0]
    assert set(spec["root"]["dag"]["tasks"]) == set(STEPS) - {DECIDE}


@pytest.mark.parametrize("step", STEPS)
def test_the_laptop_command_is_the_steps_own(step: str) -> None:
    command = stages()[step]["cmd"].replace("${item.recipe}", "name")
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "components", step]
    given = parser_of(CONTRACTS[step]).parse_args(words[4:])
    assert given.settings == Path(".run/name/settings.json")
    for port in CONTRACTS[step].named("input", "output"):
        assert getattr(given, port) == Path(f"runs/name/{port}")
    outs = {out_path(out).rpartition("/")[2] for out in stages()[step]["outs"]}
    assert outs == set(CONTRACTS[step].named("output"))


@pytest.mark.parametrize("step", STEPS)
def test_the_cluster_command_is_the_same_command(step: str, compiled: list[dict[str, Any]]) -> None:
    container = container_of(compiled[0], step)
    assert container["command"] == ["python", "-m", "components", step]
    assert container["image"] == (LIGHT_IMAGE if FACTS[step].image == "light" else IMAGE)
    given = parser_of(CONTRACTS[step]).parse_args(container["args"])
    for port, kind in CONTRACTS[step].ports.items():
        side = "inputs" if kind.direction == "input" else "outputs"
        assert str(getattr(given, port)) == f"{{{{$.{side}.artifacts['{port}'].path}}}}"
    for section in CONTRACTS[step].sections:
        assert getattr(given, section) == f"{{{{$.inputs.parameters['{section}']}}}}"
    for port in CONTRACTS[step].sealed("input"):
        assert getattr(given, f"{port}_sha256") == f"{{{{$.inputs.parameters['{port}_sha256']}}}}"
    for port in CONTRACTS[step].sealed("output"):
        place = f"{{{{$.outputs.parameters['{port}_sha256'].output_file}}}}"
        assert str(getattr(given, f"{port}_sha256")) == place
    for port in CONTRACTS[step].choices():
        place = f"{{{{$.outputs.parameters['{port}_choice'].output_file}}}}"
        assert str(getattr(given, f"{port}_choice")) == place
    assert given.executor_input == "{{$}}"


@pytest.mark.parametrize("step", STEPS)
def test_views_are_kubeflow_outputs_with_their_types(step: str, compiled: list[dict[str, Any]]) -> None:
    definitions = compiled[0]["components"][f"comp-{step}"]["outputDefinitions"]["artifacts"]
    shown = {name: artifact["artifactType"]["schemaTitle"] for name, artifact in definitions.items()}
    ports = CONTRACTS[step].ports
    assert shown == {
        name: f"system.{port.artifact}" for name, port in ports.items() if port.direction != "input"
    }


def test_only_pure_steps_are_cached(compiled: list[dict[str, Any]]) -> None:
    tasks = tasks_in(compiled[0])
    pure = {step for step, facts in FACTS.items() if facts.pure}
    cached = {step for step, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert cached == pure >= {"preprocess", "train"}
    # On a laptop the settings hold the digest of the source, so that ingest may be restored too.
    for step, stage in stages().items():
        kept = [next(iter(out.values())) if isinstance(out, dict) else {} for out in stage["outs"]]
        if step in pure or step == "ingest":
            assert kept == [{}] * len(kept)
        else:
            assert all(each.get("persist") for each in kept) or stage["always_changed"]
    assert stages()["register"]["outs"][0]["runs/${item.recipe}/registration"] == {
        "persist": True,
        "cache": False,
    }


def test_sections_travel_as_json(compiled: list[dict[str, Any]]) -> None:
    parameters = compiled[0]["root"]["inputDefinitions"]["parameters"]
    for name in defaults().keys() - {"tune"}:  # which no step reads
        assert parameters[name]["parameterType"] == "STRING"
        data = json.loads(parameters[name]["defaultValue"])
        wanted = Retrain(policy="drift") if name == "retrain" else SECTIONS[name]()
        assert SECTIONS[name].parse(data, name) == wanted


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), FLOATS, st.text())
TRICKY = st.text(alphabet="${}()\\\"'NAME \u2028é", max_size=20)
VALUES = st.recursive(SCALARS | TRICKY, lambda each: st.lists(each, max_size=2), max_leaves=3)
SECTION = st.dictionaries(st.text(), VALUES, max_size=3)


@given(SECTION)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])  # where others work beside it
@example({"a": "$(AWS_SECRET_ACCESS_KEY) $$(A) {{workflow.name}} {{{$}}} \\\\$(A)"})
def test_nothing_on_the_way_can_expand_a_setting(section: dict[str, Any]) -> None:
    """The kubelet replaces $(NAME) and $$ in a pod's arguments, Argo and Kubeflow what stands in {{…}}."""
    text = section_text(section)
    assert "$" not in text and "{{" not in text
    assert json.loads(text) == section


def test_executor_output_names_only_ports() -> None:
    written = executor_output(CONTRACTS["train"], {"model": {"model_sha256": "0"}, "nothing": {}})
    assert written == {
        "artifacts": {"model": {"artifacts": [{"name": "model", "metadata": {"model_sha256": "0"}}]}}
    }


def test_the_code_is_recorded_with_the_outputs(tmp_path: Path) -> None:
    words = ["--model", "model", "--report", "report", "--registration", "made", "--code-sha256", "c" * 64]
    contract = CONTRACTS["register"]
    written = tmp_path / "output.json"
    hand_over(contract, parser_of(contract).parse_args(words), {"registration": {"version": "1"}}, written)
    (artifact,) = json.loads(written.read_text())["artifacts"]["registration"]["artifacts"]
    assert artifact["metadata"]["code_sha256"] == "c" * 64


def test_metadata_holds_no_null_and_no_nan() -> None:
    """Kubeflow's launcher fails a step for one; a first model that the gate refuses has no champion."""
    told = {"registration": {"version": "1", "champion": None, "p": float("nan"), "list": [1, None]}}
    told["registration"]["nested"] = {"a": None, "b": float("inf"), "c": 1}
    (written,) = executor_output(CONTRACTS["register"], told)["artifacts"]["registration"]["artifacts"]
    assert written["metadata"] == {"version": "1", "list": [1], "nested": {"c": 1}}


@pytest.mark.parametrize("text", ["{{$}}", "{}", '{"outputs": {}}', "[]", '{"outputs": {"outputFile": 1}}'])
def test_an_executor_input_that_nobody_filled_in_ends_the_step_before_it_works(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ingest", "--source", '{"kind": "digits"}', "--raw", str(tmp_path / "raw")]
    assert step_main([*words, "--executor-input", text]) == 2
    assert "--executor-input" in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("image", ["registry/name", "registry/name:latest", "registry/name@sha256:abc"])
def test_a_mutable_image_is_refused_with_the_reason(image: str) -> None:
    with pytest.raises(UserError, match=r"can be moved.*ALLOW_MUTABLE=1"):
        check_image(image, allow_mutable=False)


def test_a_mutable_image_may_be_allowed() -> None:
    check_image("registry/name:trial", allow_mutable=True)
    with pytest.raises(UserError, match="IMAGE="):
        check_image("", allow_mutable=True)


@pytest.mark.parametrize("recipe", first_quick(["digits-mlp", None]))
def test_compile_writes_a_recipe_without_torch(recipe: str | None) -> None:
    argument = ["--recipe", recipe] if recipe else []
    code = f"""
import sys
sys.modules["rfc3987_syntax"] = None  # as tests/conftest.py
from pipelines.__main__ import main
status = main(["compile", "--image", {IMAGE!r}, "--secret", "team", *{argument!r}])
assert status == 0, status
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    path = ROOT / done.stdout.strip().removeprefix("written: ")
    spec, *_ = documents(path.read_text())
    assert from_kubeflow(spec) == without(from_signatures(), DECIDE)
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert json.loads(parameters["source"]["defaultValue"])["digest"] == ""
    assert json.loads(parameters["compute"]["defaultValue"])["packages"] == {}
