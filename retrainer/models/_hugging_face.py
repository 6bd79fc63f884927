"""What families that load Hugging Face weights share: the architecture's description, and a quiet library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrainer.errors import UserError
from retrainer.models._start import brief

# Keys of a configuration that say where it came from, what its old head answered, or how it runs.
_NOT_SHAPE = {"_name_or_path", "_commit_hash", "transformers_version", "architectures", "auto_map"}
_NOT_SHAPE |= {"id2label", "label2id", "problem_type", "return_dict", "use_cache", "torch_dtype", "dtype"}
_NOT_SHAPE |= {"output_attentions", "output_hidden_states", "attn_implementation", "_attn_implementation"}


def described(weights: Path) -> Any:
    """The configuration of a directory in Hugging Face layout. Raises UserError when it cannot be read."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(weights, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        reason = brief(error)
        raise UserError(f"backbone.weights: {weights.name}/config.json cannot be read: {reason}") from None


def shape_of(config: Any) -> dict[str, Any]:
    """JSON of all that tells the architecture."""
    return shaped(json.loads(config.to_json_string(use_diff=False)))


def shaped(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _NOT_SHAPE}


@contextmanager
def quiet() -> Iterator[None]:
    """It warns of the head that is left behind, as it should be, and shows a bar for what takes no time."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
