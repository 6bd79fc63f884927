"""The command `retrainer`: what make does, by the same words (`retrainer help` lists them).

Some are the library's own. Those that run pipelines belong to the project, whose `pipelines/` does them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from retrainer import __version__
from retrainer.commands import COMMANDS, Command, overview
from retrainer.errors import UserError, nearest
from retrainer.messages import printed_messages


def new(arguments: argparse.Namespace) -> int:
    """Makes a project."""
    from retrainer.projects.new import new as made

    print("\n".join(made(arguments.project)))
    return 0


def upgrade(arguments: argparse.Namespace) -> int:
    """Merges this Retrainer's files into the project here; 1 where a person must settle a conflict."""
    from retrainer.projects.upgrade import upgrade as merged

    lines, status = merged(Path(), arguments.dry_run)
    print("\n".join(lines))
    return status


def check_step(arguments: argparse.Namespace) -> int:
    """Is this a valid model directory, or what a trainer has to write for one?"""
    from retrainer.check_step import check_step

    print("\n".join(check_step(arguments.recipe or None, arguments.directory)))
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    from retrainer.doctor import examine

    return examine(arguments.recipe)


def ui(arguments: argparse.Namespace) -> int:
    """Runs MLflow's server over the sqlite file; a server that is there already is only named."""
    from retrainer.services import connection, database
    from retrainer.services.address import sqlite_path, tracking_uri, without_credentials

    uri = tracking_uri()
    if sqlite_path(uri) is None:
        print(f"MLFLOW_TRACKING_URI is set: open {without_credentials(uri)}")
        return 0
    database.ensure_database()
    connection.settle_environment()
    print(
        f"http://127.0.0.1:{arguments.port} shows {sqlite_path(uri)} in a few seconds; Ctrl-C ends it",
        flush=True,
    )
    # MLflow starts its helpers by name, and they are beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "mlflow", *_server_words(uri, arguments.port)]
    # In our place, so that whatever ends this process ends the server.
    return os.execve(sys.executable, command, _ONE_READER | os.environ | {"PATH": path})


# Of MLflow's server, which is made for a team, one reader of a file needs no queue of jobs. What is out of
# date in MLflow's own code is no news to them.
_ONE_READER = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PYTHONWARNINGS": "ignore",
}


def _server_words(uri: str, port: int) -> list[str]:
    """`mlflow server …`, with one process for the requests instead of four, that logs only what is wrong."""
    stores = ["--backend-store-uri", uri, "--registry-store-uri", uri]
    quiet = ["--uvicorn-opts", "--log-level warning --no-access-log"]
    return ["server", "--host", "127.0.0.1", "--port", str(port), *stores, "--workers", "1", *quiet]


def serve(arguments: argparse.Namespace) -> int:
    """MLflow's scoring server over a registered version."""
    from retrainer.serving.command import parse_request, serve

    address = (arguments.host, arguments.port)
    serve(parse_request(arguments.recipe, arguments.version, address, arguments.workers, arguments.model))


def history(arguments: argparse.Namespace) -> int:
    """Who made which version champion, when and why."""
    from retrainer.registry import commands

    commands.show_history(arguments.recipe)
    return 0


def promote(arguments: argparse.Namespace) -> int:
    """Makes a version champion, by a person's decision."""
    from retrainer.registry import commands

    commands.promote(arguments.recipe, arguments.version, arguments.why)
    return 0


def anchor(arguments: argparse.Namespace) -> int:
    """Makes a version the anchor, by a person's decision."""
    from retrainer.registry import commands

    commands.anchor(arguments.recipe, arguments.version, arguments.why)
    return 0


def rollback(arguments: argparse.Namespace) -> int:
    """Makes the version champion that was it before."""
    from retrainer.registry import commands

    commands.rollback(arguments.recipe, arguments.why)
    return 0


def mirror(arguments: argparse.Namespace) -> int:
    """Shows in Kubeflow's Model Registry what MLflow says."""
    from retrainer.registry import commands

    commands.mirror(arguments.recipe)
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """Versions and reports side by side, on the same test rows where there are some."""
    from retrainer.comparison.command import compare as compared

    print("\n".join(compared(arguments.compared, arguments.recipe)))
    return 0


def suggest(arguments: argparse.Namespace) -> int:
    """Which rows of a file or folder without labels to label first."""
    from retrainer.suggest.command import Request, parse_rows, suggest

    request = Request(arguments.recipe, arguments.input, parse_rows(arguments.rows), arguments.model)
    print("\n".join(suggest(request)))
    return 0


