"""Look through MMEngine's dataset wrappers (``ConcatDataset``, ``RepeatDataset``, ...)."""

from typing import Any


def inner_datasets(dataset: Any) -> list[Any]:
    """The datasets that a wrapper holds, an empty list for a dataset that wraps none."""
    if getattr(dataset, 'datasets', None) is not None:
        return list(dataset.datasets)
    if getattr(dataset, 'dataset', None) is not None:
        return [dataset.dataset]
    return []


def leaf_datasets(dataset: Any) -> list[Any]:
    """The datasets below any depth of wrappers, in their order; ``[dataset]`` without a wrapper."""
    inner = inner_datasets(dataset)
    return [leaf for part in inner for leaf in leaf_datasets(part)] if inner else [dataset]
