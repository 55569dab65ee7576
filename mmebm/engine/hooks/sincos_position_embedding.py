"""Start a vision transformer with a sin-cos position embedding."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from ...backbones.position_embedding import set_sincos_position_embedding


@HOOKS.register_module()
class SinCosPositionEmbeddingHook(Hook):
    """Start a vision transformer with the 2-D sin-cos position embedding of MoCo v3, trainable.

    Which patches are neighbours is then known from the first iteration on, instead of having to be
    learnt. Loaded weights keep their own embedding: those of a checkpoint (``load_from`` or
    ``resume``) and of a ``Pretrained`` initialisation of the backbone.

    Raises:
        ValueError: the backbone has no absolute position embedding.
    """

    _loaded = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._loaded = True

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        pretrained = 'Pretrained' in str(getattr(model.backbone, 'init_cfg', None))
        if not self._loaded and not pretrained:
            set_sincos_position_embedding(model.backbone)
