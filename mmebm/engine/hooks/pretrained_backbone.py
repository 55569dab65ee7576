from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from ...backbones.weights import load_backbone, read_backbone_tensors

_NOT_GIVEN = (None, '', 'none')


@HOOKS.register_module()
class PretrainedBackboneHook(Hook):
    """Start training from a pretrained backbone, and from nothing else.

    Fills ``model.backbone`` right before the first iteration, of whatever kind the model is (a
    classifier, a segmentor), logs how many of its tensors were filled, and stops the run where the
    checkpoint is missing or does not fit; see :func:`mmebm.models.load_backbone`. A hook and not an
    ``init_cfg``, since modules initialise themselves after all but MMEngine's own ``Pretrained``,
    which loads what fits in silence.

    A run that is resumed keeps its own weights and does not need the checkpoint any more; nor does
    testing.

    Args:
        checkpoint: the file. The configs here take it from the environment variable
            ``PRETRAINED``. ``'none'`` is an error once training starts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: none was given; it belongs to another network; or ``load_from`` is set as well.
    """

    priority = 'LOW'  # after hooks that initialise parts of the model

    def __init__(self, checkpoint: str | None = None):
        self.checkpoint = checkpoint
        self._loaded = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._loaded = True

    def before_train(self, runner: Runner) -> None:
        if runner.iter > 0:  # resumed
            return
        if self._loaded:
            raise ValueError(
                'load_from is set, which loads what fits and leaves the rest random: give the '
                'checkpoint as PRETRAINED=FILE instead'
            )
        check_given(self.checkpoint)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        filled = load_backbone(model.backbone, self.checkpoint)
        runner.logger.info(f'{self.checkpoint}: {filled}')


def check_pretrained_backbone(cfg: Config) -> None:
    """Look at the checkpoint that a run will start from, before anything is built.

    Raises:
        FileNotFoundError, ValueError: as for :class:`PretrainedBackboneHook`.
    """
    if cfg.get('resume'):
        return
    for hook in [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]:
        if hook and str(hook.get('type')).split('.')[-1] == PretrainedBackboneHook.__name__:
            check_given(hook.get('checkpoint'))
            read_backbone_tensors(hook['checkpoint'])


def check_given(checkpoint: str | None) -> None:
    """Raise a ValueError where no checkpoint was given."""
    if checkpoint in _NOT_GIVEN:
        raise ValueError(
            'this config trains on top of a pretrained backbone, but no checkpoint is given: set '
            'the environment variable PRETRAINED=FILE (or the option checkpoint of '
            'PretrainedBackboneHook), or take a config whose name begins with scratch'
        )
