"""Weighted k-nearest-neighbour classification of frozen features (Wu et al. 2018, as in DINO)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

# N labelled features, M queries, D channels, k neighbours, C classes.


def knn_predict(
    features: Tensor,
    labels: Tensor,
    queries: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    num_classes: int | None = None,
    chunk: int = 4096,
) -> Tensor:
    """Classify each query by its k most similar features.

    Args:
        features, queries: ``(N, D)``, ``(M, D)``, of any norm: similarity is the cosine.
        labels: of the features, ``(N,)``, integers in 0..C − 1.
        k: number of neighbours, 1..N.
        temperature: T > 0; a neighbour with similarity s votes with weight ``exp(s / T)``.
        num_classes: C. Defaults to the highest label plus one.
        chunk: queries, and features, compared at a time: memory does not depend on N.

    Returns:
        Predicted labels ``(M,)``.

    Raises:
        ValueError: shapes do not match, an option is out of range, or a feature is not finite.
    """
    similarities, indices = nearest(features, queries, k, chunk)
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    return torch.cat(
        [
            vote(s, labels[i], temperature, num_classes).argmax(1)
            for s, i in zip(similarities.split(chunk), indices.split(chunk), strict=True)
        ]
    )


@torch.no_grad()
def nearest(features: Tensor, queries: Tensor, k: int, chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """The k features with the highest cosine similarity to each query, most similar first.

    Arguments and errors are those of :func:`knn_predict`.

    Returns:
        Similarities ``(M, k)`` in [−1, 1], float32 (float64 for float64 queries), and indices
        ``(M, k)`` into the features.
    """
    if features.dim() != 2 or queries.dim() != 2 or features.shape[1] != queries.shape[1]:
        raise ValueError(
            'features must be (N, D) and queries (M, D), got '
            f'{tuple(features.shape)} and {tuple(queries.shape)}'
        )
    if not 1 <= k <= len(features):
        raise ValueError(f'k must lie in 1..N = {len(features)}, got {k}')
    dtype = torch.float64 if queries.dtype == torch.float64 else torch.float32
    parts = [_nearest_of_chunk(features, q.to(dtype), k, chunk) for q in queries.split(chunk)]
    similarities, indices = (torch.cat(part) for part in zip(*parts, strict=True))
    return similarities, indices


def _nearest_of_chunk(features: Tensor, queries: Tensor, k: int, chunk: int):
    queries = normalize(queries, dim=1)
    best = queries.new_empty(len(queries), 0)
    indices = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(features), chunk):
        part = normalize(features[start : start + chunk].to(queries), dim=1)
        similarities, found = (queries @ part.T).topk(min(k, len(part)), dim=1)
        if not torch.isfinite(similarities).all():  # NaN sorts first
            raise ValueError('a feature or query is not finite: did the network diverge?')
        best = torch.cat([best, similarities], dim=1)
        indices = torch.cat([indices, found + start], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        indices = indices.gather(1, order)
    return best, indices


def vote(similarities: Tensor, labels: Tensor, temperature: float, num_classes: int) -> Tensor:
    """Sum of the neighbours' weights per class.

    Of neighbours ``(M, k)`` with labels in 0..C − 1, temperature T > 0 and C classes, ``(M, C)``:
    ``Σ exp((s − s_max) / T)`` over the neighbours of each class. ValueError if T or a label is out
    of range.
    """
    if not temperature > 0:
        raise ValueError(f'temperature must be > 0, got {temperature}')
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f'labels must lie in 0..{num_classes - 1} (num_classes={num_classes}), got '
            f'{int(labels.min())}..{int(labels.max())}'
        )
    highest = similarities.max(dim=1, keepdim=True).values
    weights = ((similarities - highest) / temperature).exp()
    return weights.new_zeros(len(labels), num_classes).scatter_add_(1, labels, weights)
