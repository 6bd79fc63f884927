"""The settings: one frozen section per concern. A default lives here, once.

`params.yaml` and a recipe are read by `retrainer.resolve` alone; a step gets its sections.
Sections that carry a `kind` or `family` accept further keys: those belong to the chosen file
(`retrainer/tasks/<kind>.py`, `retrainer/models/<family>.py`) and are checked by its `Options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from retrainer.errors import UserError, nearest


class Section(BaseModel):
    """A frozen group of settings. An unknown key is an error that names the nearest known one.

    Values are read by the fields' types: YAML takes `1e-4` for text, and Kubeflow turns 7 into 7.0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str) -> Self:
        """Validates plain data. Raises UserError naming the key as `where.key`."""
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise UserError(_explain(error, cls, where)) from None

    def plain(self) -> dict[str, Any]:
        """The section as JSON-ready data, every default written out."""
        return self.model_dump(mode="json")


def _explain(error: ValidationError, section: type[BaseModel], where: str) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join([where, *(str(part) for part in first["loc"] if part != "[key]")])
    if first["type"] == "extra_forbidden":
        nested = len(first["loc"]) > 1
        return f"unknown setting {key}" + (
            "" if nested else nearest(str(first["loc"][0]), section.model_fields)
        )
    if first["type"] == "missing":
        return f"setting {key} is missing"
    return f"setting {key}: {first['msg'].removeprefix('Value error, ')} (got {first['input']!r})"


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return {key: _whole(item) for key, item in value.items()} if isinstance(value, Mapping) else value


