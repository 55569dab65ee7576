"""Metrics: restoring, telling corrupted from clean by energy, classifying by nearest neighbours."""

from .energy_metric import EnergyMetric
from .knn import knn_predict, nearest, vote
from .restoration_metric import RestorationMetric

__all__ = ['EnergyMetric', 'RestorationMetric', 'knn_predict', 'nearest', 'vote']
