"""From features to an embedding, the losses with a margin, and the threshold.

Legend: B rows of a batch, D numbers of an embedding, K identities of the training rows, N validation rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from retrainer.metrics._pair_scores import BINS, NEVER, bins_of, embeddings, threshold_of_bin

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.tasks._verification import VerificationOptions

# Arcs near 0 and π have no gradient.
_NEAREST = 1e-6


class Outputs(NamedTuple):
    """`embeddings` [B, D] of length 1, and their cosines [B, K] with each training identity."""

    embeddings: Tensor
    cosines: Tensor


class EmbeddingHead(nn.Module):
    """Features [B, W] → Outputs. The projection begins as the identity, so given embeddings stay as they are.

    `threshold`: a score from which on two rows are taken for one identity.
    """

    threshold: Tensor

    def __init__(self, width: int, size: int, identities: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(width, size, bias=False)
        nn.init.eye_(self.projection.weight) if width == size else nn.init.orthogonal_(self.projection.weight)
        self.prototypes: nn.Parameter | None = None
        if identities:
            # Of length 1 about: so steps as large as the projection's turn them, too.
            self.prototypes = nn.Parameter(torch.randn(identities, size) / size**0.5)
        self.register_buffer("threshold", torch.tensor(NEVER))

    def forward(self, features: Tensor, batch: Any = None) -> Outputs:  # noqa: ARG002 (a head may read it)
        made = functional.normalize(self.projection(self.dropout(features)), dim=1)
        if self.prototypes is None:
            return Outputs(made, made.new_zeros(len(made), 0))
        return Outputs(made, made @ functional.normalize(self.prototypes, dim=1).T)


def verification_loss(outputs: Outputs, targets: Tensor, options: VerificationOptions) -> Tensor:
    """[B]: `margin_loss` of rows of a training identity, `neighbour_loss` of all others."""
    made, cosines = outputs.embeddings.float(), outputs.cosines.float()
    known = targets < cosines.shape[1]
    if bool(known.all()):
        return margin_loss(cosines, targets, options)
    losses = neighbour_loss(made, targets, options.margin_scale)
    if cosines.shape[1]:
        learned = margin_loss(cosines, targets.clamp(max=cosines.shape[1] - 1), options)
        losses = torch.where(known, learned, losses)
    return losses


def margin_loss(cosines: Tensor, targets: Tensor, options: VerificationOptions) -> Tensor:
    """Cosines [B, K] and the place of each row's identity [B] → [B].

    The cross-entropy of s · cosines, in which that of the row's own identity is
      arcface  cos(θ + m)    Deng et al., ArcFace, CVPR 2019 (arXiv:1801.07698), equation 3
      cosface  cos(θ) - m    Wang et al., CosFace, CVPR 2018 (arXiv:1801.09414), equation 4
    Beyond θ = π - m, where cos(θ + m) would rise again, ArcFace's authors go on in a straight line:
    cos(θ) - m · sin(m).
    """
    own = cosines.gather(1, targets[:, None])
    if options.margin_kind == "cosface":
        nearer = own - options.margin
    else:
        margin = options.margin
        angle = own.clamp(-1 + _NEAREST, 1 - _NEAREST).acos()
        beyond = angle > math.pi - margin
        nearer = torch.where(beyond, own - margin * math.sin(margin), (angle + margin).cos())
    scaled = options.margin_scale * cosines.scatter(1, targets[:, None], nearer)
    return functional.cross_entropy(scaled, targets, reduction="none")


def neighbour_loss(made: Tensor, targets: Tensor, scale: float) -> Tensor:
    """Embeddings [B, D] and identities [B] → [B]: how little of a row's softmax over the other rows of the
    batch falls to those of its identity; a row that is the only one of it there counts as its own neighbour.

    Source: Goldberger et al., Neighbourhood Components Analysis, NeurIPS 2004, with cosines for distances.
    """
    logits = scale * made @ made.T
    same = targets[:, None] == targets[None]
    itself = torch.eye(len(made), dtype=torch.bool, device=made.device)
    alone = same.sum(1, keepdim=True) == 1
    left_out = itself & ~alone
    whole = logits.masked_fill(left_out, -torch.inf).logsumexp(1)
    own = logits.masked_fill(left_out | ~same, -torch.inf).logsumexp(1)
    return whole - own


def settle(head: Any, predictions: pa.Table | None, identities: np.ndarray, false_accepts: float) -> None:
    """Stores the threshold, and takes out the training identities' prototypes.

    Without impostor pairs among the validation rows it stays NEVER.
    """
    head.prototypes = None
    if predictions is not None:
        found = threshold_at(embeddings(predictions), identities, false_accepts)
        head.threshold = torch.tensor(found, dtype=torch.float32)


def threshold_at(made: np.ndarray, identities: np.ndarray, false_accepts: float) -> float:
    """The lowest score, in steps of 2 / BINS, which at most that share of the impostor pairs reach."""
    counts: np.ndarray = np.zeros(BINS, np.int64)
    for row in range(len(made) - 1):
        others = identities[row + 1 :] != identities[row]
        scores = np.clip(made[row + 1 :][others] @ made[row], -1, 1)
        counts += np.bincount(bins_of(scores), minlength=BINS)
    if not counts.any():
        return NEVER
    reaching = np.append(counts[::-1].cumsum()[::-1], 0) / counts.sum()
    return threshold_of_bin(int((reaching <= false_accepts).argmax()))
