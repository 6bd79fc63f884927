"""Rows as a person reads them: figures, the share of the nearest roof, and what was promised."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
NOT_MEASURED = "not measured"


def with_roof(row: Row, cost: dict[str, float], roofs: dict[str, float]) -> Row:
    """Adds `roofs_share`: of each roof that bounds this work, the share that was reached."""
    if "samples_per_second" not in row:
        return row
    bounds = {"GEMM": roofs["gemm_flops"] / cost["flops"]}
    if cost["bytes"]:
        bounds["memory"] = roofs["copy_bytes"] / cost["bytes"]
    lowest = min(bounds, key=lambda name: bounds[name])
    return row | {
        "roof": lowest,
        "roof_samples_per_second": bounds[lowest],
        "roof_share": row["samples_per_second"] / bounds[lowest],
    }


def resident_table(rows: list[Row], targets: dict[str, str]) -> str:
    heads = f"{'samples/s':>10} {'of roof':>14} {'J/sample':>13} {'peak':>13}"
    lines = [f"{'resident in memory':39} {heads}"]
    for row in rows:
        start = f"{row['job']:18} {row['contender']:20}"
        if "failed" in row:
            lines.append(f"{start} not run: {row['failed']}")
            continue
        share = f"{row['roof_share']:.0%} {row['roof']}"
        joules, peak = row["joules_per_sample"], row["peak_bytes"]
        lines.append(
            f"{start} {row['samples_per_second']:10,.1f} {share:>14}"
            f" {NOT_MEASURED if joules is None else f'{joules:.4f}':>13}"
            f" {NOT_MEASURED if peak is None else f'{peak / 1e9:.1f} GB':>13}"
        )
    lines += [f"  promised for {name}, ours: {target}" for name, target in targets.items()]
    return "\n".join(lines)


def jpeg_table(rows: list[Row]) -> str:
    lines = [f"{'from JPEG: CIFAR-10':39} {'to target':>10} {'whole':>10} {'accuracy':>9} {'epochs':>7}"]
    for row in rows:
        start = f"{row['job']:18} {row['contender']:20}"
        if "failed" in row:
            lines.append(f"{start} not run: {row['failed']}")
            continue
        reached = f"{row['wall_seconds']:.1f} s" if row["reached"] else "not reached"
        lines.append(
            f"{start} {reached:>10} {row['wall_seconds']:8.1f} s {row['accuracy']:9.4f} {row['epochs']:7}"
        )
    return "\n".join([*lines, "  promised for ours: 94% within 30 s of the process's start"])
