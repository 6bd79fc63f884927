"""A project of its own for the year, its commands as a person or cron gives them, and what they say.

Nothing of the checkout it is started from is touched: code and recipes are copied, and DVC's cache, MLflow's
database and the runs lie in the copy.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks._runs import copy_project, users_environment
from benchmarks.year.rows import Row, write_rows
from retrainer.formats.files import write_text
from retrainer.registry import signing
from retrainer.services.keys import SIGNING, VERIFY

RECIPE = "year"
QUESTIONS = "data/questions.csv"
_POLL_SECONDS = 0.05
# Of the training that is killed, so that one is there soon.
_CHECKPOINT_SECONDS = "0.5"
_PATIENCE_SECONDS = 600.0
_STEPS = ("ingest", "preprocess", "decide", "train", "evaluate", "register")


@dataclass(frozen=True)
class Said:
    """What a command printed, on both streams in their order, and how it ended."""

    status: int
    printed: str
    seconds: float

    @property
    def reason(self) -> str:
        """The one line that says why it stopped; empty where it did not."""
        if not self.status:
            return ""
        lines = [line.strip() for line in self.printed.splitlines() if line.strip()]
        found = [line for line in lines if line.split(": ")[0] in (*_STEPS, "retrain", "pipeline")]
        return (found or lines or ["it said nothing"])[-1]


@dataclass
class Project:
    """The copy in `folder`, with the recipe `year`; models are signed by a key that lies beside it."""

    folder: Path
    recipe: dict[str, Any]
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        copy_project(self.folder)
        # Whoever ends this process ends the running step.
        self.environment = users_environment() | self._keys() | {"RETRAINER_RUNNER_PID": str(os.getpid())}
        self.change_recipe({})

    def _keys(self) -> dict[str, str]:
        private, public = (self.folder.with_name(f"{self.folder.name}-{name}") for name in ("key", "key.pub"))
        key = _new_key()
        write_text(private, key)
        private.chmod(0o600)
        write_text(public, signing.public_of(key.encode()).decode())
        return {SIGNING: str(private), VERIFY: str(public)}

    def change_recipe(self, sections: Mapping[str, Any]) -> None:
        """Writes the recipe with these sections in the place of its own."""
        self.recipe |= sections
        write_text(self.folder / "recipes" / f"{RECIPE}.yaml", yaml.safe_dump(self.recipe, sort_keys=False))

    def deliver(self, rows: Sequence[Row]) -> None:
        """The month's file takes the place of last month's."""
        write_rows(self.folder / QUESTIONS, rows)

    # --- commands ---

    def pipelines(self, command: str, *settings: str) -> Said:
        """`make retrain` and `make pipeline` with SET=…"""
        return self._run(self._words(command, settings))

    def step(self, step: str) -> Said:
        """`make step STEP=…`"""
        return self._run([*self._words("step", ()), step])

    def registry(self, command: str, *words: str) -> Said:
        """`make history`, `promote`, `rollback`."""
        module = [sys.executable, "-m", "retrainer", command, "--recipe", RECIPE]
        return self._run([*module, *words])

    def killed_while_training(self, command: str) -> Said:
        """Starts the command and kills it with all that it started, as soon as two checkpoints are there."""
        began = time.monotonic()
        with subprocess.Popen(
            self._words(command, ()),
            cwd=self.folder,
            env=self.environment | {"RETRAINER_CHECKPOINT_SECONDS": _CHECKPOINT_SECONDS},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as running:
            while running.poll() is None and len(list(self.folder.glob(".checkpoints/*/[0-9]*.pt"))) < 2:
                if time.monotonic() - began > _PATIENCE_SECONDS:
                    break
                time.sleep(_POLL_SECONDS)
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
            printed, _ = running.communicate()
        return Said(running.returncode, printed, time.monotonic() - began)

    def _words(self, command: str, settings: Sequence[str]) -> list[str]:
        chosen = [word for setting in settings for word in ("--set", setting)]
        return [sys.executable, "-m", "pipelines", command, "--recipe", RECIPE, *chosen]

    def _run(self, words: Sequence[str]) -> Said:
        began = time.monotonic()
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Said(done.returncode, done.stdout, time.monotonic() - began)

    # --- what they wrote ---

    def made(self, port: str, file: str) -> dict[str, Any]:
        """The content of runs/year/PORT/FILE; empty where it is not there."""
        path = self.folder / "runs" / RECIPE / port / file
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return content

    def keep(self, page: str, target: Path) -> bool:
        """Copies a page of runs/year to `target`; whether there was one."""
        source = self.folder / "runs" / RECIPE / page
        if not source.is_file():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return True


def _new_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, form = ec.generate_private_key(ec.SECP256R1()), serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
