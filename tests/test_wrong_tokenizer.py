"""A tokenizer of other weights, or of another language, stops a training in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from retrainer.errors import UserError
from retrainer.models import transformers
from retrainer.settings import Task
from retrainer.tasks import make_task
from tests.encoders import save_encoder, tokenizer_json

PREPROCESSING = {"kind": "tokens", "tokenizer": "t", "max_length": 16, "pad_id": 0, "pairs": False}


def encode(texts: list[str], tokenizer: str, to_learn: bool = True, **options: Any) -> Any:
    task = make_task(Task(kind="text_classification", **options), ("a", "b"))
    columns: dict[str, Any] = {"text": texts} | ({"labels": [["a"]] * len(texts)} if to_learn else {})
    return task.encode(pa.table(columns), PREPROCESSING, {"t": tokenizer.encode()})


def test_texts_of_unknown_tokens_are_refused_to_learn_from() -> None:
    strange = ["was ist das", "w1 w2 w3"] * 20
    with pytest.raises(
        UserError, match=r"tokenizer does not know 50\.0% of the tokens.*task\.max_unknown"
    ) as stop:
        encode(strange, tokenizer_json())
    assert "\n" not in str(stop.value)
    assert len(encode(strange, tokenizer_json(), max_unknown=0.5)) == 40
    assert len(encode(strange, tokenizer_json(), to_learn=False)) == 40
    assert len(encode(["w1 w2 w3 w4 oh"] * 20, tokenizer_json())) == 20


def test_a_tokenizer_that_knows_everything_is_never_refused() -> None:
    letters = {chr(97 + n): n for n in range(26)}
    made = Tokenizer(models.BPE(letters, []))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    assert len(encode(["ab cd"] * 3, made.to_str())) == 3


def test_the_unknown_token_of_a_unigram_model_counts() -> None:
    made = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -1.0)], unk_id=0))
    with pytest.raises(UserError, match="does not know"):
        encode(["xyz"] * 5, made.to_str())
    assert np.array_equal(encode(["ab"], made.to_str()).ids[:2], [1, 2])


@pytest.mark.parametrize(("vocabulary", "fits"), [(1_020, True), (4_000, False)])
def test_a_vocabulary_far_smaller_than_the_embeddings_is_of_other_weights(
    vocabulary: int, fits: bool, tmp_path: Path
) -> None:
    folder = save_encoder(tmp_path / "bert", "bert", vocab_size=vocabulary)
    (folder / "tokenizer.json").write_text(tokenizer_json(100))
    spec = {"kind": "tokens", "max_length": 16}

    def built() -> Any:
        return transformers.build(transformers.Options(), spec, folder, 0, fresh=False)

    if fits:
        assert built().preprocessing["tokenizer"] == "tokenizer.json"
        return
    with pytest.raises(UserError, match=r"has 100 tokens and the model knows 4,000.*other weights"):
        built()
