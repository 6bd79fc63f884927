"""The tokenizers of Hugging Face encoder–decoders, one for each side, and the ids that frame a target.

Marian's weights carry two SentencePiece models and a vocabulary of their own instead of a `tokenizer.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from retrainer.errors import SettingError
from retrainer.models._hugging_face import described, quiet, shape_of
from retrainer.models._start import brief
from retrainer.models._text import TOKENIZER, read_json

_TARGET = "target_tokenizer.json"
_MARIAN = ("source.spm", "target.spm", "vocab.json")
_WORD_START = "▁"
# Stands for a token of the other side, which no text of this one has: from Unicode's private use area.
_OTHER_SIDE = "\ue000"

Read = tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]


def read_tokenizers(weights: Path, source_language: str, target_language: str) -> Read:
    """A body's config, preprocessing (but for the length) and assets, of a directory in Hugging Face layout.

    Raises UserError when its files are missing or cannot be read.
    """
    config = described(weights)
    if not config.is_encoder_decoder:
        raise SettingError(
            f"backbone.weights: {weights.name} is no encoder–decoder ({config.model_type}); choose Marian,"
            " T5, BART or their like"
        )
    source, target, framed = _both_sides(weights, config, source_language, target_language)
    start, end = _frame(config, framed, weights)
    pad = int(config.pad_token_id)
    preprocessing = {
        "kind": "text_to_text",
        "tokenizer": TOKENIZER,
        "target_tokenizer": _TARGET,
        "pad_id": pad,
        "start": start,
        "end": end,
    }
    assets = {TOKENIZER: source.to_str().encode(), _TARGET: _ending(target, end).to_str().encode()}
    return {"model": shape_of(config), "pad": pad, "start": start, "end": end}, preprocessing, assets


def _both_sides(
    weights: Path, config: Any, source_language: str, target_language: str
) -> tuple[Tokenizer, Tokenizer, list[int]]:
    """Tokenizers of source and target, and the ids that frame an empty target."""
    if (weights / TOKENIZER).is_file():
        found, framed = _fast(weights, source_language, target_language)
        return found, found, framed
    if all((weights / name).is_file() for name in _MARIAN):
        source, target = (_marian(weights, name, config) for name in _MARIAN[:2])
        return source, target, [config.eos_token_id]
    raise SettingError(
        f"backbone.weights: {weights.name} has no {TOKENIZER} (nor Marian's {', '.join(_MARIAN)}); save"
        " it there once with AutoTokenizer.from_pretrained(…).save_pretrained(…)"
    )


def _fast(weights: Path, source_language: str, target_language: str) -> tuple[Tokenizer, list[int]]:
    """The tokenizer, set to the source language, and the ids that frame an empty target."""
    from transformers import AutoTokenizer

    languages = {"src_lang": source_language, "tgt_lang": target_language} if source_language else {}
    try:
        with quiet():
            found = AutoTokenizer.from_pretrained(
                weights, local_files_only=True, trust_remote_code=False, **languages
            )
            framed = found(text_target="").input_ids
        return Tokenizer.from_str(found.backend_tokenizer.to_str()), framed
    except Exception as error:  # many kinds, by tokenizer and file
        raise SettingError(
            f"backbone.weights: {weights.name}'s tokenizer cannot be read: {brief(error)}"
        ) from None


def _frame(config: Any, framed: list[int], weights: Path) -> tuple[list[int], int]:
    """What the decoder is fed before a target's first token, and the token that ends a target.

    Around an empty target stand its end token, a language's token before it (mBART-50, NLLB) or behind it
    (mBART, which begins with that instead of its `decoder_start_token_id`), and with BART the token that
    begins every text.
    """
    end = config.eos_token_id
    first = getattr(config, "decoder_start_token_id", None)
    if end not in framed or (first is None and framed[-1] == end):
        raise SettingError(
            f"backbone.weights: {weights.name}/config.json tells no eos_token_id or no"
            " decoder_start_token_id; add what the model was trained with"
        )
    place = framed.index(end)
    fed: list[Any] = framed[place + 1 :] or [first]
    return [int(token) for token in fed + framed[:place]], int(end)


def _ending(tokenizer: Tokenizer, end: int) -> Tokenizer:
    """The same tokenizer, whose texts get the end token and no other."""
    copied = Tokenizer.from_str(tokenizer.to_str())
    token = copied.id_to_token(end)
    copied.post_processor = processors.TemplateProcessing(f"$A {token}", special_tokens=[(token, end)])
    return copied


def _marian(weights: Path, model: str, config: Any) -> Tokenizer:
    """A SentencePiece model with the ids of Marian's own vocabulary, as transformers' MarianTokenizer.

    A piece that the vocabulary lacks is left out: its text is divided into smaller ones.
    """
    pieces, charsmap = _pieces(weights / model)
    vocabulary: dict[str, int] = read_json(weights / "vocab.json")
    names = {place: name for name, place in vocabulary.items()}
    special = ["<unk>", names[config.eos_token_id], names[config.pad_token_id]]
    scores = pieces | dict.fromkeys(special, 0.0)
    table = [
        (names[n], scores[names[n]]) if names.get(n) in scores else (f"{_OTHER_SIDE}{n}", 0.0)
        for n in range(max(names) + 1)
    ]
    made = Tokenizer(models.Unigram(table, vocabulary["<unk>"], byte_fallback=False))
    tidied = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    made.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(charsmap), *tidied] if charsmap else tidied
    )
    words: dict[str, Any] = {"replacement": _WORD_START, "prepend_scheme": "always", "split": False}
    made.pre_tokenizer = pre_tokenizers.Metaspace(**words)
    made.decoder = decoders.Metaspace(**words)
    made.add_special_tokens(special)
    return _ending(made, config.eos_token_id)


def _pieces(path: Path) -> tuple[dict[str, float], bytes]:
    """Each ordinary piece's score, and the table by which characters are normalised."""
    from transformers.utils import sentencepiece_model_pb2_new as format_of

    found = format_of.ModelProto()
    try:
        found.ParseFromString(path.read_bytes())
    except Exception as error:
        raise SettingError(f"backbone.weights: {path.name} cannot be read: {brief(error)}") from None
    if found.trainer_spec.model_type != found.trainer_spec.UNIGRAM:
        raise SettingError(f"backbone.weights: {path.name} is no unigram model; save a {TOKENIZER} beside it")
    ordinary = found.SentencePiece.NORMAL, found.SentencePiece.USER_DEFINED
    pieces = {piece.piece: piece.score for piece in found.pieces if piece.type in ordinary}
    return pieces, found.normalizer_spec.precompiled_charsmap
