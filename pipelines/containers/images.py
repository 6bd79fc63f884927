"""`make images`: the two images of docker/Dockerfile, and build/images.json, which says what they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.containers.engine import Engine, find_engine, without_tag
from pipelines.containers.image_registry import digest_of_tag
from pipelines.containers.sbom import write_sbom
from retrainer import __version__
from retrainer.errors import ServiceError
from retrainer.formats.files import digest_of, sha256_file, write_json, write_text
from retrainer.services.database import locked
from retrainer.services.lineage import git_commit

TARGETS = ("full", "light")
BUILD = Path("build")
RECORD = BUILD / "images.json"
DOCKERFILE = Path("docker/Dockerfile")
# `name:tag@sha256:…`: what `make pin-base` found the Dockerfile's tag to be.
PIN = Path("docker/base.digest")
FORMAT_VERSION = 1

# All that an image is made from.
CODE = ("retrainer", "components", "plugins")
# Where a project that `retrainer new` has made has the library, in place of the first.
_WHEEL = ".retrainer"
_RECIPE = ("Dockerfile", "Dockerfile.dockerignore", "install", "light.lock", "full.lock")
_COMMIT_LETTERS = 12


@dataclass(frozen=True)
class Choices:
    """What one who builds may choose.

    base: the image to build on, in the place of the Dockerfile's. ca_bundle: certificates that a build needs
    to reach the package index; no layer holds them. push: registry/name to put both images into. network:
    `host` where a build's own network reaches nothing.
    """

    base: str = ""
    ca_bundle: Path | None = None
    push: str = ""
    network: str = ""


def make_images(choices: Choices, root: Path = Path()) -> int:
    """Builds what has changed, and records both images, one call at a time. Returns the exit status.

    Raises UserError, with the record as it was, when there is no engine, no base, or a build fails.
    """
    if choices.ca_bundle and not choices.ca_bundle.is_file():
        raise ServiceError(f"CA_BUNDLE={choices.ca_bundle}: there is no such file")
    (root / BUILD).mkdir(exist_ok=True)
    with locked(root / BUILD / "images.lock"):
        return _make(choices, root)


def _make(choices: Choices, root: Path) -> int:
    engine = find_engine()
    base = choices.base or pinned_base(root)
    ensure_base(engine, base)
    commit, code = git_commit() or "unknown", code_digest(root)
    options = build_options(choices, base, commit)
    made = {}
    # One after the other: they share layers. The light one is the first half of the full one.
    for target in reversed(TARGETS):
        name = f"localhost/retrainer-{target}:{tag_of(commit)}"
        engine.build(root / DOCKERFILE, root, target, name, options)
        made[target] = _published(engine, name, target, choices.push)
        bill = root / BUILD / f"sbom-{target}.json"
        listed = write_sbom(engine, name, made[target]["digest"], f"retrainer-{target}", bill)
        print(f"{target}: {made[target].get('pushed', made[target]['reference'])}")
        print(f"  {made[target]['bytes'] / 1e9:.2f} GB unpacked; {listed} components in {bill}")
    record = {"format_version": FORMAT_VERSION, "git_commit": commit, "code_sha256": code, "images": made}
    write_json(root / RECORD, record)
    print(f"written: {RECORD}")
    return 0


def _published(engine: Engine, name: str, target: str, push: str) -> dict[str, Any]:
    """The image's entry in the record: what it is called here, and in the registry where it was pushed to."""
    image = engine.describe(name)
    reference = f"{without_tag(name)}@{image.digest}" if image.named else name
    entry = {"reference": reference, "digest": image.digest, "bytes": image.size_bytes}
    if push:
        there = f"{push}:{target}-{name.rpartition(':')[2]}"
        engine.tag(name, there)
        # The registry's digest is another than the one here: layers are compressed on their way.
        entry["pushed"] = f"{push}@{engine.push(there)}"
    return entry


def build_options(choices: Choices, base: str, commit: str) -> list[str]:
    arguments = {"BASE": base, "VERSION": __version__, "COMMIT": commit}
    options = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    if choices.ca_bundle:
        options += ["--secret", f"id=ca-bundle,src={choices.ca_bundle.absolute()}"]
    if choices.network:
        options += ["--network", choices.network]
    return options


