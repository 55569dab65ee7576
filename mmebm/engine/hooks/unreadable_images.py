"""Report images that could not be read."""

import os
from collections import Counter

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from ...datasets import leaf_datasets, why_unreadable
from ...utils import UserError, checked_number

MOST = 1000  # unreadable images that are looked at again, to say why


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Report images that could not be read, and stop the run if there are too many.

    After each epoch of training, validation and test the log gets their number and share, over all
    processes and since the start of the run, and the reasons with their numbers; so does what the
    reader did to images of special kinds. ``unreadable_images.txt`` in the work dir lists the
    paths, one per line. For :class:`mmebm.datasets.ImageFolder`, also inside wrappers.

    Args:
        max_share: The run is stopped at the end of an epoch (after its checkpoint was written) if
            more than this share of the images, and more than one image, is unreadable. In [0, 1].
    """

    priority = 'LOWEST'  # after CheckpointHook: a run stopped here can be resumed
    filename = 'unreadable_images.txt'

    def __init__(self, max_share: float = 0.05) -> None:
        self.max_share = checked_number('max_share', max_share, 0, 1)
        self._paths: set[str] = set()
        self._reported: dict[str, set[str]] = {}  # by part of the data

    def _after_epoch(self, runner: Runner, mode: str = 'train') -> None:
        name = dict(train='training', val='validation', test='test')[mode]
        dataset = getattr(runner, f'{mode}_dataloader').dataset
        leaves = [leaf for leaf in leaf_datasets(dataset) if hasattr(leaf, 'unreadable_images')]
        total = sum(leaf.num_images for leaf in leaves)
        if not total:
            return
        found = [path for leaf in leaves for path in leaf.unreadable_images()]
        # Each process has read its part of the data; all must come to the same decision.
        paths = {path for part in all_gather_object(found) for path in part}
        self._paths |= paths
        file = os.path.join(runner.work_dir, self.filename)
        if is_main_process() and (self._paths or os.path.exists(file)):
            # File names need not be UTF-8.
            with open(file, 'w', encoding='utf-8', errors='surrogateescape') as stream:
                stream.writelines(f'{path}\n' for path in sorted(self._paths))
        notes = sum((Counter(leaf.notes()) for leaf in leaves), Counter())
        for note, number in notes.items():
            runner.logger.info(f'{name} images: {number} × {note}')
        count = f'{len(paths)} of {total} {name} images ({len(paths) / total:.2%})'
        # The iteration makes each text new: MMEngine logs a warning of the same text once. Asking
        # for it in a test would build the training set.
        when = '' if name == 'test' else f' until iteration {runner.iter}'
        report = f'Unreadable{when}: {count}'
        if not paths:
            runner.logger.info(report)
            return
        new = paths != self._reported.get(name)
        self._reported[name] = paths
        if new:
            kinds = Counter(map(why_unreadable, sorted(paths)[:MOST])).most_common()
            kinds = '; '.join(f'{number} × {reason}' for reason, number in kinds)
            runner.logger.warning(f'{report}; others took their place. {kinds}. Paths: {file}')
        else:
            runner.logger.info(report)
        if len(paths) > max(1, self.max_share * total):
            raise UserError(
                f'{count} are unreadable, more than max_share={self.max_share:.2%} allows: repair '
                f'or remove them (paths: {file}), or raise max_share, and resume'
            )
