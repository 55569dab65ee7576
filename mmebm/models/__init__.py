"""The method: the energy, the descent on it, and the loss along the descent (equation 5)."""

from .autoencoder import PositionDecoder, RestorationAutoEncoder, SortingAutoEncoder
from .base_algorithm import BaseEnergyAlgorithm, descend, descent_step, energy_gradient
from .data_preprocessor import RestorationDataPreprocessor
from .energy_head import EnergyHead
from .energy_inpainting import EnergyInpaintingAlgorithm
from .energy_restoration import EnergyRestorationAlgorithm
from .energy_sorting import EnergySortingAlgorithm
from .mae_hog import MAEHOGHead
from .patch_energy_head import PatchEnergyHead
from .patch_hog import PatchHOG