def predict(arguments: argparse.Namespace) -> int:
    """Predictions of a file, a folder or lines on stdin, by the champion or another model."""
    from retrainer.batch_prediction.answers import parse_top_k
    from retrainer.batch_prediction.command import STDOUT, Request, predict
    from retrainer.batch_prediction.model import load_model
    from retrainer.batch_prediction.remote import with_time
    from retrainer.batch_prediction.sections import read_sections
    from retrainer.training.compute import for_scoring, prepare, resolve_compute

    top_k = parse_top_k(arguments.top_k)
    needs_project = arguments.model is None
    sections = read_sections(arguments.recipe, text=arguments.sections, needs_project=needs_project)
    device = str(prepare(for_scoring(resolve_compute(sections.compute))))
    model = load_model(sections, arguments.version, arguments.model, device)
    output = with_time(arguments.output, arguments.time)
    request = Request(model, arguments.input, output, top_k)
    try:
        lines = predict(request)
        print("\n".join(lines), file=sys.stderr if request.place == STDOUT else sys.stdout)
    except KeyboardInterrupt:
        kept = "" if request.place == STDOUT else "; the same command goes on from here"
        print(f"\npredict: stopped{kept}", file=sys.stderr)
        return 130
    return 0


def export(arguments: argparse.Namespace) -> int:
    """A version for people who do not have this project: ONNX, or another library's layout."""
    from retrainer.export.command import export as written
    from retrainer.export.command import parse_request

    request = parse_request(arguments.recipe, arguments.format, arguments.output)
    print("\n".join(written(replace(request, version=arguments.version, model=arguments.model))))
    return 0


def reap(arguments: argparse.Namespace) -> int:
    """Ends what killed processes left in MLflow, and nothing that is in use."""
    from retrainer.registry import commands

    commands.reap(arguments.recipe, arguments.hours)
    return 0


def init(arguments: argparse.Namespace) -> int:
    """Writes a recipe for the data at a path."""
    from retrainer.init.command import Request
    from retrainer.init.command import init as written

    print("\n".join(written(Request(arguments.data, arguments.recipe, tuple(arguments.set)))))
    return 0


def convert_weights(arguments: argparse.Namespace) -> int:
    """Turns pickled weights into .safetensors, for the network of a recipe."""
    from retrainer.convert.command import Request, convert

    print("\n".join(convert(Request(Path(arguments.input), arguments.recipe, tuple(arguments.set)))))
    return 0


def notify(arguments: argparse.Namespace) -> int:
    """Tells the webhook how a Kubeflow run ended (its exit task calls this); --test sends a test."""
    from retrainer.notify import command

    return command.send_test(arguments.recipe) if arguments.test else command.tell_of_run(arguments)


def completion(arguments: argparse.Namespace) -> int:
    from retrainer.completion import script

    print(script(arguments.shell))
    return 0


def show_help(_: argparse.Namespace) -> int:
    print(overview())
    return 0


