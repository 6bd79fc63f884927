"""`make rehearse`: the compiled pipeline in real containers on this machine, with its own MLflow and S3.

What runs is the YAML that a cluster would get, in the images that it would pull. Where everything is kept,
and how run.json is laid out: `pipelines/containers/record.py`.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.containers.backend import dag
from pipelines.containers.backend.pod import check as check_pods
from pipelines.containers.backend.pod import of_secrets
from pipelines.containers.background import Background
from pipelines.containers.docker_api import StepFailed, check_user, engine
from pipelines.containers.images import built
from pipelines.containers.loopback import (
    SOURCE_BUCKET,
    WEBHOOK,
    Services,
    bucket,
    further_variables,
    serve,
    serve_webhook,
    words_of,
)
from pipelines.containers.record import PIPELINE, REHEARSALS, Record, rehearsal, remove_old
from pipelines.containers.steps import Log, Steps
from retrainer.errors import SettingError
from retrainer.resolve import settle
from retrainer.services import lookup, storage
from retrainer.services.connection import environment
from retrainer.services.scratch import scratch_directory
from retrainer.settings import Backbone, Compute, Source
from retrainer.training.compute import resolve_compute

__all__ = ["REHEARSALS", "perform", "rehearsal", "rehearse"]

Serve = Callable[[Background, Path], Services]


def rehearse(
    recipe: str | None, overrides: list[str], root: Path = Path(), images: dict[str, str] | None = None
) -> int:
    """Rehearses the recipe's pipeline, in the images of `make images`. Returns the exit status.

    Raises UserError, before anything runs, for settings that cannot be rehearsed and images of other code.
    """
    images = images or built(root)
    name, sections = settle(recipe, overrides, root)
    source, backbone, compute = (sections[key] for key in ("source", "backbone", "compute"))
    assert isinstance(source, Source) and isinstance(backbone, Backbone) and isinstance(compute, Compute)
    if backbone.weights.startswith(lookup.SCHEME):
        raise SettingError(
            f"backbone.weights: {backbone.weights} lies in your registry, and a rehearsal has an empty one of"
            " its own; rehearse with other weights, for example SET=backbone.weights=none"
        )
    with scratch_directory() as aside:
        own = _own_files(source, aside)
        compiled = _compile(name, [*overrides, *_of_this_machine(compute)], images, root, aside)
        record = Record(root, name)
        shutil.copyfile(compiled, record.folder / PIPELINE)
        if own:
            _lend(own, record)
    for line in remove_old(root):
        print(line)
    return perform(record)


def _compile(recipe: str, overrides: list[str], images: dict[str, str], root: Path, into: Path) -> Path:
    from pipelines.compile import compile_recipe, images_named

    named = images_named(images["full"], images["light"], allow_mutable=True, ours=True)
    return compile_recipe(recipe, overrides, named, root, into.absolute(), rehearsed=True).path


def _of_this_machine(compute: Compute) -> list[str]:
    """Number format and threads as `make pipeline` settles them here, so that both make the same model."""
    if compute.device == "cuda":
        raise SettingError(
            "compute.device: cuda, but a rehearsal's containers have no GPU; add SET=compute.device=cpu"
        )
    settled = resolve_compute(compute.model_copy(update={"device": "cpu"}))
    chosen = {name: getattr(settled, name) for name in ("device", "dtype", "threads")}
    return ["cluster.gpus=0", *(f"compute.{name}={value}" for name, value in chosen.items())]


def _own_files(source: Source, aside: Path) -> dict[str, Path]:
    """The source's files by setting; those in S3 are fetched, as the rehearsal's own S3 does not have them.

    Raises UserError for a path with nothing at it.
    """
    paths = {key: path for key in ("path", "test_path") if (path := getattr(source, key))}
    own = {
        key: storage.fetch(path, aside / key) if storage.is_remote(path) else Path(path)
        for key, path in paths.items()
    }
    for key, path in own.items():
        if not path.exists():
            raise SettingError(f"source.{key}: there is nothing at {path}")
    return own


def _lend(own: dict[str, Path], record: Record) -> None:
    """Puts these files into the rehearsal's S3, where a pod could find them, and has ingest read them."""
    from pipelines.kubeflow import section_text

    spec, _ = dag.parts_of((record.folder / PIPELINE).read_text(encoding="utf-8"))
    source = json.loads(spec["root"]["inputDefinitions"]["parameters"]["source"]["defaultValue"])
    for key, path in own.items():
        into = bucket(record.folder, SOURCE_BUCKET) / key / path.absolute().name
        into.parent.mkdir(parents=True)
        shutil.copytree(path, into) if path.is_dir() else shutil.copyfile(path, into)
        source[key] = f"s3://{SOURCE_BUCKET}/{key}/{into.name}"
        print(f"source.{key}: {path} is lent to the rehearsal as {source[key]}")
    record.run["arguments"] = {"source": section_text(source)}


