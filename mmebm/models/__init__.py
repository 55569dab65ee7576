"""The method: the energy, the descent on it, and the loss along the descent (equation 5)."""

from .autoencoder import PositionDecoder, RestorationAutoEncoder, SortingAutoEncoder
from .base_algorithm import BaseEnergyAlgorithm
from .data_preprocessor import RestorationDataPreprocessor
from .descent import descend, descent_step, energy_gradient
from .energy_head import EnergyHead
from .energy_restoration import EnergyRestorationAlgorithm
from .energy_sorting import EnergySortingAlgorithm

__all__ = [
    'BaseEnergyAlgorithm',
    'EnergyHead',
    'EnergyRestorationAlgorithm',
    'EnergySortingAlgorithm',
    'PositionDecoder',
    'RestorationAutoEncoder',
    'RestorationDataPreprocessor',
    'SortingAutoEncoder',
    'descend',
    'descent_step',
    'energy_gradient',
]
