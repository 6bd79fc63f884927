"""The months through another pipeline, retrained each month on the month's files as they are.

A script beside this one is a pipeline. It runs in an environment of its own, without this project:

    python trainer.py EXPORTS/texts RESULTS.json [PATTERN]

EXPORTS is what `python -m benchmarks.trust.careless texts --exports EXPORTS` has written. Of these pipelines
none says when a model takes the champion's place; here it does by what is written most: the new model is at
least as accurate as the champion on this month's test rows.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol


class Pipeline(Protocol):
    """`fit` trains on a month's folder; `accuracy` is the model's on the test rows of a month's folder.

    name, packages    what it is called, and what it consists of
    tunable           whether it has a learning rate, epochs and a seed
    """

    name: str
    packages: tuple[str, ...]
    tunable: bool

    def fit(self, month: Path, training: dict[str, Any], into: Path) -> Any: ...

    def accuracy(self, model: Any, month: Path) -> float: ...


@dataclass
class Company:
    """`printed`: the lines of months that have no mistake, without their numbers."""

    pipeline: Pipeline
    exports: Path
    scratch: Path
    champion: Any = None
    champion_accuracy: float = 0.0
    printed: set[str] = field(default_factory=set)

    def first(self) -> None:
        with captured() as output:
            self.champion = self.pipeline.fit(self.exports / "00", {}, self.scratch / "00")
            self.champion_accuracy = round(self.pipeline.accuracy(self.champion, self.exports / "00"), 4)
            self.printed |= set(lines(output()))

    def month(self, one: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        with captured() as output:
            try:
                result = self._judged(one)
            except Exception as error:  # whatever a library raises ends the month
                result = {"decision": "stopped", "error": f"{type(error).__name__}: {error}"[:500]}
            said = lines(output())
        result["new_lines"] = [line for words, line in said.items() if words not in self.printed][:40]
        if one["expected"] == "clean":
            self.printed |= set(said)
        return {**result, "seconds": round(time.perf_counter() - began, 1)}

    def _judged(self, one: dict[str, Any]) -> dict[str, Any]:
        folder = self.exports / one["folder"]
        candidate = self.pipeline.fit(folder, one["training"], self.scratch / one["folder"])
        new, old = (self.pipeline.accuracy(model, folder) for model in (candidate, self.champion))
        scores = {"scores": [round(new, 4), round(old, 4)]}
        if new < old:
            return {"decision": "not promoted", **scores}
        return {"decision": "promoted", **scores, "truth": self._truth(candidate)}

    def _truth(self, candidate: Any) -> list[float] | None:
        """On last month's test rows, the candidate's and the champion's; none where the columns changed."""
        try:
            return [round(self.pipeline.accuracy(candidate, self.exports / "00"), 4), self.champion_accuracy]
        except Exception:
            return None


@contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """All that is written to the process's output and error streams, by libraries in C too."""
    with tempfile.TemporaryFile("w+b") as file:
        kept = [os.dup(stream) for stream in (1, 2)]
        _to([file.fileno()] * 2)

        def said() -> str:
            _flush()
            file.seek(0)
            return file.read().decode("utf-8", "replace")

        try:
            yield said
        finally:
            _to(kept)
            for stream in kept:
                os.close(stream)


def _to(files: list[int]) -> None:
    _flush()
    for stream, file in zip((1, 2), files, strict=True):
        os.dup2(file, stream)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def lines(text: str) -> dict[str, str]:
    """Each line that was written, by what it says without its numbers and marks of progress."""
    found: dict[str, str] = {}
    for line in re.split(r"[\r\n]+", text):
        words = re.sub(r"[^\w\s]*\d[\d.,:%e+-]*|[|█▏▎▍▌▋▊▉━]+", "#", line).strip()
        if len(words) > 8 and not re.search(r"it/s|examples/s|s/it", line):
            found.setdefault(words, line.strip()[:400])
    return found


def main(pipeline: Pipeline) -> None:
    exports, results = Path(sys.argv[1]), Path(sys.argv[2])
    pattern = re.compile(sys.argv[3] if len(sys.argv) > 3 else "")
    company = Company(pipeline, exports, Path(tempfile.mkdtemp()))
    company.first()
    print(f"champion {company.champion_accuracy:.3f}", flush=True)
    for one in json.loads((exports / "months.json").read_text()):
        runs = one["expected"] != "last" and (pipeline.tunable or not one["training"])
        # Clean months always run: what they print is no warning.
        if runs and (one["expected"] == "clean" or pattern.search(one["name"])):
            became = company.month(one)
            keep(results, company, one, became)
            said = became.get("error") or became["new_lines"][:2]
            print(one["name"], became["decision"], became.get("scores"), said, flush=True)


def keep(results: Path, company: Company, one: dict[str, Any], became: dict[str, Any]) -> None:
    every = json.loads(results.read_text()) if results.is_file() else {}
    part = every.setdefault(company.pipeline.name, {})
    part["packages"] = {name: version(name) for name in company.pipeline.packages}
    data = part.setdefault(company.exports.name, {"months": {}})
    data["champion"] = company.champion_accuracy
    data["months"][one["name"]] = {"expected": one["expected"], **became}
    results.write_text(json.dumps(every, indent=1, ensure_ascii=False) + "\n")
