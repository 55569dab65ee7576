"""Metrics: how well the descent restores or sorts, and how well the energy tells bad from good."""

from .energy_metric import EnergyMetric
from .restoration_metric import RestorationMetric
from .sorting_metric import SortingMetric

__all__ = ['EnergyMetric', 'RestorationMetric', 'SortingMetric']
