"""Pooled features of a frozen backbone."""

import copy
from pathlib import Path

import torch
from mmengine.config import Config
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..backbones.weights import load_backbone
from ..models.features import pooled_features
from ..utils.checkpoint import load_checkpoint_safely
from ..utils.config_text import config_inside


class FeatureExtractor:
    """Pooled features of a frozen backbone: pretrained here or by MMPretrain, or a classifier's.

    See :func:`mmebm.models.features.pooled_features`.

    Args:
        config: config of the run, or its path. None takes the one in the checkpoint, which is
            parsed, never executed.
        checkpoint: file with the backbone's weights, see :func:`mmebm.load_backbone`. None leaves
            them random.
        device: ``'cpu'``, ``'cuda'``, ... Defaults to the GPU if there is one.
        seed: of the random weights, which a checkpoint overwrites.

    Attributes:
        filled: how the checkpoint fits, a :class:`mmebm.utils.state_dict.Fit`; None without one.
        image_size: side of the images that the backbone is made for, in pixels; None if it does not
            say.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: neither argument gives a config, or the checkpoint belongs to another network.
    """

    def __init__(
        self,
        config: str | Path | Config | None,
        checkpoint: str | Path | None = None,
        device: str | None = None,
        seed: int = 0,
    ):
        config = read_config(config, checkpoint)
        self.device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self._preprocess = _preprocessor(config).to(self.device).eval()
        model_config = copy.deepcopy(config.model)
        init_cfg = model_config.backbone.get('init_cfg')
        if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
            model_config.backbone.pop('init_cfg')  # this class loads the weights
        torch.manual_seed(seed)
        self.model: nn.Module = MODELS.build(model_config)
        self.model.backbone.init_weights()
        self.filled = load_backbone(self.model.backbone, checkpoint) if checkpoint else None
        self.model.to(self.device).eval()
        size = getattr(self.model.backbone, 'img_size', None)
        self.image_size = max(size) if isinstance(size, tuple | list) else size

    @torch.no_grad()
    def __call__(self, batch: dict) -> Tensor:
        """Features ``(B, D)`` of a collated batch: ``inputs`` ``(B, 3, H, W)``, BGR in 0..255."""
        return pooled_features(self.model, self._preprocess(batch)['inputs'])


def read_config(config: str | Path | Config | None, checkpoint: str | Path | None) -> Config:
    """The given config, or the one in the checkpoint.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: there is no config, or it has no model with a backbone.
    """
    if config is None:
        config = config_inside(load_checkpoint_safely(checkpoint, mmap=True), checkpoint)
    elif isinstance(config, str | Path):
        config = Config.fromfile(config)
    if 'backbone' not in (config.get('model') or {}):
        raise ValueError('the config has no model with a backbone')
    return config


def _preprocessor(config: Config) -> ClsDataPreprocessor:
    """The normalisation of any pretraining method, for batches of plain images."""
    options = config.model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    return ClsDataPreprocessor(
        mean=options.get('mean'),
        std=options.get('std'),
        to_rgb=options.get('to_rgb', False) or options.get('bgr_to_rgb', False),
    )