# What this process does itself. `notify` is for the exit task of a cluster's run.
CALLS: dict[str, Callable[[argparse.Namespace], int]] = {
    "new": new,
    "upgrade": upgrade,
    "init": init,
    "doctor": doctor,
    "suggest": suggest,
    "convert-weights": convert_weights,
    "predict": predict,
    "export": export,
    "check-step": check_step,
    "ui": ui,
    "serve": serve,
    "history": history,
    "promote": promote,
    "anchor": anchor,
    "rollback": rollback,
    "mirror": mirror,
    "compare": compare,
    "reap": reap,
    "notify": notify,
    "completion": completion,
    "help": show_help,
}
_WITHOUT_RECIPE = ("new", "upgrade", "completion", "help")
_PROJECT = ("dvc.yaml", "components", "pipelines")
_OF_ONE_RECIPE = CALLS.keys() - {*_WITHOUT_RECIPE, "init", "doctor", "ui", "notify"}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="retrainer", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"retrainer {__version__}")
    commands = top.add_subparsers(required=True)
    for name, call in CALLS.items():
        command = commands.add_parser(name, help=COMMANDS[name].help if name in COMMANDS else None)
        command.set_defaults(call=call, name=name)
        if name not in _WITHOUT_RECIPE:
            command.add_argument("--recipe", default="")
    commands.choices["new"].add_argument("project", type=Path, help="the folder to make")
    commands.choices["upgrade"].add_argument("--dry-run", action="store_true", help="say what would be done")
    commands.choices["completion"].add_argument("shell", help="bash or zsh")
    commands.choices["init"].add_argument("--data", default="", help="the folder or file")
    commands.choices["convert-weights"].add_argument("--input", default="", help="the pickled file")
    for name in ("init", "convert-weights"):
        commands.choices[name].add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    commands.choices["check-step"].add_argument("directory", nargs="?", type=Path)
    commands.choices["ui"].add_argument("--port", type=int, default=5000)
    _add_serve(commands.choices["serve"])
    for name in ("promote", "anchor"):
        commands.choices[name].add_argument("version")
    commands.choices["compare"].add_argument(
        "compared", nargs="*", metavar="A B …", help="versions, aliases, folders of reports, recipes that ran"
    )
    commands.choices["reap"].add_argument("--hours", default="1", help="of silence, for what others left")
    commands.choices["suggest"].add_argument("--input", default="", help="a file or folder without labels")
    commands.choices["suggest"].add_argument("--rows", default="100", help="how many to name")
    commands.choices["suggest"].add_argument("--model", type=Path, help="a model directory, not the champion")
    predicting = commands.choices["predict"]
    predicting.add_argument("--input", default="", help="a file or folder of rows, or - for lines on stdin")
    predicting.add_argument("--output", default="", help="a .csv, .jsonl or .parquet file, or - for stdout")
    predicting.add_argument("--top-k", default="0", help="how many classes to name with each row")
    predicting.add_argument("--version", default="", help="a version's number or alias, not the champion")
    predicting.add_argument("--model", type=Path, help="a model directory, not the champion")
    predicting.add_argument("--time", default="", help="in the place of {time} in --output, instead of now")
    predicting.add_argument("--sections", default="", help="the settings as JSON, where there is no project")
    exporting = commands.choices["export"]
    exporting.add_argument("--format", default="", help="onnx, onnx-int8, transformers, timm or torchvision")
    exporting.add_argument("--output", default="", help="the new folder; exports/RECIPE/FORMAT by default")
    exporting.add_argument("--version", default="", help="a version's number or alias, not the champion")
    exporting.add_argument("--model", type=Path, help="a model directory, not the champion")
    commands.choices["notify"].add_argument("--test", action="store_true", help="send a test message")
    for option in ("model", "status", "began", "steps"):
        commands.choices["notify"].add_argument(f"--{option}", default="", help="of a Kubeflow run")
    for name in ("promote", "anchor", "rollback"):
        commands.choices[name].add_argument("--why", default="", help="kept in the history")
    return top


def _add_serve(command: argparse.ArgumentParser) -> None:
    command.add_argument("--version", default="", help="a number or an alias; champion by default")
    command.add_argument("--host", default="", help="127.0.0.1 by default, which is this machine alone")
    command.add_argument("--port", default="8080")
    command.add_argument("--workers", default="1", help="processes, each with the model in its memory")
    command.add_argument("--model", default="", help="the registered model's name, where there is no recipe")


def main(argv: list[str]) -> int:
    name = argv[0] if argv else "help"
    try:
        if name in CALLS or name.startswith("-"):
            arguments = parser().parse_args(argv or ["help"])
            with printed_messages():
                if name in _OF_ONE_RECIPE and not _is_chosen(arguments):
                    from retrainer.default_recipe import say_default

                    say_default()
                status = int(arguments.call(arguments))
                sys.stdout.flush()
                return status
        if name not in COMMANDS:
            raise UserError(f"no such command{nearest(name, [*COMMANDS, 'help', 'completion'])}")
        return hand_over(COMMANDS[name], argv[1:])
    except BrokenPipeError:  # whoever reads stdout, such as head, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        if os.environ.get("DEBUG") == "1":
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return 2


def _is_chosen(arguments: argparse.Namespace) -> bool:
    """Whether it is said which recipe, or which model without one."""
    return any(getattr(arguments, name, None) for name in ("recipe", "model", "directory", "sections"))


def hand_over(command: Command, words: list[str]) -> int:
    """Becomes the process that does it, in the project here. Raises UserError outside of a project."""
    if missing := _missing():
        raise UserError(f"there is no {missing[0]} here; run it in your project's root, where make runs too")
    call = [sys.executable, "-m", *command.words, *words]
    return os.execve(sys.executable, call, os.environ | {"DVC_NO_ANALYTICS": "1"})


def _missing() -> list[str]:
    """What the folder here lacks of a project."""
    return [name for name in _PROJECT if not Path(name).exists()]


def command_line() -> None:
    """The installed program `retrainer`: it finds the plug-ins of the project here, as `python -m` does."""
    if not _missing():
        sys.path.insert(0, str(Path.cwd()))
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    command_line()
