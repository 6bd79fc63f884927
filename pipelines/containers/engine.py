"""The program that builds and runs images here: docker, podman or buildah."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from retrainer.errors import ServiceError

PICK = "RETRAINER_ENGINE"
ENGINES = ("docker", "podman", "buildah")
_ASK_SECONDS = 60
# The full image's packages as downloads, unpacked, and once more as the layer that they are copied into.
BUILD_BYTES = 18e9
_CURE = "install podman (.ci/containers does, on Debian) or start docker"


@dataclass(frozen=True)
class Image:
    """An image in the engine's own storage. `named` when the engine also finds it by name@digest."""

    digest: str
    size_bytes: int
    named: bool


@dataclass(frozen=True)
class Engine:
    name: str

    def has(self, reference: str) -> bool:
        return self._ask("inspect", "--type", "image", reference).returncode == 0

    def pull(self, reference: str) -> str:
        """Empty when the image is here now, else the last line of what the engine said."""
        done = self._call("pull", reference)
        return "" if done.returncode == 0 else _last_line(done.stderr)

    def build(self, dockerfile: Path, context: Path, target: str, tag: str, options: Sequence[str]) -> None:
        """Shows its progress. Raises UserError when a step of the build fails."""
        ignored = [] if self.name == "docker" else ["--layers", "--ignorefile", f"{dockerfile}.dockerignore"]
        known = ["--file", str(dockerfile), "--target", target, "--tag", tag, *ignored]
        # BuildKit is what reads the Dockerfile's mounts; it finds the ignore file by its name.
        environment = os.environ | {"DOCKER_BUILDKIT": "1"}
        command = [self.name, "build", *known, *options, str(context)]
        free_before = self._free_bytes()
        if subprocess.run(command, env=environment, check=False).returncode != 0:
            why = "the lines above say why"
            if free_before < BUILD_BYTES:
                why += (
                    f"; {self._storage()} had {free_before / 1e9:.1f} GB free, and a build takes up to"
                    f" {BUILD_BYTES / 1e9:.0f} for a while: remove images of earlier commits"
                )
            raise ServiceError(f"{self.name} could not build {tag}: {why}")

    def _storage(self) -> str:
        """The folder of the engine's images; empty where the engine is on another machine or does not say."""
        asked = {
            "docker": "{{.DockerRootDir}}",
            "podman": "{{.Store.GraphRoot}}",
            "buildah": "{{.store.GraphRoot}}",
        }
        folder = self._ask("info", "--format", asked[self.name]).stdout.decode().strip()
        return folder if Path(folder).is_dir() else ""

    def _free_bytes(self) -> float:
        storage = self._storage()
        return shutil.disk_usage(storage).free if storage else float("inf")

    def describe(self, reference: str) -> Image:
        """What the engine knows of an image that is here."""
        if self.name == "buildah":
            found = json.loads(self._must("inspect", "--type", "image", reference))
            digest = found["FromImageDigest"]
            size = sum(layer["size"] for layer in json.loads(found["Manifest"])["layers"])
        else:
            (found,) = json.loads(self._must("image", "inspect", reference))
            digest, size = found.get("Digest") or _repository_digest(found) or found["Id"], found["Size"]
        return Image(digest, size, self.has(f"{without_tag(reference)}@{digest}"))

    def tag(self, reference: str, name: str) -> None:
        self._must("tag", reference, name)

    def push(self, reference: str) -> str:
        """Puts the image where its name says. Returns the digest that the registry gave it.

        Raises UserError when the registry refuses or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "digest"
            noted = [] if self.name == "docker" else ["--digestfile", str(written)]
            done = self._call("push", *noted, reference)
            if done.returncode != 0:
                raise ServiceError(f"{self.name} could not push {reference}: {_last_line(done.stderr)}")
            if noted:
                return written.read_text(encoding="ascii").strip()
        (found,) = json.loads(self._must("image", "inspect", reference))
        return _repository_digest(found, without_tag(reference))

    def run(self, reference: str, command: Sequence[str]) -> bytes:
        """What the command prints inside the image, with no network. Raises UserError when it fails."""
        if self.name == "buildah":
            with self._container(reference) as container:
                done = self._call("run", "--network=none", container, "--", *command)
        else:
            done = self._call("run", "--rm", "--network=none", reference, *command)
        if done.returncode != 0:
            raise ServiceError(
                f"{self.name} could not run {command[0]} in {reference}: {_last_line(done.stderr)}"
            )
        return done.stdout

    @contextmanager
    def _container(self, reference: str) -> Iterator[str]:
        name = self._must("from", reference).decode().strip()
        try:
            yield name
        finally:
            self._ask("rm", name)

    def _must(self, *words: str) -> bytes:
        done = self._ask(*words)
        if done.returncode != 0:
            raise ServiceError(f"{self.name} {words[0]}: {_last_line(done.stderr)}")
        return done.stdout

    def _ask(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return self._call(*words, timeout_seconds=_ASK_SECONDS)

    def _call(self, *words: str, timeout_seconds: float | None = None) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                [self.name, *words], capture_output=True, timeout=timeout_seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise ServiceError(f"{self.name} {words[0]}: no answer within {timeout_seconds:.0f} s") from None


def find_engine() -> Engine:
    """The first of docker, podman, buildah that works here, or the one named in RETRAINER_ENGINE.

    Raises UserError when there is none: a docker command without its engine does not count.
    """
    named = os.environ.get(PICK, "").strip()
    if named and named not in ENGINES:
        raise ServiceError(f"{PICK}={named}: should be one of {', '.join(ENGINES)}")
    for name in [named] if named else ENGINES:
        if shutil.which(name) and _answers(name):
            return Engine(name)
    if named:
        raise ServiceError(
            f"{PICK}={named}: {named} does not work here (try `{named} info`); {_CURE}, or unset it"
        )
    raise ServiceError(f"images need docker, podman or buildah, and none works here: {_CURE}")


def _answers(name: str) -> bool:
    try:
        return subprocess.run([name, "info"], capture_output=True, timeout=30, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def without_tag(reference: str) -> str:
    """`registry:5000/name:tag@sha256:…` → `registry:5000/name`."""
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return head + slash + tail.partition(":")[0]


def _repository_digest(inspected: dict[str, list[str]], repository: str = "") -> str:
    """Docker's digest of an image that a registry, or its containerd store, has given one."""
    digests = [name.partition("@") for name in inspected.get("RepoDigests") or ()]
    return next((digest for name, _, digest in digests if not repository or name == repository), "")


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
