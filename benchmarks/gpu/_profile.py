"""Where the device's time goes: kernels by their share of it, and how much of the time the device is busy."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch

_KERNELS = 40
_NAME_LENGTH = 110


def summary(profiler: torch.profiler.profile) -> dict[str, Any]:
    """Of a profile of CUDA activities: shares of the busy time, and the busy share of the whole."""
    spans: list[tuple[float, float]] = []
    by_name: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for event in profiler.events():
        if event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        spans.append((event.time_range.start, event.time_range.end))
        entry = by_name[event.name[:_NAME_LENGTH]]
        entry[0] += event.time_range.elapsed_us()
        entry[1] += 1
    if not spans:
        return {"kernels": []}
    busy, longest_end = 0.0, spans[0][0]
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, longest_end))
        longest_end = max(longest_end, end)
    total = sum(time for time, _ in by_name.values())
    most = sorted(by_name.items(), key=lambda item: -item[1][0])[:_KERNELS]
    return {
        "busy_share": busy / (longest_end - min(start for start, _ in spans)),
        "busy_seconds": busy / 1e6,
        "launches": len(spans),
        "kernels": [
            {"name": name, "share": time / total, "calls": int(calls), "mean_us": time / calls}
            for name, (time, calls) in most
        ],
    }
