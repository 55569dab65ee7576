"""10,000 iterations: numbers that go wrong, and memory that grows."""

import os

import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS, TRANSFORMS
from PIL import Image

from mmebm.utils.checkpoint import load_checkpoint_safely

from . import count, long
from .runs import HOOKS as USUAL
from .runs import Command, mixed, write_config, write_images

pytestmark = long
IMAGES = 400  # an epoch of 100 iterations


@TRANSFORMS.register_module()
class Break(BaseTransform):
    """Images of the folder ``broken`` are not finite, while BREAK is set."""

    def transform(self, results):
        if os.environ.get('BREAK') and '/broken/' in results['img_path']:
            results['img'][0] = results['img'][0] * float('nan')
        return results


@HOOKS.register_module()
class MemoryHook(Hook):
    """Write the memory of this process, in kB, after every epoch."""

    def after_train_epoch(self, runner):
        with open('/proc/self/status') as status:
            held = next(line.split()[1] for line in status if line.startswith('VmRSS:'))
        with open(os.path.join(runner.work_dir, 'memory.txt'), 'a') as file:
            file.write(f'{held}\n')


@pytest.fixture
def config(tmp_path):
    """Of images of which four are black and four will break."""
    write_images(tmp_path / 'images' / 'good', IMAGES - 8, side=32)
    write_images(tmp_path / 'images' / 'broken', 4, side=32)
    for path in write_images(tmp_path / 'images' / 'black', 4, side=32):
        Image.new('RGB', (32, 32)).save(path)
    config = mixed(tmp_path / 'images', tmp_path / 'images' / 'good')
    config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    imports = ['mmebm', 'tests.campaign.test_long_runs']
    config['custom_imports'] = dict(imports=imports, allow_failed_imports=False)
    config['custom_hooks'] = [*USUAL, dict(type='MemoryHook')]
    config['default_hooks'] = dict(
        checkpoint=dict(interval=10, save_best=None), logger=dict(interval=100)
    )
    config['train_dataloader']['dataset']['pipeline'].insert(-1, dict(type='Break'))
    config['optim_wrapper'].update(type='MixedPrecisionOptimWrapper')
    return config


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float32'])
def test_long_run(config, tmp_path, dtype):
    """Black images do no harm, images that are not finite stop it; it takes no more memory."""
    epochs = max(10, count(10_000 // 100))
    config['optim_wrapper']['dtype'] = dtype
    config['train_cfg']['max_epochs'] = epochs
    config = write_config(tmp_path / 'config.py', config)
    arguments = [config, '--work-dir', tmp_path / 'run', '--resume']
    stopped = Command('train', arguments, tmp_path / 'stopped.txt', BREAK='1')
    assert stopped.wait() == 2, stopped.text()
    assert f'{tmp_path}/images/broken/' in stopped.text().splitlines()[-1]
    assert not list((tmp_path / 'run').glob('*.pth'))
    command = Command('train', arguments, tmp_path / 'output.txt')
    assert command.wait(3600) == 0, command.text()
    checkpoint = load_checkpoint_safely(tmp_path / 'run' / f'epoch_{epochs}.pth')
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint['state_dict'].values())
    memory = [int(line) for line in (tmp_path / 'run' / 'memory.txt').read_text().split()]
    assert memory[-1] < 1.01 * memory[4], memory
