"""The head of sequence tagging. Legend: B rows, T tokens, D feature width, K tags."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from retrainer.errors import SettingError
from retrainer.tasks._heads import LinearHead


class TagHead(LinearHead):
    """Features [B, T, D] → outputs [B, T, K] of every token, with dropout before it in training."""

    def forward(self, features: Tensor, batch: Any = None) -> Tensor:
        if features.dim() != 3:
            raise SettingError(
                "backbone.family: sequence_tagging needs one that gives a vector for each token, and this one"
                " gives one a text; set transformers"
            )
        return super().forward(features, batch)
