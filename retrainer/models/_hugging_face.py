"""What families that load Hugging Face weights share: the architecture's description, and their loading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import SettingError
from retrainer.models._start import brief

if TYPE_CHECKING:
    from torch import nn

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
        raise SettingError(f"backbone.weights: {weights.name}/config.json cannot be read: {reason}") from None


def shape_of(config: Any) -> dict[str, Any]:
    """JSON of all that tells the architecture."""
    return shaped(json.loads(config.to_json_string(use_diff=False)))


def shaped(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _NOT_SHAPE}


def empty_model(kind: Any, config: dict[str, Any]) -> nn.Module:
    """The architecture that `shape_of` has described, by the class `kind`, with random values."""
    from transformers import AutoConfig

    model = shaped(config)
    described = AutoConfig.for_model(model.pop("model_type"), **model)
    made: nn.Module = kind.from_config(described, trust_remote_code=False)
    return made


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


def load_pretrained(kind: Any, weights: Path, **options: Any) -> tuple[nn.Module, list[str]]:
    """The network of a directory in Hugging Face layout as float32, and the names of values it lacks.

    `kind` is the class that loads it. Nothing is fetched, no code of the directory runs, and no generator
    of the caller's moves. Raises UserError when it cannot be loaded.
    """
    import torch

    safe = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            module, report = kind.from_pretrained(
                weights, dtype=torch.float32, output_loading_info=True, **safe, **options
            )
    except Exception as error:  # many kinds, by architecture and file
        raise SettingError(f"backbone.weights: {weights.name} cannot be loaded: {brief(error)}") from None
    return module, sorted(report["missing_keys"])


def require_all(weights: Path, lacking: list[str]) -> None:
    """Raises UserError that names the first of the values that the weights lack, if any."""
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise SettingError(f"backbone.weights: {weights.name} lacks {lacking[0]}{more}; choose other weights")
