"""`make mlflow-image`: the image of the team's MLflow server, from docker/mlflow.Dockerfile and its lock."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from components._process import report_failure
from pipelines.containers.engine import find_engine, without_tag
from pipelines.containers.images import (
    BUILD,
    Choices,
    build_options,
    ensure_base,
    pinned_base,
    tag_of,
)
from pipelines.containers.sbom import write_sbom
from retrainer.errors import ServiceError
from retrainer.services.database import locked
from retrainer.services.lineage import git_commit

NAME = "retrainer-mlflow"
DOCKERFILE = Path("docker/mlflow.Dockerfile")
# What docker/compose.yaml calls it.
LATEST = f"localhost/{NAME}:latest"


def make_mlflow_image(choices: Choices, root: Path = Path()) -> int:
    """Builds the image where it has changed, and pushes it where asked to. Returns the exit status.

    Raises UserError when there is no engine, no base, or a build or push fails.
    """
    if choices.ca_bundle and not choices.ca_bundle.is_file():
        raise ServiceError(f"CA_BUNDLE={choices.ca_bundle}: there is no such file")
    engine = find_engine()
    base = choices.base or pinned_base(root)
    ensure_base(engine, base)
    commit = git_commit() or "unknown"
    name = f"localhost/{NAME}:{tag_of(commit)}"
    (root / BUILD).mkdir(exist_ok=True)
    with locked(root / BUILD / "images.lock"):
        engine.build(root / DOCKERFILE, root, "mlflow", name, build_options(choices, base, commit))
        engine.tag(name, LATEST)
        image, bill = engine.describe(name), root / BUILD / "sbom-mlflow.json"
        listed = write_sbom(engine, name, image.digest, NAME, bill)
    print(f"mlflow: {name}, {image.size_bytes / 1e9:.2f} GB unpacked; {listed} components in {bill}")
    if choices.push:
        there = f"{choices.push}:mlflow-{name.rpartition(':')[2]}"
        engine.tag(name, there)
        digest = engine.push(there)
        print(f"for deploy/site/kustomization.yaml: newName: {without_tag(there)}, digest: {digest}")
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make mlflow-image", description=__doc__)
    parser.add_argument("--base", default="", help="the image to build on, instead of the Dockerfile's")
    parser.add_argument("--push", default="", metavar="REGISTRY/NAME", help="push the image there")
    parser.add_argument("--network", default="", help="`host` where a build's own network reaches nothing")
    parser.add_argument("--ca-bundle", type=Path, help="a company's certificates, for this command only")
    return parser


def main(argv: list[str]) -> int:
    given = parser().parse_args(argv)
    try:
        return make_mlflow_image(Choices(given.base, given.ca_bundle, given.push, given.network))
    except (Exception, KeyboardInterrupt) as error:
        return report_failure("mlflow-image", error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
