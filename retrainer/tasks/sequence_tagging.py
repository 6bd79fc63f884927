"""Sequence tagging: a sentence → a tag for each of its words, which are of spans (entities, chunks) or plain
(parts of speech). Imports nothing heavy.

Legend: N rows, B rows of a batch, T padded tokens, W padded words, K tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.errors import DataError, SettingError
from retrainer.settings import Section, Task
from retrainer.tasks._protocol import Baselines, CheapCurve, ClassFigure, Judged

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor, nn

    from retrainer.settings import Evaluation, Training
    from retrainer.tasks._tagged_tokens import TaggedTokens


class Options(Section):
    """Further keys of `task:`. Lower case and accents are the tokenizer's own matter."""

    max_length: int = Field(128, ge=8, description="tokens kept of a sentence; words behind them get no tag")
    max_unknown: float = Field(
        0.2, ge=0, le=1, description="stops where a greater share of the tokens to learn from is unknown"
    )
    spans: bool = Field(
        True, description="tags are of spans (B-PER, I-PER, O; also IOBES, BILOU); false: plain ones (NOUN)"
    )


def make(task: Task, labels: tuple[str, ...]) -> SequenceTagging:
    """The task for these tags. Raises UserError for an unknown key of `task:`."""
    if task.multi_label:
        raise SettingError(
            "task.multi_label has no meaning for sequence_tagging: a word has one tag; leave it out"
        )
    return SequenceTagging(Options.parse(task.options, "task"), labels)


class SequenceTagging:
    """Reads `text`, in which tabs divide the words where they are known (`retrainer.formats.words`); the
    truth is `tags`, one a word.

    Predictions have `tags`, `words`, `scores` (each tag's probability) and, of spans, `spans`.
    """

    input_columns: Mapping[str, str] = {"text": "string"}
    target_columns: Mapping[str, str] = {"tags": "strings"}
    abilities: frozenset[str] = frozenset({"label_smoothing"})

    def __init__(self, options: Options, labels: tuple[str, ...]) -> None:
        self.options = options
        self.labels = labels
        of_spans = ("span_f1", "strict_span_f1") if options.spans else ()
        self.metrics: tuple[str, ...] = (*of_spans, "token_accuracy")
        self._words = 1.0

    # --- training ---

    def learn(self, train: pa.Table) -> None:
        """Counts a row's words. Raises UserError where there is nothing to tell apart, or no spans are."""
        from retrainer.formats.tags import is_span_tag

        if len(self.labels) < 2:
            raise DataError(f"the dataset has the tags {list(self.labels)}; a tagger needs two or more")
        others = [label for label in self.labels if not is_span_tag(label)]
        if self.options.spans and others:
            raise SettingError(
                f"task.spans: {others[0]!r} is no tag of a span, such as B-PER, I-PER or O; set"
                " task.spans: false for plain tags"
            )
        words = sum(len(tags or ()) for tags in train["tags"].to_pylist())
        self._words = max(1.0, words / max(1, len(train)))

    def input_spec(self) -> dict[str, Any]:
        """`each_token`: the body gives a vector for each token, and not one for the text."""
        return {"kind": "tokens", "max_length": self.options.max_length, "each_token": True}

    def head(self, body: Any, training: Training) -> nn.Module:
        """A linear one on every token. Raises UserError when there is no tag."""
        from retrainer.tasks._tag_head import TagHead

        if not self.labels:
            raise DataError("the model's 'labels' must name the tags, one or more")
        return TagHead(body.width, len(self.labels), training.dropout)

    def encode(
        self, table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]
    ) -> TaggedTokens:
        """Tokenises every sentence once, word by word. Raises UserError where rows to learn from are of
        unknown tokens, or have more or fewer tags than words.
        """
        from retrainer.tasks._tagged_tokens import encode_tagged
        from retrainer.tasks._tokens import require_known

        encoded = encode_tagged(table, preprocessing, assets, self.labels)
        if encoded.tags is not None:
            require_known(encoded.tokens, assets[preprocessing["tokenizer"]], self.options.max_unknown)
        return encoded

    def targets(self, table: pa.Table) -> np.ndarray:
        """int64 [N] of zeros: where tags stand follows from the tokens, so each batch brings its own."""
        import numpy as np

        return np.zeros(len(table), np.int64)

    def batch(
        self,
        encoded: TaggedTokens,
        rows: np.ndarray,
        generator: torch.Generator | None,  # noqa: ARG002 (texts are not augmented)
    ) -> dict[str, Tensor]:
        """Token ids, and tags or words: see `TaggedTokens.batch`."""
        return encoded.batch(rows)

    def lengths(self, encoded: TaggedTokens) -> np.ndarray | None:
        """Tokens per row [N]."""
        return encoded.tokens.lengths

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Logits [B, T, K] and tags [B, T] → [B]: a row's cross entropy over the words of a mean sentence.

        So the mean over rows is nats a word of the whole data, and every word weighs the same in it.
        """
        from retrainer.tasks import _token_loss

        return _token_loss.loss(outputs, targets, label_smoothing, self._words)

    def figures(self, outputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
        """`token_accuracy`: the share of a row's words whose tag is right."""
        from retrainer.tasks import _token_loss

        return {"token_accuracy": _token_loss.accuracy(outputs, targets)}

    # --- answers ---

    def predict(self, network: Any, batch: dict[str, Tensor], temperature: float) -> pa.Table:
        """`tags`, `words`, `scores`, `spans`: see `_tag_answers.answers`."""
        from retrainer.tasks._tag_answers import answers

        shares = (network(batch).float() / temperature).softmax(dim=2)
        return answers(shares, batch, self.labels, self.options.spans)

    def faults(self, table: pa.Table) -> list[str | None]:
        """Texts that are no sentence, and those of more or fewer words than tags."""
        from retrainer.tasks._tag_faults import fault

        rows = zip(table["text"].to_pylist(), table["tags"].to_pylist(), strict=True)
        return [fault(text or "", tags or ()) for text, tags in rows]

    def comparable(self, first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
        """As they are: a tag that one model lacks is none of its answers."""
        return first, second

    # --- judgement ---

    def baselines(self, train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
        """The commonest tag for every word, and each word's commonest tag in the training rows."""
        from retrainer.tasks._tag_baselines import baselines

        return baselines(train, test, evaluation)

    def cheap_curve(
        self, train: pa.Table, test: pa.Table, draws: Sequence[Sequence[np.ndarray]]
    ) -> CheapCurve:
        """Each word's commonest tag in each part."""
        from retrainer.tasks._tag_baselines import cheap_curve

        return cheap_curve(train, test, draws)

    def class_figures(self, predictions: pa.Table, truth: pa.Table) -> Mapping[str, ClassFigure]:
        """Each tag's F1 over words."""
        from retrainer.tasks._tag_details import class_figures

        return class_figures(predictions, truth)

    def details(self, judged: Judged) -> dict[str, Any]:
        """Each type's precision, recall and F1, the commonest mistakes, and the worst sentences."""
        from retrainer.tasks._tag_details import details

        return details(judged, self.options.spans)

    def panels(self, judged: Judged, report: dict[str, Any]) -> list[str]:  # noqa: ARG002 (all is in it)
        """The same as tables and sentences with both taggings."""
        from retrainer.tasks._tag_panels import panels

        return panels(report["details"])

    def slices(self) -> Mapping[str, Callable[[pa.Table], list[str]]]:
        """By `text_length`."""
        from retrainer.tasks._slices import text_length

        return {"text_length": text_length}
