"""One command for one GPU: ours and its peers on the same work, beside the roofs of the same run.

    python -m benchmarks.gpu [--tiny] [--cifar10 DIR] [--out results.json]

Needs only what a bare training machine has: torch, torchvision, transformers, timm, numpy, pyarrow, pydantic.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.gpu._jobs import JOBS, TINY, Job
from benchmarks.gpu._measure import Speed
from benchmarks.gpu._table import Row, jpeg_table, resident_table, with_roof

# Beside the measured seconds: imports, rows, a context on the device, kernels, or a graph.
_MORE_SECONDS = 90.0
_CIFAR_SECONDS = 120.0
_COMPILE_SECONDS = 120.0
# Less than what a contender needs to begin.
_FEWEST_SECONDS = 10.0
_IMAGES = {
    "ours": "_ours:train",
    "torchvision, shipped": "_peers:torchvision_shipped",
    "torchvision, tuned": "_peers:torchvision_tuned",
    "timm, tuned": "_peers:timm_tuned",
}
_TEXTS = {
    "ours": "_ours:train",
    "Trainer, shipped": "_peers:trainer_shipped",
    "Trainer, tuned": "_peers:trainer_tuned",
}
_COMPILED = {"ours, compiled": "_ours:train_compiled"}
# A process that has looked for a GPU must not fork; on a CPU it spares every contender the imports.
_IMPORTED = ("_ours", "_peers", "torchvision", "timm", "transformers.models.bert.modeling_bert")


def parse(argv: list[str]) -> argparse.Namespace:
    words = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    words.add_argument("--tiny", action="store_true", help="small, on a CPU: tests the command itself")
    words.add_argument("--out", type=Path, help="where to write the figures, as JSON")
    words.add_argument("--cifar10", type=Path, metavar="DIR", help="holds train and test: <class>/*.jpg each")
    words.add_argument("--seconds", type=float, help="measured for each contender; 12, or 0.5 when tiny")
    words.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    words.add_argument("--compile", action="store_true", help="ours by torch.compile too, a minute more each")
    words.add_argument("--limit", type=float, default=570.0, help="seconds after which nothing more begins")
    words.add_argument("--seed", type=int, default=0)
    return words.parse_args(argv)


def main(argv: list[str]) -> None:
    chosen = parse(argv)
    chosen.seconds = chosen.seconds or (0.5 if chosen.tiny else 12.0)
    chosen.end = time.monotonic() + chosen.limit
    for name in _IMPORTED if chosen.tiny else ():
        _import(name)
    ground = apart("_measure:ground", (chosen.tiny,), chosen.tiny, _MORE_SECONDS)
    if "failed" in ground:
        raise SystemExit(f"the machine cannot be measured: {ground['failed']}")
    roofs = ground["roofs"]
    print(
        f"GPU: {ground['machine']['gpu']}; {roofs['gemm_flops'] / 1e12:.3g} TFLOP/s bfloat16,"
        f" {roofs['copy_bytes'] / 1e9:,.3g} GB/s copied",
        flush=True,
    )
    jobs = [(TINY if chosen.tiny else JOBS)[name] for name in chosen.jobs]
    costs = {job.name: apart("_jobs:cost", (job,), chosen.tiny, _MORE_SECONDS) for job in jobs}
    told: dict[str, Any] = {"tiny": chosen.tiny, "seed": chosen.seed, "seconds": chosen.seconds, **ground}
    told |= {"costs": costs, "resident": [], "from_jpeg": []}
    for job in jobs:
        told["resident"] += [with_roof(row, costs[job.name], roofs) for row in run(job, chosen)]
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


def run(job: Job, chosen: argparse.Namespace) -> list[Row]:
    """A row for each contender, each in a process of its own."""
    contenders = dict(_IMAGES if job.kind == "pixels" else _TEXTS) | (_COMPILED if chosen.compile else {})
    rows = []
    for name, call in contenders.items():
        more = _MORE_SECONDS + (_COMPILE_SECONDS if name in _COMPILED else 0)
        left = min(chosen.end - time.monotonic(), 2 * chosen.seconds + more)
        made: Row = {"failed": "no time was left"}
        if left > _FEWEST_SECONDS:
            made = apart(call, (job, chosen.seconds, chosen.seed), chosen.tiny, left)
        rows.append({"job": job.name, "contender": name, "batch": job.batch} | made)
        print(f"  {job.name}, {name}: {made.get('failed', 'done')}", file=sys.stderr, flush=True)
    return rows


def _import(name: str) -> Any:
    return importlib.import_module(f"benchmarks.gpu.{name}" if name.startswith("_") else name)


def apart(call: str, arguments: tuple[Any, ...], fork: bool, seconds: float) -> dict[str, Any]:
    """What `module:function` returns in a process of its own, which nothing else has warmed, tuned or filled.

    `failed` says why there is nothing.
    """
    context: Any = multiprocessing.get_context("fork" if fork else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(theirs, call, arguments))
    process.start()
    theirs.close()
    found: dict[str, Any] = {"failed": f"not done in {seconds:.0f} s"}
    try:
        if ours.poll(seconds):
            found = ours.recv()
    except EOFError:
        process.join()
        found = {"failed": f"its process ended with status {process.exitcode}"}
    process.kill()
    process.join()
    return found


def _tell(pipe: Connection, call: str, arguments: tuple[Any, ...]) -> None:
    module, _, function = call.partition(":")
    try:
        found = getattr(_import(module), function)(*arguments)
        pipe.send(found.plain() if isinstance(found, Speed) else found)
    except Exception as error:
        pipe.send({"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"})


def from_jpeg(chosen: argparse.Namespace) -> list[Row]:
    """CIFAR-10, whole processes from their start."""
    tiny = ["--network", "shufflenet_v2_x0_5", "--size", "32", "--epochs", "1", "--batch", "8"]
    rows = []
    for who in ("ours", "torchvision"):
        words = [sys.executable, "-m", "benchmarks.gpu.cifar10", str(chosen.cifar10), "--who", who]
        words += ["--seed", str(chosen.seed), *(tiny if chosen.tiny else [])]
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
