"""Batch scoring on Kubeflow: one task, which is `make predict` from S3 to S3 by the champion of that day.

It is compiled, submitted and scheduled as the pipeline that retrains: PIPELINE=predict.
"""

# No `from __future__ import annotations` here: kfp reads the annotations themselves, not their text.
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from kfp import dsl

from pipelines import _pods
from pipelines.kubeflow import Images, Settings, pipeline_name, section_text
from retrainer.batch_prediction.answers import parse_top_k
from retrainer.batch_prediction.encodings import encoding_of
from retrainer.batch_prediction.sections import Sections
from retrainer.errors import SettingError
from retrainer.services import storage
from retrainer.settings import Cluster

TASK = "predict"
_NAMED = ("INPUT", "OUTPUT")
# What the kubelet replaces in a pod's arguments, by a secret for example, and what Argo and Kubeflow do.
_REPLACED = re.compile(r"\$\(|\$\$|\{\{")


@dataclass(frozen=True)
class Scoring:
    """`input` and `output`: s3:// addresses, in the latter {time} stands for when the run was due; `top_k`
    and `version`: as `make predict` takes them."""

    input: str
    output: str
    top_k: str = ""
    version: str = ""

    def check(self) -> None:
        """Raises SettingError for what no pod could do, and for what would not arrive as it is written."""
        places = dict(zip(_NAMED, (self.input, self.output), strict=True))
        for name, place in places.items():
            if not storage.is_remote(place):
                raise SettingError(
                    f"{name}={place}: a pod reads and writes S3 alone; name s3://BUCKET/KEY"
                    " (make predict runs on this machine)"
                )
        for name, value in (places | {"VERSION": self.version}).items():
            if found := _REPLACED.search(value):
                raise SettingError(
                    f"{name}={value}: on its way to the pod '{found[0]}' would be replaced; do without it"
                )
        encoding_of(PurePosixPath(self.output).suffix.lower())
        parse_top_k(self.top_k or "0")


def scoring_name(recipe: str) -> str:
    """What its runs, its schedule and its file in build/ go by."""
    return f"{recipe}--{TASK}"


def prediction_pipeline(
    recipe: str, settings: Settings, images: Images, cluster: Cluster, scoring: Scoring
) -> Any:
    """The pipeline; its parameters may be changed for a single run.

    A run is due at its schedule's time, and one that no schedule started when it began: Kubeflow's driver
    fills that in (see `pipelines.kubeflow.pipeline_of`).
    """
    sections = section_text({name: settings[name] for name in Sections._fields})

    @dsl.container_component
    def predict(
        sections: str, input: str, output: str, top_k: str, version: str, time: str
    ) -> dsl.ContainerSpec:
        """Predictions of a file or folder, by the champion."""
        return dsl.ContainerSpec(
            image=images.full,
            command=["python", "-m", "retrainer", TASK],
            args=[
                *("--sections", sections, "--input", input, "--output", output),
                *("--top-k", top_k, "--version", version, "--time", time),
            ],
        )

    @dsl.pipeline(name=pipeline_name(scoring_name(recipe)), description=f"Predicts by '{recipe}'.")
    def pipeline(
        sections: str = sections,
        input: str = scoring.input,
        output: str = scoring.output,
        top_k: str = scoring.top_k or "0",
        version: str = scoring.version,
    ) -> None:
        given = {"input": input, "output": output, "top_k": top_k, "version": version}
        task = predict(sections=sections, **given, time=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER)
        # The champion, and what lies at the address, may be others than the last time.
        task.set_caching_options(False)
        _pods.describe(task, TASK, images.full, settings, cluster)

    return pipeline
