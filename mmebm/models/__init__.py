from .autoencoder import PositionDecoder, RestorationAutoEncoder, SortingAutoEncoder
from .backbone_weights import Filled, load_backbone
from .batch_norm import GroupNormBackbone
from .data_preprocessor import RestorationDataPreprocessor
from .descent import descend, descent_step, energy_gradient
from .energy_head import EnergyHead
from .energy_restoration import EnergyRestorationAlgorithm
from .energy_sorting import EnergySortingAlgorithm
from .gradient_collection import GradientCollector

__all__ = [
    'EnergyHead',
    'EnergyRestorationAlgorithm',
    'EnergySortingAlgorithm',
    'Filled',
    'GradientCollector',
    'GroupNormBackbone',
    'PositionDecoder',
    'RestorationAutoEncoder',
    'RestorationDataPreprocessor',
    'SortingAutoEncoder',
    'descend',
    'descent_step',
    'energy_gradient',
    'load_backbone',
]
