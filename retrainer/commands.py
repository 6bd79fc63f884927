"""Every command that a person types, once: `retrainer help` and completion follow, `make help` says the same.

`make NAME RECIPE=x SET=a.b=c` and `retrainer NAME --recipe x --set a.b=c` do the same.
"""

from __future__ import annotations

from dataclasses import dataclass

_RECIPE = ("--recipe",)
_CHOICE = ("--recipe", "--set")
_BUILD = ("--base", "--push", "--network", "--ca-bundle")
_IMAGES = ("--image", "--light-image", "--allow-mutable", "--secret")
_PREDICTS = ("--pipeline", "--input", "--output", "--top-k", "--version")
_RUN = ("--run", "--force")
_PUSH = ("push", "--run-cache")
_PULL = ("pull", "--run-cache", "--allow-missing")


@dataclass(frozen=True)
class Command:
    """Run as `python -m MODULE NAME …`; by the words of `instead` where the module has no such name."""

    name: str
    help: str
    options: tuple[str, ...] = ()
    module: str = "pipelines"
    instead: tuple[str, ...] | None = None

    @property
    def words(self) -> list[str]:
        """What follows `python -m`."""
        return [self.module, *((self.name,) if self.instead is None else self.instead)]


def _own(name: str, text: str, *options: str) -> Command:
    return Command(name, text, (*_RECIPE, *options), "retrainer")


# These make the project, or bring it up to date by a newer Retrainer than its own: make, which runs the
# project's own, has no targets for them.
OF_PROJECTS = "a project"
GROUPS: dict[str, tuple[Command, ...]] = {
    OF_PROJECTS: (
        Command("new", "make a project in a new folder, which needs no clone of Retrainer", (), "retrainer"),
        Command(
            "upgrade",
            "merge the files of this Retrainer into the project here, which an older one made",
            ("--dry-run",),
            "retrainer",
        ),
    ),
    "a recipe, on this machine": (
        _own("init", "look at a folder or file, and write a recipe for it", "--data", "--set"),
        Command(
            "pipeline",
            "ingest, preprocess, train, evaluate, register: what has changed since last time",
            _CHOICE,
        ),
        Command("smoke", "50 rows through every step, apart from everything else", _CHOICE),
        Command("step", "run one step alone on its inputs as they lie", _CHOICE),
        Command(
            "resolve", "settle a recipe, and list what it sets and what it inherits from params.yaml", _CHOICE
        ),
        Command(
            "retrain",
            "for cron: decide by retrain.policy whether to train, then what pipeline does",
            _CHOICE,
        ),
        Command(
            "curve", "train on parts of the rows: how many more a better figure needs", (*_CHOICE, "--sizes")
        ),
        Command(
            "tune",
            "try settings on the validation rows, and write the best as recipes/RECIPE-tuned.yaml",
            (*_CHOICE, "--trials", "--jobs", "--force"),
        ),
        _own("suggest", "which unlabelled rows to label first", "--input", "--rows", "--model"),
        _own("search", "a page that finds the rows most like a picture, text or sound", "--port", "--model"),
        _own("convert-weights", "turn pickled weights (.pth, .bin) into .safetensors", "--input", "--set"),
        _own(
            "predict",
            "predictions of a file or folder, by the champion",
            "--input",
            "--output",
            "--top-k",
            "--version",
            "--model",
            "--gallery",
            "--time",
            "--sections",
        ),
        _own("check-step", "is what your own trainer wrote what the step takes?"),
    ),
    "registered versions": (
        _own(
            "serve",
            "MLflow's scoring server over the champion",
            *("--version", "--host", "--port", "--page-port", "--workers", "--model", "--gallery"),
        ),
        _own(
            "export",
            "the champion for other programs: ONNX, or another library's layout",
            *("--format", "--output", "--version", "--model"),
        ),
        _own("history", "who made which version champion, when and why"),
        _own(
            "compare",
            "versions and reports side by side: settings, data, code, figures, paired tests",
        ),
        _own("promote", "make a version champion by your own decision", "--why"),
        _own("anchor", "make a version the one below which none may fall, for a reason", "--why"),
        _own("rollback", "make the version champion that was it before", "--why"),
        _own("mirror", "show in Kubeflow's Model Registry what MLflow says of the recipe's model"),
        _own("reap", "end what killed processes and pods left in MLflow", "--hours"),
        _own("ui", "MLflow's pages over mlflow.db", "--port"),
    ),
    "containers": (
        Command("images", "build both images", _BUILD),
        Command("rehearse", "run the compiled pipeline in real containers here", (*_CHOICE, *_BUILD)),
        Command(
            "mlflow-image",
            "build the image of the team's MLflow server, for deploy/ and docker/compose.yaml",
            _BUILD,
            "pipelines.containers.mlflow_image",
            (),
        ),
        Command(
            "pin-base", "write down the digest of the base image, asked of its registry", ("--ca-bundle",)
        ),
    ),
    "the cluster of KFP_ENDPOINT": (
        Command("compile", "write build/RECIPE.yaml for Kubeflow", (*_CHOICE, *_IMAGES, *_PREDICTS)),
        Command(
            "inference-service",
            "write build/RECIPE-service.yaml: the champion's server, for KServe",
            (*_CHOICE, *_IMAGES, "--version", "--canary"),
        ),
        Command("submit", "run the recipe there", (*_CHOICE, *_IMAGES, *_PREDICTS, "--wait")),
        Command("schedule", "run it there by the clock", (*_CHOICE, *_IMAGES, *_PREDICTS, "--cron")),
        Command("unschedule", "end that schedule", (*_CHOICE, "--pipeline")),
        Command("runs", "the recipe's runs and schedule there", _CHOICE),
        Command("adopt", "bring the data of a run into git, as datasets/RECIPE.dvc", _RUN),
        Command("replay", "run one step of a rehearsal or a cluster run again, here", (*_RUN, "--debug")),
    ),
    "data, and this machine": (
        Command("push", "data and models of every recipe to DVC's remote", (), "dvc", _PUSH),
        Command("pull", "data and models of every recipe from DVC's remote", (), "dvc", _PULL),
        _own("doctor", "check Python, disk, GPU, MLflow, DVC, with a cure for each, and RECIPE's settings"),
        Command(
            "notify-test",
            "send one message to RETRAINER_WEBHOOK, as the end of a run does",
            _RECIPE,
            "retrainer",
            ("notify", "--test"),
        ),
    ),
}
COMMANDS = {command.name: command for group in GROUPS.values() for command in group}


def overview() -> str:
    """The commands by group, as `retrainer help` prints them."""
    lines = ["retrainer COMMAND [--recipe NAME] [--set section.key=value]…, in your project's root"]
    for title, group in GROUPS.items():
        lines += ["", title, *(f"  {command.name:18} {command.help}" for command in group)]
    return "\n".join([*lines, "", "retrainer COMMAND --help lists its options; DEBUG=1 shows tracebacks."])
