"""Metrics for restoration, sorting and energy, and nearest-neighbour classification."""

from .energy_metric import EnergyMetric
from .knn import knn_predict, nearest, vote
from .per_corruption import loaders_per_corruption, metrics_per_corruption
from .restoration_metric import RestorationMetric
from .sorting_metric import SortingMetric

__all__ = [
    'EnergyMetric',
    'RestorationMetric',
    'SortingMetric',
    'knn_predict',
    'loaders_per_corruption',
    'metrics_per_corruption',
    'nearest',
    'vote',
]
