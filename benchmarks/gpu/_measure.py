"""What is measured: seconds of steady work, the device's peak memory and energy, and the machine's roofs."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

_SAMPLE_SECONDS = 0.25
_PROFILED_SECONDS = 1.0
# A budget: the first piece of work and nothing more.
FIRST_PIECE = -1.0


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Speed:
    """`joules` and `peak_bytes` are the device's; None where they cannot be measured.

    `first_seconds` went by from the contender's start to its first piece of work done: building, compiling,
    choosing of kernels. `profile`, where one was wanted, is of the same work after the measured one.
    """

    samples: int
    seconds: float
    joules: float | None
    peak_bytes: int | None
    first_seconds: float | None = None
    profile: dict[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        each = None if self.joules is None else self.joules / self.samples
        rate = {"samples_per_second": self.samples / self.seconds, "joules_per_sample": each}
        return asdict(self) | rate


class Window:
    """Opens `warm` seconds behind the first piece of work and closes when it has been open for `budget`.

    Building, compiling and choosing of kernels happen in the first piece, and are not counted. With
    `profiled` a second or more of the same work follows, under PyTorch's profiler.
    """

    def __init__(self, budget: float, warm: float = 0.0, profiled: bool = False) -> None:
        self._budget, self._warm, self._profiled = budget, warm, profiled
        self._made = time.perf_counter()
        self._profiler: torch.profiler.profile | None = None
        self._first: float | None = None
        self._opened: float | None = None
        self._samples = 0
        self.speed: Speed | None = None

    def passed(self, samples: int) -> bool:
        """Called after each piece of work, in its order; whether enough has been seen."""
        now = time.perf_counter()
        if self.speed is not None:
            return self._profile(now)
        if self._opened is None:
            self._first = now if self._first is None else self._first
            if self._budget == FIRST_PIECE:
                self.speed = Speed(samples, now - self._made, None, None, now - self._made)
                return True
            if now - self._first >= self._warm:
                self._open()
            return False
        self._samples += samples
        if now - self._opened < self._budget:
            return False
        self._close()
        return not self._profiled

    def _profile(self, now: float) -> bool:
        if self._profiler is None:
            activities = [torch.profiler.ProfilerActivity.CUDA] if torch.cuda.is_available() else None
            self._profiler = torch.profiler.profile(activities=activities)
            self._profiler.start()
            self._profiling = now
            return False
        if now - self._profiling < _PROFILED_SECONDS:
            return False
        from benchmarks.gpu._profile import summary

        synchronise()
        self._profiler.stop()
        assert self.speed is not None
        self.speed = replace(self.speed, profile=summary(self._profiler))
        return True

    def _open(self) -> None:
        synchronise()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._energy = energy()
        self._opened = time.perf_counter()

    def _close(self) -> None:
        assert self._opened is not None
        synchronise()
        seconds = time.perf_counter() - self._opened
        joules = None if self._energy is None else self._energy()
        peak = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
        first = None if self._first is None else self._first - self._made
        self.speed = Speed(self._samples, seconds, joules, peak, first)


def energy() -> Callable[[], float] | None:
    """Starts counting; what is returned ends it and gives the joules. None without NVML and nvidia-smi."""
    if not torch.cuda.is_available():
        return None
    name = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(name.encode())
        begun = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)  # millijoules
        return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - begun) / 1000
    except Exception:  # not installed, or a driver that does not count
        sampler = Sampler(name)
        if sampler.watts() is None:
            return None
        sampler.start()
        return sampler.joules


class Sampler(threading.Thread):
    """Mean power by nvidia-smi, asked again and again, times the seconds."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True)
        self._name, self._over = name, threading.Event()
        self._seen: list[float] = []
        self._began = time.perf_counter()

    def watts(self) -> float | None:
        words = ["nvidia-smi", "-i", self._name, "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
        try:
            return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        except (OSError, ValueError, subprocess.CalledProcessError):
            return None

    def run(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            watts = self.watts()
            if watts is not None:
                self._seen.append(watts)

    def joules(self) -> float:
        self._over.set()
        return sum(self._seen) / max(1, len(self._seen)) * (time.perf_counter() - self._began)


def ground(tiny: bool) -> dict[str, Any]:
    return {"machine": machine(), "roofs": roofs(tiny)}


def roofs(tiny: bool) -> dict[str, float]:
    """The rate of a large bfloat16 product of matrices, in FLOP/s, and of copying, in bytes/s both ways.

    Each is the best of a few repeats: a roof is what the machine can do.
    """
    side, count = (512, 1 << 20) if tiny else (8192, 1 << 30)
    left, right = (torch.randn(side, side, device=device()).bfloat16() for _ in range(2))
    product = torch.empty_like(left)
    source = torch.zeros(count, dtype=torch.float32, device=device())
    target = torch.empty_like(source)
    gemm = _seconds(lambda: torch.mm(left, right, out=product), 3 if tiny else 20)
    copy = _seconds(lambda: target.copy_(source), 3 if tiny else 20)
    return {"gemm_flops": 2 * side**3 / gemm, "copy_bytes": 2 * source.nbytes / copy}


def _seconds(work: Callable[[], object], calls: int, repeats: int = 5) -> float:
    """Of one call, in the best of the repeats."""
    best = float("inf")
    for _ in range(repeats + 1):  # the first one warms up
        synchronise()
        began = time.perf_counter()
        for _ in range(calls):
            work()
        synchronise()
        best = min(best, (time.perf_counter() - began) / calls)
    return best


def machine() -> dict[str, Any]:
    """What a figure depends on. No name of a host and no path."""
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for name in ("torch", "torchvision", "transformers", "timm", "accelerate", "numpy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    found: dict[str, Any] = {"gpu": "none", "cores": os.cpu_count(), "python": platform.python_version()}
    if torch.cuda.is_available():
        shown = torch.cuda.get_device_properties(0)
        found |= {"gpu": shown.name, "gpu_bytes": shown.total_memory, "cuda": torch.version.cuda}
        found |= {"cudnn": torch.backends.cudnn.version()}
    return found | {"packages": packages, "threads": torch.get_num_threads()}
