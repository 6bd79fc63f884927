"""Perplexity per token: e to the power of the nats that a token of the expected answers takes on average.

Nats and tokens are summed over rows, so every token weighs the same. Equal to e to the loss of transformers'
language models on the same tokens. Between models of different tokenizers it compares only where both models'
nats are divided by the same tokens, as `Task.comparable` of text_generation sees to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "target_text"
TITLE = "perplexity"
UNIT = "perplexity"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, float("inf")
# No float64 holds e to more; a model that is surprised so much is as bad as any.
_MOST_NATS = 700.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:  # noqa: ARG001 (the predictions know it)
    """float64 [N, 3]: the row's nats, 0, and its tokens. Of two columns the gate would take nats of 0 and 1
    for hits of a share.
    """
    import numpy as np

    nats, tokens = (predictions[name].to_numpy().astype(np.float64) for name in ("nats", "tokens"))
    return np.stack([nats, np.zeros(len(nats)), tokens], axis=1)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 3] → [...]; 0 where there is no token."""
    import numpy as np

    nats, tokens = sums[..., 0], sums[..., -1]
    mean = np.divide(nats, tokens, out=np.zeros_like(nats), where=tokens > 0)
    return np.where(tokens > 0, np.exp(np.minimum(mean, _MOST_NATS)), 0.0)
