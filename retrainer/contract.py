"""A step is a plain function, and its signature is its contract.

A parameter of a step is an input path, an output path, a view (an output that only a dashboard wants)
or a section of the settings. The three doors (Python, DVC, Kubeflow) are all derived from, or tested
against, what `contract_of` reads here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from retrainer.settings import Section

Direction = Literal["input", "output", "view"]


@dataclass(frozen=True)
class Port:
    """A path of a step. `artifact` is the type that Kubeflow Pipelines shows (Dataset, Model, HTML, …)."""

    direction: Direction
    artifact: str
    # Whether the step's metadata for it has a `choice`, a word by which Kubeflow goes on or stops.
    chooses: bool = False


InDataset = Annotated[Path, Port("input", "Dataset")]
OutDataset = Annotated[Path, Port("output", "Dataset")]
InModel = Annotated[Path, Port("input", "Model")]
OutModel = Annotated[Path, Port("output", "Model")]
InArtifact = Annotated[Path, Port("input", "Artifact")]
OutArtifact = Annotated[Path, Port("output", "Artifact")]
OutDecision = Annotated[Path, Port("output", "Artifact", chooses=True)]
ArtifactView = Annotated[Path | None, Port("view", "Artifact")]
HtmlView = Annotated[Path | None, Port("view", "HTML")]
MetricsView = Annotated[Path | None, Port("view", "Metrics")]
ClassificationView = Annotated[Path | None, Port("view", "ClassificationMetrics")]

# What a step returns: plain metadata per output port or view, shown by dashboards.
Metadata = dict[str, dict[str, Any]]
Step = Callable[..., Metadata]


@dataclass(frozen=True)
class Contract:
    name: str
    ports: dict[str, Port]
    sections: dict[str, type[Section]]

    def named(self, *directions: Direction) -> list[str]:
        return [name for name, port in self.ports.items() if port.direction in directions]

    def sealed(self, direction: Direction) -> list[str]:
        """Datasets and models: directories whose manifest carries one digest of their content."""
        return [name for name in self.named(direction) if self.ports[name].artifact in ("Dataset", "Model")]

    def choices(self) -> list[str]:
        """Outputs whose metadata has a `choice`."""
        return [name for name, port in self.ports.items() if port.chooses]


def contract_of(step: Step) -> Contract:
    """Reads a step's signature. Raises TypeError for a parameter that is neither a port nor a section."""
    hints = get_type_hints(step, include_extras=True)
    ports: dict[str, Port] = {}
    sections: dict[str, type[Section]] = {}
    for name in inspect.signature(step).parameters:
        hint = hints.get(name)
        marker = next((a for a in get_args(hint)[1:] if isinstance(a, Port)), None)
        if get_origin(hint) is Annotated and marker is not None:
            ports[name] = marker
        elif isinstance(hint, type) and issubclass(hint, Section):
            sections[name] = hint
        else:
            raise TypeError(f"{step.__name__}({name}=…) must be a port or a section of the settings")
    return Contract(step.__name__, ports, sections)


def edges(contracts: list[Contract]) -> set[tuple[str, str, str]]:
    """(producer, port, consumer): an output feeds every input of the same name."""
    producers = {port: c.name for c in contracts for port in c.named("output")}
    return {(producers[port], port, c.name) for c in contracts for port in c.named("input")}
