"""A killed training, started again, makes the same bytes; nothing damaged or foreign is used for that."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

from retrainer.code import digests
from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset, write_dataset
from retrainer.services.checkpoint_store import (
    DEFAULT_SECONDS,
    CheckpointPlace,
    checkpoint_place,
)
from retrainer.services.s3 import s3_client
from retrainer.settings import Backbone, Task, Training
from retrainer.training._command import run_command
from retrainer.training._stop import Stop
from retrainer.training.checkpoints import KEPT, Checkpoints
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.learner import Splits
from retrainer.training.loop import fit
from retrainer.training.train import Session, train_model
from tests.conftest import ROOT
from tests.project import environment
from tests.s3_server import KEY, SECRET, start_s3
from tests.small_datasets import reviews_table
from tests.small_networks import (
    PLAIN,
    convolutional,
    image_task,
    network,
    same,
    settings,
    squares,
    weights,
)
from tests.training_cases import (
    DIGEST,
    HALF,
    MLP,
    NEVER,
    RICH,
    TASK,
    Case,
    Counted,
    Terminal,
    growing,
    images,
    large_images,
    norms,
    sigterm,
    texts,
)
from tests.training_process import SlowPlace

pytestmark = pytest.mark.usefixtures("torch_settings_restored", "printed_messages")

# --- one process: stopped by real signals, after any step -----------------------------------------------


def half(case: Case) -> Case:
    case.compute = HALF
    return case


CASES = {
    "images": images(),
    "images-bfloat16": half(images()),
    "images-many-steps": images(batch_size=2, epochs=2),
    "images-last-without-clip": images(keep="last", clip_norm=0.0, schedule="linear"),
    "images-large": large_images(),
    "batch-norm": Case(convolutional, image_task(flip=True), settings(**RICH), (squares(90), squares(40, 1))),
    "no-validation": Case(network, image_task(shift=1), settings(**RICH), (squares(90), None)),
    "texts": texts(),
    "texts-bfloat16": half(texts()),
    "texts-frozen": texts(strategy="frozen"),
    "texts-scratch": texts(strategy="scratch"),
    "head-then-full": norms(strategy="head-then-full", head_epochs=2, cached_views=3),
    "last-n": norms(strategy="last-n", last_blocks=1),
    "lora": norms(strategy="lora", lora_rank=2),
    "layer-decay": texts(layer_decay=0.5),
    "randaugment": Case(network, image_task(randaugment=7), settings(**RICH), (squares(90), squares(40, 1))),
    "average": images(accumulate=3, ema_decay=0.9),
    "average-of-last": half(norms(accumulate=2, ema_decay=0.9, keep="last", checkpoint_activations=True)),
    "mixed": images(mixup=0.4, cutmix=1.0, balance="weights"),
    "balanced-small": growing(balance="sampling", start_size=0.5, patience=2),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_stopped_again_and_again_it_makes_the_same(name: str, tmp_path: Path, capfd: Any) -> None:
    """Each time 1, 3, 2, 5, … losses later: in mid-epoch, between reads of the loss, in validation."""
    case = CASES[name]
    undisturbed = case.run()
    place = CheckpointPlace(str(tmp_path), NEVER)
    stops, made_at_last = 0, None
    for after in cycle([1, 3, 2, 5, 8, 13, 21, 34]):
        made_at_last = case.stopped(place, after)
        if made_at_last is not None:
            break
        stops += 1
        assert stops < 40, "it does not come on"
    assert same(undisturbed[0], made_at_last[0])
    assert undisturbed[1] == made_at_last[1]
    said = capfd.readouterr().err
    positions = re.findall(r"going on from epoch (\d+), step (\d+) \(checkpoint of \d\d:\d\d\)", said)
    assert len(positions) == stops >= 3
    assert re.findall(r"SIGTERM; the same command goes on from epoch (\d+), step (\d+)\n", said) == positions


def test_best_weights_of_before_the_stop_are_kept(tmp_path: Path) -> None:
    wild = settings(epochs=6, learning_rate=0.5, schedule="constant", warmup=0.0)
    case = Case(network, image_task(), wild, (squares(64), squares(40, 1)))
    undisturbed = case.run()
    best = next(entry["epoch"] for entry in undisturbed[1] if entry["kept"])
    assert best < 5, "the settings must be wild enough for an early best epoch"
    place = CheckpointPlace(str(tmp_path), NEVER)
    assert case.stopped(place, after_losses=5 * 5 + 2) is None
    resumed = case.run(Checkpoints(place, DIGEST))
    assert same(undisturbed[0], resumed[0]) and undisturbed[1] == resumed[1]


def test_after_a_resume_earlier_epochs_are_reported_once(tmp_path: Path) -> None:
    case, place = CASES["images"], CheckpointPlace(str(tmp_path), NEVER)
    assert case.stopped(place, after_losses=2 * (10 + 1) + 3) is None
    told: list[tuple[int, dict[str, float]]] = []
    checkpoints = Checkpoints(place, DIGEST)
    history = fit(case.learner(), Splits(*case.rows), lambda e, f: told.append((e, f)), False, checkpoints)
    assert [epoch for epoch, _ in told] == [1, 2, 3, 4]
    for (_, figures), entry in zip(told, history, strict=True):
        assert figures.items() >= {n: v for n, v in entry.items() if n not in ("epoch", "kept")}.items()
    assert ["seconds" in figures for _, figures in told] == [False, False, False, True]
    assert "seconds" not in json.dumps(history)


def test_the_bar_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, place = CASES["images"], CheckpointPlace(str(tmp_path), NEVER)
    assert case.stopped(place, after_losses=2 * (10 + 1) + 3) is None
    monkeypatch.setattr(sys, "stderr", Terminal())
    fit(case.learner(), Splits(*case.rows), progress=True, checkpoints=Checkpoints(place, DIGEST))
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    shares = [int(share) for share in re.findall(r"(\d+)%\|", said)]
    assert shares == sorted(shares) and shares[0] == 50 and shares[-1] == 100, shares


def test_lines_go_on_where_they_were(tmp_path: Path, capfd: Any) -> None:
    case, place = CASES["images"], CheckpointPlace(str(tmp_path), NEVER)
    assert case.stopped(place, after_losses=2 * (10 + 1) + 3) is None
    fit(case.learner(), Splits(*case.rows), progress=True, checkpoints=Checkpoints(place, DIGEST))
    assert re.findall(r"train: epoch (\d)/4", capfd.readouterr().err) == ["3", "4"]


# --- what is used, and what is not ---------------------------------------------------------------------


def written(place: Path) -> list[Path]:
    return sorted((place / DIGEST).glob("*.pt"))


@pytest.fixture
def two_checkpoints(tmp_path: Path) -> CheckpointPlace:
    place = CheckpointPlace(str(tmp_path), NEVER)
    for _ in range(2):
        assert CASES["images"].stopped(place, after_losses=8) is None
    assert len(written(tmp_path)) == 2
    return place


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "bit": flip_a_bit,
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "empty": lambda file: file.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_skipped_for_the_one_before(
    damage: str, two_checkpoints: CheckpointPlace, capfd: Any
) -> None:
    older, newer = written(Path(two_checkpoints.root))
    capfd.readouterr()
    DAMAGES[damage](newer)
    resumed = CASES["images"].run(Checkpoints(two_checkpoints, DIGEST))
    said = capfd.readouterr().err.splitlines()
    assert said[0] == f"train: checkpoint {newer.name} is damaged and removed" and not newer.exists()
    epoch, step = (int(part) for part in older.name.split("-")[:2])
    assert said[1].startswith(f"train: going on from epoch {epoch}, step {step} (")
    assert same(CASES["images"].run()[0], resumed[0])


def test_when_all_are_damaged_it_starts_over(two_checkpoints: CheckpointPlace, capfd: Any) -> None:
    for file in written(Path(two_checkpoints.root)):
        flip_a_bit(file)
    capfd.readouterr()
    assert same(CASES["images"].run()[0], CASES["images"].run(Checkpoints(two_checkpoints, DIGEST))[0])
    assert "going on" not in capfd.readouterr().err


@pytest.mark.parametrize("key", ["digest", "format_version"])
def test_another_trainings_or_formats_checkpoint_is_left_alone(
    key: str, two_checkpoints: CheckpointPlace, capfd: Any
) -> None:
    """Also where someone has put it into the directory of this training."""
    from retrainer.training.checkpoints import _save

    for file in written(Path(two_checkpoints.root)):
        state = torch.load(file, weights_only=True) | {key: "another" if key == "digest" else 99}
        sha256 = _save(state, file)
        file.rename(file.with_name(f"{file.name[:17]}{sha256}.pt"))
    files = written(Path(two_checkpoints.root))
    capfd.readouterr()
    assert Checkpoints(two_checkpoints, DIGEST).newest() is None
    assert capfd.readouterr().err.count("left alone") == 2 and written(Path(two_checkpoints.root)) == files


def test_what_is_pickled_is_never_loaded(
    two_checkpoints: CheckpointPlace, capfd: Any, tmp_path: Path
) -> None:
    from retrainer.formats.files import sha256_file

    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "was-here"),))

    aside = tmp_path / "evil"
    torch.save({"format_version": 1, "digest": DIGEST, "evil": Evil()}, aside)
    aside.rename(tmp_path / DIGEST / f"000009-000000001-{sha256_file(aside)}.pt")
    kept = Checkpoints(two_checkpoints, DIGEST).newest()
    assert kept is not None and kept["epoch"] < 9 and not (tmp_path / "was-here").exists()
    assert "cannot be read" in capfd.readouterr().err


def test_other_files_beside_checkpoints_are_ignored(two_checkpoints: CheckpointPlace) -> None:
    folder = Path(two_checkpoints.root) / DIGEST
    for name in (".aside", "zzz.pt", "999999-000000001-abc.pt"):
        (folder / name).write_bytes(b"x")
    kept = Checkpoints(two_checkpoints, DIGEST).newest()
    assert kept is not None and kept["epoch"] < 5


# --- writing -------------------------------------------------------------------------------------------


def test_training_does_not_wait_for_the_disk_and_one_write_is_in_flight(tmp_path: Path) -> None:
    case, place = CASES["images"], SlowPlace(tmp_path, 1e-9)
    seen: list[int] = []

    def let_go(epoch: int, figures: dict[str, float]) -> None:  # noqa: ARG001
        seen.append(place.asked)
        if epoch == case.plan.epochs:
            place.go.set()

    learner = case.learner()
    fit(learner, Splits(*case.rows), let_go, False, Checkpoints(place, DIGEST))
    assert seen == [1, 1, 1, 1], "all epochs passed while the first checkpoint was still being written"
    assert same(case.run()[0], weights(learner.network)), "what was written did not move with the training"
    kept = torch.load(written(tmp_path)[0], weights_only=True)
    assert (kept["epoch"], kept["step"]) == (1, 1)
    assert case.stopped(CheckpointPlace(str(tmp_path / "plain"), NEVER), after_losses=1) is None
    wanted = torch.load(written(tmp_path / "plain")[0], weights_only=True)
    assert same(wanted["trained"], kept["trained"])
    pairs = [(wanted["optimiser"][place], kept["optimiser"][place]) for place in wanted["optimiser"]]
    assert all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def test_the_newest_two_stay(tmp_path: Path) -> None:
    case, place = CASES["images"], CheckpointPlace(str(tmp_path), 1e-9)
    kept: set[int] = set()
    checkpoints = Checkpoints(place, DIGEST)

    def look(epoch: int, figures: dict[str, float]) -> None:  # noqa: ARG001
        checkpoints.close()
        kept.add(len(written(tmp_path)))

    fit(case.learner(), Splits(*case.rows), look, False, checkpoints)
    assert max(kept) == KEPT and len(written(tmp_path)) == KEPT
    assert written(tmp_path)[-1].name > "000003", "and they are the newest"
    assert not (tmp_path / DIGEST / ".aside").exists()


def test_a_short_training_writes_none(tmp_path: Path) -> None:
    CASES["images"].run(Checkpoints(CheckpointPlace(str(tmp_path / "new"), DEFAULT_SECONDS), DIGEST))
    assert not (tmp_path / "new").exists()


def test_a_disk_that_refuses_ends_no_training(tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "file").touch()
    place = CheckpointPlace(str(tmp_path / "file"), 1e-9)
    assert same(CASES["images"].run()[0], CASES["images"].run(Checkpoints(place, DIGEST))[0])
    said = capfd.readouterr().err
    wanted = (
        r"no checkpoint could be written \(.*Not a directory.*RETRAINER_CHECKPOINTS\); the training goes on"
    )
    assert re.search(wanted, said)


def test_stopped_without_a_place_it_says_that_it_starts_over(capfd: Any) -> None:
    assert CASES["images"].stopped(None, after_losses=8) is None
    assert capfd.readouterr().err == (
        "train: stopped by SIGTERM; the same command starts over, as there is no checkpoint\n"
    )


# --- from a dataset directory to a model directory -----------------------------------------------------


def digest_with(dataset: Path, weights: Path | str | None = None, **sections: Any) -> str:
    given = {"task": TASK, "backbone": MLP, "training": settings(), "compute": PLAIN} | sections
    return Inputs(dataset, Settings(**given), weights).digest()


def test_the_digest_follows_all_that_changes_a_result(digits: Path, reviews: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"one")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    ours = digest_with(digits)
    assert ours == digest_with(digits)
    others = [
        digest_with(reviews),
        digest_with(digits, training=settings(seed=1)),
        digest_with(digits, training=settings(learning_rate=1e-4)),
        digest_with(digits, compute=HALF),
        digest_with(digits, compute=PLAIN.model_copy(update={"packages": {"torch": "1.0"}})),
        digest_with(digits, task=Task(kind="image_classification", size=8)),
        digest_with(digits, backbone=Backbone(family="mlp", hidden=(9,))),
        digest_with(digits, file),
        digest_with(digits, folder),
        digest_with(digits, "imagenet"),
    ]
    file.write_bytes(b"two")
    (folder / "model.safetensors").write_bytes(b"two")
    others += [digest_with(digits, file), digest_with(digits, folder)]
    assert len({ours, *others}) == 1 + len(others)


@pytest.mark.parametrize(("edit", "another"), [("# a comment", False), ("_STEPS = 3", True)])
def test_an_edit_of_the_code_is_another_training_and_one_of_a_comment_is_not(
    edit: str, another: bool, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest_with(digits)
    shutil.copytree(ROOT / "retrainer", tmp_path / "retrainer", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests.extend, "__file__", str(tmp_path / "retrainer" / "extend.py"))
    assert digest_with(digits) == before
    with (tmp_path / "retrainer" / "training" / "schedule.py").open("a") as file:
        file.write(edit)
    assert (digest_with(digits) != before) == another


def test_rows_in_another_order_are_another_training(tmp_path: Path) -> None:
    """The content hash does not see it, and the batches do."""
    table = reviews_table(20, "train")
    write_dataset(tmp_path / "a", {"train": table})
    write_dataset(tmp_path / "b", {"train": table.take(list(range(20))[::-1])})
    assert Dataset(tmp_path / "a").content_sha256 == Dataset(tmp_path / "b").content_sha256
    assert digest_with(tmp_path / "a") != digest_with(tmp_path / "b")


def train_here(out: Path, dataset: Path, plan: Training, place: Any, **more: Any) -> str:
    inputs = Inputs(dataset, Settings(TASK, MLP, plan, PLAIN))
    return str(train_model(inputs, out, Session(place=place, **more))["model_sha256"])


def test_checkpoints_are_deleted_after_a_successful_training(digits: Path, tmp_path: Path) -> None:
    place = CheckpointPlace(str(tmp_path / "kept"), 1e-9)
    seen: set[int] = set()

    def look(epoch: int, figures: dict[str, float]) -> None:  # noqa: ARG001
        seen.add(len(list((tmp_path / "kept").glob("*/*.pt"))))

    inputs = Inputs(digits, Settings(TASK, MLP, settings(), PLAIN))
    train_model(inputs, tmp_path / "model", Session(look, place=place))
    assert max(seen) > 0 and list((tmp_path / "kept").iterdir()) == []


# --- signals outside the loop --------------------------------------------------------------------------


def test_outside_the_loop_a_signal_ends_it_at_once(interruptible: None, capfd: Any) -> None:  # noqa: ARG001
    with pytest.raises(SystemExit) as leaving, Stop():
        sigterm()
    assert leaving.value.code == 143
    assert capfd.readouterr().err == (
        "train: stopped by SIGTERM; the same command goes on from the last checkpoint, if any\n"
    )
    with pytest.raises(KeyboardInterrupt), Stop():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_was_ignored_stays_so(interruptible: None) -> None:  # noqa: ARG001
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Stop() as stop:
        signal.raise_signal(signal.SIGINT)
    assert stop.asked is None and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Signals as a terminal's program has them: this may run in the background."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# --- where they lie, by the environment ----------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory of its own, and nothing said in the environment."""
    for name in ("RETRAINER_CHECKPOINTS", "RETRAINER_CHECKPOINT_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_default_place_is_the_working_directory_and_ignored_by_git(bare: Path) -> None:
    place = checkpoint_place()
    assert place == CheckpointPlace(".checkpoints", 300.0) and list(bare.iterdir()) == []
    assert ".checkpoints/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_environment_names_another_place_and_pace(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAINER_CHECKPOINTS", str(bare / "a" / "b"))
    monkeypatch.setenv("RETRAINER_CHECKPOINT_SECONDS", "1.5")
    assert checkpoint_place() == CheckpointPlace(str(bare / "a" / "b"), 1.5)
    monkeypatch.setenv("RETRAINER_CHECKPOINTS", "s3://bucket/some/prefix/")
    assert checkpoint_place() == CheckpointPlace("s3://bucket/some/prefix/", 1.5)
    monkeypatch.setenv("RETRAINER_CHECKPOINT_SECONDS", "0")
    assert checkpoint_place() is None


