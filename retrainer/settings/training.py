"""What is trained, from what, how, and on which machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.settings.privacy import Privacy, require_private
from retrainer.settings.section import OpenSection, Section

Strategy = Literal["scratch", "frozen", "head-then-full", "last-n", "lora", "full"]
_SEES_ROWS = ("scratch", "head-then-full", "last-n", "lora", "full")
# Keys that mean something under these strategies alone.
_KEYS_OF = {
    "head_epochs": ("head-then-full",),
    "last_blocks": ("last-n",),
    "lora_rank": ("lora",),
    "lora_alpha": ("lora",),
    "layer_decay": ("full", "head-then-full"),
    "cached_views": ("frozen", "head-then-full"),
    "fold_norms": ("frozen", "head-then-full"),
    **dict.fromkeys(
        ("mixup", "cutmix", "start_size", "checkpoint_activations", "packing", "prune"), _SEES_ROWS
    ),
}
# Keys that mean nothing to this optimiser.
_NOT_OF = {"adam_betas": "sgd", "momentum": "adamw"}
_Beta = Annotated[float, Field(ge=0, lt=1)]


class Task(OpenSection):
    kind: str = Field("text_classification", description="a file of retrainer/tasks or plugins.x")
    multi_label: bool = Field(False, description="a row may have several labels, or none")
    code_digest: str = Field("", description="written by resolve: sha256 of a plug-in's code")


class Backbone(OpenSection):
    family: str = Field("transformers", description="a file of retrainer/models or plugins.x")
    weights: str = Field(
        "none",
        description="none, imagenet, package:NAME, models:/NAME@ALIAS, a hub id, a directory, .safetensors,"
        " .keras or .gguf",
    )
    revision: str = Field("", description="hub revision; resolve turns it into a commit")
    weights_sha256: str = Field(
        "", description="sha256 (or model_sha256) the weights must have; resolve fills it"
    )
    code_digest: str = Field("", description="written by resolve: sha256 of a plug-in's code")


class Training(Section):
    strategy: Strategy = Field("full", description="what is trained; see retrainer/training/strategies.py")
    head_epochs: int = Field(1, ge=1, description="head-then-full: epochs, of all, that train the head alone")
    last_blocks: int = Field(1, ge=1, description="last-n: blocks of the backbone, from its end, that train")
    lora_rank: int = Field(8, ge=1, description="lora: inner width of the matrices that are added")
    lora_alpha: float = Field(16.0, gt=0, description="lora: what is added weighs alpha / rank")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="a block's rate, as a share of the next one's; the last has the full one"
    )
    cached_views: int = Field(
        1, ge=1, description="frozen: augmented views of a row that are embedded; 1: the row as it is"
    )
    fold_norms: bool = Field(
        True, description="frozen: embed with BatchNorm folded into the convolutions, faster"
    )
    epochs: int = Field(3, ge=1, description="passes over the training rows")
    patience: int = Field(0, ge=0, description="epochs without a lower validation loss that end it; 0: never")
    budget_seconds: float = Field(
        0.0, ge=0, description="time to train for, the model is then no longer reproducible; 0: no limit"
    )
    batch_size: int = Field(32, ge=1, description="rows a step")
    accumulate: int = Field(
        1, ge=1, description="parts that a step's rows are computed in: less memory, same result"
    )
    halve_on_out_of_memory: bool = Field(
        False, description="compute a step in twice the parts when it does not fit into the GPU's memory"
    )
    checkpoint_activations: bool = Field(
        False, description="compute each block twice instead of keeping what it needs: less memory, slower"
    )
    packing: bool = Field(
        False, description="texts: compute a step's texts one behind the other, without padding; same result"
    )
    learning_rate: float = Field(
        1e-3, gt=0, description="peak rate of the head, or of everything from scratch"
    )
    backbone_learning_rate: float = Field(
        0.0, ge=0, description="peak rate of the backbone; 0: a tenth of the head's"
    )
    optimizer: Literal["adamw", "sgd", "muon"] = Field(
        "adamw",
        description="sgd: with Nesterov's momentum, and rates of its own, often 0.1 to 1; muon: AdamW but for"
        " the body's matrices, whose steps are made orthogonal",
    )
    # A further setting of an optimiser: training/optimiser.py names the places.
    adam_betas: tuple[_Beta, _Beta] = Field(
        (0.9, 0.999),
        description="adamw and muon: decay rates of the running means of the gradients and of their squares",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd and muon: share of the last step that goes on")
    weight_decay: float = Field(
        0.01, ge=0, description="on matrices only; with sgd part of the gradient, where often 1e-4 to 1e-3"
    )
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="rate after the warm-up")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps that raise the rate from 0")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="probability spread over the other classes")
    prune: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the rows with less than the mean loss that an epoch leaves out, drawn anew each"
        " time; the first epoch and the last eighth have all: fewer steps for about the same model",
    )
    balance: Literal["none", "weights", "sampling"] = Field(
        "none", description="rare classes weigh more in the loss, or come more often in an epoch"
    )
    mixup: float = Field(0.0, ge=0, description="images: alpha of blending two rows; 0: none")
    cutmix: float = Field(0.0, ge=0, description="images: alpha of pasting a box of another row; 0: none")
    start_size: float = Field(
        1.0, gt=0, le=1, description="images: share of the side in the first epoch, whole in the last third"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="before the head")
    clip_norm: float = Field(
        1.0, ge=0, description="largest gradient norm, with privacy of each row's; 0: no clipping"
    )
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="of a moving average of the weights, which is what is kept; 0: none"
    )
    keep: Literal["best", "last"] = Field("best", description="which epoch's weights, by validation loss")
    examples_per_class: int = Field(
        0, ge=0, description="rows to learn from of each class, drawn by the seed, the others unused; 0: all"
    )
    seed: int = Field(0, ge=0, description="initial head, order of rows, augmentation, dropout")
    calibrate: bool = Field(True, description="fit a temperature to the validation rows, kept with the model")
    privacy: Privacy = Field(
        Privacy.parse({}, "training.privacy"), description="differential privacy of the training rows"
    )
    command: str = Field("", description="your own trainer: called with the dataset and model directories")
    code_digest: str = Field("", description="written by resolve: sha256 of the files that `command` names")

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str) -> Self:
        """Refuses also a key that the chosen strategy has no use for."""
        training = super().parse(data, where)
        for key, strategies in _KEYS_OF.items():
            unused = training.strategy not in strategies
            if unused and getattr(training, key) != cls.model_fields[key].default:
                raise SettingError(
                    f"setting {where}.{key} is for the strategy {' or '.join(strategies)}, not for"
                    f" {training.strategy}; leave it out, or change {where}.strategy"
                )
        for key, other in _NOT_OF.items():
            if training.optimizer == other and getattr(training, key) != cls.model_fields[key].default:
                raise SettingError(
                    f"setting {where}.{key} is not for the optimizer {other}; leave it out, or change"
                    f" {where}.optimizer"
                )
        if training.strategy == "head-then-full" and training.head_epochs >= training.epochs:
            raise SettingError(
                f"setting {where}.head_epochs: {training.head_epochs} of {training.epochs} epochs leave none"
                " for the backbone; set fewer"
            )
        require_private(training)
        return training


class Compute(Section):
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="autocast format of the forward pass"
    )
    threads: int = Field(0, ge=0, description="CPU threads of a process; 0: the physical cores, shared")
    processes: int = Field(
        1, ge=1, description="that train together, one GPU each if any; started here or by torchrun"
    )
    fsdp: bool = Field(
        False,
        description="each process holds only its share of weights, gradients and moments (PyTorch's FSDP2):"
        " less memory, more traffic",
    )
    compile: bool | Literal["auto", "kernels"] = Field(
        "auto",
        description="torch.compile of the training step; auto: on a GPU, where the run is long enough;"
        " kernels: only this project's own GPU kernels, in seconds instead of a minute; small networks gain,"
        " deep ones lose",
    )
    packages: dict[str, str] = Field({}, description="written by resolve: versions that change numbers")

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str) -> Self:
        """Refuses also shares for a single process, and shares that are compiled."""
        compute = super().parse(data, where)
        if compute.fsdp and compute.processes == 1:
            raise SettingError(
                f"setting {where}.fsdp: the weights are shared among processes, and {where}.processes is 1;"
                " set 2 or more, or leave fsdp out"
            )
        if compute.fsdp and compute.compile in (True, "kernels"):
            raise SettingError(
                f"setting {where}.compile: a network whose weights are shared ({where}.fsdp) is not compiled;"
                " leave one of them out"
            )
        return compute
