"""Verification: metrics of pairs and their intervals, losses with a margin, thresholds, galleries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from retrainer import metrics
from retrainer.errors import DataError, UserError
from retrainer.gate.compare import compare
from retrainer.gate.intervals import figure
from retrainer.gate.measured import Measured, measure
from retrainer.gate.pair import Pair
from retrainer.gate.scores import scores_of
from retrainer.metrics import _pair_scores
from retrainer.metrics._pair_scores import NEVER, bins_of
from retrainer.settings import Evaluation, Task, Training
from retrainer.tasks import make_task
from retrainer.tasks._gallery import answers, enrolled
from retrainer.tasks._verification_head import (
    EmbeddingHead,
    Outputs,
    margin_loss,
    neighbour_loss,
    threshold_at,
    verification_loss,
)

NAMES = ("equal_error_rate", "true_accept_rate_01", "pair_roc_auc", "false_accept_rate", "false_reject_rate")


def unit(rows: Any) -> np.ndarray:
    made = np.asarray(rows, np.float64)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def tables(made: np.ndarray, who: Any, **truth: Any) -> tuple[pa.Table, pa.Table]:
    return answers(made, None, 0.5), pa.table({"group": [f"p{one}" for one in who], **truth})


def people(seed: int, rows: int = 90, identities: int = 12, spread: float = 0.9) -> tuple[np.ndarray, Any]:
    draws = np.random.default_rng(seed)
    who = np.sort(draws.integers(0, identities, rows))
    middles = draws.normal(size=(identities, 8))
    return unit(middles[who] + spread * draws.normal(size=(rows, 8))), who


def measured(name: str, made: np.ndarray, who: Any, **truth: Any) -> Measured:
    return measure(metrics.load(name, "gate.metric"), name, *tables(made, who, **truth))


# --- metrics -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_rates_are_those_of_scikit_learns_roc_curve(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pair_scores, "_PAIRS_AT_ONCE", 700)  # as of many rows
    made, who = people(seed)
    one, other = np.triu_indices(len(who), 1)
    same, scores = who[one] == who[other], (made @ made.T)[one, other]
    accepted, right, _ = roc_curve(same, bins_of(scores), drop_intermediate=False)
    after = int((1 - right <= accepted).argmax())
    gap = (1 - right - accepted)[after - 1 : after + 1]
    equal = accepted[after - 1] + gap[0] / (gap[0] - gap[1]) * (accepted[after] - accepted[after - 1])
    expected = {
        "equal_error_rate": equal,
        "true_accept_rate_01": right[accepted <= 0.01].max(),
        "pair_roc_auc": roc_auc_score(same, bins_of(scores)),
        "false_accept_rate": (scores[~same] >= 0.5).mean(),
        "false_reject_rate": (scores[same] < 0.5).mean(),
    }
    found = {name: measured(name, made, who).value for name in NAMES}
    assert found == pytest.approx(expected, abs=1e-12)
    assert found["pair_roc_auc"] == pytest.approx(roc_auc_score(same, scores), abs=1e-3)


def test_histograms_of_pairs_are_made_once_for_all_metrics_of_them() -> None:
    rows = tables(*people(0))
    scores = scores_of(make_task(Task(kind="image_verification")))
    found = scores.measured(*rows)
    shared = [found[name].statistics for name in NAMES[:3]]
    assert shared[0] is shared[1] is shared[2] and len(found) == len(NAMES)


def test_bounds_of_the_rates() -> None:
    apart = unit([[1, 0], [1, 0.01], [-1, 0], [-1, 0.01]])
    alike = np.ones((4, 1))
    for made, expected in ((apart, [0, 1, 1, 0, 0]), (alike, [0.5, 0, 0.5, 1, 0])):
        values = [measured(name, made, [0, 0, 1, 1]).value for name in NAMES]
        assert values == pytest.approx(expected)


def test_two_rows_of_one_session_are_no_pair() -> None:
    made = unit([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 1]])
    sessions = [f'{{"session": "{one}"}}' for one in ("a", "a", "b", "b", "c")]
    who = [0, 0, 1, 1, 1]
    rows = measured("false_reject_rate", made, who, metadata=sessions)
    assert rows.statistics[:, 1].tolist() == [0, 0, 1, 1, 2]  # of p1 the pairs of b with c
    # A row without a session is one by itself.
    others = measured("false_reject_rate", made, who, metadata=[*sessions[:3], "{}", "{}"])
    assert others.statistics[:, 1].tolist() == [0, 0, 2, 2, 2]


@pytest.mark.parametrize("who", [[0, 1, 2], [0, 0, 0]])
def test_what_has_no_pairs_of_both_kinds_is_refused(who: list[int]) -> None:
    for name in NAMES:
        with pytest.raises(DataError, match=r"needs pairs: two rows of one identity .* raise split\.test"):
            measured(name, unit(np.eye(3)), who)


# --- intervals, and the paired test --------------------------------------------------------------------


def test_identities_are_drawn_and_no_rows() -> None:
    """A hundred copies of each row tell no more than the rows do."""
    made, who = people(0)
    few = figure(measured("false_reject_rate", made, who), Evaluation())
    copies = [np.repeat(one, 4, axis=0) for one in (made, who)]
    sessions = [f'{{"session": "{row}"}}' for row in np.repeat(np.arange(len(who)), 4)]
    many = figure(measured("false_reject_rate", *copies, metadata=sessions), Evaluation())
    assert many["value"] == pytest.approx(few["value"]) and many["n"] == 4 * few["n"]
    assert many["high"] - many["low"] == pytest.approx(few["high"] - few["low"], rel=0.02)


def test_of_pairs_of_two_identities_both_are_drawn() -> None:
    """Of many samples of identities the rate differs about as much as the intervals say, and no more; were
    only the one identity of a pair drawn, they would be half as wide, and too narrow."""
    values, widths = [], []
    for seed in range(60):
        draws = np.random.default_rng(seed)
        who = np.repeat(np.arange(40), 4)
        made = unit(draws.normal(size=(40, 8))[who] + 0.9 * draws.normal(size=(160, 8)))
        found = figure(measured("false_accept_rate", made, who), Evaluation(resamples=200))
        values.append(found["value"])
        widths.append((found["high"] - found["low"]) / (2 * 1.96))
    assert 1 < np.mean(widths) / np.std(values) < 1.9


def test_a_single_identity_has_no_interval() -> None:
    made, who = people(0)
    rows = measured("equal_error_rate", made, who)
    found = figure(rows.only(who == who[0]), Evaluation())
    assert (found["low"], found["high"]) == (0.0, 1.0)


def test_a_clearly_better_model_passes_and_an_equal_one_does_not() -> None:
    near, who = people(2, rows=200, identities=30, spread=0.5)
    far = people(2, rows=200, identities=30, spread=1.2)[0]
    better, worse = (measured("equal_error_rate", made, who) for made in (near, far))
    assert compare(Pair(better, worse)).p_value < 0.01
    assert compare(Pair(worse, better)).p_value > 0.5
    same = compare(Pair(better, better))
    assert same.p_value == 1.0 and same.groups == 30 and not same.enough


def test_fewer_than_ten_identities_pass_no_model() -> None:
    near, who = people(2, rows=200, identities=9, spread=0.3)
    far = people(2, rows=200, identities=9, spread=2.0)[0]
    found = compare(Pair(measured("equal_error_rate", near, who), measured("equal_error_rate", far, who)))
    assert found.discordant == 9 and found.p_value == 1.0


# --- losses --------------------------------------------------------------------------------------------


def options(**changes: Any) -> Any:
    return make_task(Task(kind="speaker_verification", **changes)).options


@pytest.mark.parametrize("kind", ["arcface", "cosface"])
def test_margin_losses_are_those_of_the_papers(kind: str) -> None:
    angles = torch.tensor([[0.3, 1.2, 2.0], [1.0, 0.7, 3.0], [2.9, 1.0, 0.2]], dtype=torch.float64)
    targets = torch.tensor([0, 0, 0])
    found = margin_loss(angles.cos(), targets, options(margin_kind=kind, margin=0.4, margin_scale=10))
    cosines = angles.cos()
    own = (angles[:, 0] + 0.4).cos() if kind == "arcface" else cosines[:, 0] - 0.4
    if kind == "arcface":  # θ + m is beyond π, where its cosine would rise again
        own[2] = cosines[2, 0] - 0.4 * np.sin(0.4)
    others = (10 * cosines[:, 1:]).exp().sum(1)
    torch.testing.assert_close(found, -((10 * own).exp() / ((10 * own).exp() + others)).log())


def test_a_margin_asks_for_more_and_none_is_plain_softmax() -> None:
    draws = torch.Generator().manual_seed(0)
    cosines, targets = 0.2 * torch.rand(5, 4, generator=draws), torch.tensor([0, 1, 2, 3, 0])
    plain = torch.nn.functional.cross_entropy(30 * cosines, targets, reduction="none")
    for kind in ("arcface", "cosface"):
        none = margin_loss(cosines, targets, options(margin_kind=kind, margin=0))
        torch.testing.assert_close(none, plain, rtol=1e-4, atol=1e-4)
        assert (margin_loss(cosines, targets, options(margin_kind=kind)) > plain).all()


def test_rows_of_unknown_identities_are_judged_by_the_rows_beside_them() -> None:
    made = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.2], [0, 1], [0.1, 1], [1, 1]]), dim=1)
    targets = torch.tensor([5, 5, 6, 6, 7])
    losses = neighbour_loss(made, targets, 10.0)
    logits = 10 * made @ made.T
    expected = logits[0, 1:].logsumexp(0) - logits[0, 1]
    torch.testing.assert_close(losses[0], expected)
    torch.testing.assert_close(losses[4], logits[4].logsumexp(0) - logits[4, 4])  # the only one of its kind
    known = verification_loss(Outputs(made, made[:, :1]), torch.tensor([0, 0, 6, 6, 7]), options())
    assert torch.isfinite(known).all() and len(known) == 5
    assert verification_loss(Outputs(made[:0], made[:0, :1]), targets[:0], options()).shape == (0,)


# --- the head, the threshold, the gallery --------------------------------------------------------------


def test_given_embeddings_pass_an_untrained_head_as_they_are() -> None:
    features = torch.nn.functional.normalize(torch.rand(3, 4), dim=1)
    made = EmbeddingHead(4, 4, 0)(features)
    torch.testing.assert_close(made.embeddings, features)
    assert made.cosines.shape == (3, 0)
    assert EmbeddingHead(4, 2, 5)(features).cosines.shape == (3, 5)


def test_the_threshold_lets_no_more_impostors_pass_than_asked_for() -> None:
    made, who = people(3, rows=300)
    scores, other = made @ made.T, who[:, None] != who
    for share in (0.2, 0.01, 1e-9):
        threshold = threshold_at(made.astype(np.float32), who, share)
        assert (scores[other] >= threshold).mean() <= share
        assert (scores[other] >= threshold - 0.004).mean() > share or threshold == NEVER
    assert threshold_at(made[:3], np.zeros(3), 0.01) == NEVER


def test_what_was_learned_of_the_training_identities_does_not_leave_with_the_model() -> None:
    task = make_task(Task(kind="speaker_verification"))
    task.learn(pa.table({"group": ["ann", "bob", "ann"]}))
    body: Any = type("Body", (), {"width": 4})
    head = task.head(body, Training())
    assert task.targets(pa.table({"group": ["bob", "zoe", "cid"]})).tolist() == [1, 3, 2]
    assert head.state_dict()["prototypes"].shape == (2, 4)
    network: Any = type("Network", (), {"head": head})
    task.settle(network, answers(unit([[1, 0], [0.9, 1]]), None, NEVER), np.array([3, 2]))
    assert set(head.state_dict()) == {"projection.weight", "threshold"}
    assert 0.66 < float(head.threshold) < 0.68  # above the one impostor pair's 0.669


def test_one_identity_is_nothing_to_learn() -> None:
    with pytest.raises(DataError, match="training rows have 1"):
        make_task(Task(kind="image_verification")).learn(pa.table({"group": ["ann", "ann"]}))


def folder_of(root: Path, **people: int) -> Path:
    for name, count in people.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.wav").write_bytes(f"{name}{number}".encode())
    return root


def by_name(table: pa.Table) -> pa.Table:
    """An embedding by the first letter of a file's bytes."""
    at = {"a": [1.0, 0.0], "b": [0.0, 1.0]}
    made = [at[one["bytes"].decode()[0]] for one in table["audio"].to_pylist()]
    return answers(np.array(made), None, 0.7)


