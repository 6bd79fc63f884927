"""The command line behind the Makefile's targets.

python -m pipelines pipeline [--recipe NAME] [--set section.key=value]...
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from components._process import die_with_runner, report_failure
from retrainer.commands import COMMANDS
from retrainer.errors import SettingError, UserError
from retrainer.messages import printed_messages

if TYPE_CHECKING:
    from pipelines.kubeflow import Images
    from pipelines.prediction import Scoring

Arguments = argparse.Namespace
Call = Callable[[Arguments], int]


# --- this machine --------------------------------------------------------------------------------------


def _pipeline(arguments: Arguments) -> int:
    from pipelines.local import run

    return run(arguments.recipe, arguments.set)


def _retrain(arguments: Arguments) -> int:
    from pipelines.local import run

    return run(arguments.recipe, arguments.set, ask=True)


def _resolve(arguments: Arguments) -> int:
    from pipelines.local import prepare
    from retrainer.layers import stated
    from retrainer.resolve import layers_of

    made = prepare(arguments.recipe, arguments.set, Path())
    print("\n".join(stated(layers_of(arguments.recipe, arguments.set, Path())[1])))
    print("all else: the defaults, which docs/reference.md lists")
    print(f"written: {made.directory / 'settings.json'}, for dvc repro train@{made.recipe} by hand")
    return 0


def _step(arguments: Arguments) -> int:
    from pipelines.local import run_step

    return run_step(arguments.step, arguments.recipe, arguments.set)


def _smoke(arguments: Arguments) -> int:
    from pipelines.smoke import smoke

    return smoke(arguments.recipe, arguments.set)


def _curve(arguments: Arguments) -> int:
    from pipelines.curve import curve

    return curve(arguments.recipe, arguments.set, arguments.sizes)


def _tune(arguments: Arguments) -> int:
    from pipelines.tune import tune

    asked = [f"tune.{key}={getattr(arguments, key)}" for key in ("trials", "jobs") if getattr(arguments, key)]
    return tune(arguments.recipe, [*arguments.set, *asked], arguments.force)


# --- containers ----------------------------------------------------------------------------------------


def _make_images(arguments: Arguments) -> int:
    from pipelines.containers.images import Choices, make_images

    return make_images(Choices(arguments.base, arguments.ca_bundle, arguments.push, arguments.network))


def _current_images(arguments: Arguments) -> int:
    """Builds the images unless they hold the code that is here."""
    from pipelines.containers.images import built

    try:
        built(Path())
    except UserError as error:
        print(f"── {error}: doing that first", file=sys.stderr, flush=True)
        return _make_images(arguments)
    return 0


def _pin_base(arguments: Arguments) -> int:
    from pipelines.containers.images import pin_base

    return pin_base(ca_bundle=arguments.ca_bundle)


def _rehearse(arguments: Arguments) -> int:
    from pipelines.containers.rehearse import rehearse

    return _current_images(arguments) or rehearse(arguments.recipe, arguments.set)


# --- the cluster ---------------------------------------------------------------------------------------


def _compile(arguments: Arguments) -> int:
    from pipelines.compile import compile_recipe

    images = _images(arguments)
    made = compile_recipe(arguments.recipe, _with_secret(arguments), images, scoring=_scoring(arguments))
    print(f"written: {made.path}")
    return 0


def _inference_service(arguments: Arguments) -> int:
    from pipelines.cluster.inference_service import Choice, write_inference_service

    choice = Choice(arguments.recipe, _with_secret(arguments), arguments.version, arguments.canary)
    print(f"written: {write_inference_service(choice, _images(arguments))}")
    return 0


def _submit(arguments: Arguments) -> int:
    from pipelines.cluster.submit import submit

    given = arguments.recipe, _with_secret(arguments), _images(arguments), arguments.wait
    return submit(*given, scoring=_scoring(arguments))


def _schedule(arguments: Arguments) -> int:
    from pipelines.cluster.schedule import schedule

    given = arguments.cron, arguments.recipe, _with_secret(arguments), _images(arguments)
    return schedule(*given, scoring=_scoring(arguments))


def _unschedule(arguments: Arguments) -> int:
    from pipelines.cluster.schedule import unschedule

    return unschedule(arguments.recipe, arguments.set, predicts=_predicts(arguments))


def _runs(arguments: Arguments) -> int:
    from pipelines.cluster.runs import show_runs

    return show_runs(arguments.recipe, arguments.set)


def _adopt(arguments: Arguments) -> int:
    from pipelines.cluster.adopt import adopt

    return adopt(arguments.run, force=arguments.force)


def _replay(arguments: Arguments) -> int:
    from pipelines.cluster.replay import replay

    return replay(arguments.run, arguments.step, force=arguments.force, debug=arguments.debug)


def _images(arguments: Arguments) -> Images:
    """The images that were named, else those that `make images` pushed last."""
    from pipelines.compile import images_named

    if arguments.image:
        return images_named(arguments.image, arguments.light_image, arguments.allow_mutable)
    from pipelines.containers.images import pushed

    made = pushed(Path())
    return images_named(made["full"], made["light"], ours=True)


def _predicts(arguments: Arguments) -> bool:
    """Whether the pipeline that predicts is meant, and not the one that retrains."""
    if arguments.pipeline not in ("", "retrain", "predict"):
        raise SettingError(f"PIPELINE={arguments.pipeline}: there are retrain (by default) and predict")
    return bool(arguments.pipeline == "predict")


def _scoring(arguments: Arguments) -> Scoring | None:
    from pipelines.prediction import Scoring

    if not _predicts(arguments):
        return None
    return Scoring(arguments.input, arguments.output, arguments.top_k, arguments.version)


def _with_secret(arguments: Arguments) -> list[str]:
    """SECRET=name is short for one secret that holds both MLflow's keys and the storage's."""
    named = [f"cluster.{kind}_secret={arguments.secret}" for kind in ("mlflow", "storage")]
    return [*(named if arguments.secret else []), *arguments.set]


# --- the words -----------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m pipelines", allow_abbrev=False)
    commands = top.add_subparsers(required=True, dest="command")

    def command(name: str, call: Call) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=COMMANDS[name].help, allow_abbrev=False)
        made.set_defaults(call=call)
        return made

    def of_recipe(name: str, call: Call) -> argparse.ArgumentParser:
        made = command(name, call)
        made.add_argument("--recipe", help="a file of recipes/; without it, params.yaml alone")
        made.add_argument(
            "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="for this run only"
        )
        return made

    of_recipe("pipeline", _pipeline)
    of_recipe("retrain", _retrain)
    of_recipe("resolve", _resolve)
    of_recipe("step", _step).add_argument("step")
    of_recipe("smoke", _smoke)
    of_recipe("curve", _curve).add_argument(
        "--sizes", default="", help='parts of the training rows: "1/8 1/4 1/2 1", or numbers of rows'
    )
    tuner = of_recipe("tune", _tune)
    tuner.add_argument("--trials", default="", help="trainings in all, those of an earlier call too")
    tuner.add_argument("--jobs", default="", help="trainings at a time")
    tuner.add_argument("--force", action="store_true", help="replace the recipe of an earlier tuning")
    builder = command("images", _make_images)
    rehearser = of_recipe("rehearse", _rehearse)
    pinner = command("pin-base", _pin_base)
    for made in (builder, rehearser):
        made.add_argument("--base", default="", help="the image to build on, instead of the Dockerfile's")
        made.add_argument("--push", default="", metavar="REGISTRY/NAME", help="push both images there")
        made.add_argument("--network", default="", help="`host` where a build's own network reaches nothing")
    for made in (builder, rehearser, pinner):
        made.add_argument("--ca-bundle", type=Path, help="a company's certificates, for this command only")
    compiler = of_recipe("compile", _compile)
    server = of_recipe("inference-service", _inference_service)
    server.add_argument("--version", default="", help="a number or an alias; champion by default")
    server.add_argument("--canary", default="", help="percent of the requests that this version gets")
    submitter = of_recipe("submit", _submit)
    submitter.add_argument("--wait", action="store_true", help="follow the run, and fail if it fails")
    scheduler = of_recipe("schedule", _schedule)
    scheduler.add_argument("--cron", required=True, help="six fields, seconds first: '0 0 3 1 * *'")
    for made in (compiler, server, submitter, scheduler):
        _takes_images(made)
    for made in (compiler, submitter, scheduler):
        _takes_scoring(made)
    _takes_pipeline(of_recipe("unschedule", _unschedule))
    of_recipe("runs", _runs)
    adopter = command("adopt", _adopt)
    replayer = command("replay", _replay)
    replayer.add_argument("step")
    replayer.add_argument("--debug", action="store_true", help="open the debugger where it fails")
    for made, forced in ((adopter, "replace another pointer"), (replayer, "use the real registry")):
        made.add_argument("--run", required=True, help="the run's id")
        made.add_argument("--force", action="store_true", help=forced)
    return top


def _takes_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", default="", help="registry/name@sha256:…; else what `make images` made")
    parser.add_argument("--light-image", default="", help="the image of the steps without torch, if another")
    parser.add_argument("--allow-mutable", action="store_true", help="accept a tag that can be moved")
    parser.add_argument("--secret", default="", help="Kubernetes secret with MLFLOW_TRACKING_URI and more")


def _takes_scoring(parser: argparse.ArgumentParser) -> None:
    _takes_pipeline(parser)
    parser.add_argument("--input", default="", help="predict: s3:// address of a file or folder")
    parser.add_argument("--output", default="", help="predict: s3:// address of a file, {time} in it")
    parser.add_argument("--top-k", default="", help="predict: how many classes to name with each row")
    parser.add_argument("--version", default="", help="predict: a version's number or alias")


def _takes_pipeline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pipeline", default="", help="retrain (by default) or predict")


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    # Set by make to its own process id: ending make ends us, and that ends the running step.
    die_with_runner(os.environ.get("RETRAINER_RUNNER_PID"))
    try:
        with printed_messages():
            if getattr(arguments, "recipe", "given") in (None, ""):
                from retrainer.default_recipe import say_default

                say_default()
            return int(arguments.call(arguments))
    except (Exception, KeyboardInterrupt) as error:
        return report_failure(arguments.command, error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
