"""The contract of a step is read from its signature, whatever the step does."""

from __future__ import annotations

import pytest

from components.command import step_named
from components.steps import STEPS
from retrainer.contract import InDataset, Metadata, OutModel, contract_of, edges
from retrainer.settings import Training


def test_ports_and_sections_are_told_apart() -> None:
    def step(dataset: InDataset, model: OutModel, training: Training) -> Metadata:  # noqa: ARG001
        return {}

    contract = contract_of(step)
    assert contract.named("input") == ["dataset"]
    assert contract.named("output") == ["model"]
    assert contract.sections == {"training": Training}


def test_a_parameter_that_is_neither_is_refused() -> None:
    def step(dataset: InDataset, epochs: int) -> Metadata:  # noqa: ARG001
        return {}

    with pytest.raises(TypeError, match=r"step\(epochs=…\) must be a port or a section"):
        contract_of(step)


def test_no_input_shares_a_name_with_an_output_or_a_section() -> None:
    for name in STEPS:
        contract = contract_of(step_named(name))
        assert not set(contract.ports) & set(contract.sections)
        assert not set(contract.named("input")) & set(contract.named("output", "view"))


def test_the_steps_form_the_documented_graph() -> None:
    contracts = [contract_of(step_named(name)) for name in STEPS]
    assert edges(contracts) >= {
        ("ingest", "raw", "preprocess"),
        ("preprocess", "dataset", "train"),
        ("preprocess", "dataset", "decide"),
        ("preprocess", "dataset", "evaluate"),
        ("train", "model", "evaluate"),
        ("train", "model", "register"),
        ("evaluate", "report", "register"),
    }
