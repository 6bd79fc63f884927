"""What the command `retrainer` does itself: of each command its arguments, and the function of the library.

A function imports what it needs when it is called, so that help and completion stay quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path


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
    from retrainer.services.mlflow_ui import show

    return show(arguments.port)


def serve(arguments: argparse.Namespace) -> int:
    """MLflow's scoring server over a registered version."""
    from retrainer.serving.command import parse_request, serve

    address = (arguments.host, arguments.port, arguments.page_port)
    request = parse_request(arguments.recipe, arguments.version, address, arguments.workers, arguments.model)
    serve(replace(request, gallery=arguments.gallery))


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


def search(arguments: argparse.Namespace) -> int:
    """A page that finds the rows of a recipe's dataset which are most like a picture, text or sound."""
    from retrainer.search.command import parse_request, search

    search(parse_request(arguments.recipe, arguments.port, arguments.model))


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
    request = Request(model, arguments.input, output, top_k, arguments.gallery)
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
    from retrainer.commands import overview

    print(overview())
    return 0


# What this process does itself. `notify` is for the exit task of a cluster's run.
CALLS: dict[str, Callable[[argparse.Namespace], int]] = {
    "new": new,
    "upgrade": upgrade,
    "init": init,
    "doctor": doctor,
    "suggest": suggest,
    "search": search,
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
# Commands that speak of no recipe, and those that speak of one.
WITHOUT_RECIPE = ("new", "upgrade", "completion", "help")
OF_ONE_RECIPE = CALLS.keys() - {*WITHOUT_RECIPE, "init", "doctor", "ui", "notify"}
