"""Text generation: a prompt → an answer, by a language model that is fine-tuned on such pairs.

Imports nothing heavy. Columns are those of instruction tuning, and only answers are learned.

Legend: B rows of a batch, T tokens, A tokens of an answer, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.settings import Section, Task
from retrainer.tasks._protocol import Baselines, Judged
from retrainer.tasks._text_output import TextOutput, head_of_whole_network, text_predictions

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor, nn

    from retrainer.settings import Evaluation, Training
    from retrainer.tasks._prompts import Prompts


class Options(Section):
    """Further keys of `task:`."""

    max_length: int = Field(
        512, ge=16, description="tokens of a prompt and its answer; a longer prompt loses its middle"
    )
    max_new_tokens: int = Field(
        64, ge=1, description="tokens of an answer, of these: longer ones are cut, and none is written longer"
    )
    system: str = Field(
        "", description="the system message before each prompt, for weights with a chat template"
    )
    messages: bool = Field(
        False,
        description="`text` is a conversation: JSON as [{role: user, content: …}, …], up to the answer",
    )


def make(task: Task, labels: tuple[str, ...]) -> TextGeneration:  # noqa: ARG001 (there are no classes)
    """The task. Raises UserError for an unknown key of `task:`."""
    options = Options.parse(task.options, "task")
    if options.max_new_tokens > options.max_length - 8:
        raise SettingError(
            f"task.max_new_tokens: {options.max_new_tokens} of task.max_length {options.max_length} leave no"
            " room for a prompt; set fewer"
        )
    return TextGeneration(options)


class TextGeneration(TextOutput):
    """Reads `text`, the prompt; the truth is `target_text`, the answer."""

    input_columns: Mapping[str, str] = {"text": "string"}
    metrics: tuple[str, ...] = ("perplexity", "exact_match")
    abilities = frozenset({"label_smoothing"})

    def __init__(self, options: Options) -> None:
        self.options = options
        self._words = 1.0

    # --- training ---

    def learn(self, train: pa.Table) -> None:
        """Counts an answer's words."""
        words = sum(len((text or "").split()) for text in train["target_text"].to_pylist())
        self._words = max(1.0, words / max(1, len(train)))

    def input_spec(self) -> dict[str, Any]:
        return {"kind": "causal_text", "max_length": self.options.max_length}

    def head(self, body: Any, training: Training) -> nn.Module:
        """Nothing is left to do above a language model's logits. Raises UserError for another body."""
        if body.generate is None:
            raise SettingError(
                "backbone.family: text_generation needs one that continues texts; set causal_lm"
            )
        why = "text_generation has none above the network; set lora, last-n, full or scratch"
        return head_of_whole_network(training, why)

    def encode(self, table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Prompts:
        """Renders and tokenises each prompt once. Raises UserError for a conversation that is none."""
        from retrainer.tasks._prompts import Form, encode_prompts

        form = Form.of(preprocessing, assets, self.options)
        return encode_prompts(table, form)

    def batch(
        self,
        encoded: Prompts,
        rows: np.ndarray,
        generator: torch.Generator | None,  # noqa: ARG002 (texts are not augmented)
    ) -> dict[str, Tensor]:
        """Token ids: see `Prompts.batch`."""
        return encoded.batch(rows)

    def lengths(self, encoded: Prompts) -> np.ndarray | None:
        """Tokens per row [N]."""
        return encoded.lengths

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Logits [B, A, V] and token ids [B, A] → [B]: the cross entropy of an answer's tokens over the words
        of a mean answer.

        So the mean over rows is nats a word of the whole data, and every token weighs the same in it.
        """
        from retrainer.tasks import _token_loss

        return _token_loss.loss(outputs, targets, label_smoothing, self._words)

    def figures(self, outputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
        """`token_accuracy`: the share of an answer's tokens that are the likeliest, given those before."""
        from retrainer.tasks import _token_loss

        return {"token_accuracy": _token_loss.accuracy(outputs, targets)}

    # --- answers ---

    def predict(self, network: Any, batch: dict[str, Tensor], temperature: float) -> pa.Table:  # noqa: ARG002
        """`prediction`: the answer, of which each token is the likeliest; `temperature` moves none."""
        from retrainer.tasks._prompts import decode

        body = network.description
        ids = body.generate(network.body, batch, {"max_length": self.options.max_new_tokens})
        return text_predictions(decode(ids, body.preprocessing, body.assets))

    def score(self, network: Any, batch: dict[str, Tensor]) -> pa.Table:
        """`nats` and `tokens` of the expected answer, by which perplexity judges; is it `whole`?"""
        from retrainer.tasks._prompts import scores

        return scores(network, batch)

    def comparable(self, first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Perplexity divides both models' nats by the first one's tokens, whatever the second's tokenizer."""
        if "tokens" not in first.column_names or "nats" not in second.column_names:
            return first, second
        from retrainer.tasks._prompts import comparable

        return comparable(first, second)

    # --- judgement ---

    def baselines(self, train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
        """The commonest answer, and the answer to the most similar prompt of the training rows."""
        from retrainer.tasks._answer_baselines import baselines

        return baselines(train, test, evaluation)

    def details(self, judged: Judged) -> dict[str, Any]:
        """Samples of prompts, expected and produced answers, and how long the answers are."""
        from retrainer.tasks._generation_report import details

        return details(judged, self.options.max_new_tokens)

    def panels(self, judged: Judged, report: dict[str, Any]) -> list[str]:  # noqa: ARG002 (all is in it)
        """The same as tables."""
        from retrainer.tasks._generation_report import panels

        return panels(report["details"])

    def slices(self) -> Mapping[str, Callable[[pa.Table], list[str]]]:
        """By `text_length`."""
        from retrainer.tasks._slices import text_length

        return {"text_length": text_length}
