"""Reading what a model left in its data samples."""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar


class HasCorruption(Protocol):
    """Figures of one image, with the name of its corruption or None."""

    corruption: str | None


Figures = TypeVar('Figures', bound=HasCorruption)


def required(sample: dict, key: str, metric: str) -> Any:
    """The field of a data sample.

    Raises:
        ValueError: If it is missing; names the metric and the fields there are.
    """
    if key not in sample:
        raise ValueError(f'{metric} needs {key!r} in every data sample, but got {sorted(sample)}')
    return sample[key]


def by_corruption(results: Iterable[Figures]) -> dict[str | None, list[Figures]]:
    """Group by corruption, in alphabetical order; images without a name are the group None."""
    groups: dict[str | None, list[Figures]] = {}
    for figures in sorted(results, key=lambda figures: figures.corruption or ''):
        groups.setdefault(figures.corruption, []).append(figures)
    return groups
