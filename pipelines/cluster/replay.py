"""One step of a run, again on this machine: its exact inputs and settings, within a debugger's reach.

The run is one of the cluster or a rehearsal. Inputs are checked by hash; the step runs in this Python, from
this checkout, under `build/replays/RUN-STEP`, against an MLflow of its own there: what it would register
stays there as well, unless FORCE=1 lets it use the real one.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.command import parser_of, read_json, sections_from, step_named
from components.steps import FACTS, STEPS
from pipelines.cluster.artifacts import Output, check_run_id, fetch, run_of, specification
from pipelines.cluster.connection import Connection, connect
from pipelines.containers.loopback import SOURCE_BUCKET, bucket
from pipelines.containers.record import REHEARSALS, artifact_sha256, rehearsal
from pipelines.spec import tasks_in
from retrainer.code.digests import project_code
from retrainer.code.own import command_digest
from retrainer.contract import Contract, contract_of
from retrainer.errors import ServiceError, SettingError, UserError, nearest
from retrainer.formats.files import MANIFEST, content_digest, verify_files
from retrainer.services import kubeflow_registry, lookup
from retrainer.services.address import registry_uri, without_credentials

REPLAYS = Path("build") / "replays"
CODE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Case:
    """What a step was given: its parameters by name, and its inputs by port as (path, sha256 or empty)."""

    step: str
    image: str
    parameters: dict[str, Any]
    inputs: dict[str, tuple[Path, str]]


def replay(run_id: str, step: str, root: Path = Path(), force: bool = False, debug: bool = False) -> int:
    """`make replay`: returns the step's exit status. With `debug`, an error opens the debugger on the spot.

    Raises UserError when an input is not to be had, or is not what the step was given.
    """
    check_run_id(run_id)
    if step not in STEPS:
        raise SettingError(f"STEP={step}: no such step{nearest(step, STEPS)}")
    folder = root / REPLAYS / f"{run_id}-{step}"
    shutil.rmtree(folder, ignore_errors=True)
    rehearsed = root / REHEARSALS / run_id
    if (rehearsed / "run.json").is_file():
        case = of_rehearsal(rehearsal(root, run_id), step, rehearsed)
    else:
        case = of_cluster(connect(), run_id, step, folder)
        check_trainer(case, root, force)
    contract = contract_of(step_named(step))
    for port, (path, sha256) in case.inputs.items():
        print(f"{port}: {verify(path, sha256)}  {path}")
    words = command(contract, case, folder)
    surroundings = _surroundings(case, folder, force)
    if case.image:
        print(f"the run's image was {case.image}; this is the code of this checkout")
    shown = [f"{name}={shlex.quote(without_credentials(value))}" for name, value in surroundings.items()]
    print(" ".join([*shown, shlex.quote(sys.executable), "-m components", shlex.join(words)]), flush=True)
    if debug:
        return _under_the_debugger(contract, words, surroundings)
    environment = os.environ | surroundings
    return subprocess.run(
        [sys.executable, "-m", "components", *words], cwd=CODE, env=environment, check=False
    ).returncode


def of_rehearsal(run: dict[str, Any], step: str, folder: Path) -> Case:
    """What run.json says of the step. Raises UserError when the rehearsal did not come to it.

    A source that the rehearsal lent over its own S3 server is read from the file behind it.
    """
    found = [each for each in run["steps"] if each["name"] == step]
    if not found:
        ran = ", ".join(each["name"] for each in run["steps"]) or "no step"
        raise SettingError(f"RUN={run['id']}: the rehearsal did not come to {step}; it ran {ran}")
    last = found[-1]
    inputs = {port: (Path(each["path"]), each["sha256"]) for port, each in last["inputs"].items()}
    parameters = with_sections_read(step, last["arguments"])
    if source := parameters.get("source"):
        lent, behind = f"s3://{SOURCE_BUCKET}/", f"{bucket(folder, SOURCE_BUCKET).absolute()}/"
        paths = {
            key: source[key].replace(lent, behind, 1) for key in ("path", "test_path") if source.get(key)
        }
        parameters["source"] = {**source, **paths}
    return Case(step, last["image"], parameters, inputs)


def of_cluster(connection: Connection, run_id: str, step: str, folder: Path) -> Case:
    """The step's parameters from the run's pipeline, its inputs from the object store into `folder`."""
    run = run_of(connection, run_id)
    spec = specification(connection, run)
    task = tasks_in(spec).get(step)
    if task is None:
        raise SettingError(f"RUN={run_id}: its pipeline has no step {step}")
    pipeline, inputs = spec["pipelineInfo"]["name"], {}
    handed = task.get("inputs", {}).get("artifacts", {})
    # The step's own ports, not what the server says they are: they become folders here.
    for port in contract_of(step_named(step)).named("input"):
        if port not in handed:
            raise ServiceError(f"the run handed no {port} to {step}; its pipeline is not of this checkout")
        made = handed[port]["taskOutputArtifact"]
        into = (folder / "inputs" / port).absolute()
        output = Output(run, pipeline, made["producerTask"], made["outputArtifactKey"])
        inputs[port] = (fetch(output, connection.namespace, into), "")
    parameters = {
        name: value
        for name, entry in task.get("inputs", {}).get("parameters", {}).items()
        if (value := _parameter(entry, spec, run)) is not None
    }
    executor = spec["components"][task["componentRef"]["name"]]["executorLabel"]
    image = spec["deploymentSpec"]["executors"][executor]["container"]["image"]
    return Case(step, image, with_sections_read(step, parameters), inputs)


def with_sections_read(step: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with each section, which travels as JSON, as a mapping. Raises UserError for no JSON."""
    sections = {
        name: read_json(text, name)
        for name in contract_of(step_named(step)).sections
        if isinstance(text := parameters.get(name), str)
    }
    return parameters | sections


