"""What `python -m pipelines` does: a function of each command, which takes what `_arguments.py` has read.

A function imports what it needs when it is called.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import SettingError, UserError

if TYPE_CHECKING:
    from pipelines.kubeflow import Images
    from pipelines.prediction import Scoring

Arguments = argparse.Namespace

# --- this machine --------------------------------------------------------------------------------------


def pipeline(arguments: Arguments) -> int:
    from pipelines.local import run

    return run(arguments.recipe, arguments.set)


def retrain(arguments: Arguments) -> int:
    from pipelines.local import run

    return run(arguments.recipe, arguments.set, ask=True)


def resolve(arguments: Arguments) -> int:
    from pipelines.local import prepare
    from retrainer.layers import stated
    from retrainer.resolve import layers_of

    made = prepare(arguments.recipe, arguments.set, Path())
    print("\n".join(stated(layers_of(arguments.recipe, arguments.set, Path())[1])))
    print("all else: the defaults, which docs/reference.md lists")
    print(f"written: {made.directory / 'settings.json'}, for dvc repro train@{made.recipe} by hand")
    return 0


def step(arguments: Arguments) -> int:
    from pipelines.local import run_step

    return run_step(arguments.step, arguments.recipe, arguments.set)


def smoke(arguments: Arguments) -> int:
    from pipelines.smoke import smoke

    return smoke(arguments.recipe, arguments.set)


def curve(arguments: Arguments) -> int:
    from pipelines.curve import curve

    return curve(arguments.recipe, arguments.set, arguments.sizes)


def tune(arguments: Arguments) -> int:
    from pipelines.tune import tune

    asked = [f"tune.{key}={getattr(arguments, key)}" for key in ("trials", "jobs") if getattr(arguments, key)]
    return tune(arguments.recipe, [*arguments.set, *asked], arguments.force)


# --- containers ----------------------------------------------------------------------------------------


def make_images(arguments: Arguments) -> int:
    from pipelines.containers.images import Choices, make_images

    return make_images(Choices(arguments.base, arguments.ca_bundle, arguments.push, arguments.network))


def _current_images(arguments: Arguments) -> int:
    """Builds the images unless they hold the code that is here."""
    from pipelines.containers.images import built

    try:
        built(Path())
    except UserError as error:
        print(f"── {error}: doing that first", file=sys.stderr, flush=True)
        return make_images(arguments)
    return 0


def pin_base(arguments: Arguments) -> int:
    from pipelines.containers.images import pin_base

    return pin_base(ca_bundle=arguments.ca_bundle)


def rehearse(arguments: Arguments) -> int:
    from pipelines.containers.rehearse import rehearse

    return _current_images(arguments) or rehearse(arguments.recipe, arguments.set)


# --- the cluster ---------------------------------------------------------------------------------------


def compile(arguments: Arguments) -> int:
    from pipelines.compile import compile_recipe

    images = _images(arguments)
    made = compile_recipe(arguments.recipe, _with_secret(arguments), images, scoring=_scoring(arguments))
    print(f"written: {made.path}")
    return 0


def inference_service(arguments: Arguments) -> int:
    from pipelines.cluster.inference_service import Choice, write_inference_service

    choice = Choice(arguments.recipe, _with_secret(arguments), arguments.version, arguments.canary)
    print(f"written: {write_inference_service(choice, _images(arguments))}")
    return 0


def submit(arguments: Arguments) -> int:
    from pipelines.cluster.submit import submit

    given = arguments.recipe, _with_secret(arguments), _images(arguments), arguments.wait
    return submit(*given, scoring=_scoring(arguments))


def schedule(arguments: Arguments) -> int:
    from pipelines.cluster.schedule import schedule

    given = arguments.cron, arguments.recipe, _with_secret(arguments), _images(arguments)
    return schedule(*given, scoring=_scoring(arguments))


def unschedule(arguments: Arguments) -> int:
    from pipelines.cluster.schedule import unschedule

    return unschedule(arguments.recipe, arguments.set, predicts=_predicts(arguments))


def runs(arguments: Arguments) -> int:
    from pipelines.cluster.runs import show_runs

    return show_runs(arguments.recipe, arguments.set)


def adopt(arguments: Arguments) -> int:
    from pipelines.cluster.adopt import adopt

    return adopt(arguments.run, force=arguments.force)


def replay(arguments: Arguments) -> int:
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
