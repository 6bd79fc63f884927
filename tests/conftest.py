"""Fixtures shared by all tests. Nothing here or in a test reaches beyond this machine."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.champions import Project

# Before any test imports a library that reads them.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

# pip-audit brings a checker of addresses that jsonschema imports where it is, and kfp imports jsonschema. It
# takes seconds to build its parser in every process, nobody asks it anything, and no image holds it.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

# What is imported for the tests stays until the end, and to look for garbage among it takes seconds.
gc.disable()

# A shell that puts the suite in the background lets it ignore Ctrl-C, and so would what the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent


def first_quick(cases: Iterable[Any]) -> list[Any]:
    """The first of the cases for `make test`, the others for `make test-slow`."""
    return first_unmarked(cases, pytest.mark.slow)


def first_in_ci(cases: Iterable[Any]) -> list[Any]:
    """Of the cases of a slow test the first for `make test-slow`, the others for `make test-release`."""
    return first_unmarked(cases, pytest.mark.release)


def first_unmarked(cases: Iterable[Any], mark: pytest.MarkDecorator) -> list[Any]:
    first, *others = cases
    values = [case if isinstance(case, tuple) else (case,) for case in others]
    return [first, *(pytest.param(*value, marks=mark) for value in values)]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is for a release is slow too, so that neither of the two quicker suites runs it."""
    for item in items:
        if item.get_closest_marker("release"):
            item.add_marker(pytest.mark.slow)


def pytest_configure() -> None:
    """Each worker, and what it starts, gets its share of the cores.

    Else each pipeline that a test starts would take all of them, and two such loops wait for each other's
    threads.
    """
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER"), os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if worker and workers and hasattr(os, "sched_setaffinity"):
        own = sorted(os.sched_getaffinity(0))[int(worker.removeprefix("gw")) :: int(workers)]
        if own:
            os.sched_setaffinity(0, own)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
    _callers_name_alone_for_kfp()
    _each_source_parsed_once()


def _callers_name_alone_for_kfp() -> None:
    """kfp asks for its caller's name at every call, and for that looks up the source of all callers: beside
    the modules of all tests that takes more than half of the time of a pipeline."""
    if "kfp.dsl.pipeline_task" in sys.modules:
        module: Any = sys.modules["kfp.dsl.pipeline_task"]
        module.inspect = SimpleNamespace(stack=_own_and_callers_name)


def _own_and_callers_name() -> list[list[str]]:
    """Of `inspect.stack()` what kfp reads: `[1][3]`, the name of the function that called the asking one."""
    return [[""] * 3 + [sys._getframe(above).f_code.co_name] for above in (1, 2)]


def _each_source_parsed_once() -> None:
    """Each project that a test makes has a memory of its own of what it read of the library's code, and to
    parse all of it takes a second: what one text says is the same in each."""
    from retrainer.code import modules

    modules.read = functools.cache(modules.read)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real datasets that lie beside the project, where they do."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the project")
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` has filled, once for all workers of this run: work in a copy of it."""
    from retrainer.services.database import locked

    root = factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    with locked(folder.with_suffix(".lock")):
        if not folder.with_suffix(".made").exists():
            make(folder)
            folder.with_suffix(".made").touch()
    return folder


@pytest.fixture(scope="session")
def three_versions(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The registry of `champions.fill`: work in a copy of it (`in_a_copy`)."""
    from tests.champions import Project, fill, own_environment, without_serving_check

    def make(folder: Path) -> None:
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            own_environment(patch, folder)
            without_serving_check(patch)
            fill(folder)

    folder = made_once(tmp_path_factory, "three-versions", make)
    return Project(folder, folder / "dataset")


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pipeline has run once: version 1 of `tiny` is champion. Work in a copy of it."""
    from tests.project import ORDER, make_project, pipeline, steps

    def make(folder: Path) -> None:
        assert steps(pipeline(make_project(folder))) == dict.fromkeys(ORDER, "ran")

    return made_once(tmp_path_factory, "finished-project", make)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout's wheel."""
    from tests.wheels import build, source_tree

    def make(folder: Path) -> None:
        build(source_tree(folder / "source", {}), folder / "wheel")

    (made,) = (made_once(tmp_path_factory, "wheel", make) / "wheel").glob("*.whl")
    return made


@pytest.fixture
def torch_settings_restored() -> Iterator[None]:
    """Threads and deterministic kernels, which a training sets, are afterwards what they were."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.fixture
def printed_messages() -> Iterator[None]:
    """What the library logs is printed, as by the command lines."""
    from retrainer import messages

    with messages.printed_messages():
        yield


@pytest.fixture(scope="session")
def squares_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.small_datasets import image_dataset

    counts = {"train": 40, "validation": 12, "test": 12}
    return image_dataset(tmp_path_factory.mktemp("squares") / "dataset", counts)


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset of three kinds of stripes, and a model trained on it."""
    from tests.stripes import made

    return made(tmp_path_factory.mktemp("three"))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.small_datasets import image_dataset

    counts = {"train": 300, "validation": 60, "test": 12}
    return image_dataset(tmp_path_factory.mktemp("digits") / "dataset", counts)


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.small_datasets import reviews_dataset

    return reviews_dataset(tmp_path_factory.mktemp("reviews") / "dataset")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder of 100 words, of which the reviews hold a third."""
    from tests.encoders import save_encoder, tokenizer_json

    folder = save_encoder(tmp_path_factory.mktemp("bert"), "bert", vocab_size=100)
    (folder / "tokenizer.json").write_text(tokenizer_json(100))
    return folder
