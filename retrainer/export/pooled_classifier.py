"""A text encoder of transformers, the mean of its tokens (or the first one), and a linear layer.

`AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)` runs this file.
Legend: B rows, T tokens, D width, K outputs.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class PooledClassifierConfig(PreTrainedConfig):
    """`encoder`: the encoder's own configuration; `pooling`: mean or cls."""

    model_type = "pooled-classifier"

    def __init__(self, encoder: dict[str, Any] | None = None, pooling: str = "mean", **others: Any) -> None:
        self.encoder = encoder or {"model_type": "bert"}
        self.pooling = pooling
        super().__init__(**others)


class PooledClassifier(PreTrainedModel):
    config_class = PooledClassifierConfig
    base_model_prefix = "encoder"

    def __init__(self, config: PooledClassifierConfig) -> None:
        super().__init__(config)
        described = dict(config.encoder)
        self.encoder = AutoModel.from_config(AutoConfig.for_model(described.pop("model_type"), **described))
        if hasattr(self.encoder, "pooler"):
            self.encoder.pooler = None
        width = getattr(self.encoder.config, "hidden_size", None) or self.encoder.config.dim
        self.classifier = nn.Linear(width, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """int64 [B, T] → logits [B, K]; with `labels` also the loss."""
        given = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.encoder(input_ids, attention_mask=attention_mask, **given).last_hidden_state
        logits = self.classifier(self.pooled(states, attention_mask))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def pooled(self, states: Tensor, attention_mask: Tensor | None) -> Tensor:
        """[B, T, D] → [B, D]."""
        if self.config.pooling == "cls":
            return states[:, 0]
        if attention_mask is None:
            return states.mean(1)
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1)
