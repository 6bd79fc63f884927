"""Tiny encoder–decoders with random weights, in Hugging Face layout, for the tests of translation."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = [
    "ein", "eine", "Hund", "Katze", "Mann", "rennt", "sitzt", "rot",
    "grün", "a", "dog", "cat", "man", "runs", "sits", "red", "green",
]  # fmt: skip
SENTENCES = [
    ("ein Hund rennt", "a dog runs"),
    ("eine Katze sitzt", "a cat sits"),
    ("ein Mann rennt", "a man runs"),
    ("Hund rot", "red dog"),
    ("Katze grün sitzt", "green cat sits"),
]
# Small enough to run in milliseconds, random enough that beams differ.
_SIZES = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
}
_SIZES |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 40}


def word_tokenizer(special: list[str], template: str) -> Tokenizer:
    """Whole words by white space; `template` frames a text."""
    vocabulary = {token: place for place, token in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(special)
    ids = [(token, vocabulary[token]) for token in special]
    tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=ids)
    return tokenizer


def save_marian(path: Path) -> Any:
    """With SentencePiece models and a vocabulary, as OPUS-MT's; returns transformers' network."""
    from transformers import MarianConfig, MarianMTModel

    path.mkdir()
    pieces: list[str] = []
    for side, name in enumerate(("source", "target")):
        model = _sentencepiece([pair[side] for pair in SENTENCES])
        (path / f"{name}.spm").write_bytes(model.serialized_model_proto())
        pieces += [model.id_to_piece(n) for n in range(model.get_piece_size())]
    ordinary = [piece for piece in dict.fromkeys(pieces) if piece not in ("<unk>", "<s>", "</s>")]
    names = ["</s>", "<unk>", *sorted(ordinary), "<pad>"]
    (path / "vocab.json").write_text(json.dumps({name: place for place, name in enumerate(names)}))
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MarianTokenizer"}))
    pad = names.index("<pad>")
    config = MarianConfig(
        vocab_size=len(names),
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=None,
        **_SIZES,
    )
    return _saved(MarianMTModel, config, path)


def save_t5(path: Path) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = word_tokenizer(["<pad>", "</s>", "<unk>"], "$A </s>")
    config = T5Config(
        vocab_size=tokenizer.get_vocab_size(), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    network = _saved(T5ForConditionalGeneration, config, path)
    _save_tokenizer(path, tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    return network


def save_bart(path: Path) -> Any:
    """Its targets begin with a token of their own, which generation is forced to write."""
    from transformers import BartConfig, BartForConditionalGeneration

    tokenizer = word_tokenizer(["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>")
    config = BartConfig(
        vocab_size=tokenizer.get_vocab_size(), forced_bos_token_id=0, forced_eos_token_id=None, **_SIZES
    )
    network = _saved(BartForConditionalGeneration, config, path)
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    _save_tokenizer(path, tokenizer, **special)
    return network


def _saved(kind: Any, config: Any, path: Path) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = kind(config).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(4.0)  # else all tokens are about as likely
    network.save_pretrained(path)
    return kind.from_pretrained(path).eval()  # Marian's positions are computed anew


def _save_tokenizer(path: Path, tokenizer: Tokenizer, **special: str) -> None:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(path)


def _sentencepiece(texts: list[str]) -> Any:
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 4), model_writer=written, vocab_size=24, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
