"""Metrics: how well the descent restores, and how well the energy tells corrupted from clean."""

from .energy_metric import EnergyMetric
from .restoration_metric import RestorationMetric
from .sorting_metric import SortingMetric

__all__ = ['EnergyMetric', 'RestorationMetric', 'SortingMetric']
