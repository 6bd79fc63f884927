"""When a model is trained again, how it is measured and promoted, and under which name it is kept."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from retrainer.settings.rates import Rates
from retrainer.settings.section import Section


class Retrain(Section):
    """Asked by `make retrain` and by a pipeline on a cluster; `make pipeline` never asks."""

    policy: Literal["always", "new-data", "drift"] = Field(
        "always", description="train whenever asked to, only for new data or settings, only for drifted data"
    )
    alpha: float = Field(0.05, ge=0.005, lt=0.5, description="drift: chance to find some where there is none")
    min_new_rows: int = Field(
        100, ge=1, description="drift: with fewer independent new rows nothing is tested, nor trained"
    )
    growth: float = Field(
        0.0,
        ge=0,
        description="drift: train too once the new rows are so many for one of the champion's; 0: never",
    )


class Evaluation(Section):
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of every interval")
    resamples: int = Field(1000, ge=100, description="bootstrap draws for figures without a closed form")
    baseline: bool = Field(True, description="fit the cheap baseline on the training rows")
    slices: tuple[str, ...] = Field(
        (), description="also by these: class, time, group, text_length, brightness or one of source.metadata"
    )
    explain: int = Field(
        4,
        ge=0,
        le=100,
        description="test rows that are explained by attributions, beside the mistakes; 0: no row at all",
    )
    seed: int = Field(0, ge=0, description="of the draws of evaluation: bootstrap, samples")
    cost: Rates = Field(
        Rates.parse({}, "evaluation.cost"), description="rates for what the training cost: see there"
    )


class Changes(Section):
    """What may change between the champion's data and today's before a promotion is held; 0: anything."""

    fewer_rows: float = Field(0.2, ge=0, le=1, description="share of the rows, or test rows, that is gone")
    more_rows: float = Field(
        2.0, ge=0, description="so many times as many rows more: 2 is three times as many"
    )
    class_rows: int = Field(10, ge=0, description="rows of a class, or more, that appeared or vanished")
    label_shares: float = Field(
        0.1, ge=0, le=1, description="labels that are of another class than before, beyond chance"
    )
    lengths: float = Field(
        0.3,
        ge=0,
        description="change of the median length of texts or sounds, size of images, rate of sounds",
    )
    duplicates: float = Field(0.2, ge=0, le=1, description="more of the rows repeat another, as a share")
    unusable: float = Field(0.05, ge=0, le=1, description="more of the rows lack text, image or label")
    groups: float = Field(0.05, ge=0, le=1, description="more of the rows lack their group, as a share")


class Gate(Section):
    RENAMED: ClassVar = {"min_accuracy": "min_value", "beat_majority": "beat_trivial"}

    policy: Literal["better", "not-worse"] = Field("better", description="than the champion, by paired test")
    metric: str = Field(
        "",
        description="file of retrainer/metrics (macro_f1), or plugins.x, that is compared; empty: the task's",
    )
    margin: float = Field(0.01, gt=0, description="not-worse: a loss of the metric that does not count")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="chance to promote an equal (or margin worse) model")
    power: float = Field(0.8, gt=0.5, lt=1, description="of the smallest difference the report names")
    min_value: float | None = Field(
        None, description="floor of the metric, or ceiling where less is better; empty: none"
    )
    beat_trivial: bool = Field(True, description="must beat the baseline that does not look at its input")
    beat_baseline: bool = Field(False, description="must beat the cheap baseline by the paired test")
    slice_floors: dict[str, float] = Field(
        {}, description="like min_value, in every value of a slice: {text_length: 0.8, region: 0.75}"
    )
    slice_rows: int = Field(30, ge=1, description="values of a slice with fewer rows are shown, not judged")
    max_drop: float = Field(
        0.2,
        ge=0,
        le=1,
        description="a class's recall or a slice's figure that falls further below the champion's, by more"
        " than chance, holds a model: 0.2 is 20 points of a share, a fifth of any other figure; 0: no limit,"
        " and classes may appear and vanish",
    )
    accept_classes: tuple[str, ...] = Field(
        (), description="classes that may collapse, appear or vanish beside the champion's: [refund]"
    )
    accept_slices: dict[str, tuple[str, ...]] = Field(
        {}, description="values of slices that may collapse beside the champion's: {region: [south]}"
    )
    max_calibration_error: float = Field(0.0, ge=0, le=1, description="ceiling; 0: none")
    max_latency_ms: float = Field(0.0, ge=0, description="ceiling of one row's median time on a CPU; 0: none")
    max_model_mb: float = Field(0.0, ge=0, description="ceiling of the model's files in megabytes; 0: none")
    changes: Changes = Field(
        Changes.parse({}, "gate.changes"), description="of the data since the champion's: see there"
    )
    accepted_data: str = Field(
        "",
        pattern="^([0-9a-f]{8,64})?$",
        description="content hash, or its beginning, of data that changed and that a person has accepted",
    )


class Registry(Section):
    name: str = Field(
        "model",
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$",
        description="registered model",
    )
    sign: bool = Field(False, description="sign what is registered, by the key of RETRAINER_SIGNING_KEY")
    kubeflow: str = Field(
        "",
        pattern=r"^(https?://([A-Za-z0-9.\-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/\-]*)?)?$",
        description="address of Kubeflow's Model Registry, which then shows every version of an MLflow server"
        " and who is champion: http://model-registry-service.kubeflow.svc.cluster.local:8080; empty: none",
    )
