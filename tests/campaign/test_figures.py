"""Numbers that go wrong, and memory that grows."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from mmebm.utils.checkpoint import load_checkpoint_safely

from .conftest import count
from .runs import CORRUPTIONS, NORM, PACK, loader, write_config, write_images

ITERATIONS = 10_000
BATCH = 4
IMAGES = 400  # an epoch of 100 iterations
SIDE = 16
BROKEN = 'broken'  # the folder of images that are not finite once they are loaded
PARTS = f'''
import os

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS, TRANSFORMS


@TRANSFORMS.register_module()
class Break(BaseTransform):
    """Images of the folder ``broken`` are not finite, while BREAK is set."""

    def transform(self, results):
        if os.environ.get('BREAK') and '/{BROKEN}/' in results['img_path']:
            results['img'][0] = results['img'][0] * np.float32('nan')
        return results


@HOOKS.register_module()
class MemoryHook(Hook):
    """Write the memory of this process, in kB, every 100 iterations."""

    def after_train_iter(self, runner, **_):
        if (runner.iter + 1) % 100 == 0:
            with open(os.path.join(runner.work_dir, 'memory.txt'), 'a') as file:
                file.write(f'{{runner.iter + 1}} {{held()}}\\n')


def held():
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmRSS:'))
'''


def tiny(folder: Path, epochs: int) -> dict:
    """The smallest ViT on 16² images."""
    backbone = dict(
        type='VisionTransformer',
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=SIDE,
        patch_size=8,
        out_type='avg_featmap',
        final_norm=False,
    )
    corruptions = [CORRUPTIONS[0], CORRUPTIONS[2]]
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='MixedCorruption', corruptions=corruptions),
        dict(type='Break'),
        PACK,
    ]
    train = loader(folder, pipeline, train=True)
    train.update(batch_size=BATCH, num_workers=1)
    return dict(
        custom_imports=dict(imports=['mmebm', 'campaign_parts'], allow_failed_imports=False),
        model=dict(
            type='EnergyRestorationAlgorithm',
            backbone=backbone,
            head=dict(type='EnergyHead', in_channels=32),
            num_steps=1,
            data_preprocessor=dict(type='SelfSupDataPreprocessor', **NORM),
        ),
        train_dataloader=train,
        optim_wrapper=dict(
            type='MixedPrecisionOptimWrapper',
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            clip_grad=dict(max_norm=1.0),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        default_hooks=dict(
            checkpoint=dict(interval=10, save_best=None, max_keep_ckpts=2),
            logger=dict(interval=100),
        ),
        custom_hooks=[
            dict(type='ReproducibleEpochsHook'),
            dict(type='UnreadableImagesHook'),
            dict(type='FiniteLossHook'),
            dict(type='MemoryHook'),
        ],
    )


@pytest.fixture
def folder(tmp_path):
    """Images, of which four are black and four will break."""
    write_images(tmp_path / 'images' / 'good', IMAGES - 8, side=SIDE)
    for name in ('black', BROKEN):
        for path in write_images(tmp_path / 'images' / name, 4, side=SIDE):
            if name == 'black':
                Image.new('RGB', (SIDE, SIDE)).save(path)
    (tmp_path / 'campaign_parts.py').write_text(PARTS)
    return tmp_path


def start(server, folder, config, *arguments, **environment):
    environment |= dict(PYTHONPATH=str(folder))
    arguments = [config, '--work-dir', folder / 'run', *arguments]
    return server.start('train', arguments, folder / 'output.txt', environment)


def assert_finite(work_dir: Path) -> int:
    """The number of checkpoints, none of which holds a NaN."""
    files = list(work_dir.glob('*.pth'))
    for file in files:
        for name, tensor in load_checkpoint_safely(file)['state_dict'].items():
            assert torch.isfinite(tensor).all(), (file, name)
    return len(files)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_half_precision(server, folder, dtype, figure):
    """All the way with black images; stopped by images that are not finite, which are named."""
    epochs = count(ITERATIONS * BATCH // IMAGES)
    config = tiny(folder / 'images', epochs)
    config['optim_wrapper']['dtype'] = dtype
    config = write_config(folder / 'tiny.py', config)
    broken = start(server, folder, config, BREAK='1')
    assert broken.wait(3600) == 2, broken.text()
    last = broken.text().splitlines()[-1]
    assert 'Not finite at iteration ' in last
    assert f'Not finite as they come from the data: {folder}/images/{BROKEN}/000' in last
    assert_finite(folder / 'run')
    mended = start(server, folder, config, '--resume')
    assert mended.wait(3600) == 0, mended.text()
    assert assert_finite(folder / 'run') >= 1
    assert (folder / 'run' / f'epoch_{epochs}.pth').is_file()
    figure(f'{dtype}: {epochs * IMAGES // BATCH} iterations')


def test_memory(server, folder, figure):
    """What the process holds grows by less than 1 % after the first 500 of 5,000 iterations."""
    epochs = max(10, count(5_000 * BATCH // IMAGES))
    config = tiny(folder / 'images', epochs)
    config['optim_wrapper']['dtype'] = 'float32'
    command = start(server, folder, write_config(folder / 'tiny.py', config))
    assert command.wait(3600) == 0, command.text()
    lines = (folder / 'run' / 'memory.txt').read_text().splitlines()
    memory = {int(i): int(kilobytes) for i, kilobytes in map(str.split, lines)}
    growth = memory[max(memory)] / memory[500] - 1
    figure(f'{max(memory)} iterations: {memory[500] / 1e3:.0f} MB, then {growth:+.2%}')
    assert growth < 0.01, memory
