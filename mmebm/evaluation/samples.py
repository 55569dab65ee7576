"""Access to what a model stores in its data samples."""

from collections.abc import Callable, Iterable
from typing import Any


def required(sample: dict, key: str, metric: str) -> Any:
    """Return a field of a data sample; ValueError names what is missing and what exists."""
    if key not in sample:
        raise ValueError(f'{metric} needs {key!r} in every data sample, but got {sorted(sample)}')
    return sample[key]


def by_corruption(results: Iterable[tuple]) -> dict[str | None, list[tuple]]:
    """Group results by their first figure, a corruption or None, in alphabetical order."""
    groups: dict[str | None, list[tuple]] = {}
    for figures in sorted(results, key=lambda figures: figures[0] or ''):
        groups.setdefault(figures[0], []).append(figures)
    return groups


def summaries(
    results: list[tuple], summary: Callable[[list[tuple]], dict[str, float]]
) -> dict[str, float]:
    """The summary of all results, and those of each corruption below its name."""
    metrics = summary(results)
    for corruption, images in by_corruption(results).items():
        if corruption is not None:
            metrics |= {f'{corruption}/{name}': value for name, value in summary(images).items()}
    return metrics
