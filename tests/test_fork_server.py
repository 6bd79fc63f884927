"""Steps forked from a process that has imported what they need: each is as a process of its own would be."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from components._forked import SERVER, forked
from pipelines import _steps_ahead
from pipelines._steps_ahead import StepsAhead
from retrainer.resolve import resolve
from tests.conftest import ROOT

# Stands in for a step, in the server alone: a process of its own would know none of these.
STEP = """
import json, os, signal, sys, time
from contextlib import contextmanager
import components.command, components.register

def main(words):
    seen = {"words": words, "directory": os.getcwd(), "input": sys.stdin.readline()}
    seen |= {name: os.environ.get(name) for name in ("TELL", "RETRAINER_STEPS")}
    try:
        print(json.dumps(seen), flush=True)
        if words[1] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if words[1] == "waits":
            time.sleep(60)
    except KeyboardInterrupt:
        try:
            time.sleep(0.5)
        except KeyboardInterrupt:
            return 99
        return 130
    return 7

components.command.main = main

@contextmanager
def ahead(family):
    print("begun", family, flush=True, file=sys.__stderr__)
    yield

components.register.ahead = ahead
"""
STARTER = """
import os, subprocess, sys
words = [sys.executable, "-m", "components._fork_server", sys.argv[1], str(os.getpid()), "mlp", "step"]
print(subprocess.Popen(words, pass_fds=[int(sys.argv[1])]).pid, flush=True)
sys.stdin.read()
"""
SLOW = "import time; time.sleep(60)"


class Servers:
    """Starts servers, and clients of the last one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "steps"
        self.environment = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{folder}", TELL="told")
        (folder / "step.py").write_text(STEP)
        (folder / "slow.py").write_text(SLOW)
        self.started: list[subprocess.Popen[str]] = []

    def server(self, *modules: str) -> subprocess.Popen[str]:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.path))
            listening.listen()
            number = listening.fileno()
            words = ["-m", "components._fork_server", str(number), str(os.getpid()), "mlp", *modules]
            return self.process(words, [number])

    def client(self, *words: str, seconds: float = 30) -> tuple[int, str, str]:
        client = self.begun(*words)
        said, errors = client.communicate("typed\n", timeout=seconds)
        return client.returncode, said, errors

    def begun(self, *words: str) -> subprocess.Popen[str]:
        self.environment[SERVER] = str(self.path)
        return self.process(["-m", "components", *words])

    def process(self, words: list[str], pass_fds: Sequence[int] = ()) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            pass_fds=pass_fds,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        self.started.append(process)
        return process


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path)
    yield servers
    for process in servers.started:
        process.kill()
        process.communicate()


def waiting_step(
    servers: Servers, server: subprocess.Popen[str]
) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A client, and its step, which waits."""
    client = servers.begun("train", "waits")
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write("typed\n")
    client.stdin.flush()
    assert json.loads(client.stdout.readline())["words"] == ["train", "waits"]
    (step,) = psutil.Process(server.pid).children()
    return client, step


def gone(process: psutil.Process) -> bool:
    return not psutil.wait_procs([process], timeout=5)[1]


def test_a_step_finds_what_its_own_process_would_have_found(servers: Servers) -> None:
    servers.server("step")
    status, said, errors = servers.client("train", "--more", "x")
    assert (status, errors) == (7, "")
    assert json.loads(said) == {
        "words": ["train", "--more", "x"],
        "directory": str(servers.folder),
        "TELL": "told",
        "RETRAINER_STEPS": None,  # what it starts by itself is no step of this server
        "input": "typed\n",
    }


def test_a_step_that_is_killed_is_told_as_that(servers: Servers) -> None:
    servers.server("step")
    assert servers.client("train", "killed")[0] == -signal.SIGKILL
    assert servers.client("train", "next")[0] == 7, "the next one is served"


def test_a_signal_reaches_the_step_once_and_by_its_client(servers: Servers) -> None:
    server = servers.server("step")
    client, step = waiting_step(servers, server)
    client.send_signal(signal.SIGINT)
    assert client.wait(timeout=30) == 130, "99 where it came twice"
    assert gone(step)


def test_a_client_that_waits_for_imports_is_interrupted_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a server that is still busy. Here a clock interrupts."""
    monkeypatch.setenv(SERVER, str(tmp_path / "steps"))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "steps"))
            listening.listen()
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            assert forked(["train", "x"]) == 130
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert capsys.readouterr().err == "train: interrupted\n"


@pytest.mark.parametrize("victim", ["client", "server"])
def test_a_step_ends_with_its_client_and_its_server(victim: str, servers: Servers) -> None:
    server = servers.server("step")
    client, step = waiting_step(servers, server)
    (client if victim == "client" else server).kill()
    _, errors = client.communicate(timeout=30)
    assert gone(step)
    if victim == "server":
        assert (client.returncode, errors) == (1, "train: the process that starts the steps was killed\n")


def test_a_server_ends_with_whoever_started_it(servers: Servers) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        starter = servers.process(["-c", STARTER, str(listening.fileno())], [listening.fileno()])
    assert starter.stdout is not None
    server = psutil.Process(int(starter.stdout.readline()))
    starter.kill()
    assert gone(server)


def test_registering_begins_while_the_model_is_judged(servers: Servers) -> None:
    """And is asked as any other step."""
    server = servers.server("step")
    assert servers.client("evaluate", "x")[0] == 7
    (waiting,) = psutil.Process(server.pid).children()
    status, said, _ = servers.client("register", "y")
    assert (status, json.loads(said)["words"]) == (7, ["register", "y"])
    assert gone(waiting)
    assert servers.client("register", "again")[0] == 7, "forked as any step"
    server.kill()
    assert server.communicate()[1] == "begun mlp\n"


def test_a_step_that_began_in_vain_ends_with_the_server(servers: Servers) -> None:
    server = servers.server("step")
    assert servers.client("evaluate", "x")[0] == 7
    (waiting,) = psutil.Process(server.pid).children()
    server.kill()
    assert gone(waiting)


def test_a_step_of_little_need_does_not_wait_for_imports(servers: Servers) -> None:
    servers.server("slow")
    status, said, _ = servers.client("ingest", "--help")
    assert status == 0 and "--raw" in said


def test_without_a_server_a_step_is_a_process_of_its_own(servers: Servers) -> None:
    status, said, _ = servers.client("ingest", "--help")
    assert status == 0 and "--raw" in said


def test_what_make_pipeline_begins_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVER, raising=False)
    ahead = StepsAhead(resolve("digits-mlp", [], ROOT, directory=tmp_path), ROOT)
    ahead.begin()
    (server,) = [p for p in psutil.Process().children() if "components._fork_server" in p.cmdline()]
    assert (ROOT / os.environ[SERVER]).resolve() == tmp_path / "steps"
    ahead.end()
    assert gone(server) and SERVER not in os.environ and not (tmp_path / "steps").exists()


def test_beside_a_gpu_no_step_is_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA that a process has looked for cannot be used by those that it forks."""
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(_steps_ahead, "_NVIDIA", tmp_path / "nvidiactl")
    StepsAhead(resolve("digits-mlp", [], ROOT, directory=tmp_path), ROOT).begin()
    assert SERVER not in os.environ
