"""The command line behind the Makefile's targets.

python -m pipelines run [--recipe NAME] [--set section.key=value]...
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from components._process import die_with_runner, report_failure

if TYPE_CHECKING:
    from pipelines.kubeflow import Images


def _run(arguments: argparse.Namespace) -> int:
    from pipelines.local import run

    return run(arguments.recipe, arguments.set)


def _resolve(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from pipelines.local import prepare

    print(f"written: {prepare(arguments.recipe, arguments.set, Path()).directory / 'settings.json'}")
    return 0


def _step(arguments: argparse.Namespace) -> int:
    from pipelines.local import run_step

    return run_step(arguments.step, arguments.recipe, arguments.set)


def _smoke(arguments: argparse.Namespace) -> int:
    from pipelines.smoke import smoke

    return smoke(arguments.recipe, arguments.set)


def _compile(arguments: argparse.Namespace) -> int:
    from pipelines.compile import compile_recipe

    made = compile_recipe(arguments.recipe, _with_secret(arguments), _images(arguments))
    print(f"written: {made.path}")
    return 0


def _images(arguments: argparse.Namespace) -> Images:
    """The images that were named, else those that `make images` made last."""
    from pathlib import Path

    from pipelines.compile import images_named

    full, light = arguments.image, arguments.light_image
    if not full:
        from pipelines.images import built

        made = built(Path())
        full, light = made["full"], made["light"]
    return images_named(full, light, arguments.allow_mutable)


def _with_secret(arguments: argparse.Namespace) -> list[str]:
    """SECRET=name is short for one secret that holds both MLflow's keys and the storage's."""
    named = [f"cluster.{kind}_secret={arguments.secret}" for kind in ("mlflow", "storage")]
    return [*(named if arguments.secret else []), *arguments.set]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m pipelines", allow_abbrev=False)
    commands = top.add_subparsers(required=True, dest="command")

    def command(
        name: str, help_text: str, call: Callable[[argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_text, allow_abbrev=False)
        made.add_argument("--recipe", help="a file of recipes/; without it, params.yaml alone")
        made.add_argument(
            "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="for this run only"
        )
        made.set_defaults(call=call)
        return made

    command("run", "bring the recipe's registered model up to date", _run)
    command("resolve", "write the recipe's settled settings, for `dvc` called by hand", _resolve)
    command("step", "run one step alone", _step).add_argument("step")
    command("smoke", "50 rows through all five steps, apart from everything else", _smoke)
    compiler = command("compile", "write the Kubeflow pipeline", _compile)
    _takes_images(compiler)
    return top


def _takes_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", default="", help="registry/name@sha256:…; else what `make images` made")
    parser.add_argument("--light-image", default="", help="the image of the steps without torch, if another")
    parser.add_argument("--allow-mutable", action="store_true", help="accept a tag that can be moved")
    parser.add_argument(
        "--secret", default="", help="Kubernetes secret with MLFLOW_TRACKING_URI and credentials"
    )


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    # Set by make to its own process id: ending make ends us, and that ends the running step.
    die_with_runner(os.environ.get("RETRAINER_RUNNER_PID"))
    try:
        return int(arguments.call(arguments))
    except (Exception, KeyboardInterrupt) as error:
        return report_failure(arguments.command, error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
