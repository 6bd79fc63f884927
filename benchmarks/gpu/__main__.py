"""One command for one GPU: ours and its peers on the same work, beside the roofs of the same run.

    python -m benchmarks.gpu [--tiny] [--cifar10 DIR] [--out results.json]

Needs only what a bare training machine has: torch, torchvision, transformers, timm, numpy, pyarrow, pydantic.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu._apart import apart, begun, preload
from benchmarks.gpu._jobs import JOBS, TINY, Job
from benchmarks.gpu._measure import FIRST_PIECE
from benchmarks.gpu._table import Row, jpeg_table, resident_table, with_roof

# Beside the measured seconds: rows, a context on the device, kernels, or a graph.
_MORE_SECONDS = 90.0
_CIFAR_SECONDS = 120.0
_COMPILE_SECONDS = 120.0
# Less than what a contender needs to begin.
_FEWEST_SECONDS = 10.0
_IMAGES = {
    "ours": "_ours:train_written",
    "ours, compiled": "_ours:train_compiled",
    "torchvision, shipped": "_peers:torchvision_shipped",
    "torchvision, tuned": "_peers:torchvision_tuned",
    "torchvision, compiled": "_peers:torchvision_compiled",
    "timm, tuned": "_peers:timm_tuned",
    "timm, compiled": "_peers:timm_compiled",
}
_TEXTS = {
    "ours": "_ours:train_written",
    "ours, compiled": "_ours:train_compiled",
    "Trainer, shipped": "_peers:trainer_shipped",
    "Trainer, tuned": "_peers:trainer_tuned",
    "Trainer, compiled": "_peers:trainer_compiled",
}
# Contenders are compiled at the same time before anything is measured, so that their seconds go by once. Each
# takes as much of the device's memory.
_COMPILING_BYTES = 17e9
_TINY_CIFAR = {
    "ours": ("training.epochs=2", "training.batch_size=8", "backbone.widths=[4,4,4]"),
    "torchvision": ("epochs=2", "batch=8", "warmup=0.5"),
}
_CHECKS = [(kind, compile) for kind in ("pixels", "tokens") for compile in (False, True)]
_IMPORTED = ("_ours", "_peers", "_checks", "torchvision", "timm", "transformers.models.bert.modeling_bert")


def parse(argv: list[str]) -> argparse.Namespace:
    words = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    words.add_argument("--tiny", action="store_true", help="small, on a CPU: tests the command itself")
    words.add_argument("--out", type=Path, help="where to write the figures, as JSON")
    words.add_argument("--cifar10", type=Path, metavar="DIR", help="holds train and test: <class>/*.jpg each")
    words.add_argument("--seconds", type=float, help="measured for each contender; 12, or 0.5 when tiny")
    words.add_argument("--jobs", nargs="*", choices=JOBS, default=list(JOBS))
    contenders = list(_IMAGES | _TEXTS)
    words.add_argument("--without", nargs="+", choices=contenders, default=[], metavar="CONTENDER")
    words.add_argument("--profile", nargs="+", default=[], metavar="JOB:CONTENDER", help="its kernels too")
    words.add_argument("--checks", action="store_true", help="repeats, resumes and answers alike on a CPU")
    words.add_argument("--limit", type=float, default=570.0, help="seconds after which nothing more begins")
    words.add_argument("--seed", type=int, default=0)
    return words.parse_args(argv)


def main(argv: list[str]) -> None:
    chosen = parse(argv)
    chosen.seconds = chosen.seconds or (0.5 if chosen.tiny else 12.0)
    chosen.end = time.monotonic() + chosen.limit
    preload(_IMPORTED)
    ground = apart("_measure:ground", (chosen.tiny,), _MORE_SECONDS)
    if "failed" in ground:
        raise SystemExit(f"the machine cannot be measured: {ground['failed']}")
    roofs = ground["roofs"]
    print(
        f"GPU: {ground['machine']['gpu']}; {roofs['gemm_flops'] / 1e12:.3g} TFLOP/s bfloat16,"
        f" {roofs['copy_bytes'] / 1e9:,.3g} GB/s copied",
        flush=True,
    )
    jobs = [(TINY if chosen.tiny else JOBS)[name] for name in chosen.jobs]
    costs = {job.name: apart("_jobs:cost", (job,), _MORE_SECONDS) for job in jobs}
    told: dict[str, Any] = {"tiny": chosen.tiny, "seed": chosen.seed, "seconds": chosen.seconds, **ground}
    told |= {"costs": costs, "resident": [], "from_jpeg": [], "checks": []}
    checks = [begun("_checks:check", (*one, chosen.seed)) for one in _CHECKS if chosen.checks]
    cold = compile_all(jobs, chosen, int(ground["machine"].get("gpu_bytes", 0) / _COMPILING_BYTES))
    told["checks"] = [wait(max(1.0, chosen.end - time.monotonic())) for wait in checks]
    for found in told["checks"]:
        print(f"check: {found}", flush=True)
    _keep(told, chosen.out)
    for job in jobs:
        for name, call in contenders(job, chosen).items():
            row = measured(job, name, call, chosen) | cold.get((job.name, name), {})
            told["resident"].append(with_roof(row, costs[job.name], roofs))
            _keep(told, chosen.out)
    print(resident_table(told["resident"], {job.name: job.target for job in jobs}), flush=True)
    if chosen.cifar10:
        told["from_jpeg"] = from_jpeg(chosen)
        print(jpeg_table(told["from_jpeg"]), flush=True)
        _keep(told, chosen.out)


def _keep(told: dict[str, Any], out: Path | None) -> None:
    """Again and again: what has been measured outlives a machine that is taken away."""
    if out:
        out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def contenders(job: Job, chosen: argparse.Namespace) -> dict[str, str]:
    """By name, their `module:function`. Compiling for a CPU takes minutes and shows nothing of a GPU."""
    every = _IMAGES if job.kind == "pixels" else _TEXTS
    left_out = [name for name in every if name in chosen.without or (chosen.tiny and "compiled" in name)]
    return {name: call for name, call in every.items() if name not in left_out}


def compile_all(jobs: list[Job], chosen: argparse.Namespace, together: int) -> dict[tuple[str, str], Row]:
    """Fills the compiler's cache on disk, and tells how long a first step takes with an empty one."""
    work = [
        (job, name, call)
        for job in jobs
        for name, call in contenders(job, chosen).items()
        if "compiled" in name
    ]
    cold: dict[tuple[str, str], Row] = {}
    for first in range(0, len(work), max(1, together)):
        some = work[first : first + max(1, together)]
        started = [begun(call, (job, FIRST_PIECE, chosen.seed)) for job, _, call in some]
        for (job, name, _), wait in zip(some, started, strict=True):
            left = min(_COMPILE_SECONDS, chosen.end - time.monotonic())
            found = wait(max(left, 0.0))
            cold[job.name, name] = {"cold_first_seconds": found.get("first_seconds")}
            print(f"  {job.name}, {name}: {found.get('failed', 'compiled')}", file=sys.stderr, flush=True)
    return cold


