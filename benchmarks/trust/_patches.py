"""Features of small images without a network to train: k-means of whitened patches (Coates & Ng, 2011).

Legend: N images, P patches, V values of a patch, K centroids.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SIDE, _STRIDE = 6, 2
_PATCHES, _ROUNDS = 200_000, 10
_AT_ONCE = 256


def patch_features(images: Tensor, centroids: int, seed: int) -> Tensor:
    """uint8 [N, 3, H, W] → float32 [N, 4 * centroids]: how near each centroid is, by quarter.

    No label is looked at, so the features of a held-out fold are those of the others.
    """
    draw = torch.Generator().manual_seed(seed)
    sample = images[torch.randint(len(images), (_PATCHES // 10,), generator=draw)]
    patches = _patches(sample)
    few = torch.randint(patches.shape[1], (len(sample), 10), generator=draw)
    chosen = torch.gather(patches, 1, few[:, :, None].expand(-1, -1, patches.shape[2])).flatten(0, 1)
    mean, whiten = _whitening(chosen)
    means = _k_means((chosen - mean) @ whiten, centroids, draw)
    parts = [
        _encode((_patches(images[start : start + _AT_ONCE]) - mean) @ whiten, means)
        for start in range(0, len(images), _AT_ONCE)
    ]
    return torch.cat(parts)


def _patches(images: Tensor) -> Tensor:
    """[N, P, V], each patch with mean 0 and (nearly) variance 1."""
    found = torch.nn.functional.unfold(images.float(), _SIDE, stride=_STRIDE).transpose(1, 2)
    centred = found - found.mean(dim=2, keepdim=True)
    return centred / (centred.var(dim=2, keepdim=True) + 10).sqrt()


def _whitening(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [V] and matrix [V, V] (ZCA) of patches [P, V]."""
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    return patches.mean(dim=0), vectors @ torch.diag((values + 0.1).rsqrt()) @ vectors.T


def _k_means(patches: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """[K, V]."""
    means = patches[torch.randperm(len(patches), generator=draw)[:count]]
    for _ in range(_ROUNDS):
        nearest = torch.cat([_distances(part, means).argmin(dim=1) for part in patches.split(10_000)])
        sums = torch.zeros_like(means).index_add_(0, nearest, patches)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        means = torch.where(sizes > 0, sums / sizes.clamp(min=1), means)
    return means


def _distances(patches: Tensor, means: Tensor) -> Tensor:
    squares = patches.square().sum(dim=1, keepdim=True) + means.square().sum(dim=1)
    return torch.addmm(squares, patches, means.T, alpha=-2).clamp_(min=0).sqrt_()


def _encode(patches: Tensor, means: Tensor) -> Tensor:
    """[N, P, V] → [N, 4 * K]: by how much nearer than the mean centroid each one is, or 0."""
    images, count, _ = patches.shape
    distances = _distances(patches.flatten(0, 1), means)
    near = (distances.mean(dim=1, keepdim=True) - distances).clamp_(min=0)
    side = round(count**0.5)
    half = -(-side // 2)
    grid = near.view(images, side, side, len(means))
    halves = slice(0, half), slice(half, side)
    return torch.cat([grid[:, down, across].sum(dim=(1, 2)) for down in halves for across in halves], dim=1)
