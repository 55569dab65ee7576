"""Shuffle and sort the patches of images with a pretrained network."""

from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmpretrain.registry import TRANSFORMS
from mmpretrain.structures import DataSample

from ..models import EnergySortingAlgorithm
from ..visualization import Chain, to_chains
from .restoration import load_pretrained, read_image, validation_transforms


class SortingInferencer:
    """Shuffles the position embeddings of an image's patches, and sorts them by descent.

    Args:
        checkpoint: file of a pretraining run, or one that holds its ``state_dict``. Only weights
            and plain values are unpickled.
        config: config of the run, or its path. Defaults to the one in the checkpoint, which is
            parsed, never executed.
        device: ``'cpu'``, ``'cuda'``, ... Defaults to the GPU if there is one.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: no config is given and the checkpoint holds none; the checkpoint belongs to
            another network; or the config does not train sorting.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        config: str | Path | Config | None = None,
        device: str | None = None,
    ):
        self.model, config = load_pretrained(checkpoint, config, EnergySortingAlgorithm, device)
        self._prepare, _ = validation_transforms(config)
        self._pack = TRANSFORMS.build(dict(type='PackInputs'))

    def __call__(
        self, image: str | Path | np.ndarray, num_steps: int | None = None, index: int = 0
    ) -> Chain:
        """Shuffle an image and sort it.

        Args:
            image: a file, or an array ``(H, W, 3)`` uint8 in BGR (as OpenCV reads it). It is
                resized and cropped like the images of the config's validation set.
            num_steps: N ≥ 0. Defaults to the number used in training.
            index: number of the image, ≥ 0; each number gives another shuffle.

        Returns:
            The chain; its images are made of whole patches, see :class:`mmebm.visualization.Chain`.

        Raises:
            FileNotFoundError: there is no such file.
            UnreadableImageError: the file cannot be read as an image.
            TypeError, ValueError: ``num_steps`` is not an integer ≥ 0.
        """
        results = self._prepare(read_image(image))
        batch = self.model.data_preprocessor(default_collate([self._pack(results)]), False)
        samples = [DataSample(metainfo=dict(sample_idx=index))]
        (chain,) = to_chains(self.model, batch['inputs'], samples, num_steps)
        return chain
