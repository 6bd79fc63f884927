"""The container engine of this machine, and one step run in a container so that no failure is lost."""

from __future__ import annotations

import codecs
import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.containers.background import Background
from retrainer.errors import ServiceError
from retrainer.services.connection import environment
from retrainer.services.processes import is_gone

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

OWNER = "retrainer.rehearsal.owner"
_DOCKER = "unix:///var/run/docker.sock"
_SIGNALLED = 128
# An engine that stores a large image meanwhile lets others wait for minutes.
_PATIENCE_SECONDS = 600

# As a namespace that enforces Kubernetes's restricted security standard, with a read-only root file system.
HARDENED: dict[str, Any] = {
    "network_mode": "host",  # the rehearsal's servers listen on loopback alone
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}


class StepFailed(Exception):
    """Why a step counts as failed, and its exit code when it had one.

    `published`: Kubeflow's launcher lived to tell; of a pod that was killed, its metadata store knows no end.
    `step` is filled in by whoever knows which it was.
    """

    def __init__(self, reason: str, exit_code: int | None = None, published: bool = True) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
        self.published = published
        self.step = ""


@contextmanager
def engine(background: Background, images: Iterable[str], owned_by: str) -> Iterator[DockerClient]:
    """A client of the engine that holds the images, which DOCKER_HOST names while the block runs.

    Containers with the label `owned_by` are removed from it when `background` ends, and those of dead owners
    now. Asks DOCKER_HOST, else Docker, else starts podman's service. Raises UserError if none has the images.
    """
    import docker

    missing: list[str] = []
    for host in _hosts(background):
        with contextlib.closing(docker.DockerClient(base_url=host, timeout=_PATIENCE_SECONDS)) as client:
            missing = [image for image in images if not _has_image(client, image)]
            if not missing:
                background.guard_containers(host, owned_by)
                remove_leftovers(client)
                with environment({"DOCKER_HOST": host}):
                    yield client
                return
    if missing:
        raise ServiceError(f"image {missing[0]} is not on this machine; run make images")
    raise ServiceError(
        "a rehearsal needs Docker or podman, and neither answers; install one, or set DOCKER_HOST"
    )


def _hosts(background: Background) -> Iterator[str]:
    """Addresses of engines that answer, likeliest first."""
    if given := os.environ.get("DOCKER_HOST"):
        if not _answers(given):
            raise ServiceError(
                f"DOCKER_HOST={given} does not answer; start that engine, or unset DOCKER_HOST"
            )
        yield given
        return
    if _answers(_DOCKER):
        yield _DOCKER
    if podman := shutil.which("podman"):
        host, log = f"unix://{background.scratch / 'podman.sock'}", background.scratch / "podman.log"
        number = background.start([podman, "system", "service", "--time=0", host], dict(os.environ), log)
        background.wait_until(number, lambda: _answers(host), log)
        yield host


def _answers(host: str) -> bool:
    import docker

    try:
        if host.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as probe:  # the SDK forgets to close one that is refused
                probe.connect(host.removeprefix("unix://"))
        with contextlib.closing(docker.DockerClient(base_url=host)) as client:
            return bool(client.ping())
    except (OSError, docker.errors.DockerException):
        return False


def _has_image(client: DockerClient, image: str) -> bool:
    import docker

    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        return False
    return True


def check_user(client: DockerClient, image: str) -> None:
    """Raises UserError for an image that a cluster would refuse: runAsNonRoot wants a number other than 0."""
    user = str(client.images.get(image).attrs["Config"].get("User") or "").partition(":")[0]
    if not user.isdigit() or int(user) == 0:
        raise ServiceError(
            f"image {image} runs as {user or 'root'}: for Kubernetes only a number other than 0 is sure to be"
            " non-root; set USER to one in docker/Dockerfile"
        )


def run(
    client: DockerClient, image: str, command: list[str], say: Callable[[str], None], **options: Any
) -> int:
    """Runs the command, says each of its lines, and returns its exit code after the container is removed.

    Raises StepFailed when there is no exit code: it did not start, it vanished, or the engine went away.
    """
    with engine_explained():
        # Kubernetes puts a command in the place of the image's entrypoint, not behind it.
        container = client.containers.create(image, command[1:], entrypoint=command[:1] or None, **options)
        try:
            container.start()
            with _closed(container.logs(stream=True, follow=True)) as stream:
                for line in _lines(stream):
                    say(line)
            return int(container.wait()["StatusCode"])
        finally:
            _remove(container)


@contextmanager
def engine_explained() -> Iterator[None]:
    """What the engine, or the way to it, raises inside becomes a StepFailed."""
    import docker
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        _hang_up(error)
        reason = " ".join(str(getattr(error, "explanation", None) or error).split())
        # podman may call it an error of its own.
        if isinstance(error, docker.errors.NotFound) or reason.endswith("no such container"):
            raise StepFailed(
                "its container vanished: something outside the rehearsal removed it", published=False
            ) from None
        raise StepFailed(f"the container engine failed: {reason}", published=False) from None


def _hang_up(error: Exception) -> None:
    """Closes the connection of an answer that said no: the SDK keeps it."""
    response = getattr(error, "response", None)
    if response is not None:
        response.close()


@contextmanager
def _closed(stream: Any) -> Iterator[Any]:
    """Closes the answer of a stream that broke off, too; the SDK does where one came to its end."""
    try:
        yield stream
    finally:
        answer = getattr(stream, "_response", None)
        if answer is not None:
            answer.close()


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines, however the engine cuts its stream; the last may lack its end."""
    decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
    for chunk in chunks:
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        yield from whole
    if rest:
        yield rest


def _remove(container: Container) -> None:
    import docker
    import requests

    try:
        container.remove(force=True)
    except (docker.errors.DockerException, requests.RequestException) as error:
        _hang_up(error)


def told(exit_code: int) -> str:
    """An exit code in words."""
    if exit_code <= _SIGNALLED:
        return f"it exited with {exit_code}"
    number = exit_code - _SIGNALLED
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    why = ", perhaps for lack of memory" if number == signal.SIGKILL else ""
    return f"it was killed by {name}{why} (exit code {exit_code})"


def remove_leftovers(client: DockerClient) -> None:
    """Removes the containers of rehearsals that were killed together with their guard, and of no others."""
    # Sparse: asking about each one fails for those that are just being removed.
    left = client.containers.list(all=True, filters={"label": OWNER}, sparse=True)
    for container in left:
        if is_gone(container.attrs["Labels"][OWNER]):
            _remove(container)


def remove_labelled(host: str, label: str) -> None:
    """Removes an owner's containers. Looks twice: one may have been on its way when its run was killed."""
    import docker

    with contextlib.closing(docker.DockerClient(base_url=host)) as client:
        for pause in (0.5, 0.0):
            mine = {"label": f"{OWNER}={label}"}
            for container in client.containers.list(all=True, filters=mine, sparse=True):
                _remove(container)
            time.sleep(pause)