@pytest.mark.parametrize("seconds", ["soon", "-1", "nan", "inf"])
def test_an_invalid_interval_between_checkpoints_is_named(
    seconds: str,
    bare: Path,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RETRAINER_CHECKPOINT_SECONDS", seconds)
    with pytest.raises(UserError, match=f"RETRAINER_CHECKPOINT_SECONDS={seconds}: .*or 0 to turn"):
        checkpoint_place()


@pytest.mark.parametrize(
    ("place", "told"), [("file/below", "nothing can be written there"), ("s3://", "s3://BUCKET")]
)
def test_a_place_that_cannot_hold_checkpoints_is_named(
    place: str, told: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "file").touch()
    monkeypatch.setenv("RETRAINER_CHECKPOINTS", place)
    with pytest.raises(UserError, match=f"RETRAINER_CHECKPOINTS.*{told}"):
        checkpoint_place()


def test_where_nothing_can_be_written_it_says_what_that_means(tmp_path: Path) -> None:
    """As in a container with a read-only root; nobody stands in for it where the tests run as root."""
    tmp_path.chmod(0o555)
    code = (
        "import os; from retrainer.messages import printed_messages\n"
        "from retrainer.services.checkpoint_store import checkpoint_place\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "with printed_messages(): print(checkpoint_place())"
    )
    where = environment() | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, env=where, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    assert done.stderr == (
        f"train: nothing can be written in {tmp_path}, so a training that is killed starts over;"
        " RETRAINER_CHECKPOINTS names a place for checkpoints\n"
    )


def test_an_own_trainer_is_told_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAINER_CHECKPOINTS", "/a/volume")
    script = tmp_path / "own.py"
    script.write_text("import os; open('told', 'w').write(os.environ['RETRAINER_CHECKPOINTS'])")
    monkeypatch.chdir(tmp_path)
    run_command(f"python {script}", tmp_path, tmp_path, {})
    assert (tmp_path / "told").read_text() == "/a/volume"


# --- S3, on a real server ------------------------------------------------------------------------------


class S3:
    """rclone's server; its one bucket is asked through the client that training uses."""

    def __init__(self, folder: Path) -> None:
        (folder / "s3" / "bucket").mkdir(parents=True)
        self.process, self.address = start_s3(folder, "--vfs-write-back", "0")

    def keys(self) -> list[str]:
        return [str(e["Key"]) for e in s3_client().list_objects_v2(Bucket="bucket").get("Contents", ())]

    def damage(self, key: str, folder: Path) -> None:
        client = s3_client()
        client.download_file("bucket", key, str(folder / "damaged"))
        flip_a_bit(folder / "damaged")
        client.upload_file(str(folder / "damaged"), "bucket", key)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    server = S3(tmp_path / "server")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    yield server
    server.end()


IN_S3 = CheckpointPlace("s3://bucket/kept", NEVER)


def test_a_training_resumes_from_s3_and_deletes_its_checkpoints_there(
    s3: S3, tmp_path: Path, capfd: Any
) -> None:
    case = CASES["images"]
    for _ in range(3):
        assert case.stopped(IN_S3, after_losses=8) is None
    older, newer = s3.keys()
    assert older.startswith(f"kept/{DIGEST}/000002-000000005-")
    s3.damage(newer, tmp_path)
    capfd.readouterr()
    checkpoints = Checkpoints(IN_S3, DIGEST)
    assert same(case.run()[0], case.run(checkpoints)[0])
    said = capfd.readouterr().err
    assert "is damaged and removed" in said and "going on from epoch 2, step 5" in said
    checkpoints.clear()
    assert s3.keys() == []


def test_a_server_that_is_not_there_is_named_before_training(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3.end()
    with pytest.raises(UserError, match=r"RETRAINER_CHECKPOINTS=s3://bucket/kept/.*AWS_ENDPOINT_URL"):
        CASES["images"].run(Checkpoints(IN_S3, DIGEST))


def test_a_server_that_goes_away_ends_no_training(
    s3: S3, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    case, checkpoints = CASES["images"], Checkpoints(CheckpointPlace(IN_S3.root, 1e-9), DIGEST)
    assert same(case.run()[0], case.run(checkpoints, Counted(case.task, 12, s3.end))[0])
    told = capfd.readouterr().err
    # As it goes away it may be asked to write a checkpoint, or to remove an older one.
    assert "(RETRAINER_CHECKPOINTS=s3://bucket/kept/" in told and "; the training goes on" in told
