"""What the commands of `_calls.py` take on their command lines."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from pipelines import _calls
from retrainer.commands import COMMANDS

Call = Callable[[argparse.Namespace], int]


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

    of_recipe("pipeline", _calls.pipeline)
    of_recipe("retrain", _calls.retrain)
    of_recipe("resolve", _calls.resolve)
    of_recipe("step", _calls.step).add_argument("step")
    of_recipe("smoke", _calls.smoke)
    of_recipe("curve", _calls.curve).add_argument(
        "--sizes", default="", help='parts of the training rows: "1/8 1/4 1/2 1", or numbers of rows'
    )
    tuner = of_recipe("tune", _calls.tune)
    tuner.add_argument("--trials", default="", help="trainings in all, those of an earlier call too")
    tuner.add_argument("--jobs", default="", help="trainings at a time")
    tuner.add_argument("--force", action="store_true", help="replace the recipe of an earlier tuning")
    builder = command("images", _calls.make_images)
    rehearser = of_recipe("rehearse", _calls.rehearse)
    pinner = command("pin-base", _calls.pin_base)
    for made in (builder, rehearser):
        made.add_argument("--base", default="", help="the image to build on, instead of the Dockerfile's")
        made.add_argument("--push", default="", metavar="REGISTRY/NAME", help="push both images there")
        made.add_argument("--network", default="", help="`host` where a build's own network reaches nothing")
    for made in (builder, rehearser, pinner):
        made.add_argument("--ca-bundle", type=Path, help="a company's certificates, for this command only")
    compiler = of_recipe("compile", _calls.compile)
    server = of_recipe("inference-service", _calls.inference_service)
    server.add_argument("--version", default="", help="a number or an alias; champion by default")
    server.add_argument("--canary", default="", help="percent of the requests that this version gets")
    submitter = of_recipe("submit", _calls.submit)
    submitter.add_argument("--wait", action="store_true", help="follow the run, and fail if it fails")
    scheduler = of_recipe("schedule", _calls.schedule)
    scheduler.add_argument("--cron", required=True, help="six fields, seconds first: '0 0 3 1 * *'")
    for made in (compiler, server, submitter, scheduler):
        _takes_images(made)
    for made in (compiler, submitter, scheduler):
        _takes_scoring(made)
    _takes_pipeline(of_recipe("unschedule", _calls.unschedule))
    of_recipe("runs", _calls.runs)
    adopter = command("adopt", _calls.adopt)
    replayer = command("replay", _calls.replay)
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
