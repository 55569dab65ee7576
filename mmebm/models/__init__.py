from .descent import descend, descent_step, energy_gradient
from .energy_head import EnergyHead
from .energy_restoration import EnergyRestorationAlgorithm
from .energy_sorting import EnergySortingAlgorithm
from .gradient_collection import GradientCollector

__all__ = [
    'EnergyHead',
    'EnergyRestorationAlgorithm',
    'EnergySortingAlgorithm',
    'GradientCollector',
    'descend',
    'descent_step',
    'energy_gradient',
]
