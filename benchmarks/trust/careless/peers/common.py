"""The months of another pipeline: last month's model is the champion, and a candidate that is better on this
month's test rows takes its place, which is what their users write.

A script of its own beside each pipeline, so that it runs in an environment where nothing of this project is:

    python trainer.py EXPORTS/texts RESULTS.json [PATTERN]

EXPORTS is what `python -m benchmarks.trust.careless --exports EXPORTS` has written: a folder a month.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol


class Pipeline(Protocol):
    """`fit` trains on a month's folder as the pipeline's own example does; `score` is the model's accuracy on
    the test rows of a month's folder. `tunable`: whether it has a learning rate, epochs and a seed."""

    tunable: bool

    def fit(self, month: Path, settings: dict[str, Any], into: Path) -> Any: ...

    def score(self, model: Any, month: Path) -> float: ...

    def promotes(self, candidate: float, champion: float) -> dict[str, bool]: ...


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


@contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """All that is written to the process's output and error streams, by libraries in C too."""
    with tempfile.TemporaryFile("w+b") as file:
        _flush()
        kept = [os.dup(stream) for stream in (1, 2)]
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)

        def told() -> str:
            _flush()
            file.seek(0)
            return file.read().decode("utf-8", "replace")

        try:
            yield told
        finally:
            _flush()
            for stream, before in zip((1, 2), kept, strict=True):
                os.dup2(before, stream)
                os.close(before)


def lines_of(text: str) -> dict[str, str]:
    """Each line that was written, by what it says without its numbers and marks of progress."""
    found = {}
    for line in re.split(r"[\r\n]+", text):
        words = re.sub(r"[\d.,:%|/<>\[\]█▏▎▍▌▋▊▉━+-]+", "#", line).strip()
        if len(words) > 8 and "it/s" not in line and "examples/s" not in line:
            found.setdefault(words, line.strip()[:400])
    return found


def main(pipeline: Pipeline) -> None:
    exports, results = Path(sys.argv[1]), Path(sys.argv[2])
    wanted = re.compile(sys.argv[3] if len(sys.argv) > 3 else "")
    scratch = Path(tempfile.mkdtemp())
    about = json.loads((exports / "months.json").read_text())
    told: dict[str, Any] = json.loads(results.read_text()) if results.is_file() else {}
    with captured() as output:
        champion = pipeline.fit(exports / "last", {}, scratch / "last")
        logged = pipeline.score(champion, exports / "last")
        known = lines_of(output())
    print(f"champion {logged:.3f}", flush=True)
    # What a clean month prints is no finding either.
    clean = [name for name in about if about[name]["expected"] == "clean" and name.endswith("0")]
    careless = [name for name in about if about[name]["expected"] not in ("clean", "")]
    for name in [*clean, *careless]:
        untold = about[name]["settings"].get("training") and not pipeline.tunable
        if untold or not wanted.search(name):
            continue
        one = month(pipeline, exports / name, about[name], champion, logged, scratch / name)
        lines = lines_of(one.pop("output"))
        one["new"] = [line for words, line in lines.items() if words not in known][:40]
        if about[name]["expected"] == "clean":
            known |= lines
        told[about[name]["name"]] = one
        results.write_text(json.dumps(told, indent=1, ensure_ascii=False))
        print(
            about[name]["name"],
            one["decision"],
            one.get("scores"),
            one["seconds"],
            *one["new"][:3],
            flush=True,
        )


def month(
    pipeline: Pipeline, folder: Path, about: dict[str, Any], champion: Any, logged: float, into: Path
) -> dict[str, Any]:
    began, last = time.perf_counter(), folder.parent / "last"
    with captured() as output:
        try:
            candidate = pipeline.fit(folder, about["settings"], into)
            mine, its = pipeline.score(candidate, folder), pipeline.score(champion, folder)
            by = {"logged": mine > logged, **pipeline.promotes(mine, its)}
            decision = "promoted" if by["better"] else "not promoted"
            one = {"decision": decision, "by": by, "scores": [round(mine, 4), round(its, 4)]}
            if by["better"]:
                one["truth"] = [round(pipeline.score(candidate, last), 4), round(logged, 4)]
        except Exception as error:  # whatever a library raises ends the month
            one = {"decision": "stopped", "error": f"{type(error).__name__}: {error}"[:500]}
            one["where"] = traceback.format_exc().splitlines()[-3].strip()[:200]
        text = output()
    return {**one, "output": text, "seconds": round(time.perf_counter() - began, 1)}
