"""What the tasks share that read a text, or a pair of texts. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.settings import Section

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor

    from retrainer.tasks._tokens import Tokens


class TextOptions(Section):
    """Keys of `task:`. Lower case and accents are the tokenizer's own matter."""

    max_length: int = Field(128, ge=8, description="tokens kept of a text, or of a pair together")
    max_unknown: float = Field(
        0.2, ge=0, le=1, description="stops where a greater share of the tokens to learn from is unknown"
    )
    mask_personal_data: bool = Field(
        False,
        description="e-mail addresses, IBANs, card, IP and phone numbers are masked, in served texts too",
    )


class TextInput:
    """Reads `text` and, where the data has it, `text_pair`."""

    input_columns: Mapping[str, str] = {"text": "string", "text_pair": "string"}
    target_columns: Mapping[str, str]
    options: TextOptions

    def input_spec(self) -> dict[str, Any]:
        return {"kind": "tokens", "max_length": self.options.max_length}

    def encode(self, table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Tokens:
        """Tokenises every text once. Raises UserError where rows to learn from are of unknown tokens."""
        from retrainer.personal_data import mask_columns
        from retrainer.tasks._tokens import encode_texts, require_known

        if self.options.mask_personal_data:
            table = mask_columns(table, self.input_columns)
        encoded = encode_texts(table, preprocessing, assets)
        if set(self.target_columns) & set(table.column_names):
            require_known(encoded, assets[preprocessing["tokenizer"]], self.options.max_unknown)
        return encoded

    def batch(
        self,
        encoded: Tokens,
        rows: np.ndarray,
        generator: torch.Generator | None,  # noqa: ARG002 (texts are not augmented)
    ) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` (and `token_type_ids`): int64 [B, T], T the batch's longest."""
        return encoded.batch(rows)

    def lengths(self, encoded: Tokens) -> np.ndarray | None:
        """Tokens per row [N]."""
        return encoded.lengths

    def slices(self) -> Mapping[str, Callable[[pa.Table], list[str]]]:
        """By `text_length`."""
        from retrainer.tasks._slices import text_length

        return {"text_length": text_length}
