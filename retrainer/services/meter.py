"""Measures what this process and those that it starts use: CPU time, GPUs held, energy.

CPU time is the kernel's count for the whole tree of processes. Energy comes from the meters that can be read:

    RAPL  the kernel's power capping framework (Documentation/power/powercap/powercap.rst): `energy_uj` of
          each `package` and `dram` zone. It counts for the whole machine; this process's part is its share
          of all busy CPU time (/proc/stat, proc(5)).
    NVML  nvmlDeviceGetTotalEnergyConsumption of each GPU that is held: all that the card takes.

What no meter counts is told as time without a meter, and `retrainer/cost.py` estimates its energy.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.cost import Usage
from retrainer.settings import Compute

if TYPE_CHECKING:
    from retrainer.training._torchrun import Launched

POWERCAP = Path("/sys/class/powercap")
_STAT = Path("/proc/stat")
_JOULES_A_KWH = 3.6e6
_SECONDS_AN_HOUR = 3600.0


class Meter:
    """`read()` says what was used since this was made, and of GPUs since `hold`.

    Processes elsewhere, which torchrun has started, send what theirs read, and it is added here.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._began = self._held = time.monotonic()
        self._cpu_before = cpu_seconds()
        self._cpu = 0.0
        self._rapl = Rapl(powercap)
        self._gpus: Sequence[str] = ()
        self._nvml = Nvml(())
        self._elsewhere: dict[int, Usage] = {}

    def hold(self, gpus: Sequence[str]) -> None:
        """These cards are held from now on, named as NVML names them."""
        self._gpus, self._nvml, self._held = gpus, Nvml(gpus), time.monotonic()

    def read(self) -> Usage:
        """With what the others have sent so far."""
        return sum(self._elsewhere.values(), self._here())

    def _here(self) -> Usage:
        now = time.monotonic()
        # A process that nobody has waited for yet is counted nowhere for a moment.
        self._cpu = max(self._cpu, cpu_seconds() - self._cpu_before)
        cpu_hours = self._cpu / _SECONDS_AN_HOUR
        gpu_hours = len(self._gpus) * (now - self._held) / _SECONDS_AN_HOUR
        cpu_joules, gpu_joules = self._rapl.joules(self._cpu), self._nvml.joules()
        return Usage(
            hours=(now - self._began) / _SECONDS_AN_HOUR,
            cpu_hours=cpu_hours,
            gpu_hours=gpu_hours,
            metered_kwh=((cpu_joules or 0.0) + (gpu_joules or 0.0)) / _JOULES_A_KWH,
            unmetered_cpu_hours=cpu_hours if cpu_joules is None else 0.0,
            unmetered_gpu_hours=gpu_hours if gpu_joules is None else 0.0,
        )

    def told(self) -> str:
        """What was used here, for the first process's `hear`. Its clock is the one that counts."""
        return json.dumps(asdict(self._here()) | {"hours": 0.0})

    def hear(self, rank: int, told: str) -> None:
        with suppress(ValueError, TypeError, AttributeError):
            self._elsewhere[rank] = Usage.of_plain(json.loads(told))


def gpus_of(compute: Compute, launched: Launched | None) -> list[str]:
    """The GPUs that this process and its own workers hold, by the names that NVML knows them by.

    Where PyTorch does not say (ROCm), a name that NVML does not know, so that their hours count.
    """
    if compute.device != "cuda":
        return []
    import torch

    held = range(compute.processes) if launched is None else [launched.local_rank]
    try:
        uuids = [str(getattr(torch.cuda.get_device_properties(n), "uuid", n)) for n in held]
    except (RuntimeError, AssertionError):  # a GPU that cannot be used, which training says in words
        return []
    return [uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}" for uuid in uuids]


def cpu_seconds() -> float:
    """User and system time of this process and all below it, those that have ended included."""
    import psutil

    total = 0.0
    here = psutil.Process()
    for process in [here, *here.children(recursive=True)]:
        with suppress(psutil.Error):
            total += _all_times(process.cpu_times())
    return total


def _all_times(times: Any) -> float:
    """psutil knows the time of children that have ended on Linux; of this process's own, os.times does."""
    return float(sum(getattr(times, n, 0.0) for n in ("user", "system", "children_user", "children_system")))


class Rapl:
    """Energy of the CPUs and their memory. Without a zone that may be read, `joules` says None."""

    def __init__(self, powercap: Path = POWERCAP, stat: Path = _STAT) -> None:
        self._stat = stat
        self._zones = _zones(powercap)
        self._last = self._counts()
        self._busy, self._cpu, self._joules = self._busy_seconds(), 0.0, 0.0

    def joules(self, cpu: float) -> float | None:
        """What processes that have used `cpu` seconds since the beginning took.

        Must be asked more often than the counters turn over (minutes).
        """
        counts = self._counts()
        if not self._zones or len(counts) < len(self._zones) or len(self._last) < len(self._zones):
            return None
        gone = sum(
            (counts[zone] - self._last[zone]) % (most + 1)
            if most
            else max(0, counts[zone] - self._last[zone])
            for zone, most in self._zones.items()
        )
        busy = self._busy_seconds()
        spent, all_spent = cpu - self._cpu, busy - self._busy
        if all_spent > 0:
            self._joules += gone * 1e-6 * min(1.0, max(0.0, spent / all_spent))
            self._last, self._busy, self._cpu = counts, busy, cpu
        return self._joules

    def _counts(self) -> dict[Path, int]:
        found = {}
        for zone in self._zones:
            with suppress(OSError, ValueError):
                found[zone] = int((zone / "energy_uj").read_text())
        return found

    def _busy_seconds(self) -> float:
        """All CPUs' time since the boot that was neither idle nor waiting for a disk."""
        if not self._zones:
            return 0.0
        user, nice, system, _, _, irq, softirq, steal = map(int, self._stat.read_text().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _zones(powercap: Path) -> Mapping[Path, int]:
    """Zone → its `max_energy_range_uj`, of packages and their memory that may be read (the kernel lets root).

    `core` and `uncore` are parts of a package, `psys` holds packages, and `intel-rapl-mmio` is another way to
    the same counters.
    """
    found = {}
    for zone in sorted(powercap.glob("intel-rapl:*")):
        with suppress(OSError, ValueError):
            kind = (zone / "name").read_text().strip()
            if kind.startswith("package") or kind == "dram":
                int((zone / "energy_uj").read_text())
                found[zone] = int((zone / "max_energy_range_uj").read_text())
    return found


@dataclass
class _Card:
    handle: Any
    before: int


class Nvml:
    """Energy of GPUs. Where NVML or one of the counters is not there, `joules` says None."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self._cards: list[_Card] | None = None
        if not gpus:
            self._cards = []
            return
        try:
            import pynvml
        except ImportError:
            return
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByUUID(gpu) for gpu in gpus]
            self._cards = [_Card(h, pynvml.nvmlDeviceGetTotalEnergyConsumption(h)) for h in handles]

    def joules(self) -> float | None:
        if not self._cards:
            return None if self._cards is None else 0.0
        import pynvml

        try:
            now = [pynvml.nvmlDeviceGetTotalEnergyConsumption(card.handle) for card in self._cards]
        except pynvml.NVMLError:
            return None
        # Millijoules since the driver was loaded.
        return sum(max(0, after - card.before) for after, card in zip(now, self._cards, strict=True)) / 1000
