"""Metrics for restoration, sorting and energy, and nearest-neighbour classification."""

from .energy_metric import EnergyMetric
from .knn import knn_predict, nearest, vote
from .restoration_metric import RestorationMetric
from .sorting_metric import SortingMetric
