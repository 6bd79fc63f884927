"""Speech recognition: a sound → what is said in it. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.errors import DataError, SettingError
from retrainer.settings import Task
from retrainer.tasks._protocol import Baselines, Judged
from retrainer.tasks._sound_input import SoundInput, SoundOptions
from retrainer.tasks._text_output import TextOutput, head_of_whole_network, text_predictions

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import Tensor, nn

    from retrainer.settings import Evaluation, Training
    from retrainer.tasks._speech import Speech


class Options(SoundOptions):
    """Further keys of `task:`."""

    beams: int = Field(1, ge=1, description="texts kept in the search; 1: the likeliest unit of each frame")
    lexicon: bool = Field(False, description="CTC: write only words that the training rows have")
    max_length: int = Field(200, ge=1, description="encoder–decoders: most tokens of a text")


def make(task: Task, labels: tuple[str, ...]) -> SpeechRecognition:  # noqa: ARG001 (there are no classes)
    """The task. Raises UserError for an unknown key of `task:`."""
    options = Options.parse(task.options, "task")
    if options.lexicon and options.beams == 1:
        raise SettingError("task.lexicon needs a search among several texts; set task.beams, 16 for example")
    return SpeechRecognition(options)


class SpeechRecognition(SoundInput, TextOutput):
    """By CTC over the characters of the training rows, or by an encoder–decoder with its own tokenizer."""

    options: Options

    metrics: tuple[str, ...] = ("word_error_rate", "character_error_rate")
    abilities: frozenset[str] = frozenset()

    def __init__(self, options: Options) -> None:
        self.options = options
        self._units: list[str] = []
        self._words: list[str] = []
        self._silence = False

    # --- training ---

    def learn(self, train: pa.Table) -> None:
        """Keeps the characters of the training rows, whether some say nothing, and with `lexicon` words."""
        from retrainer.tasks._ctc import plain

        texts = [plain(text) for text in train["target_text"].to_pylist()]
        self._units = sorted(set("".join(texts)))
        self._words = sorted({word for text in texts for word in text.split()})
        self._silence = not all(texts)
        if not self._units:
            raise DataError("the dataset has no transcript with a character in it; see source.target_text")

    def input_spec(self) -> dict[str, Any]:
        words = {"words": self._words} if self.options.lexicon else {}
        learned = {"units": self._units, "silence": self._silence, **words}
        most = {"max_length": self.options.max_length}
        return super().input_spec() | {"frames": True} | learned | most

    def head(self, body: Any, training: Training) -> nn.Module:
        if body.generate is None:
            from retrainer.tasks._ctc import CtcHead

            return CtcHead(body.width, 1 + len(body.preprocessing["units"]), training.dropout)
        why = "an encoder–decoder has none above it; set full, last-n or lora"
        return head_of_whole_network(training, why)

    def encode(self, table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Speech:
        """Decodes every sound once, and turns transcripts into ids where there are some."""
        from retrainer.tasks._speech import encode_speech

        return encode_speech(table, preprocessing, assets)

    def loss(self, outputs: Any, targets: Tensor, label_smoothing: float) -> Tensor:  # noqa: ARG002
        """[B]: negative log probability of a row's text, a unit of it."""
        from retrainer.tasks._ctc import ctc_loss
        from retrainer.tasks._speech import token_loss

        if isinstance(outputs, tuple):
            logits, frames = outputs
            return ctc_loss(logits, frames, targets)
        return token_loss(outputs, targets)

    def figures(self, outputs: Any, targets: Tensor) -> dict[str, np.ndarray]:  # noqa: ARG002
        """None: error rates of the validation rows would need a search."""
        return {}

    # --- answers ---

    def predict(self, network: Any, batch: dict[str, Tensor], temperature: float) -> pa.Table:  # noqa: ARG002
        """`prediction`: the text that the search finds; `temperature` moves none."""
        from retrainer.tasks._speech import write_texts

        return text_predictions(write_texts(network, batch, self.options.beams))

    # --- judgement ---

    def baselines(self, train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
        """The commonest transcript, and that of the training row that sounds most alike."""
        from retrainer.tasks._sound_baselines import transcript_baselines

        return transcript_baselines(train, test, evaluation)

    def details(self, judged: Judged) -> dict[str, Any]:
        """The commonest edits, the worst rows, and the error rates by speaker."""
        from retrainer.tasks._speech_report import details

        return details(judged)

    def panels(self, judged: Judged, report: dict[str, Any]) -> list[str]:
        """The same as tables, with the sound to listen to."""
        from retrainer.tasks._speech_report import panels

        return panels(judged, report)