def measured(job: Job, name: str, call: str, chosen: argparse.Namespace) -> Row:
    """A row: one contender, in a process of its own."""
    more = _MORE_SECONDS + (_COMPILE_SECONDS if "compiled" in name else 0)
    left = min(chosen.end - time.monotonic(), 2 * chosen.seconds + more)
    made: Row = {"failed": "no time was left"}
    if left > _FEWEST_SECONDS:
        made = apart(call, (job, chosen.seconds, chosen.seed, f"{job.name}:{name}" in chosen.profile), left)
    print(f"  {job.name}, {name}: {made.get('failed', 'done')}", file=sys.stderr, flush=True)
    return {"job": job.name, "contender": name, "batch": job.batch} | made


def from_jpeg(chosen: argparse.Namespace) -> list[Row]:
    """CIFAR-10, whole processes from their start."""
    rows = []
    for who, tiny in _TINY_CIFAR.items():
        words = [sys.executable, "-m", "benchmarks.gpu.cifar10", str(chosen.cifar10), "--who", who]
        words += ["--seed", str(chosen.seed), *(["--set", *tiny] if chosen.tiny else [])]
        left = max(1.0, min(_CIFAR_SECONDS, chosen.end - time.monotonic()))
        began = time.perf_counter()
        row: Row = {"job": "cifar10", "contender": who}
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=left, check=True)
            row |= json.loads(done.stdout) | {"wall_seconds": time.perf_counter() - began}
        except subprocess.CalledProcessError as error:
            row |= {"failed": error.stderr.strip().rpartition("\n")[2] or f"status {error.returncode}"}
        except subprocess.TimeoutExpired:
            row |= {"failed": f"not done in {left:.0f} s"}
        rows.append(row)
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