def check_trainer(case: Case, root: Path, force: bool) -> None:
    """Raises UserError for a command that is no script of this checkout as the run had it, unless `force`."""
    training = case.parameters.get("training") or {}
    trainer = str(training.get("command", "")) if case.step == "train" else ""
    if not trainer or _is_own(trainer, str(training.get("code_digest", "")), root):
        return
    if not force:
        raise ServiceError(
            f"the run's trainer was `{trainer}`, which is not code of this checkout as the run had it: check"
            " out the run's commit, or let it run here with FORCE=1"
        )
    print(f"FORCE=1: running `{trainer}` here")


def _is_own(trainer: str, digest: str, root: Path) -> bool:
    words = shlex.split(trainer)
    if len(words) < 2 or words[0] not in ("python", "python3"):
        return False
    top = words[2].partition(".")[0] if words[1] == "-m" and len(words) > 2 else ""
    scripts = [root / f"{top}.py", root / top] if top else [root / words[1]]
    inside = any(path.exists() and path.resolve().is_relative_to(root.resolve()) for path in scripts)
    return inside and command_digest(trainer, root, project_code(root)) == digest


def _parameter(entry: dict[str, Any], spec: dict[str, Any], run: Any) -> Any:
    """A parameter as the run resolved it; None for one that another step handed over: only that one knew."""
    if "componentInputParameter" in entry:
        name = entry["componentInputParameter"]
        given = (run.runtime_config and run.runtime_config.parameters) or {}
        default = spec["root"]["inputDefinitions"]["parameters"][name].get("defaultValue")
        return given.get(name, default)
    return entry.get("runtimeValue", {}).get("constant")


def verify(path: Path, sha256: str) -> str:
    """Checks an input byte by byte; returns the digest that vouches for it.

    Against the run's own record where there is one, and always against the directory's manifest.
    """
    if sha256 and artifact_sha256(path) != sha256:
        raise ServiceError(f"{path} was altered since the run: its sha256 is no longer {sha256}")
    if not path.is_dir():
        return f"sha256 {artifact_sha256(path)}"
    if not (path / MANIFEST).is_file():
        raise ServiceError(f"{path} has no {MANIFEST} to check it by: it was not fetched whole")
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    verify_files(path, manifest["files"])
    vouches = "model_sha256" in manifest or "content_sha256" in manifest
    return content_digest(path) if vouches else artifact_sha256(path)


def command(contract: Contract, case: Case, folder: Path) -> list[str]:
    """The step's words after `python -m components`: as in the container, but for the paths."""
    words = [case.step]
    for port in contract.named("input"):
        if port not in case.inputs:
            raise ServiceError(
                f"the run handed no {port} to {case.step}; its pipeline is not of this checkout"
            )
        words += [f"--{port}", str(case.inputs[port][0])]
    for port in contract.named("output", "view"):
        words += [f"--{port}", str((folder / "outputs" / port).absolute())]
    for name in contract.sections:
        if name in case.parameters:
            words += [f"--{name}", json.dumps(case.parameters[name], ensure_ascii=False)]
    for port in contract.sealed("input"):
        if told := case.parameters.get(f"{port}_sha256"):
            words += [f"--{port}-sha256", str(told)]
    told = {"outputs": {"outputFile": str((folder / "executor_output.json").absolute())}}
    return [*words, "--executor-input", json.dumps(told)]


def _surroundings(case: Case, folder: Path, force: bool) -> dict[str, str]:
    """The environment's changes: an MLflow of the replay's own, but for the weights that it starts from."""
    folder.mkdir(parents=True, exist_ok=True)
    if force:
        if FACTS[case.step].registry:
            print(f"FORCE=1: {case.step} uses the registry of MLFLOW_TRACKING_URI, and may change it")
        return {}
    if FACTS[case.step].registry:
        print(
            f"{case.step} runs against an empty registry of its own, without the champion of the real one; "
            "FORCE=1 uses MLFLOW_TRACKING_URI, where register makes a version and may move an alias"
        )
    scratch = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').absolute()}",
        "RETRAINER_DVC_REMOTE": "",
        kubeflow_registry.ADDRESS: kubeflow_registry.NONE,
        "RETRAINER_CHECKPOINT_SECONDS": "0",
    }
    weights = str(case.parameters.get("backbone", {}).get("weights", ""))
    if case.step == "train" and weights.startswith(lookup.SCHEME):
        return scratch | {"MLFLOW_REGISTRY_URI": registry_uri()}
    return scratch


def _under_the_debugger(contract: Contract, words: list[str], surroundings: dict[str, str]) -> int:
    """The step in this process; where it raises, the debugger opens."""
    import pdb
    import traceback

    os.environ.update(surroundings)
    arguments = parser_of(contract).parse_args(words[1:])
    ports = {name: getattr(arguments, name) for name in contract.ports}
    try:
        step_named(words[0])(**ports, **sections_from(contract, arguments))
    except Exception as error:
        traceback.print_exception(error)
        pdb.post_mortem(error.__traceback__)
        return 2 if isinstance(error, UserError) else 1
    return 0
