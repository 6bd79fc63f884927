"""Before the steps: one canonical settings file per recipe, in which nothing can change any more.

`resolve` merges `params.yaml` ← the recipe ← overrides, validates every section, and turns what may move
(source bytes, `models:/x@alias`, a hub branch, device, thread count, a plug-in's code) into digests and
plain values that the stages depend on. It writes only below the git-ignored `.run/`.
"""

from retrainer.resolve.pinning import pin_code_and_weights, source_columns
from retrainer.resolve.recipes import (
    PARAMS,
    default_recipe,
    expanded,
    known_recipes,
    parse_override,
    read_yaml,
    recipe_name,
    registered_names,
)
from retrainer.resolve.resolved import RUN, Resolved, resolve
from retrainer.resolve.settling import layers_of, settle
from retrainer.resolve.validation import validate

__all__ = [
    "PARAMS",
    "RUN",
    "Resolved",
    "default_recipe",
    "expanded",
    "known_recipes",
    "layers_of",
    "parse_override",
    "pin_code_and_weights",
    "read_yaml",
    "recipe_name",
    "registered_names",
    "resolve",
    "settle",
    "source_columns",
    "validate",
]
