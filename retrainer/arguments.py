"""What the commands of `calls.py` take on their command lines."""

from __future__ import annotations

import argparse
from pathlib import Path

from retrainer import __version__
from retrainer.calls import CALLS, WITHOUT_RECIPE
from retrainer.commands import COMMANDS

Commands = dict[str, argparse.ArgumentParser]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="retrainer", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"retrainer {__version__}")
    commands = top.add_subparsers(required=True)
    for name, call in CALLS.items():
        command = commands.add_parser(name, help=COMMANDS[name].help if name in COMMANDS else None)
        command.set_defaults(call=call, name=name)
        if name not in WITHOUT_RECIPE:
            command.add_argument("--recipe", default="")
    _add_to_begin(commands.choices)
    _add_suggest(commands.choices["suggest"])
    _add_search(commands.choices["search"])
    _add_predict(commands.choices["predict"])
    _add_export(commands.choices["export"])
    _add_serve(commands.choices["serve"])
    _add_registry(commands.choices)
    _add_notify(commands.choices["notify"])
    return top


def _add_to_begin(commands: Commands) -> None:
    commands["new"].add_argument("project", type=Path, help="the folder to make")
    commands["upgrade"].add_argument("--dry-run", action="store_true", help="say what would be done")
    commands["completion"].add_argument("shell", help="bash or zsh")
    commands["init"].add_argument("--data", default="", help="the folder or file")
    commands["convert-weights"].add_argument("--input", default="", help="the pickled file")
    for name in ("init", "convert-weights"):
        commands[name].add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    commands["check-step"].add_argument("directory", nargs="?", type=Path)
    commands["ui"].add_argument("--port", type=int, default=5000)


def _add_registry(commands: Commands) -> None:
    for name in ("promote", "anchor"):
        commands[name].add_argument("version")
    commands["compare"].add_argument(
        "compared", nargs="*", metavar="A B …", help="versions, aliases, folders of reports, recipes that ran"
    )
    commands["reap"].add_argument("--hours", default="1", help="of silence, for what others left")
    for name in ("promote", "anchor", "rollback"):
        commands[name].add_argument("--why", default="", help="kept in the history")


def _add_suggest(command: argparse.ArgumentParser) -> None:
    command.add_argument("--input", default="", help="a file or folder without labels")
    command.add_argument("--rows", default="100", help="how many to name")
    command.add_argument("--model", type=Path, help="a model directory, not the champion")


def _add_search(command: argparse.ArgumentParser) -> None:
    command.add_argument("--port", default="8090", help="on this machine alone")
    command.add_argument("--model", type=Path, help="a model directory, not the champion")


def _add_predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("--input", default="", help="a file or folder of rows, or - for lines on stdin")
    command.add_argument("--output", default="", help="a .csv, .jsonl or .parquet file, or - for stdout")
    command.add_argument("--top-k", default="0", help="how many classes to name with each row")
    command.add_argument("--version", default="", help="a version's number or alias, not the champion")
    command.add_argument("--model", type=Path, help="a model directory, not the champion")
    _add_gallery(command)
    command.add_argument("--time", default="", help="in the place of {time} in --output, instead of now")
    command.add_argument("--sections", default="", help="the settings as JSON, where there is no project")


def _add_gallery(command: argparse.ArgumentParser) -> None:
    help_ = "of verification: a folder with one folder for each person to recognise"
    command.add_argument("--gallery", default="", help=help_)


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--format", default="", help="onnx, onnx-int8, transformers, timm, torchvision or keras"
    )
    command.add_argument("--output", default="", help="the new folder; exports/RECIPE/FORMAT by default")
    command.add_argument("--version", default="", help="a version's number or alias, not the champion")
    command.add_argument("--model", type=Path, help="a model directory, not the champion")


def _add_notify(command: argparse.ArgumentParser) -> None:
    command.add_argument("--test", action="store_true", help="send a test message")
    for option in ("model", "status", "began", "steps"):
        command.add_argument(f"--{option}", default="", help="of a Kubeflow run")


def _add_serve(command: argparse.ArgumentParser) -> None:
    command.add_argument("--version", default="", help="a number or an alias; champion by default")
    command.add_argument("--host", default="", help="127.0.0.1 by default, which is this machine alone")
    command.add_argument("--port", default="8080")
    command.add_argument(
        "--page-port",
        default="",
        help="of the page to try it by hand; the first free one after --port by default; none: no page",
    )
    command.add_argument("--workers", default="1", help="processes, each with the model in its memory")
    command.add_argument("--model", default="", help="the registered model's name, where there is no recipe")
    _add_gallery(command)
