"""Settings: frozen sections, helpful errors, numbers as YAML and Kubeflow spell them."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from retrainer.errors import UserError
from retrainer.settings import SECTIONS, Backbone, Checks, Training
from retrainer.strict_yaml import parse_yaml


def test_an_unknown_key_names_itself_and_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match=r"unknown setting training\.epoch; did you mean 'epochs'\?"):
        Training.parse({"epoch": 3}, "training")


def test_a_value_out_of_range_names_the_setting_and_the_value() -> None:
    with pytest.raises(UserError, match=r"setting training\.epochs: .*greater than or equal to 1 \(got 0\)"):
        Training.parse({"epochs": 0}, "training")


def test_numbers_as_yaml_and_kubeflow_spell_them() -> None:
    assert Training.parse({"learning_rate": "1e-4"}, "training").learning_rate == 1e-4
    assert Training.parse({"epochs": 7.0}, "training").epochs == 7
    # Also for keys that no field here reads: the model's own bytes hold them.
    told = Backbone.parse(
        {"family": "mlp", "hidden": [128.0, 64.0], "more": {"size": 28.0}}, "backbone"
    ).plain()
    assert json.dumps([told["hidden"], told["more"]]) == '[[128, 64], {"size": 28}]'


def test_a_bare_off_turns_a_check_off() -> None:
    asked = parse_yaml("near_duplicates: off\nduplicates: warn", "params.yaml")
    assert asked["near_duplicates"] is False  # as YAML 1.1 reads it
    checks = Checks.parse(asked, "checks")
    assert (checks.near_duplicates, checks.duplicates) == ("off", "warn")
    with pytest.raises(UserError, match=r"checks\.duplicates: .*'off' \(got True\)"):
        Checks.parse({"duplicates": True}, "checks")


def test_text_that_looks_like_a_number_stays_text() -> None:
    backbone = Backbone.parse({"weights": "some/model", "revision": "123e4567"}, "backbone")
    assert backbone.plain()["revision"] == "123e4567"
    with pytest.raises(UserError, match=r"setting training\.learning_rate: .*finite"):
        Training.parse({"learning_rate": "1e999"}, "training")


def test_sections_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Training().epochs = 4


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_a_section_survives_its_own_json(name: str) -> None:
    section = SECTIONS[name]()
    assert SECTIONS[name].parse(section.plain(), name) == section


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_every_setting_says_what_it_is_for(name: str) -> None:
    fields = SECTIONS[name].model_fields
    assert not [key for key, field in fields.items() if not field.description]


def test_keys_of_the_chosen_file_are_kept_apart() -> None:
    backbone = Backbone.parse({"family": "mlp", "hidden": [128, 64]}, "backbone")
    assert backbone.options == {"hidden": [128, 64]}