def test_the_nearest_enrolled_identity_is_answered_or_unknown(tmp_path: Path) -> None:
    gallery = enrolled(folder_of(tmp_path / "all", ann=2, bob=1), "audio", by_name)
    assert gallery.names == ("ann", "bob")
    found = answers(unit([[1, 0.1], [0.2, 1], [1, 1.2]]), gallery, 0.8).to_pydict()
    assert found["identity"] == ["ann", "bob", "unknown"]
    assert found["score"] == pytest.approx([0.995, 0.981, 0.768], abs=1e-3)
    assert found["threshold"] == [0.8] * 3 and len(found["embedding"][0]) == 2


def test_a_large_gallery_is_read_in_parts_and_no_link_leads_out_of_it(tmp_path: Path) -> None:
    folder, rows = folder_of(tmp_path / "all", ann=40, bob=1), []

    def predict(table: pa.Table) -> pa.Table:
        rows.append(len(table))
        return by_name(table)

    assert enrolled(folder, "audio", predict).means.tolist() == [[1, 0], [0, 1]]
    assert sum(rows) == 41 and max(rows) < 40
    (tmp_path / "b secret").write_bytes(b"b")
    (folder / "bob/link").symlink_to(tmp_path / "b secret")
    with pytest.raises(UserError, match="bob/link is a link out of"):
        enrolled(folder, "audio", by_name)


def test_without_a_gallery_nobody_is_named() -> None:
    found = answers(np.ones((2, 3)), None, 0.5).to_pydict()
    assert found["identity"] == [None, None] and found["score"] == [None, None]


@pytest.mark.parametrize(
    ("people", "says"),
    [
        (None, r"there is no such folder; give one with a folder for each person"),
        ({}, r"holds no folder"),
        ({"ann": 0}, r"ann is empty; put a recording or picture there"),
        ({"unknown": 1}, r"'unknown' is what is answered of a stranger; rename"),
    ],
)
def test_a_gallery_that_cannot_be_used_is_refused(
    people: dict[str, int] | None, says: str, tmp_path: Path
) -> None:
    place = tmp_path / "gallery"
    if people is not None:
        place.mkdir()
        folder_of(place, **people)
    with pytest.raises(UserError, match=says):
        enrolled(place, "audio", by_name)
