"""What somebody decided about a model after the gate had judged it. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

# The rule that such a decision stands.
DECISION = "decision"


@dataclass(frozen=True)
class Decision:
    """About the very model that is judged; `why` in words.

    taken  the alias was taken from it, so that the gate does not give it back; else it was made champion
    """

    taken: bool
    why: str
