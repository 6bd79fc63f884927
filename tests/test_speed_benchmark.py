"""The frame of `make bench`: who ran, how the ratios are taken, what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.speed import __main__ as entry
from benchmarks.speed import race as frame
from benchmarks.speed._table import ahead, ratios, table
from benchmarks.speed.race import Contender, Figures, Job, race

NAMES = ["ours", "slow", "never"]


def prepare(work: Path) -> None:
    (work / "rows").write_text("100")


def contender(work: Path, seed: int, seconds: float, reached: float | None = 1.0) -> Figures:
    samples = int((work / "rows").read_text())
    return Figures(samples=samples, seconds=seconds, accuracy=seconds / 10 + seed / 100, to_target=reached)


def job(measure: str = "samples") -> Job:
    here = "tests.test_speed_benchmark:contender"
    racers = [
        Contender("ours", here, {"seconds": 1.0, "reached": 2.0}),
        Contender("slow", here, {"seconds": 4.0, "reached": 3.0}),
        Contender("never", here, {"seconds": 2.0, "reached": None}),
    ]
    return Job("tiny", "A tiny race", prepare, racers, {"slow": 3}, measure, rounds=2)


@pytest.mark.release
def test_contenders_run_in_turns_in_processes_of_their_own() -> None:
    runs = race(job())
    order = [(run["seed"], run["name"]) for run in runs]
    first = [(0, name) for name in NAMES]
    assert order == first + [(1, name) for name in reversed(NAMES)]
    assert all(run["wall"] > 0 and run["peak_mb"] > 1 for run in runs)
    assert ratios(job(), runs) == {"slow": [4.0, 4.0], "never": [2.0, 2.0]}
    assert ratios(job("to_target"), runs) == {"slow": [1.5, 1.5], "never": [float("inf")] * 2}
    told = table(job(), runs)
    assert "| ours | 100.0 |  |" in told and "0.1050 ± 0.0071" in told  # the seeds gave 0.10 and 0.11
    assert (
        "| slow | 25.0 |" in told
        and "4.00× (4.00 to 4.00, promised 3)" in told
        and "never |" not in told.partition("\n| never")[2]
    )
    told = table(job("to_target"), runs)
    assert "| 2.0 | 0.1050" in told and "1.50× (1.50 to 1.50, promised 3)" in told
    assert "| never | 0.2050" in told and told.rstrip().endswith("| alone |")


def test_accuracy_is_compared_seed_by_seed() -> None:
    right = {"ours": [0.90, 0.80, 0.85], "slow": [0.89, 0.78, 0.85], "never": [0.9, 0.8, 0.85]}
    runs = [
        _run(name) | {"seed": seed, "accuracy": found}
        for name, some in right.items()
        for seed, found in enumerate(some)
    ]
    differences = ahead(job("accuracy"), runs)
    assert differences["slow"] == pytest.approx([1, 2, 0]) and differences["never"] == [0, 0, 0]
    # Standard error 1/√3, Student's t with two degrees of freedom 4.303.
    assert "+1.00 (-1.48 to +3.48) |" in table(job("accuracy"), runs)


def test_one_that_fails_stops_the_race() -> None:
    broken = Job("broken", "", prepare, [Contender("ours", "tests.test_speed_benchmark:nobody")])
    with pytest.raises(SystemExit, match="ours ended with status 1"):
        race(broken)


def test_jobs_that_were_not_run_keep_their_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "RESULTS", tmp_path)
    monkeypatch.setattr(entry, "machine", lambda: {"cpu": "Intel(R) Xeon(R) Processor", "cores": 2})
    results = tmp_path / "speed-intel-r-xeon-r-processor.json"
    monkeypatch.setattr(entry, "jobs", lambda: {"tiny": job()})
    monkeypatch.setattr(entry, "race", lambda *_: [_run(name) for name in NAMES])
    results.write_text(json.dumps({"older": {"runs": []}}))
    entry.main(["tiny", "--once"])
    kept = json.loads(results.read_text())
    assert list(kept) == ["older", "tiny"] and len(kept["tiny"]["runs"]) == 3
    assert kept["tiny"]["machine"]["cores"] and kept["tiny"]["when"]
    with pytest.raises(SystemExit, match="no benchmark tinny; there are tiny"):
        entry.main(["tinny"])


def _run(name: str) -> frame.Run:
    return {
        "job": "tiny",
        "seed": 0,
        "name": name,
        "samples": 10,
        "seconds": 1.0,
        "wall": 1.0,
        "peak_mb": 9.0,
    }


def test_every_job_names_contenders_that_exist() -> None:
    found = entry.jobs()
    assert {"bert-base", "banking77", "resnet18-frozen", "resnet18-full", "cifar10", "mlp"} <= set(found)
    for one in found.values():
        assert set(one.claims) <= {contender.name for contender in one.contenders[1:]}
