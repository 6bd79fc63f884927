"""What a training used, and what that costs by the rates of `evaluation.cost`.

Energy is what meters counted, and for the rest an estimate: CPU time × `cpu_watts`, GPU time × `gpu_watts`.
docs/cost.md says where the figures come from and how wrong the estimate may be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from retrainer.settings import Rates

PREFIX = "cost."
# Before the tags of a registered version.
TAG_PREFIX = "training_cost."
_WORDS = ("currency", "gpu_energy")
# Rows that the training learns from, beside what it used: what the next one will cost is scaled by them.
TRAIN_ROWS = "cost.train_rows"


@dataclass(frozen=True)
class Usage:
    """What processes used. All but `hours` of several that run at once add up.

    hours                wall clock
    cpu_hours            time of one CPU (a hardware thread), as the kernel counts it for the processes
    gpu_hours            wall clock × the GPUs that were held
    metered_kwh          energy that NVML and RAPL counted
    unmetered_cpu_hours  of cpu_hours, those whose energy no meter counted; so unmetered_gpu_hours
    """

    hours: float = 0.0
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    metered_kwh: float = 0.0
    unmetered_cpu_hours: float = 0.0
    unmetered_gpu_hours: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        mine, others = asdict(self), asdict(other)
        return Usage(**{name: mine[name] + others[name] for name in mine})

    def scaled(self, factor: float) -> Usage:
        return Usage(**{name: factor * value for name, value in asdict(self).items()})

    def kwh(self, rates: Rates) -> float:
        """Metered energy, and an estimate of the rest."""
        estimated = self.unmetered_cpu_hours * rates.cpu_watts + self.unmetered_gpu_hours * rates.gpu_watts
        return self.metered_kwh + estimated / 1000

    def metrics(self) -> dict[str, float]:
        """As an MLflow run keeps them, and `cost.kwh` beside them by the default rates."""
        kwh = {f"{PREFIX}kwh": self.kwh(Rates.parse({}, "evaluation.cost"))}
        return {f"{PREFIX}{name}": value for name, value in asdict(self).items()} | kwh

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, float]) -> Usage | None:
        """What a run's metrics say; None for a run that was not measured."""
        if f"{PREFIX}hours" not in metrics:
            return None
        return cls.of_plain({name: metrics.get(f"{PREFIX}{name}", 0.0) for name in asdict(cls())})

    @classmethod
    def of_plain(cls, values: Mapping[str, Any]) -> Usage:
        """Raises ValueError for what no `asdict(usage)` is."""
        found = {name: float(values[name]) for name in asdict(cls()) if name in values}
        if not all(math.isfinite(value) and value >= 0 for value in found.values()):
            raise ValueError("a usage is numbers that are not below 0")
        return cls(**found)


def priced(usage: Usage, rates: Rates, runs: int = 1, unfinished: int = 0) -> dict[str, Any]:
    """The part `training_cost` of metrics.json: `runs` of a training, `unfinished` of them without a model.

    Money is there where a price is set, CO2 where its rate is.
    """
    kwh = usage.kwh(rates)
    cost: dict[str, Any] = {
        "hours": _digits(usage.hours),
        "cpu_hours": _digits(usage.cpu_hours),
        "gpu_hours": _digits(usage.gpu_hours),
        "kwh": _digits(kwh),
        "metered_kwh": _digits(usage.metered_kwh),
        "runs": runs,
        "unfinished": unfinished,
    }
    if rates.currency:
        money = usage.gpu_hours * rates.per_gpu_hour + usage.cpu_hours * rates.per_cpu_hour
        cost |= {"money": _digits(money + kwh * rates.per_kwh), "currency": rates.currency}
    if rates.co2_kg_per_kwh:
        cost["co2_kg"] = _digits(kwh * rates.co2_kg_per_kwh)
    if usage.unmetered_gpu_hours and not rates.gpu_watts:
        cost["gpu_energy"] = "unknown"
    return cost


def of_tags(tags: Mapping[str, str]) -> dict[str, Any] | None:
    """What `priced` made, from the tags `training_cost.…` of a version; None where they are not whole."""
    found: dict[str, Any] = {}
    for tag, value in tags.items():
        if tag.startswith(TAG_PREFIX):
            with suppress(ValueError):
                name = tag.removeprefix(TAG_PREFIX)
                found[name] = value if name in _WORDS else float(value)
    whole = priced(Usage(), Rates.parse({}, "evaluation.cost")).keys() <= found.keys()
    return found if whole and ("money" in found) <= ("currency" in found) else None


def _digits(value: float) -> float:
    return float(f"{value:.6g}")


def in_words(cost: Mapping[str, Any]) -> str:
    """`0.021 core-hours, 0.08 Wh (estimated), 0.003 EUR` from what `priced` made."""
    said = [f"{number(cost['gpu_hours'])} GPU-hours"] if cost["gpu_hours"] else []
    said.append(f"{number(cost['cpu_hours'])} core-hours")
    said.append(_energy(cost))
    if "money" in cost:
        said.append(_money(cost))
    if "co2_kg" in cost:
        said.append(f"{_in_small(cost['co2_kg'], 'kg', 'g')} CO2")
    return ", ".join(said)


def short(cost: Mapping[str, Any]) -> str:
    """One figure of it: money where a price is set, else hours."""
    if "money" in cost:
        return _money(cost)
    if cost["gpu_hours"]:
        return f"{number(cost['gpu_hours'])} GPU-hours"
    return f"{number(cost['cpu_hours'])} core-hours"


def of_runs(cost: Mapping[str, Any]) -> str:
    """How many runs it took, where that was more than one."""
    if cost["runs"] == 1:
        return ""
    left = f", {cost['unfinished']} of them interrupted or failed" if cost["unfinished"] else ""
    return f"{cost['runs']} runs{left}"


def _money(cost: Mapping[str, Any]) -> str:
    money = cost["money"]
    return f"{f'{money:,.2f}' if money >= 1 else number(money)} {cost['currency']}"


def _energy(cost: Mapping[str, Any]) -> str:
    share = cost["metered_kwh"] / cost["kwh"] if cost["kwh"] else 0.0
    how = "metered" if share > 0.999 else "estimated" if not share else f"{100 * share:.0f}% metered"
    if cost.get("gpu_energy") == "unknown":
        how += ", without the GPUs'"
    return f"{_in_small(cost['kwh'], 'kWh', 'Wh')} ({how})"


def _in_small(value: float, unit: str, thousandth: str) -> str:
    return f"{number(value)} {unit}" if value >= 1 else f"{number(1000 * value)} {thousandth}"


def number(value: float) -> str:
    """Two digits that count, and no exponent: 0.021, 3.4, 1,250."""
    if value >= 10 or not value:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"
