"""Pictures of restoration and sorting during a run."""

from mmengine.dataset import default_collate
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from ...models.chain import draw_chains
from ...utils import checked_int


@HOOKS.register_module()
class RestorationVisualizationHook(Hook):
    """Draw how a few fixed images are restored or sorted, into every visualisation backend.

    The images are the first of the validation set (of the training set, where there is no
    validation), with the corruption they have at the start of the run, so that pictures of
    different epochs can be compared.

    Args:
        num_images: rows of the picture, ≥ 1.
        interval: epochs between two pictures, ≥ 1. The last epoch is always drawn.
    """

    priority = 'LOW'

    def __init__(self, num_images: int = 4, interval: int = 1):
        self.num_images = checked_int('num_images', num_images, minimum=1)
        self.interval = checked_int('interval', interval, minimum=1)

    @master_only
    def before_train(self, runner: Runner) -> None:
        loop = runner.val_loop or runner.train_loop
        dataset = loop.dataloader.dataset
        count = min(self.num_images, len(dataset))
        self._batch = default_collate([dataset[i] for i in range(count)])

    @master_only
    def after_train_epoch(self, runner: Runner) -> None:
        if not self.every_n_epochs(runner, self.interval) and not self.is_last_train_epoch(runner):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.eval()
        batch = model.data_preprocessor(self._batch, False)
        chains = model.validation_chains(batch['inputs'], batch['data_samples'])
        model.train()
        runner.visualizer.add_image('restoration', draw_chains(chains), step=runner.epoch + 1)