def tag_of(commit: str) -> str:
    """`0.1.0-0123456789ab`, with `-dirty` behind it where files differ from the commit."""
    revision, dash, dirty = commit.partition("-")
    return f"{__version__}-{revision[:_COMMIT_LETTERS]}{dash}{dirty}"


def ensure_base(engine: Engine, base: str) -> None:
    if engine.has(base):
        return
    print(f"pulling {base}")
    if reason := engine.pull(base):
        raise ServiceError(
            f"the base image {base} is not here and cannot be pulled ({reason}); give one by BASE=…: "
            "`.ci/containers` makes one on Debian and prints its name"
        )


def pinned_base(root: Path) -> str:
    """The Dockerfile's base, by its digest where `make pin-base` has found it.

    Raises UserError for a digest of another tag.
    """
    named, pin = named_base(root), root / PIN
    if not pin.is_file():
        return named
    tagged, _, digest = pin.read_text(encoding="ascii").strip().partition("@")
    if tagged != named:
        raise ServiceError(
            f"{PIN} holds the digest of {tagged}, but {DOCKERFILE} says {named}: run make pin-base"
        )
    return f"{without_tag(named)}@{digest}"


def named_base(root: Path) -> str:
    lines = (root / DOCKERFILE).read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("ARG BASE=") for line in lines if line.startswith("ARG BASE="))


def pin_base(root: Path = Path(), ca_bundle: Path | None = None) -> int:
    """Writes the digest that the registry gives for the Dockerfile's base. Returns the exit status.

    Raises UserError, with nothing written, when the registry cannot be asked.
    """
    name = named_base(root)
    pinned = f"{name}@{digest_of_tag(name, ca_bundle)}"
    write_text(root / PIN, f"{pinned}\n")
    print(f"written: {PIN}: {pinned}")
    return 0


def code_digest(root: Path) -> str:
    """One digest for all that an image is made from, whether committed or not."""
    files = [root / DOCKERFILE.parent / name for name in _RECIPE]
    for folder in (*CODE, _WHEEL):
        files += (file for file in (root / folder).rglob("*") if file.is_file() and _is_copied(file))
    return digest_of(sorted((file.relative_to(root).as_posix(), sha256_file(file)) for file in files))


def _is_copied(file: Path) -> bool:
    return "__pycache__" not in file.parts and file.suffix != ".pyc"


def built(root: Path = Path()) -> dict[str, str]:
    """What the images that `make images` made last are called on this machine: {"full": …, "light": …}.

    Raises UserError when there are none, or they hold other code than is here now.
    """
    return {target: str(entry["reference"]) for target, entry in _recorded(root).items()}


def pushed(root: Path = Path()) -> dict[str, str]:
    """What they are called in the registry. Raises UserError also when they were not pushed."""
    entries = _recorded(root)
    if not all("pushed" in entry for entry in entries.values()):
        raise ServiceError(
            "the images are on this machine only, where no cluster finds them: make images"
            " PUSH=registry/name, or name others by IMAGE=registry/name@sha256:…"
        )
    return {target: str(entry["pushed"]) for target, entry in entries.items()}


def _recorded(root: Path) -> dict[str, dict[str, Any]]:
    path = root / RECORD
    if not path.is_file():
        raise ServiceError("there are no images yet: run make images")
    try:
        record = json.loads(path.read_bytes())
        version, commit, code = record["format_version"], record["git_commit"], record["code_sha256"]
        entries = {target: dict(record["images"][target]) for target in TARGETS}
        assert all(entry["reference"] for entry in entries.values())
    except (ValueError, KeyError, TypeError, AssertionError):
        raise ServiceError(f"{RECORD} is not what make images writes: run make images again") from None
    if version != FORMAT_VERSION:
        raise ServiceError(
            f"{RECORD} has format_version {version}, and this is {FORMAT_VERSION}: run make images"
        )
    if code != code_digest(root):
        raise ServiceError(
            f"{RECORD}: the images were made from other code (commit {commit}) than is here: run make images"
        )
    return entries
