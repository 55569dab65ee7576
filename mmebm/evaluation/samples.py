"""Access to what a model stores in its data samples."""

from collections.abc import Iterable
from typing import Any, TypeVar

Figures = TypeVar('Figures')  # results of one image, with the attribute corruption: a name or None


def required(sample: dict, key: str, metric: str) -> Any:
    """Return a field of a data sample.

    Raises:
        ValueError: If it is missing; names the metric and the fields that exist.
    """
    if key not in sample:
        raise ValueError(f'{metric} needs {key!r} in every data sample, but got {sorted(sample)}')
    return sample[key]


def by_corruption(results: Iterable[Figures]) -> dict[str | None, list[Figures]]:
    """Group results by corruption, in alphabetical order; None is the group without a name."""
    groups: dict[str | None, list[Figures]] = {}
    for figures in sorted(results, key=lambda figures: figures.corruption or ''):
        groups.setdefault(figures.corruption, []).append(figures)
    return groups
