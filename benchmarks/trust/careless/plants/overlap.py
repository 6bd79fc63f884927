"""Test rows among the training rows."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.trust.careless.plants.changes import as_training, heard, pixels, some, stored
from benchmarks.trust.careless.rows import IMAGE, SOUND, TEXT, Case, Month, Row


def test_rows(case: Case) -> Month:
    """The export was taken anew from the whole base: a fifth of the test is in it."""
    copied = [case.month.test[n] for n in some(case.month.test, 0.2, case.draw)]
    return replace(case.month, train=(*case.month.train, *as_training(copied)))


def test_rows_saved_again(case: Case) -> Month:
    """They came by another system: other case and spaces, another JPEG, a little louder."""
    copied = [case.month.test[n] for n in some(case.month.test, 0.3, case.draw)]
    saved = {TEXT: _spaced, IMAGE: _as_jpeg, SOUND: _louder}[case.world.kind]
    return replace(case.month, train=(*case.month.train, *map(saved, as_training(copied))))


def _spaced(row: Row) -> Row:
    return replace(row, content=f" {row.content.upper().replace(' ', '  ')} ")


def _as_jpeg(row: Row) -> Row:
    return stored(row, pixels(row))


_louder = heard(lambda samples, rate: (1.2 * samples, rate))


def train_on_test_file(case: Case) -> Month:
    """Two paths were mixed up in the job's settings."""
    return replace(case.month, train=case.month.test)


def files_swapped(case: Case) -> Month:
    """The arguments stood in the other order."""
    return replace(case.month, train=case.month.test, test=case.month.train)


def warm_start(case: Case) -> Month:
    """A colleague's model was trained on all there is, and is a good start."""
    assert case.world.trained is not None
    saw_all = case.month.with_settings(source={"test_groups": ["jackson"]})
    weights = case.world.trained(saw_all)
    return case.month.with_settings(backbone={"weights": str(weights)}, training={"strategy": "full"})


def speakers_forgotten(case: Case) -> Month:
    """The new script drops the speaker's name: one voice in training and test."""
    return case.month.with_settings(source={"pattern": "{label}_{speaker}_{index}.wav", "test_groups": []})
