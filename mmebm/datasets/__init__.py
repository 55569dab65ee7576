"""Find images, and load them so that neither a broken file nor a restart changes the run."""

from .files import IMAGE_EXTENSIONS, classes_of, find_images, read_list
from .image_folder import ImageFolder, derive_seeds, why_unreadable
from .reader import Picture, UnreadableImageError, read_picture, read_pixels
from .rounds import RoundSampler, inner_datasets, leaf_datasets, passes_in_round
