"""The machine: which device, number format and threads a run uses. Imports nothing heavy until `prepare`.

All three change numbers, so `resolve_compute` settles them before training and they are recorded.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import SettingError
from retrainer.settings import Compute

if TYPE_CHECKING:
    import torch

# Packages whose version can move a model's numbers.
_PACKAGES = (
    "keras",
    "numpy",
    "opacus",
    "peft",
    "pillow",
    "timm",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
)
# Processors without these compute bfloat16 slower than float32.
_FAST_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
# glibc's malloc.h; both take an int.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD, _NEVER_BYTES = -3, -1, 2**31 - 1
_COMPILERS = ("cc", "gcc", "clang", "g++", "clang++", "cl")
_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")


def resolve_compute(compute: Compute) -> Compute:
    """Replaces every `auto` and 0 by what this machine offers; settling it twice changes nothing.

    `compile` stays `auto` where this machine can compile for a GPU: the length of the run then decides. For a
    CPU there are no kernels of our own.
    Raises UserError when `compute.device` is cuda and no GPU can be used.
    """
    device = compute.device
    if device != "cpu":
        found = cuda_devices() > 0
        if device == "cuda" and not found:
            raise SettingError(
                "compute.device: cuda was asked for, but the NVIDIA driver shows no GPU here (try "
                "nvidia-smi; a container needs --gpus all); set compute.device: auto or cpu to run without"
            )
        device = "cuda" if found else "cpu"
    dtype = compute.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" or _FAST_BFLOAT16 & _cpu_flags() else "float32"
    threads = compute.threads or max(1, physical_cores() // compute.processes)
    settled: dict[str, object] = {
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "packages": _versions(),
    }
    if compute.compile in ("auto", "kernels") and device == "cpu":
        settled["compile"] = False
    if compute.compile == "auto" and (compute.fsdp or not has_c_compiler()):
        settled["compile"] = False
    return compute.model_copy(update=settled)


def has_c_compiler() -> bool:
    """Whether `torch.compile` can build what it writes."""
    return any(map(shutil.which, _COMPILERS))


def for_scoring(compute: Compute) -> Compute:
    """The settled machine of a step other than train, in a pod that may be smaller and have no GPU."""
    wanted = compute.model_copy(update={"device": "auto"}) if compute.device == "cuda" else compute
    here = resolve_compute(wanted)
    smaller: dict[str, object] = {"threads": min(here.threads, physical_cores())}
    if compute.device == "cuda" and here.device == "cpu":
        smaller["dtype"] = "float32"
    return here.model_copy(update=smaller)


def prepare(compute: Compute, rank: int = 0, processes: int = 1) -> torch.device:
    """Sets PyTorch's threads and deterministic kernels for this process; returns its device.

    It is the `rank`-th of so many `processes` on this machine. Takes resolved settings. Raises UserError when
    PyTorch cannot use the device that the driver shows.
    """
    import torch

    assert compute == resolve_compute(compute), "resolve_compute comes first"
    torch.set_num_threads(compute.threads)
    if compute.compile:
        torch.use_deterministic_algorithms(True)
    else:  # the same without the compiler's own setting, for which all of it would be imported: a second
        torch.set_deterministic_debug_mode("error")
    # Part of deterministic mode by default: writes NaN into all new memory, which only debugging needs.
    torch.utils.deterministic.fill_uninitialized_memory = False
    if compute.device == "cpu":
        keep_freed_memory()
        return torch.device("cpu")
    return _prepare_gpu(rank, processes)


def _prepare_gpu(rank: int, processes: int) -> torch.device:
    import torch

    if not torch.cuda.is_available():
        raise SettingError(
            f"compute.device: the driver shows a GPU, but this PyTorch ({torch.__version__}) cannot use it; "
            "install the CUDA build or a newer driver, or set compute.device: cpu"
        )
    if processes > torch.cuda.device_count():
        raise SettingError(
            f"compute.processes: {processes} of them on this machine need a GPU each, and there are"
            f" {torch.cuda.device_count()}; set fewer"
        )
    if processes > 1:
        torch.cuda.set_device(rank)
    # cuBLAS reads it, and repeats itself with work space of one size.
    os.putenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda", torch.cuda.current_device())


def keep_freed_memory() -> None:
    """Tells glibc to use the memory of a freed large tensor again, instead of giving it back each time.

    A step makes hundreds of them, and getting each page from the system anew took a fifth of a convolutional
    network's time. No number depends on it.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _NEVER_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER_BYTES)


def autocast(compute: Compute) -> AbstractContextManager[Any]:
    """Forward passes in the settings' number format; the weights stay float32."""
    import torch

    if compute.dtype != "bfloat16":
        return nullcontext()
    return torch.autocast("cuda" if compute.device == "cuda" else "cpu", dtype=torch.bfloat16)


def cuda_devices() -> int:
    """GPUs that the NVIDIA driver offers to this process; 0 without a driver. Takes well under a second.

    Asks the driver itself, so `CUDA_VISIBLE_DEVICES`, containers and WSL count as they do for PyTorch.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def physical_cores() -> int:
    """Cores this process may use: hardware threads of one core count once, a container's CPU limit holds."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    mine = [record for record in _processors() if int(record["processor"]) in usable]
    cores = {(record.get("physical id"), record["core id"]) for record in mine if "core id" in record}
    limit = _cgroup_limit()
    return max(1, min(len(cores) or len(usable), limit or len(usable)))


def _processors() -> list[dict[str, str]]:
    """One record per logical processor; empty where there is no /proc."""
    if not _CPUINFO.is_file():
        return []
    blocks = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")
    records = [dict(_field(line) for line in block.splitlines() if ":" in line) for block in blocks]
    return [record for record in records if record.get("processor", "").isdigit()]


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _cpu_flags() -> set[str]:
    records = _processors()
    return set(records[0].get("flags", "").split()) if records else set()


def _cgroup_limit() -> int | None:
    """The CPU limit of this container in whole cores, rounded up; None without one."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        try:
            quota = (_CGROUP / "cpu/cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (_CGROUP / "cpu/cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        except OSError:
            return None
    return None if quota in {"max", "-1"} else math.ceil(int(quota) / int(period))


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