def perform(record: Record, serve: Serve = serve) -> int:
    """Runs the record's `pipeline.yaml` with servers of its own. Returns the exit status.

    Raises UserError when there is no engine, no image, or a server does not start; then nothing has run.
    """
    log = Log(record.folder / "rehearsal.log")
    try:
        with _termination_interrupts(), Background() as background:
            status = _perform(record, log, background, serve)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        record.finish("interrupted" if interrupted else "failed", str(error))
        log.say(f"rehearsal: what there is of it lies in {record.folder}")
        raise
    return status


def _perform(record: Record, log: Log, background: Background, serve: Serve) -> int:
    spec, kubernetes = dag.parts_of((record.folder / PIPELINE).read_text(encoding="utf-8"))
    dag.check(spec)
    check_pods(kubernetes)
    images = sorted({each["container"]["image"] for each in spec["deploymentSpec"]["executors"].values()})
    with engine(background, images, record.run["owner"]) as client:
        for image in images:
            check_user(client, image)
        services = serve(background, record.folder)
        offered, log.secrets = dict(services.environment), services.secrets
        if WEBHOOK in of_secrets(kubernetes):
            webhook = serve_webhook(background, record.folder)
            offered, log.secrets = offered | webhook.environment, log.secrets + webhook.secrets
        own = further_variables(of_secrets(kubernetes))
        offered, log.secrets = offered | own, (*log.secrets, *words_of(own))
        steps = Steps(client, record, log, spec, kubernetes, offered)
        try:
            steps.run()
            with environment(services.environment):
                registered = _registered(record)
        except StepFailed as failure:
            record.finish("failed", str(failure))
            log.say(_table(steps, []))
            _explain(steps, failure)
            return 1
    record.finish("succeeded")
    log.say(_table(steps, registered))
    return 0


def _registered(record: Record) -> list[str]:
    """What register says it did, if the rehearsal's registry agrees. Raises StepFailed if it doesn't."""
    made = next(
        (step["outputs"]["registration"] for step in record.steps if step["name"] == "register"), None
    )
    if made is None:
        return []
    told = made["metadata"]
    version = str(told["version"]).removesuffix(".0")
    held = lookup.by_version(told["name"], version)
    if held is None or not held.usable or held.model_sha256 != told["model_sha256"]:
        raise StepFailed(
            f"register made version {version} of {told['name']}, but the registry does not hold it"
        )
    return [
        f"registered    {told['name']} version {version}, {told['alias']}",
        f"model_sha256  {held.model_sha256}",
    ]


def _table(steps: Steps, closing: list[str]) -> str:
    """Each step with its state and seconds, also those that were left out or not reached."""
    ran = {step["name"]: (step["state"], f"{step['seconds']:.1f}") for step in steps.record.steps}
    ran |= dict.fromkeys(steps.skipped, ("left out", ""))
    names = [name for name, _ in dag.containers(steps.spec, steps.spec["root"])]
    width = max(14, *(len(name) + 2 for name in names))
    lines = ["", f"{'step':<{width}}{'state':<14}{'seconds':>7}", "─" * (width + 21)]
    for name in sorted(names, key=lambda name: name not in ran):
        state, seconds = ran.get(name, ("not reached", ""))
        lines.append(f"{name:<{width}}{state:<14}{seconds:>7}")
    whole = f"all of it      {steps.record.folder}, {steps.record.run['seconds']:.0f} s"
    return "\n".join([*lines, "─" * (width + 21), *closing, whole])


def _explain(steps: Steps, failure: StepFailed) -> None:
    """Which step failed, why, and its last lines."""
    step = failure.step or steps.record.steps[-1]["name"]
    if lines := steps.last_lines.get(step):
        steps.log.say(f"the last lines of {step}:")
        for line in lines:
            steps.log.say(f"    {line}")
    steps.log.say(f"rehearsal: {step} failed: {failure}")


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """A polite end (SIGTERM) is like Ctrl-C while the block runs: it stops the container and is recorded."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