class OpenSection(Section):
    """A section whose further keys belong to the chosen file's `Options`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _whole_options(cls, data: Any) -> Any:
        """No field's type reads these keys here: Kubeflow's 7.0 must give the same bytes as 7."""
        return {key: value if key in cls.model_fields else _whole(value) for key, value in data.items()}

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Source(OpenSection):
    # Classes are names, also where YAML reads them as numbers.
    model_config = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)

    kind: str = Field(
        "", description="a file of retrainer/data/sources or plugins.x; empty: by the path's suffix"
    )
    path: str = Field("", description="file, directory, archive or s3:// address")
    test_path: str = Field("", description="your own test set, in the same form as `path`")
    text: str = Field("text", description="column of the text")
    text_pair: str = Field("text_pair", description="column of the second text, if there is one")
    image: str = Field("image", description="column with encoded image bytes, or paths beside the file")
    label: str = Field("label", description="column of the label (a list of them for multi-label)")
    label_separator: str = Field("", description="splits the label column into several labels, as in 'a|b'")
    group: str = Field("group", description="rows of one group stay in one split")
    time: str = Field("time", description="when the row arose")
    id: str = Field("id", description="your own key of the row")
    classes: tuple[str, ...] = Field((), description="keep only these classes; empty keeps all")
    digest: str = Field("", description="written by resolve: sha256 of the source's bytes")
    code_digest: str = Field("", description="written by resolve: sha256 of a plug-in's code")


class Split(Section):
    test: float = Field(
        0.2, ge=0, lt=1, description="share of rows for the test, by hash of content or group"
    )
    validation: float = Field(0.1, ge=0, lt=1, description="share of rows that choose the epoch")
    train_per_class: int = Field(0, ge=0, description="keep so many training rows a class; 0 keeps all")
    validation_per_class: int = Field(0, ge=0, description="the same for the validation rows")
    limit: int = Field(0, ge=0, description="keep so many rows in all, lowest hash first; 0 keeps all")
    salt: str = Field("", description="another word draws another split")


class Task(OpenSection):
    kind: str = Field("text_classification", description="a file of retrainer/tasks or plugins.x")
    multi_label: bool = Field(False, description="a row may have several labels, or none")
    code_digest: str = Field("", description="written by resolve: sha256 of a plug-in's code")


class Backbone(OpenSection):
    family: str = Field("transformers", description="a file of retrainer/models or plugins.x")
    weights: str = Field(
        "none",
        description="none, imagenet, package:NAME, models:/NAME@ALIAS, a hub id, a directory or .safetensors",
    )
    revision: str = Field("", description="hub revision; resolve turns it into a commit")
    weights_sha256: str = Field(
        "", description="sha256 (or model_sha256) the weights must have; resolve fills it"
    )
    code_digest: str = Field("", description="written by resolve: sha256 of a plug-in's code")


class Training(Section):
    strategy: Literal["scratch", "frozen", "full"] = Field("full", description="what is trained")
    epochs: int = Field(3, ge=1, description="passes over the training rows")
    batch_size: int = Field(32, ge=1, description="rows a step")
    learning_rate: float = Field(
        1e-3, gt=0, description="peak rate of the head, or of everything from scratch"
    )
    backbone_learning_rate: float = Field(
        0.0, ge=0, description="peak rate of the backbone; 0: a tenth of the head's"
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay, on matrices only")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="rate after the warm-up")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps that raise the rate from 0")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="probability spread over the other classes")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the head")
    clip_norm: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")
    keep: Literal["best", "last"] = Field("best", description="which epoch's weights, by validation loss")
    seed: int = Field(0, ge=0, description="initial head, order of rows, augmentation, dropout")
    command: str = Field("", description="your own trainer: called with the dataset and model directories")
    code_digest: str = Field("", description="written by resolve: sha256 of the files that `command` names")


class Compute(Section):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="autocast format of the forward pass"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0: the physical cores")
    packages: dict[str, str] = Field({}, description="written by resolve: versions that change numbers")


class Evaluation(Section):
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of every interval")
    resamples: int = Field(1000, ge=100, description="bootstrap draws for figures without a closed form")
    baseline: bool = Field(True, description="fit the cheap baseline on the training rows")
    seed: int = Field(0, ge=0)


class Gate(Section):
    alpha: float = Field(0.05, gt=0, lt=0.5, description="chance to promote an equal model")
    power: float = Field(0.8, gt=0.5, lt=1, description="of the smallest difference the report names")
    min_accuracy: float = Field(0.0, ge=0, le=1, description="floor: below it nothing is promoted")
    beat_majority: bool = Field(True, description="must beat always answering the commonest class")
    beat_baseline: bool = Field(False, description="must beat the cheap baseline by the paired test")


class Registry(Section):
    name: str = Field(
        "model", min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", description="registered model"
    )


# As Kubernetes writes amounts: half a core is 500m or 0.5, two gibibytes are 2Gi; empty takes the default.
Cores = Annotated[str, Field(pattern=r"^(\d+(\.\d+)?|\d+m)?$")]
Bytes = Annotated[str, Field(pattern=r"^(\d+(Ki|Mi|Gi|Ti|k|M|G|T)?)?$")]
KubernetesName = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.\-]*[a-z0-9])?)?$")]

StepName = Literal["ingest", "preprocess", "train", "evaluate", "register"]


class Resources(Section):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    cpu: Cores = Field("", description="cores asked for; empty: the step's default")
    memory: Bytes = Field("", description="memory asked for; empty: the step's default")
    cpu_limit: Cores = Field("", description="most cores; empty: as many as asked for")
    memory_limit: Bytes = Field("", description="most memory; empty: as much as asked for")


class Toleration(Section):
    key: str = Field("", description="the taint's key; empty with Exists tolerates every taint")
    operator: Literal["Exists", "Equal"] = Field("Exists", description="Equal compares the taint's value")
    value: str = Field("", description="the taint's value, for Equal")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field("", description="empty: all")


class Cluster(Section):
    """How the steps run as pods. Read when a pipeline is compiled and submitted; no step sees it."""

    experiment: str = Field("", description="of Kubeflow's and MLflow's runs; empty: the model's name")
    model_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9_.\-]*$", description="before the names of registered models, as 'team-'"
    )
    mlflow_secret: KubernetesName = Field(
        "", description="secret with MLFLOW_TRACKING_URI and its credentials"
    )
    storage_secret: KubernetesName = Field(
        "", description="secret with AWS_* and RETRAINER_* addresses of S3"
    )
    service_account: KubernetesName = Field("", description="the pods' account; empty: Kubeflow's own")
    image_pull_secrets: tuple[str, ...] = Field((), description="secrets of the image's registry")
    labels: dict[str, str] = Field({}, description="on every pod, for example cost-centre: vision")
    node_selector: dict[str, str] = Field({}, description="labels of the nodes that may run the steps")
    tolerations: tuple[Toleration, ...] = Field((), description="taints that the steps' pods accept")
    resources: dict[StepName, Resources] = Field({}, description="cores and memory by step")
    gpus: int = Field(0, ge=0, description="GPUs of train; compute.device cuda takes at least one")
    gpu_type: str = Field("nvidia.com/gpu", min_length=1, description="the GPU's resource name")
    gpu_node_selector: dict[str, str] = Field({}, description="labels of the nodes for train with a GPU")
    gpu_tolerations: tuple[Toleration, ...] = Field(
        (Toleration(key="nvidia.com/gpu", operator="Exists", value="", effect="NoSchedule"),),
        description="taints that such a pod accepts",
    )
    shared_memory: Bytes = Field("1Gi", description="/dev/shm of train; empty: the node's 64 MB")
    timeout_seconds: int = Field(86_400, ge=0, description="longest time of a step's pod; 0: no end")
    retries: int = Field(2, ge=0, description="new tries of a step that failed or was preempted")
    backoff_seconds: int = Field(60, ge=0, description="wait before the first retry, then twice as long")
    checkpoint_volume: KubernetesName = Field(
        "", description="volume claim where train keeps checkpoints between tries"
    )


SECTIONS: dict[str, type[Section]] = {
    "source": Source,
    "split": Split,
    "task": Task,
    "backbone": Backbone,
    "training": Training,
    "compute": Compute,
    "evaluation": Evaluation,
    "gate": Gate,
    "registry": Registry,
    "cluster": Cluster,
}

# `source: data.csv` in one line: the key that a bare word stands for.
SHORTHAND = {"task": "kind", "backbone": "family", "registry": "name"}
