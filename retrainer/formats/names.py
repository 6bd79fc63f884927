"""Names of the dataset format that need no Arrow: whoever only looks at a source's files imports none."""

from __future__ import annotations

SPLITS = ("train", "validation", "test")
# A raw dataset (what ingest writes) has these splits; preprocess turns them into the others.
RAW_SPLITS = ("all", "given_test", "given_validation")
# Of a box, in pixels from the top left.
CORNERS = ("left", "top", "right", "bottom")
# Types of columns (`columns`) that hold whole files.
FILE_TYPES = ("image", "audio")
