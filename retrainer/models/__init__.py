"""Model families, one file each. What a family's file offers (a plug-in likewise):

    class Options(Section)       the family's own keys of `backbone:`
    SHAPED_BY_WEIGHTS: bool      whether the architecture is known only from the weights' directory
    IMPORTED: tuple[str, ...]    modules that take long to import, for whom has time to do it ahead; optional
    build(options, input_spec, weights, seed, fresh) -> Body
    untouched(options, weights) -> (Options, note)   by which the weights answer before any training, where
                                 these differ; optional
    restore(config) -> Body      the architecture that `Body.config` describes, values to be loaded
    class Config(Keys)           the keys of `config` that `restore` reads, checked before it; a plug-in may
                                 leave it out. Who trains elsewhere needs `restore` alone

`input_spec` is what the task asks for, by `kind`: tokens (and `max_length`; `each_token` for a vector a token
instead of one a text), pixels (`size`: [H, W] or None, `channels`: C or None; `maps` and `classes` for boxes,
`maps` and `finest`, the finest one's stride, for masks), text_to_text, causal_text, audio (`frames`).
`weights` is a directory, a .safetensors file, the word `imagenet`, or None. `fresh` asks for random values,
drawn from `seed` alone; the weights then only tell the architecture, where that is needed.
Nothing heavy is imported before `build` or `restore`.
"""

from __future__ import annotations

from retrainer import extend
from retrainer.settings import Backbone, Training


def reads_weights(backbone: Backbone, training: Training) -> bool:
    """Whether training has to be given `backbone.weights`."""
    if training.command:
        return False
    if training.strategy != "scratch":
        return True
    return bool(extend.load("models", backbone.family, "backbone.family").SHAPED_BY_WEIGHTS)
