"""What hours and energy cost. Training reads it, and must not depend on the rules of the gate."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from retrainer.settings.section import Section


class Rates(Section):
    """What hours and energy cost, for the part `training_cost` of a report; docs/cost.md."""

    currency: str = Field("", pattern="^([A-Z]{3})?$", description="of the prices, by ISO 4217: EUR")
    per_gpu_hour: float = Field(0.0, ge=0, le=10_000, description="price of one GPU for an hour")
    per_cpu_hour: float = Field(0.0, ge=0, le=1_000, description="price of an hour of one CPU's time")
    per_kwh: float = Field(0.0, ge=0, le=100, description="price of energy")
    co2_kg_per_kwh: float = Field(
        0.0, ge=0, le=3, description="kilograms of CO2 of a kilowatt-hour where it is used, about 0.02 to 1"
    )
    cpu_watts: float = Field(
        4.0, gt=0, le=500, description="power of one busy CPU (hardware thread) whose energy no meter counts"
    )
    gpu_watts: float = Field(
        0.0,
        ge=0,
        le=5_000,
        description="power of one GPU whose energy no meter counts; 0: left out, and said",
    )

    @model_validator(mode="after")
    def _priced_in_a_currency(self) -> Self:
        prices = (self.per_gpu_hour, self.per_cpu_hour, self.per_kwh)
        if any(prices) and not self.currency:
            raise ValueError("there is a price and no currency; add currency: EUR, or whichever it is")
        if self.currency and not any(prices):
            raise ValueError("there is a currency and no price; add per_gpu_hour, per_cpu_hour or per_kwh")
        return self
