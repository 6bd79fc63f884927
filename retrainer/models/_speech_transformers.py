"""What the networks of `speech_transformers` compute of a batch: `audio`, `lengths`, `decoder_input_ids`.

Legend: B rows, S samples, T frames, L tokens, V vocabulary, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from retrainer.models._network import Batch


def frame_states(module: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """(states [B, T, D], frames [B])."""
    network: Any = module
    frames = network._get_feat_extract_output_lengths(batch["lengths"]).long()
    if network.config.feat_extract_norm == "group" and not network.training:
        return _each_alone(network, batch, frames), frames
    return network(batch["audio"], attention_mask=_there(batch)).last_hidden_state, frames


def _each_alone(network: Any, batch: Batch, frames: Tensor) -> Tensor:
    """Its first layer normalises over the whole batch row, padding and all: so there is none."""
    if not len(frames):
        return batch["audio"].new_zeros(0, 0, network.config.hidden_size)
    states = [
        network(row[None, :length]).last_hidden_state[0]
        for row, length in zip(batch["audio"], batch["lengths"].tolist(), strict=True)
    ]
    padded = torch.zeros(len(states), int(frames.max()), states[0].shape[1], device=frames.device)
    for place, state in enumerate(states):
        padded[place, : len(state)] = state
    return padded


def _there(batch: Batch) -> Tensor:
    """int64 [B, S]: 1 where a row has samples."""
    at = torch.arange(batch["audio"].shape[1], device=batch["lengths"].device)
    return (at < batch["lengths"][:, None]).long()


def frame_mean(module: nn.Module, batch: Batch) -> Tensor:
    """The mean of a row's frames [B, D]."""
    states, frames = frame_states(module, batch)
    return _mean(states, frames)


def _mean(states: Tensor, frames: Tensor) -> Tensor:
    there = (torch.arange(states.shape[1], device=frames.device) < frames[:, None]).unsqueeze(2)
    return (states * there).sum(1) / frames[:, None].clamp(min=1)


def cut_positions(module: nn.Module, count: int) -> None:
    """Leaves a Whisper's encoder the first `count` of its positions (sinusoids, which are not trained)."""
    network: Any = module
    encoder = network.get_encoder()
    kept = encoder.embed_positions.weight[:count].detach().clone()
    encoder.embed_positions = nn.Embedding.from_pretrained(kept, freeze=True)
    network.config.max_source_positions = encoder.config.max_source_positions = count


def encoder_mean(module: nn.Module, batch: Batch) -> Tensor:
    """The mean of the frames that have sound [B, D]; two of the spectrum are one of the encoder."""
    states = module(batch["audio"].transpose(1, 2)).last_hidden_state
    return _mean(states, (batch["lengths"] + 1) // 2)


def token_logits(module: nn.Module, batch: Batch) -> Tensor:
    """[B, L, V]: of each next token."""
    inputs = {
        "input_features": batch["audio"].transpose(1, 2),
        "decoder_input_ids": batch["decoder_input_ids"],
    }
    return module(**inputs, use_cache=False).logits


def generate(config: dict[str, Any]) -> Any:
    def write(module: nn.Module, batch: Batch, options: dict[str, Any]) -> Tensor:
        """Token ids [B, L], filled up with the end token. `options`: beams, max_length.

        By the search that all models of transformers have. Whisper's own one also parts long sounds and
        guesses languages, by settings beside the weights that a model of ours does not keep; which tokens it
        leaves out stands in `config`.
        """
        from transformers import GenerationConfig, GenerationMixin

        sound = batch["audio"].transpose(1, 2)
        start = torch.tensor([config["start"]], device=sound.device).expand(len(sound), -1)
        how = GenerationConfig(
            max_new_tokens=options["max_length"],
            num_beams=options["beams"],
            do_sample=False,
            eos_token_id=config["end"],
            pad_token_id=config["end"],
            decoder_start_token_id=config["start"][0],
            # Of older models, which do not say, those of the network's own config: None.
            suppress_tokens=config.get("never"),
            begin_suppress_tokens=config.get("never_first"),
        )
        network: Any = module
        written = GenerationMixin.generate(
            network,
            input_features=sound,
            attention_mask=torch.ones(sound.shape[::2], dtype=torch.long, device=sound.device),
            decoder_input_ids=start,
            generation_config=how,
        )
        return written[:, start.shape[1] :]

    return write


def whisper_blocks(module: nn.Module) -> list[str]:
    names = [name for name, _ in module.named_modules()]
    return [
        name for name in names if name.rpartition(".")[0] in ("model.encoder.layers", "model.decoder.layers")
    ]
