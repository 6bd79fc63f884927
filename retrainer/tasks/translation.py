"""Translation: a text in one language → the text in another. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.settings import Section, Task
from retrainer.tasks._protocol import Baseline, Baselines, Judged
from retrainer.tasks._text_output import TextOutput, head_of_whole_network, text_predictions

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor, nn

    from retrainer.settings import Evaluation, Training
    from retrainer.tasks._text_pairs import TextPairs


class Options(Section):
    """Further keys of `task:`."""

    max_length: int = Field(128, ge=8, description="tokens kept of a text, and most that a translation has")
    vocabulary: int = Field(
        4000, ge=300, description="tokens, of both languages, of a tokenizer made from the training rows"
    )
    beams: int = Field(4, ge=1, description="translations kept in the search; 1: the likeliest next token")
    length_penalty: float = Field(
        1.0, description="a translation's log probability is divided by its length to this power"
    )


def make(task: Task, labels: tuple[str, ...]) -> Translation:  # noqa: ARG001 (there are no classes)
    """The task. Raises UserError for an unknown key of `task:`."""
    return Translation(Options.parse(task.options, "task"))


class Translation(TextOutput):
    """Reads `text`."""

    input_columns: Mapping[str, str] = {"text": "string"}
    metrics: tuple[str, ...] = ("bleu", "chrf")
    abilities = frozenset({"label_smoothing"})

    def __init__(self, options: Options) -> None:
        self.options = options
        self._texts: list[str] = []
        self._words = 1.0

    # --- training ---

    def learn(self, train: pa.Table) -> None:
        """Keeps the training texts for a tokenizer, should one be needed, and counts a target's words."""
        sources, targets = (
            [text or "" for text in train[name].to_pylist()] for name in ("text", "target_text")
        )
        self._texts = sources + targets
        self._words = max(1.0, sum(len(text.split()) for text in targets) / max(1, len(targets)))

    def input_spec(self) -> dict[str, Any]:
        """`tokenizer` makes one from the training rows, when a family has none of its own."""
        return {
            "kind": "text_to_text",
            "max_length": self.options.max_length,
            "tokenizer": self._train_tokenizer,
        }

    def _train_tokenizer(self) -> bytes:
        from retrainer.tasks._text_pairs import train_tokenizer

        return train_tokenizer(self._texts, self.options.vocabulary)

    def head(self, body: Any, training: Training) -> nn.Module:
        """Nothing is left to do above an encoder–decoder's logits. Raises UserError for another body."""
        if body.generate is None:
            raise SettingError(
                "backbone.family: translation needs one that writes texts; set encoder_decoder or seq2seq"
            )
        why = "translation has none above the network; set scratch, full, last-n or lora"
        head = head_of_whole_network(training, why)
        if hasattr(body.module, "set_dropout"):  # else the weights' own configuration tells it
            body.module.set_dropout(training.dropout)
        return head

    def encode(self, table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> TextPairs:
        """Tokenises both sides once."""
        from retrainer.tasks._text_pairs import encode_pairs

        return encode_pairs(table, preprocessing, assets)

    def batch(
        self,
        encoded: TextPairs,
        rows: np.ndarray,
        generator: torch.Generator | None,  # noqa: ARG002 (texts are not augmented)
    ) -> dict[str, Tensor]:
        """Token ids: see `TextPairs.batch`."""
        return encoded.batch(rows)

    def lengths(self, encoded: TextPairs) -> np.ndarray | None:
        """By both sides [N]."""
        return encoded.lengths

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Logits [B, T, V] and token ids [B, T] → [B]: a row's cross entropy over the words of a mean target.

        So the mean over rows is nats a word of the whole data, and every token weighs the same in it.
        """
        from retrainer.tasks import _token_loss

        return _token_loss.loss(outputs, targets, label_smoothing, self._words)

    def figures(self, outputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
        """`token_accuracy`: the share of a row's tokens that are the likeliest, given those before them."""
        from retrainer.tasks import _token_loss

        return {"token_accuracy": _token_loss.accuracy(outputs, targets)}

    # --- answers ---

    def predict(self, network: Any, batch: dict[str, Tensor], temperature: float) -> pa.Table:  # noqa: ARG002
        """`prediction`: the translation that the beam search finds; `temperature` moves none."""
        from retrainer.tasks._text_pairs import decode

        body = network.description
        options = {
            "beams": self.options.beams,
            "length_penalty": self.options.length_penalty,
            "max_length": self.options.max_length,
        }
        ids = body.generate(network.body, batch, options)
        return text_predictions(decode(ids, body.preprocessing, body.assets))

    # --- judgement ---

    def baselines(self, train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
        """The source itself, and the translation of the most similar source of the training rows."""
        import pyarrow as pa

        copied = pa.table({"prediction": test["text"]})
        copy = Baseline("copy_source", "the source text itself", copied, 0)
        if not evaluation.baseline:
            return Baselines((copy,), "evaluation.baseline is false")
        from retrainer.tasks._nearest_text import nearest_translations

        found = nearest_translations(train, test)
        title = "the translation of the most similar training text"
        return Baselines((copy, Baseline("nearest_text", title, found, len(train))))

    def details(self, judged: Judged) -> dict[str, Any]:
        """The best and the worst translations, the length ratio, and the metrics by source length."""
        from retrainer.tasks._translation_report import details

        return details(judged, self.metrics)

    def panels(self, judged: Judged, report: dict[str, Any]) -> list[str]:
        """The same as tables."""
        from retrainer.tasks._translation_report import panels

        return panels(judged, report)

    def slices(self) -> Mapping[str, Callable[[pa.Table], list[str]]]:
        """By `text_length`."""
        from retrainer.tasks._slices import text_length

        return {"text_length": text_length}
