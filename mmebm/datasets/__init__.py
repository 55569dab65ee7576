"""Find images, and load them so that neither a broken file nor a restart changes the run."""

from .image_folder import IMAGE_EXTENSIONS, ImageFolder, derive_seeds
from .rounds import RoundSampler, passes_in_round
from .wrappers import inner_datasets, leaf_datasets

__all__ = [
    'IMAGE_EXTENSIONS',
    'ImageFolder',
    'RoundSampler',
    'derive_seeds',
    'inner_datasets',
    'leaf_datasets',
    'passes_in_round',
]
